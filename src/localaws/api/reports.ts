import type { StateReason } from '@aws-sdk/client-ec2';
import type { TargetHealthReasonEnum } from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CloudReports } from '../contract.ts';
import type { Cloud } from './cloud.ts';
import { finishTermination, setState, userShutdown } from './ec2/instance-states.ts';
import { releasePublicAddresses } from './ec2/network-interfaces.ts';
import { dropTags } from './ec2/tags.ts';
import type { InstanceRecord } from './state/records.ts';

/** What a data plane reports, put into the state. What is reported again, or of something that is gone, changes nothing. */
export function makeReports(cloud: Cloud): CloudReports {
  const { tables, state } = cloud;
  const stopped = (record: InstanceRecord, why: StateReason) => {
    releasePublicAddresses(cloud, record.instance.InstanceId);
    setState(cloud, record, 'stopped', why);
  };
  return {
    instanceState(instanceId, name, reason) {
      state.transact(() => {
        const record = tables.instances.get(instanceId);
        const current = record?.instance.State.Name;
        if (!record || current === name || current === 'terminated') return;
        if (name === 'terminated') finishTermination(cloud, record);
        else if (name === 'running') {
          if (current === 'pending') setState(cloud, record, 'running');
        } else if (current === 'stopping') stopped(record, record.instance.StateReason ?? userShutdown);
        else if (current === 'running' && reason) {
          // It shut itself down, and so stops, or ends where it was launched so. (A word of an earlier stop, come late, has no reason.)
          const why = { Code: reason.split(':')[0]!, Message: reason };
          if (record.shutdownBehavior === 'terminate') setState(cloud, record, 'shutting-down', why);
          else stopped(record, why);
        }
      });
    },

    consoleOutput: (instanceId, text) => cloud.consoles.append(instanceId, text),

    volumeAttachment(volumeId, instanceId, to) {
      state.transact(() => {
        const volume = tables.volumes.get(volumeId);
        const attachment = volume?.Attachments.find((one) => one.InstanceId === instanceId);
        if (!volume || !attachment) return;
        if (to === 'attached' && attachment.State === 'attaching') {
          tables.volumes.change(volumeId, {
            Attachments: volume.Attachments.map((one) => (one === attachment ? { ...one, State: 'attached' } : one)),
          });
        } else if (to === 'detached' && attachment.State === 'detaching') {
          const left = volume.Attachments.filter((one) => one !== attachment);
          tables.volumes.change(volumeId, { State: left.length ? 'in-use' : 'available', Attachments: left });
        }
      });
    },

    volumeState(volumeId, to) {
      state.transact(() => {
        const volume = tables.volumes.get(volumeId);
        if (!volume) return;
        if (to === 'deleted' && volume.State === 'deleting') {
          tables.volumes.delete(volumeId);
          dropTags(cloud, volumeId);
        } else if (to === 'available' && volume.State === 'creating') {
          // A volume that is made with its instance is in use as soon as it is there.
          tables.volumes.change(volumeId, { State: volume.Attachments.length ? 'in-use' : 'available' });
        } else if (to === 'error' && volume.State !== 'deleting') tables.volumes.change(volumeId, { State: 'error' });
      });
    },

    loadBalancerState(arn, to, reason) {
      state.transact(() => {
        const balancer = tables.loadBalancers.get(arn);
        if (!balancer || balancer.State.Code === to) return;
        tables.loadBalancers.change(arn, { State: { Code: to, ...(reason ? { Reason: reason } : {}) } });
      });
    },

    loadBalancerHostAddress(arn, address) {
      state.transact(() => {
        const before = tables.loadBalancers.get(arn) && (tables.tags.get(arn)?.tags ?? []);
        const tag = { Key: 'kumulus:host-address', Value: address };
        if (!before || before.some((one) => one.Key === tag.Key && one.Value === address)) return;
        tables.tags.put(arn, { tags: [...before.filter((one) => one.Key !== tag.Key), tag] });
      });
    },

    targetHealth(targetGroupArn, target, to, reason, description) {
      state.transact(() => {
        const group = tables.targetGroups.get(targetGroupArn);
        const record = group?.targets.find((one) => one.target.Id === target.Id && (one.target.Port ?? group.Port) === (target.Port ?? group.Port));
        if (!group || !record || record.drainedAt !== undefined) return;
        const health = {
          State: to,
          ...(reason ? { Reason: reason as TargetHealthReasonEnum } : {}),
          ...(description ? { Description: description } : {}),
        };
        if (JSON.stringify(record.health) === JSON.stringify(health)) return;
        tables.targetGroups.change(targetGroupArn, { targets: group.targets.map((one) => (one === record ? { ...one, health } : one)) });
      });
    },
  };
}
