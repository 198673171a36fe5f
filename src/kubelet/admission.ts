import type { Node, Pod } from '../api/generated/types.ts';
import { toBytes, toMilli } from '../api/quantity.ts';
import { forbiddenSysctl } from './sysctls.ts';

export interface Refusal {
  reason: string;
  message: string;
}

const amount = (resource: string, quantity: string | undefined): number => (resource === 'cpu' ? toMilli(quantity) : toBytes(quantity));

/** What a pod asks for: its containers and sidecars together, or its hungriest init container. cpu in thousandths. */
export function podRequests(pod: Pod): Map<string, number> {
  const names = new Set<string>();
  const init = pod.spec.initContainers ?? [];
  for (const c of [...init, ...pod.spec.containers]) for (const name of Object.keys(c.resources?.requests ?? {})) names.add(name);
  for (const name of Object.keys(pod.spec.resources?.requests ?? {})) names.add(name);
  const requests = new Map<string, number>();
  for (const name of names) {
    const of = (c: { resources?: { requests?: Record<string, string> } }) => amount(name, c.resources?.requests?.[name]);
    let sidecars = 0;
    let peak = 0;
    for (const c of init) {
      if (c.restartPolicy === 'Always') {
        sidecars += of(c);
        peak = Math.max(peak, sidecars);
      } else peak = Math.max(peak, sidecars + of(c));
    }
    const total = Math.max(peak, sidecars + pod.spec.containers.reduce((sum, c) => sum + of(c), 0));
    const ofPod = pod.spec.resources?.requests?.[name];
    requests.set(name, (ofPod === undefined ? total : amount(name, ofPod)) + amount(name, pod.spec.overhead?.[name]));
  }
  return requests;
}

const hostPorts = (pod: Pod) =>
  [...pod.spec.containers, ...(pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always')].flatMap((c) =>
    (c.ports ?? [])
      .map((p) => ({ port: p.hostPort ?? (pod.spec.hostNetwork ? p.containerPort : 0), protocol: p.protocol ?? 'TCP', ip: p.hostIP || '0.0.0.0' }))
      .filter((p) => p.port > 0),
  );
const clash = (a: { port: number; protocol: string; ip: string }, b: { port: number; protocol: string; ip: string }) =>
  a.port === b.port && a.protocol === b.protocol && (a.ip === b.ip || a.ip === '0.0.0.0' || b.ip === '0.0.0.0');

const isExtended = (resource: string) => resource.includes('/') && !resource.includes('kubernetes.io/');

/** Whether the node takes a pod beside those it already has; the checks and words are the upstream kubelet's. */
export function admitPod(pod: Pod, others: Pod[], node: Node | undefined, allocatable: Record<string, string>): Refusal | undefined {
  if (pod.spec.os?.name && pod.spec.os.name !== 'linux')
    return { reason: 'PodOSNotSupported', message: `Failed to admit pod as the OS field doesn't match node OS` };
  const sysctl = forbiddenSysctl(pod);
  if (sysctl) return { reason: 'SysctlForbidden', message: sysctl };
  const maxPods = Number(allocatable['pods'] ?? 110);
  if (others.length + 1 > maxPods)
    return { reason: 'OutOfpods', message: `Node didn't have enough resource: pods, requested: 1, used: ${others.length}, capacity: ${maxPods}` };
  const used = new Map<string, number>();
  for (const other of others) for (const [name, value] of podRequests(other)) used.set(name, (used.get(name) ?? 0) + value);
  for (const [name, requested] of podRequests(pod)) {
    if (requested === 0) continue;
    // What others have put into the node's status is counted by the scheduler alone.
    if (isExtended(name) && allocatable[name] === undefined) continue;
    const capacity = amount(name, allocatable[name]);
    const taken = used.get(name) ?? 0;
    if (taken + requested > capacity)
      return {
        reason: `OutOf${name}`,
        message: `Node didn't have enough resource: ${name}, requested: ${requested}, used: ${taken}, capacity: ${capacity}`,
      };
  }
  const ports = hostPorts(pod);
  if (others.some((o) => hostPorts(o).some((p) => ports.some((q) => clash(p, q)))))
    return { reason: 'NodePorts', message: `Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports` };
  if (node && !matchesNode(pod, node))
    return { reason: 'NodeAffinity', message: "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector" };
  return undefined;
}

export interface ResizeProblem {
  reason: 'Infeasible' | 'Deferred';
  message: string;
}

/** Why a running pod cannot be given what its spec asks now: never on this node, or not beside the others that are here. */
export function resizeProblem(pod: Pod, others: Pod[], allocatable: Record<string, string>): ResizeProblem | undefined {
  const wanted = podRequests(pod);
  for (const name of ['cpu', 'memory']) {
    const requested = wanted.get(name) ?? 0;
    const capacity = amount(name, allocatable[name]);
    if (requested > capacity)
      return { reason: 'Infeasible', message: `Node didn't have enough capacity: ${name}, requested: ${requested}, capacity: ${capacity}` };
  }
  for (const name of ['cpu', 'memory']) {
    const requested = wanted.get(name) ?? 0;
    const used = others.reduce((sum, other) => sum + (podRequests(other).get(name) ?? 0), 0);
    const capacity = amount(name, allocatable[name]);
    if (requested > 0 && used + requested > capacity)
      return {
        reason: 'Deferred',
        message: `Node didn't have enough resource: ${name}, requested: ${requested}, used: ${used}, capacity: ${capacity}`,
      };
  }
  return undefined;
}

interface Requirement {
  key: string;
  operator: string;
  values?: string[];
}

function matches(r: Requirement, value: string | undefined): boolean {
  const values = r.values ?? [];
  switch (r.operator) {
    case 'In':
      return value !== undefined && values.includes(value);
    case 'NotIn':
      return value === undefined || !values.includes(value);
    case 'Exists':
      return value !== undefined;
    case 'DoesNotExist':
      return value === undefined;
    case 'Gt':
      return value !== undefined && Number(value) > Number(values[0]);
    case 'Lt':
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}

/** nodeSelector and required node affinity. */
function matchesNode(pod: Pod, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(pod.spec.nodeSelector ?? {})) if (labels[key] !== value) return false;
  const terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!terms) return true;
  return terms.some((term) => {
    const expressions = term.matchExpressions ?? [];
    const fields = term.matchFields ?? [];
    if (expressions.length + fields.length === 0) return false;
    return (
      expressions.every((r) => matches(r as Requirement, labels[r.key])) &&
      fields.every((r) => matches(r as Requirement, r.key === 'metadata.name' ? node.metadata.name : undefined))
    );
  });
}
