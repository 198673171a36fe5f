import type { CloudReports, CloudSource } from '../contract.ts';
import type { Cloud } from './cloud.ts';
import { tagsOf } from './ec2/tags.ts';

/** Milliseconds that each change of state takes without a data plane. */
const stepMs = 50;

/**
 * Moves states along as a data plane would report them, where there is none; with `tag`, only those of instances with this tag,
 * beside a data plane for the others. Returns the end of it.
 */
export function simulate(cloud: Cloud, source: CloudSource, reports: CloudReports, tag?: string): () => void {
  const mine = (instanceId: string) => tag === undefined || tagsOf(cloud, instanceId).some((one) => one.Key === tag);
  let cancel: (() => void) | undefined;
  const step = () => {
    cancel = undefined;
    const { tables } = cloud;
    for (const state of ['pending', 'stopping', 'shutting-down'] as const) {
      const next = { pending: 'running', stopping: 'stopped', 'shutting-down': 'terminated' } as const;
      for (const { instance } of tables.instances.by('state', state)) {
        if (mine(instance.InstanceId)) reports.instanceState(instance.InstanceId, next[state]);
      }
    }
    for (const volume of tables.volumes.values()) {
      if (volume.State === 'creating' && tag === undefined) reports.volumeState(volume.VolumeId, 'available');
      if (volume.State === 'deleting' && tag === undefined) reports.volumeState(volume.VolumeId, 'deleted');
      for (const attachment of volume.Attachments) {
        if (!mine(attachment.InstanceId)) continue;
        if (attachment.State === 'attaching') reports.volumeAttachment(volume.VolumeId, attachment.InstanceId, 'attached');
        if (attachment.State === 'detaching') reports.volumeAttachment(volume.VolumeId, attachment.InstanceId, 'detached');
      }
    }
    for (const balancer of tables.loadBalancers.values()) {
      if (balancer.State.Code === 'provisioning' && tag === undefined) reports.loadBalancerState(balancer.LoadBalancerArn, 'active');
    }
    for (const group of tables.targetGroups.values()) {
      for (const { target, health } of group.targets) {
        if (health.State !== 'initial') continue;
        if (tag !== undefined && !(group.TargetType === 'instance' && mine(target.Id))) continue;
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
