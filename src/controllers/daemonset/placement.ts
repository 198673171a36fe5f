import type { Draft } from '../../api/object.ts';
import type { DaemonSet, Node, Pod, PodSpec, Toleration } from '../../api/generated/types.ts';
import { nodeSelectorMatches, untolerated } from '../node-matching.ts';
import { podFromTemplate } from '../pod-control.ts';
import { REVISION_LABEL } from '../revisions.ts';

const GENERATION_LABEL = 'pod-template-generation';
const GENERATION_ANNOTATION = 'deprecated.daemonset.template.generation';

const daemonTolerations = (hostNetwork: boolean): Toleration[] => [
  { key: 'node.kubernetes.io/not-ready', operator: 'Exists', effect: 'NoExecute' },
  { key: 'node.kubernetes.io/unreachable', operator: 'Exists', effect: 'NoExecute' },
  { key: 'node.kubernetes.io/disk-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/memory-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/pid-pressure', operator: 'Exists', effect: 'NoSchedule' },
  { key: 'node.kubernetes.io/unschedulable', operator: 'Exists', effect: 'NoSchedule' },
  ...(hostNetwork ? [{ key: 'node.kubernetes.io/network-unavailable', operator: 'Exists', effect: 'NoSchedule' }] : []),
];

/** The template's tolerations and those that every daemon has. */
export function tolerationsOf(spec: PodSpec): Toleration[] {
  const own = spec.tolerations ?? [];
  const added = daemonTolerations(spec.hostNetwork ?? false);
  const same = (a: Toleration, b: Toleration) =>
    a.key === b.key && a.effect === b.effect && (a.operator ?? 'Equal') === b.operator && !a.value && a.tolerationSeconds === undefined;
  return [...own, ...added.filter((t) => !own.some((o) => same(o, t)))];
}

/** Which nodes a DaemonSet's pods belong on. Made once a reconciliation, asked for every node. */
export class Placement {
  readonly #spec: PodSpec;
  readonly #tolerations: Toleration[];

  constructor(ds: DaemonSet) {
    this.#spec = ds.spec.template.spec!;
    this.#tolerations = tolerationsOf(this.#spec);
  }

  /** Whether a pod should be made on the node, and whether one that is there may go on. */
  judge(node: Node): { run: boolean; goOn: boolean } {
    const { nodeName, nodeSelector, affinity } = this.#spec;
    if (nodeName && nodeName !== node.metadata.name) return { run: false, goOn: false };
    const labels = node.metadata.labels ?? {};
    for (const [key, value] of Object.entries(nodeSelector ?? {})) if (labels[key] !== value) return { run: false, goOn: false };
    if (!nodeSelectorMatches(affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution, node)) return { run: false, goOn: false };
    const run = !untolerated(node.spec.taints, this.#tolerations, ['NoExecute', 'NoSchedule']);
    return { run, goOn: run || !untolerated(node.spec.taints, this.#tolerations, ['NoExecute']) };
  }
}

/** The pod for a node: pinned to it by affinity, so that the scheduler binds it. */
export function daemonPod(ds: DaemonSet, nodeName: string, hash: string): Draft<Pod> {
  const draft = podFromTemplate(ds.spec.template, ds);
  const generation = ds.metadata.annotations?.[GENERATION_ANNOTATION];
  draft.metadata.labels = { ...draft.metadata.labels, ...(generation ? { [GENERATION_LABEL]: generation } : {}), [REVISION_LABEL]: hash };
  const { affinity } = draft.spec;
  const nodeSelectorTerms = [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [nodeName] }] }];
  draft.spec = {
    ...draft.spec,
    tolerations: tolerationsOf(draft.spec),
    affinity: {
      ...affinity,
      nodeAffinity: { ...affinity?.nodeAffinity, requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms } },
    },
  };
  return draft;
}

/** Whether the pod was made from the present template. */
export function isUpdated(ds: DaemonSet, pod: Pod, hash: string): boolean {
  const generation = ds.metadata.annotations?.[GENERATION_ANNOTATION];
  const labels = pod.metadata.labels ?? {};
  return labels[REVISION_LABEL] === hash || (!!generation && labels[GENERATION_LABEL] === generation);
}

/** The node that the pod is on, or is made for. */
export function targetNodeOf(pod: Pod): string | undefined {
  if (pod.spec.nodeName) return pod.spec.nodeName;
  for (const term of pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? []) {
    const field = term.matchFields?.find((f) => f.key === 'metadata.name' && f.operator === 'In');
    if (field) return field.values?.length === 1 ? field.values[0] : undefined;
  }
  return undefined;
}
