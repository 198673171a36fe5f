import { setTimeout as delay } from 'node:timers/promises';
import { resources } from '../../src/api/generated/resources.ts';
import type { KubeObject, ResourceType } from '../../src/api/object.ts';
import type { Client } from '../../src/client/client.ts';
import type { InformerFactory } from '../../src/client/informer.ts';
import { namespace } from './controller-scenario.ts';

const followed: ResourceType<any>[] = [
  resources.deployments,
  resources.replicasets,
  resources.statefulsets,
  resources.daemonsets,
  resources.controllerrevisions,
  resources.replicationcontrollers,
  resources.jobs,
  resources.cronjobs,
  resources.pods,
  resources.persistentvolumeclaims,
  resources.poddisruptionbudgets,
  resources.endpoints,
  resources.endpointslices,
  resources.horizontalpodautoscalers,
];
const clusterWide: ResourceType<any>[] = [resources.nodes, resources.clusterroles];

/** Resolves when nothing that controllers write has changed for a while: quietMs, or at last after longestMs. */
export async function rest(informers: InformerFactory, quietMs: number, longestMs: number): Promise<void> {
  let last = Date.now();
  const touched = () => {
    last = Date.now();
  };
  const removals = followed.map((type) => informers.informer<KubeObject>(type).addHandlers({ onAdd: touched, onUpdate: touched, onDelete: touched }));
  const until = Date.now() + longestMs;
  while (Date.now() - last < quietMs && Date.now() < until) await delay(50);
  for (const remove of removals) remove();
}

/** All that the controllers keep, by kind and name, without what is chance: suffixes, hashes, uids, addresses of pods, times. */
export async function snapshot(client: Client): Promise<Record<string, unknown>> {
  const lists = await Promise.all([
    ...followed.map(async (type) => (await client.list<KubeObject>(type, { namespace })).items),
    ...clusterWide.map(async (type) => (await client.list<KubeObject>(type)).items),
  ]);
  const objects = lists.flat().filter((o) => !(o.kind === 'ClusterRole' && !['part', 'whole'].includes(o.metadata.name)));
  const words = new Map<string, string>();
  for (const o of objects as any[]) {
    const image = (o.data?.spec?.template ?? o.spec?.template)?.spec?.containers?.[0]?.image;
    const hash = o.kind === 'ReplicaSet' ? o.metadata.labels?.['pod-template-hash'] : o.metadata.labels?.['controller-revision-hash'];
    if (hash && (o.kind === 'ReplicaSet' || o.kind === 'ControllerRevision')) words.set(hash, `HASH(${image})`);
    if (o.kind === 'ControllerRevision') words.set(o.metadata.name.split('-').at(-1), `HASH(${image})`);
  }
  for (const o of objects as any[]) {
    if (o.metadata.generateName && o.metadata.ownerReferences?.[0]?.kind !== 'StatefulSet') words.set(o.metadata.name, `${replaced(o.metadata.generateName, words)}*`);
    for (const { ip } of o.status?.podIPs ?? []) words.set(ip, 'POD-IP');
  }
  const result: Record<string, unknown> = {};
  const byName = objects.map((o) => [`${o.kind} ${replaced(o.metadata.name, words)}`, normal(o, words)] as const);
  for (const [name, object] of byName.sort(([a, x], [b, y]) => (a + JSON.stringify(x) < b + JSON.stringify(y) ? -1 : 1))) {
    let key = name;
    for (let n = 2; result[key] !== undefined; n++) key = `${name} #${n}`;
    result[key] = object;
  }
  return result;
}


/** What events tell, without how often and in which words: the reasons by the objects that they are about. */
export async function eventReasons(client: Client): Promise<string[]> {
  const { items } = await client.list(resources.events, { namespace });
  // Whether a claim that was just made is seen in time, or needs another update, is a matter of timing.
  const told = items.filter((e) => !(e.involvedObject.kind === 'StatefulSet' && e.reason?.endsWith('Update')));
  const nameOf = (name: string | undefined) => name?.replace(/-[a-z0-9]{8,10}$/, '-HASH');
  return [...new Set(told.map((e) => `${e.involvedObject.kind} ${nameOf(e.involvedObject.name)}: ${e.type} ${e.reason}`))].sort();
}

function replaced(text: string, words: ReadonlyMap<string, string>): string {
  const known = words.get(text);
  if (known) return known;
  // Clients say what they asked for only where a server's 404 is no Status; upstream's server's is none for groups it does not know.
  let result = text.replace(/ \(get pods\.metrics\.k8s\.io\)$/, '').replace(/kube-api-access-[a-z0-9]{5}/, 'kube-api-access-*').replace(/\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b/g, 'UID');
  for (const [from, to] of words) if (from.length > 4 && result.includes(from)) result = result.replaceAll(from, to);
  return result;
}

// Generations count writes, and the trigger time is that of the last one: how many there are is a matter of timing.
const dropped = new Set(['endpoints.kubernetes.io/last-change-trigger-time', 'generation', 'observedGeneration', 'resourceVersion', 'managedFields', 'creationTimestamp', 'selfLink', 'generateName']);
const timeText = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d/;

function normal(value: unknown, words: ReadonlyMap<string, string>): unknown {
  if (typeof value === 'string') return timeText.test(value) ? 'TIME' : replaced(value, words);
  if (Array.isArray(value)) {
    const items = value.map((v) => normal(v, words));
    // Upstream's autoscaler keeps an empty status for each metric that it could not read.
    if (items.length && items.every((i) => JSON.stringify(i) === '{"type":""}')) return undefined;
    // Lists of what has a type or an address have no order that means anything.
    const unordered = items.every((i) => i && typeof i === 'object' && ('type' in i || 'addresses' in i || 'ip' in i));
    return unordered ? items.sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1)) : items;
  }
  if (value === null) return undefined;
  if (!value || typeof value !== 'object') return value;
  const result: Record<string, unknown> = {};
  for (const [key, member] of Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) {
    if (dropped.has(key)) continue;
    const shown = normal(member, words);
    if (shown !== undefined) result[replaced(key, words)] = shown;
  }
  if (result['annotations'] && !Object.keys(result['annotations']).length) delete result['annotations'];
  return result;
}
