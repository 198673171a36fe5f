import { isNotFound } from '../api/errors.ts';
import { groupVersionOf, type KubeObject, type ResourceType } from '../api/object.ts';
import type { OwnerReference } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Informer } from '../client/informer.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { type DiscoveredResource, discover } from './discovery.ts';
import { FOREGROUND, Graph, type GraphNode, ORPHAN } from './garbagecollector/graph.ts';
import { startReconciler } from './reconciler.ts';
import { sleep } from '../client/clock.ts';

/** Events come and go by themselves and own nothing. */
const IGNORED = new Set(['/events', 'events.k8s.io/events']);
/** Milliseconds before discovery is tried again after it failed. */
const DISCOVERY_RETRY = 2000;

/**
 * Deletes what its owners left behind, and carries out deletions that say what is to become of dependents (foreground, orphan).
 * Watches everything that can be listed, watched and deleted, custom resources too. What the graph shows is verified with the
 * server before anything is deleted.
 */
export function startGarbageCollector(context: ControllerContext): Controller {
  const { client, clock, events, informers, signal } = context;
  const log = context.log.child({ controller: 'garbage-collector-controller' });
  const kinds = new Map<string, DiscoveredResource>();
  const watched = new Map<string, Informer<KubeObject>>();
  const crds = informers.informer(resources.customresourcedefinitions);
  const orphaning = new Set<string>();
  const graph = new Graph({
    attempt: (node) => loop.enqueue(node.uid),
    orphan(node) {
      orphaning.add(node.uid);
      loop.enqueue(node.uid);
    },
  });
  let refreshing = Promise.resolve();
  const loop = startReconciler(context, { name: 'garbage-collector-controller', workers: 20, waitFor: [{ synced: firstSync }], reconcile });
  const onCrd = () => {
    refreshing = refreshing.then(refresh).catch((error) => {
      if (!signal.aborted) log.warn({ err: error }, 'discovery failed, custom resources may be missed until the next change');
    });
  };
  crds.addHandlers({
    onUpdate: (before, after) => before.status !== after.status && onCrd(),
    onDelete: onCrd,
    onAdd: (crd) => crd.status?.conditions && crds.hasSynced && onCrd(),
  });
  return loop;

  /** Watches what discovery shows. An API server that is not up yet is waited for. */
  async function firstSync(): Promise<void> {
    for (;;) {
      try {
        await refresh();
        break;
      } catch (error) {
        if (signal.aborted) throw error;
        log.warn({ err: error }, 'discovery failed, trying again');
        await sleep(clock, DISCOVERY_RETRY, signal);
      }
    }
    await Promise.all([...watched.values()].map((informer) => informer.synced(signal)));
  }

  async function refresh(): Promise<void> {
    for (const type of await discover(client, signal)) {
      kinds.set(`${type.group}/${type.kind}`, type);
      const key = `${type.group}/${type.resource}`;
      if (watched.has(key) || IGNORED.has(key) || !['list', 'watch', 'delete'].every((verb) => type.verbs.includes(verb))) continue;
      const informer = informers.informer(type as ResourceType<KubeObject>);
      watched.set(key, informer);
      informer.addHandlers({
        onAdd: (object) => graph.observe(type, object),
        onUpdate(before, after) {
          const same = before.metadata.ownerReferences === after.metadata.ownerReferences && !after.metadata.deletionTimestamp;
          if (!same) graph.observe(type, after);
        },
        onDelete: (object) => graph.remove(object.metadata.uid),
      });
    }
  }

  async function reconcile(uid: string): Promise<void> {
    const node = graph.get(uid);
    if (!node) return void orphaning.delete(uid);
    const object = await liveObject(node);
    if (object === 'unknown kind') throw new Error(`no resource serves ${node.apiVersion} ${node.kind}, owner of other objects`);
    if (!object || object.metadata.uid !== uid) return graph.remove(uid);
    if (node.virtual) {
      // It exists and its informer will tell; until then dependents are safe.
      node.type = typeOf(node);
      return;
    }
    if (orphaning.has(uid)) return orphanDependents(node, object);
    if (node.deletingDependents) return finishForeground(node, object);
    if (node.deleting || object.metadata.deletionTimestamp) return;
    await deleteIfAbandoned(node, object);
  }

  async function deleteIfAbandoned(node: GraphNode, object: KubeObject): Promise<void> {
    const owners = object.metadata.ownerReferences ?? [];
    if (owners.length === 0) return;
    const gone: string[] = [];
    const waiting: string[] = [];
    let solid = 0;
    for (const owner of owners) {
      const state = await stateOf(owner, object);
      if (state === 'gone') gone.push(owner.uid);
      else if (state === 'waiting') waiting.push(owner.uid);
      else solid++;
    }
    if (solid > 0) {
      if (gone.length + waiting.length > 0) await dropOwners(node, object, [...gone, ...waiting]);
      return;
    }
    const { finalizers = [] } = object.metadata;
    let propagationPolicy = 'Background';
    if (waiting.length > 0 && node.dependents.size > 0) {
      // A circle of blocking references would wait for itself.
      if ([...node.dependents].some((d) => d.deletingDependents)) await unblockOwners(node, object);
      propagationPolicy = 'Foreground';
    } else if (finalizers.includes(ORPHAN)) propagationPolicy = 'Orphan';
    else if (finalizers.includes(FOREGROUND)) propagationPolicy = 'Foreground';
    const { uid, resourceVersion } = object.metadata;
    await client.delete(node.type!, keyFor(node), { propagationPolicy, preconditions: { uid, resourceVersion } }).catch(ignoreNotFound);
  }

  /** gone: does not exist (any more). waiting: is being deleted, after its dependents. */
  async function stateOf(owner: OwnerReference, dependent: KubeObject): Promise<'gone' | 'waiting' | 'solid'> {
    const { group, version } = groupVersionOf(owner.apiVersion);
    const type = kinds.get(`${group}/${owner.kind}`);
    if (!type) throw new Error(`no resource serves ${owner.apiVersion} ${owner.kind}, owner of ${dependent.kind} ${dependent.metadata.name}`);
    const { namespace } = dependent.metadata;
    if (type.namespaced && !namespace) {
      events.event(
        dependent,
        'Warning',
        'OwnerRefInvalidNamespace',
        `ownerRef [${owner.apiVersion}/${owner.kind}, namespace: , name: ${owner.name}, uid: ${owner.uid}] does not exist in namespace ""`,
      );
      return 'solid';
    }
    try {
      const live = (await client.get({ ...type, version } as ResourceType, {
        name: owner.name,
        ...(type.namespaced ? { namespace } : {}),
      })) as KubeObject;
      if (live.metadata.uid !== owner.uid) return 'gone';
      return live.metadata.deletionTimestamp && live.metadata.finalizers?.includes(FOREGROUND) ? 'waiting' : 'solid';
    } catch (error) {
      if (isNotFound(error)) return 'gone';
      throw error;
    }
  }

  async function finishForeground(node: GraphNode, object: KubeObject): Promise<void> {
    if (!object.metadata.finalizers?.includes(FOREGROUND)) return;
    const blocking = [...node.dependents].filter((d) => d.owners.some((o) => o.uid === node.uid && o.blockOwnerDeletion));
    if (blocking.length === 0) return removeFinalizer(node, object, FOREGROUND);
    for (const dependent of blocking) if (!dependent.deletingDependents && !dependent.deleting) loop.enqueue(dependent.uid);
  }

  async function orphanDependents(node: GraphNode, object: KubeObject): Promise<void> {
    for (const dependent of node.dependents) {
      const live = await liveObject(dependent);
      if (live && live !== 'unknown kind' && live.metadata.uid === dependent.uid) await dropOwners(dependent, live, [node.uid]);
    }
    await removeFinalizer(node, object, ORPHAN);
    orphaning.delete(node.uid);
  }

  async function dropOwners(node: GraphNode, object: KubeObject, uids: string[]): Promise<void> {
    const ownerReferences = (object.metadata.ownerReferences ?? []).filter((o) => !uids.includes(o.uid));
    if (ownerReferences.length !== object.metadata.ownerReferences?.length) await patchMetadata(node, object, { ownerReferences });
  }

  async function unblockOwners(node: GraphNode, object: KubeObject): Promise<void> {
    const ownerReferences = object.metadata.ownerReferences!.map((o) => ({ ...o, blockOwnerDeletion: false }));
    await patchMetadata(node, object, { ownerReferences });
  }

  function removeFinalizer(node: GraphNode, object: KubeObject, finalizer: string): Promise<void> {
    const finalizers = (object.metadata.finalizers ?? []).filter((f) => f !== finalizer);
    return finalizers.length === object.metadata.finalizers?.length ? Promise.resolve() : patchMetadata(node, object, { finalizers });
  }

  async function patchMetadata(node: GraphNode, object: KubeObject, change: object): Promise<void> {
    const { uid, resourceVersion } = object.metadata;
    await client.patch(node.type!, keyFor(node), 'merge', { metadata: { uid, resourceVersion, ...change } }).catch(ignoreNotFound);
  }

  async function liveObject(node: GraphNode): Promise<KubeObject | 'unknown kind' | undefined> {
    const type = node.type ?? typeOf(node);
    if (!type) return 'unknown kind';
    if (type.namespaced && !node.namespace) return undefined;
    try {
      return (await client.get(type, { name: node.name, ...(type.namespaced ? { namespace: node.namespace } : {}) })) as KubeObject;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  function typeOf(node: GraphNode): ResourceType | undefined {
    const { group, version } = groupVersionOf(node.apiVersion);
    const type = kinds.get(`${group}/${node.kind}`);
    return type && { ...type, version };
  }
}

const keyFor = (node: GraphNode) => ({ name: node.name, ...(node.type!.namespaced ? { namespace: node.namespace } : {}) });

function ignoreNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
