import type { CloudReports, CloudSource } from '../contract.ts';
import type { Cloud } from './cloud.ts';

/** Milliseconds that each change of state takes without a data plane. */
const stepMs = 50;

/** Moves states along as a data plane would report them, where there is none. Returns the end of it. */
export function simulate(cloud: Cloud, source: CloudSource, reports: CloudReports): () => void {
  let cancel: (() => void) | undefined;
  const step = () => {
    cancel = undefined;
    const { tables } = cloud;
    for (const state of ['pending', 'stopping', 'shutting-down'] as const) {
      const next = { pending: 'running', stopping: 'stopped', 'shutting-down': 'terminated' } as const;
      for (const { instance } of tables.instances.by('state', state)) reports.instanceState(instance.InstanceId, next[state]);
    }
    for (const volume of tables.volumes.values()) {
      if (volume.State === 'creating') reports.volumeState(volume.VolumeId, 'available');
      if (volume.State === 'deleting') reports.volumeState(volume.VolumeId, 'deleted');
      for (const attachment of volume.Attachments) {
        if (attachment.State === 'attaching') reports.volumeAttachment(volume.VolumeId, attachment.InstanceId, 'attached');
        if (attachment.State === 'detaching') reports.volumeAttachment(volume.VolumeId, attachment.InstanceId, 'detached');
      }
    }
    for (const balancer of tables.loadBalancers.values()) {
      if (balancer.State.Code === 'provisioning') reports.loadBalancerState(balancer.LoadBalancerArn, 'active');
    }
    for (const group of tables.targetGroups.values()) {
      for (const { target, health } of group.targets) {
        if (health.State !== 'initial') continue;
        const state = tables.instances.get(target.Id)?.instance.State.Name;
        if (group.TargetType !== 'instance' || state === 'running') reports.targetHealth(group.TargetGroupArn, target, 'healthy');
      }
    }
  };
  const arm = () => {
    cancel ??= cloud.clock.after(stepMs, step);
  };
  const end = source.onChange(arm);
  arm();
  return () => {
    end();
    cancel?.();
  };
}
