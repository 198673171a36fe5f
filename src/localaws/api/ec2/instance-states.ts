import type { InstanceState, InstanceStateName, StateReason } from '@aws-sdk/client-ec2';
import { type Cloud, now } from '../cloud.ts';
import type { InstanceRecord, VolumeRecord } from '../state/records.ts';
import { detach, dropInterface } from './network-interfaces.ts';
import { dropTags } from './tags.ts';

const codes: Record<InstanceStateName, number> = { pending: 0, running: 16, 'shutting-down': 32, terminated: 48, stopping: 64, stopped: 80 };

export const stateOf = (name: InstanceStateName): InstanceState & { Name: InstanceStateName } => ({ Code: codes[name], Name: name });

/** Moves an instance to another state. Part of the caller's transaction. */
export function setState(cloud: Cloud, record: InstanceRecord, name: InstanceStateName, reason?: StateReason): InstanceRecord {
  const { StateReason: _, ...instance } = record.instance;
  return cloud.tables.instances.put(record.instance.InstanceId, {
    ...record,
    instance: {
      ...instance,
      State: stateOf(name),
      ...(reason ? { StateReason: reason } : {}),
      StateTransitionReason:
        reason && name !== 'running'
          ? `${reason.Code === 'Client.UserInitiatedShutdown' ? 'User initiated' : reason.Message} (${now(cloud).toISOString().slice(0, 19).replace('T', ' ')} GMT)`
          : '',
    },
    ...(name === 'terminated' ? { terminatedAt: now(cloud) } : {}),
  });
}

export const userShutdown: StateReason = { Code: 'Client.UserInitiatedShutdown', Message: 'Client.UserInitiatedShutdown: User initiated shutdown' };

/** What is left when an instance has ended for good: its interfaces and volumes go, or are free again. */
export function finishTermination(cloud: Cloud, record: InstanceRecord): void {
  const id = record.instance.InstanceId;
  for (const eni of cloud.tables.networkInterfaces.by('instance', id)) {
    if (eni.Attachment?.DeleteOnTermination) dropInterface(cloud, eni.NetworkInterfaceId);
    else detach(cloud, eni);
  }
  for (const volume of cloud.tables.volumes.by('instance', id)) releaseVolume(cloud, volume, id);
  // Load balancers deregister what is terminated by themselves.
  for (const group of cloud.tables.targetGroups.by('target', id)) {
    cloud.tables.targetGroups.change(group.TargetGroupArn, { targets: group.targets.filter((one) => one.target.Id !== id) });
  }
  setState(cloud, cloud.tables.instances.get(id) as InstanceRecord, 'terminated', record.instance.StateReason ?? userShutdown);
}

function releaseVolume(cloud: Cloud, volume: VolumeRecord, instanceId: string): void {
  const attachment = volume.Attachments.find((one) => one.InstanceId === instanceId);
  const left = volume.Attachments.filter((one) => one !== attachment);
  if (attachment?.DeleteOnTermination) cloud.tables.volumes.change(volume.VolumeId, { State: 'deleting', Attachments: [] });
  else cloud.tables.volumes.change(volume.VolumeId, { State: left.length ? 'in-use' : 'available', Attachments: left });
}

/** An instance that ended is shown for about an hour, then it is forgotten, also as a target. */
export function forgetInstance(cloud: Cloud, id: string): void {
  for (const group of cloud.tables.targetGroups.by('target', id)) {
    cloud.tables.targetGroups.change(group.TargetGroupArn, { targets: group.targets.filter((one) => one.target.Id !== id) });
  }
  cloud.tables.instances.delete(id);
  dropTags(cloud, id);
  cloud.consoles.remove(id);
}
