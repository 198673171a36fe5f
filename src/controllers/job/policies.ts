import type { ContainerStatus, Job, Pod, PodFailurePolicy, PodFailurePolicyRule } from '../../api/generated/types.ts';
import { IndexSet } from './indexes.ts';

/** What the pod failure policy makes of a failed pod. Without a matching rule it counts. */
export interface FailureVerdict {
  counts: boolean;
  action?: string;
  /** Why the Job fails, where the action is FailJob. */
  message?: string;
}

export function judgeFailure(policy: PodFailurePolicy | undefined, pod: Pod): FailureVerdict {
  for (const [index, rule] of (policy?.rules ?? []).entries()) {
    const why = rule.onExitCodes ? exitCodeMatch(rule, pod) : conditionMatch(rule, pod);
    if (why === undefined) continue;
    const { action } = rule;
    const message = action === 'FailJob' ? `${why} matching ${action} rule at index ${index}` : undefined;
    return { counts: action !== 'Ignore', action, message };
  }
  return { counts: true };
}

function exitCodeMatch({ onExitCodes }: PodFailurePolicyRule, pod: Pod): string | undefined {
  const matches = ({ name, state }: ContainerStatus) => {
    const code = state?.terminated?.exitCode;
    if (code === undefined || code === 0) return false;
    if (onExitCodes!.containerName !== undefined && onExitCodes!.containerName !== name) return false;
    return onExitCodes!.values.includes(code) === (onExitCodes!.operator === 'In');
  };
  const found = pod.status?.containerStatuses?.find(matches) ?? pod.status?.initContainerStatuses?.find(matches);
  if (!found) return undefined;
  const { namespace, name } = pod.metadata;
  return `Container ${found.name} for pod ${namespace}/${name} failed with exit code ${found.state!.terminated!.exitCode}`;
}

function conditionMatch({ onPodConditions }: PodFailurePolicyRule, pod: Pod): string | undefined {
  const found = pod.status?.conditions?.find((c) => onPodConditions?.some((p) => p.type === c.type && (p.status ?? 'True') === c.status));
  return found && `Pod ${pod.metadata.namespace}/${pod.metadata.name} has condition ${found.type}`;
}

/** Which rule of the success policy the succeeded indexes satisfy, in words; undefined where none. */
export function successPolicyMet(job: Job, succeeded: IndexSet): string | undefined {
  if (!succeeded.ranges.length) return undefined;
  for (const [index, { succeededIndexes, succeededCount }] of (job.spec.successPolicy?.rules ?? []).entries()) {
    let met: boolean;
    if (succeededIndexes !== undefined) {
      const required = IndexSet.parse(succeededIndexes, job.spec.completions);
      if (!required.ranges.length) continue;
      const overlap = required.overlap(succeeded);
      met = overlap === required.size || (succeededCount !== undefined && overlap >= succeededCount);
    } else met = succeededCount !== undefined && succeeded.size >= succeededCount;
    if (met) return `Matched rules at index ${index}`;
  }
  return undefined;
}
