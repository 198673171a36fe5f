import { builtinResources } from '../api/generated/resources.ts';
import { apiVersionOf } from '../api/object.ts';
import type { AnyObject } from './types.ts';

const builtin = new Set(builtinResources.map((r) => `${apiVersionOf(r)} ${r.kind}`));

const conditionOf = (object: AnyObject, type: string) =>
  (object['status']?.conditions as { type: string; status: string; reason?: string; message?: string }[] | undefined)?.find((c) => c.type === type);

const named = (object: AnyObject, type: string): true | string => {
  const found = conditionOf(object, type);
  if (found?.status === 'True') return true;
  if (!found) return `it has no condition ${type} yet`;
  return `condition ${type} is ${found.status}${found.reason ? ` (${found.reason}${found.message ? `: ${found.message}` : ''})` : ''}`;
};

/** Its controller has seen what was asked for last. */
function observed(object: AnyObject): true | string {
  const generation = object.metadata['generation'] as number | undefined;
  const seen = object['status']?.observedGeneration as number | undefined;
  return generation === undefined || (seen ?? 0) >= generation ? true : 'its controller has not seen the last change yet';
}

function replicas(wanted: number, counts: [string, number | undefined][]): true | string {
  const short = counts.filter(([, count]) => (count ?? 0) !== wanted);
  return short.length === 0 ? true : short.map(([what, count]) => `${count ?? 0} of ${wanted} ${what}`).join(', ');
}

const kinds: Record<string, (o: AnyObject) => true | string> = {
  Deployment: (o) =>
    both(observed(o), () =>
      replicas(o['spec']?.replicas ?? 1, [
        ['replicas', o['status']?.replicas],
        ['updated', o['status']?.updatedReplicas],
        ['available', o['status']?.availableReplicas],
      ]),
    ),
  ReplicaSet: (o) => both(observed(o), () => replicas(o['spec']?.replicas ?? 1, [['available', o['status']?.availableReplicas]])),
  ReplicationController: (o) => both(observed(o), () => replicas(o['spec']?.replicas ?? 1, [['available', o['status']?.availableReplicas]])),
  StatefulSet: (o) =>
    both(observed(o), () =>
      replicas(o['spec']?.replicas ?? 1, [
        ['updated', o['status']?.updatedReplicas],
        ['ready', o['status']?.readyReplicas],
      ]),
    ),
  DaemonSet: (o) =>
    both(observed(o), () =>
      replicas(o['status']?.desiredNumberScheduled ?? 0, [
        ['updated', o['status']?.updatedNumberScheduled],
        ['available', o['status']?.numberAvailable],
      ]),
    ),
  Pod: (o) => (o['status']?.phase === 'Succeeded' ? true : both(named(o, 'Ready'), () => true, podState(o))),
  Job: (o) => named(o, 'Complete'),
  Node: (o) =>
    both(named(o, 'Ready'), () =>
      o['spec']?.taints?.some((t: { key: string }) => t.key === 'node.cloudprovider.kubernetes.io/uninitialized')
        ? 'the cloud has not initialized it yet'
        : true,
    ),
  Service: (o) => (o['spec']?.type !== 'LoadBalancer' || o['status']?.loadBalancer?.ingress?.length > 0 ? true : 'it has no load balancer yet'),
  Ingress: (o) => (o['status']?.loadBalancer?.ingress?.length > 0 ? true : 'it has no address yet'),
  PersistentVolumeClaim: (o) => (o['status']?.phase === 'Bound' ? true : `it is ${o['status']?.phase ?? 'new'}, not Bound`),
  PersistentVolume: (o) => (['Available', 'Bound'].includes(o['status']?.phase) ? true : `it is ${o['status']?.phase ?? 'new'}`),
  Namespace: (o) => (o['status']?.phase === 'Active' ? true : `it is ${o['status']?.phase ?? 'new'}`),
  CustomResourceDefinition: (o) => named(o, 'Established'),
};

function both(first: true | string, second: () => true | string, more?: string): true | string {
  if (first !== true) return more ? `${more}; ${first}` : first;
  return second();
}

/** Phase and what its containers wait for. */
function podState(pod: AnyObject): string {
  const waiting = [...(pod['status']?.initContainerStatuses ?? []), ...(pod['status']?.containerStatuses ?? [])]
    .filter((c: any) => c.state?.waiting)
    .map((c: any) => `${c.name} waits: ${c.state.waiting.reason}`);
  return [`phase ${pod['status']?.phase ?? 'unknown'}`, ...waiting].join(', ');
}

/** Whether an object is ready, by what its kind means by that; otherwise what is missing. */
export function readiness(object: AnyObject): true | string {
  const rule = kinds[object.kind];
  if (rule) return rule(object);
  const conditions = object['status']?.conditions as { type: string }[] | undefined;
  // A ConfigMap is ready by being there; a custom resource when its controller says so.
  if (!conditions) return builtin.has(`${object.apiVersion} ${object.kind}`) ? true : 'its controller has reported no conditions yet';
  const type = conditions.some((c) => c.type === 'Available') ? 'Available' : 'Ready';
  return named(object, type);
}

export const hasCondition = named;
