import type { Action } from '@aws-sdk/client-elastic-load-balancing-v2';
import type { Cloud } from '../cloud.ts';

/** ARNs of the target groups that actions forward to, each once. */
export function targetGroupsOf(actions: readonly Action[]): string[] {
  const found = new Set<string>();
  for (const action of actions) {
    if (action.TargetGroupArn !== undefined) found.add(action.TargetGroupArn);
    for (const one of action.ForwardConfig?.TargetGroups ?? []) if (one.TargetGroupArn !== undefined) found.add(one.TargetGroupArn);
  }
  return [...found];
}

/** ARNs of the load balancers whose listeners or rules forward to a target group. */
export function balancersOf(cloud: Cloud, targetGroupArn: string): string[] {
  const { listeners, rules } = cloud.tables;
  const found = new Set(listeners.by('group', targetGroupArn).map((listener) => listener.LoadBalancerArn));
  for (const rule of rules.by('group', targetGroupArn)) {
    const listener = listeners.get(rule.listenerArn);
    if (listener) found.add(listener.LoadBalancerArn);
  }
  return [...found];
}
