import { parse } from 'yaml';
import type { Pod } from '../../api/generated/types.ts';

/**
 * What a simulated pod does, as data. All times are milliseconds, counted from the step before; what is left out takes its default.
 * A pod's own annotation (behaviourAnnotation) wins over the rules that its cluster was started with.
 */
export interface PodBehaviour {
  /** From being bound to the node until the containers run: 0. */
  startAfterMs?: number;
  /** From running until ready: 0. */
  readyAfterMs?: number;
  /** false: it never becomes ready. */
  ready?: boolean;
  /** From running until its containers end; pods of a Job end after 1000, others run on. */
  completeAfterMs?: number;
  /** Of its containers when they end: 0. Others than 0 make the pod Failed, or start it again, as restartPolicy says. */
  exitCode?: number;
  /** From being deleted until it is gone, at most its grace period: 0. */
  terminateAfterMs?: number;
  /** It never starts: what its containers wait for, as ImagePullBackOff. */
  waiting?: { reason: string; message?: string };
  /** What `kubectl logs` shows; $(NAME), $(NAMESPACE), $(NODE), $(IP) and $(CONTAINER) are the pod's. */
  logs?: string;
  /** Answers of `kubectl exec`, by command line (words joined by spaces); `*` answers all others. */
  exec?: Record<string, { stdout?: string; stderr?: string; exitCode?: number }>;
}

/** A behaviour and which pods it is for: all conditions named must hold. The first rule that fits a pod decides. */
export interface BehaviourRule extends PodBehaviour {
  match?: {
    namespace?: string;
    labels?: Record<string, string>;
    /** Of any container, whole or up to its tag: `nginx` fits `nginx:1.29`. */
    image?: string;
    /** Kind of the controlling owner, as Job or ReplicaSet. */
    ownerKind?: string;
  };
}

/** On a pod (or a Deployment's template): a PodBehaviour as JSON or YAML. */
export const behaviourAnnotation = 'kumulus.dev/behaviour';

const jobDefault: PodBehaviour = { completeAfterMs: 1000 };

function fits(pod: Pod, match: BehaviourRule['match']): boolean {
  if (!match) return true;
  if (match.namespace !== undefined && pod.metadata.namespace !== match.namespace) return false;
  if (Object.entries(match.labels ?? {}).some(([key, value]) => pod.metadata.labels?.[key] !== value)) return false;
  const { image } = match;
  if (
    image !== undefined &&
    !pod.spec.containers.some((c) => c.image === image || c.image?.startsWith(`${image}:`) || c.image?.startsWith(`${image}@`))
  )
    return false;
  return match.ownerKind === undefined || controllerKind(pod) === match.ownerKind;
}

const controllerKind = (pod: Pod) => pod.metadata.ownerReferences?.find((o) => o.controller)?.kind;

/** What this pod does. An annotation that cannot be read is an Error that says so. */
export function behaviourOf(pod: Pod, rules: readonly BehaviourRule[]): PodBehaviour {
  const { match: _, ...rule } = rules.find((r) => fits(pod, r.match)) ?? {};
  const text = pod.metadata.annotations?.[behaviourAnnotation];
  let own: PodBehaviour = {};
  if (text !== undefined) {
    const parsed = parse(text);
    if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed)) throw new Error(`annotation ${behaviourAnnotation} is not an object`);
    own = parsed;
  }
  return { ...(controllerKind(pod) === 'Job' ? jobDefault : {}), ...rule, ...own };
}

/** The log's text for one container, ending with a newline unless empty. */
export function logText(pod: Pod, container: string, behaviour: PodBehaviour): string {
  const values: Record<string, string> = {
    NAME: pod.metadata.name,
    NAMESPACE: pod.metadata.namespace ?? '',
    NODE: pod.spec.nodeName ?? '',
    IP: pod.status?.podIP ?? '',
    CONTAINER: container,
  };
  const text = (behaviour.logs ?? '').replace(/\$\(([A-Z]+)\)/g, (whole, name: string) => values[name] ?? whole);
  return text === '' || text.endsWith('\n') ? text : `${text}\n`;
}
