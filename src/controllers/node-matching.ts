import type { Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration } from '../api/generated/types.ts';

function requirementHolds({ operator, values = [] }: NodeSelectorRequirement, value: string | undefined): boolean {
  switch (operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
    case 'Lt': {
      if (value === undefined || !/^-?\d+$/.test(value) || !/^-?\d+$/.test(values[0] ?? '')) return false;
      const difference = BigInt(value) - BigInt(values[0]!);
      return operator === 'Gt' ? difference > 0n : difference < 0n;
    }
    default:
      return false;
  }
}

/** Whether all requirements of the term hold; a term without any matches nothing. */
export function nodeTermMatches(term: NodeSelectorTerm, node: Node): boolean {
  const { matchExpressions = [], matchFields = [] } = term;
  if (!matchExpressions.length && !matchFields.length) return false;
  const labels = node.metadata.labels ?? {};
  return (
    matchExpressions.every((r) => requirementHolds(r, labels[r.key])) &&
    matchFields.every((r) => r.key === 'metadata.name' && requirementHolds(r, node.metadata.name))
  );
}

/** Whether one of the terms matches. */
export const nodeSelectorMatches = (selector: NodeSelector | undefined, node: Node): boolean =>
  !selector || selector.nodeSelectorTerms.some((term) => nodeTermMatches(term, node));

/** Whether the pod's spec.nodeSelector and required node affinity allow the node. */
export function podMayRunByAffinity(pod: Pod, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(pod.spec.nodeSelector ?? {})) if (labels[key] !== value) return false;
  return nodeSelectorMatches(pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution, node);
}

export function tolerates(toleration: Toleration, taint: Taint): boolean {
  if (toleration.effect && toleration.effect !== taint.effect) return false;
  if (toleration.key && toleration.key !== taint.key) return false;
  switch (toleration.operator || 'Equal') {
    case 'Equal':
      return (toleration.value ?? '') === (taint.value ?? '');
    case 'Exists':
      return true;
    case 'Gt':
      return numeric(toleration.value, taint.value, (t, v) => v > t);
    case 'Lt':
      return numeric(toleration.value, taint.value, (t, v) => v < t);
    default:
      return false;
  }
}

function numeric(threshold: string | undefined, value: string | undefined, holds: (threshold: bigint, value: bigint) => boolean): boolean {
  const number = /^-?(0|[1-9]\d*)$/;
  return number.test(threshold ?? '') && number.test(value ?? '') && holds(BigInt(threshold!), BigInt(value!));
}

/** The first taint with one of the effects that none of the tolerations tolerates. */
export function untolerated(taints: Taint[] | undefined, tolerations: Toleration[] | undefined, effects: readonly string[]): Taint | undefined {
  return taints?.find((taint) => effects.includes(taint.effect) && !tolerations?.some((t) => tolerates(t, taint)));
}
