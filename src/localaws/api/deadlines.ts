import type { Cloud } from './cloud.ts';
import { forgetInstance } from './ec2/instance-states.ts';

/** How long a terminated instance is still described, as on AWS about an hour. */
const terminatedLifeMs = 3600_000;

/** Things that end when their time has come. Each change arms the timer anew for what is due first. Returns the end of it. */
export function armDeadlines(cloud: Cloud): () => void {
  const { tables, state, clock } = cloud;
  let cancel: () => void = () => {};
  const look = () => {
    cancel();
    const now = clock.now();
    let next = Number.POSITIVE_INFINITY;
    state.transact(() => {
      for (const { instance, terminatedAt } of tables.instances.by('state', 'terminated')) {
        const due = (terminatedAt?.getTime() ?? 0) + terminatedLifeMs;
        if (due <= now) forgetInstance(cloud, instance.InstanceId);
        else next = Math.min(next, due);
      }
      for (const group of tables.targetGroups.values()) {
        const left = group.targets.filter((one) => one.drainedAt === undefined || one.drainedAt.getTime() > now);
        if (left.length < group.targets.length) tables.targetGroups.change(group.TargetGroupArn, { targets: left });
        for (const { drainedAt } of left) if (drainedAt) next = Math.min(next, drainedAt.getTime());
      }
    });
    cancel = Number.isFinite(next) ? clock.after(next - now, look) : () => {};
  };
  let scheduled: NodeJS.Immediate | undefined;
  const end = state.onCommit((changed) => {
    if (scheduled || !(changed.has('instances') || changed.has('targetGroups'))) return;
    scheduled = setImmediate(() => {
      scheduled = undefined;
      look();
    });
  });
  look();
  return () => {
    end();
    cancel();
    if (scheduled) clearImmediate(scheduled);
  };
}
