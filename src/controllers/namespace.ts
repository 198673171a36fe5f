import { isNotFound, StatusError } from '../api/errors.ts';
import type { KubeList, KubeObject } from '../api/object.ts';
import type { Namespace, NamespaceCondition } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { type DiscoveredResource, discover } from './discovery.ts';
import { startReconciler } from './reconciler.ts';
import { timestamp } from './timestamps.ts';

/** How soon a namespace that still has content is looked at again, in milliseconds. */
const RETRY = 500;
const MAX_RETRY = 15_000;
const FINALIZER = 'kubernetes';

interface Remains {
  /** resource.group to how many are left. */
  counts: Map<string, number>;
  finalizers: Map<string, number>;
  errors: string[];
}

/** Empties namespaces that are being deleted, of everything that the server serves, and then lets them go. Watches namespaces. */
export function startNamespaceController(context: ControllerContext): Controller {
  const { client, clock, informers, signal } = context;
  const namespaces = informers.informer(resources.namespaces);
  const attempts = new Map<string, number>();
  const loop = startReconciler(context, { name: 'namespace-controller', workers: 10, waitFor: [namespaces], reconcile });
  const enqueue = (namespace: Namespace) => {
    if (namespace.metadata.deletionTimestamp) loop.enqueue(namespace.metadata.name);
  };
  namespaces.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after), onDelete: (n) => void attempts.delete(n.metadata.name) });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const cached = namespaces.get(name);
    if (!cached?.metadata.deletionTimestamp) return;
    const namespace = await live(cached);
    if (!namespace?.spec?.finalizers?.includes(FINALIZER)) return;
    const remains = await deleteContent(name);
    const updated = await report(namespace, remains);
    if (remains.counts.size > 0 || remains.errors.length > 0) {
      const tried = attempts.get(name) ?? 0;
      attempts.set(name, tried + 1);
      return loop.enqueueAfter(name, Math.min(MAX_RETRY, RETRY * 1.5 ** tried));
    }
    attempts.delete(name);
    const finalizers = updated.spec!.finalizers!.filter((f) => f !== FINALIZER);
    await client
      .update(resources.namespaces, { ...updated, spec: { ...updated.spec, finalizers } }, { subresource: 'finalize' })
      .catch(ignoreNotFound);
  }

  async function live(cached: Namespace): Promise<Namespace | undefined> {
    try {
      const namespace = await client.get(resources.namespaces, cached.metadata);
      return namespace.metadata.uid === cached.metadata.uid && namespace.metadata.deletionTimestamp ? namespace : undefined;
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  }

  async function deleteContent(namespace: string): Promise<Remains> {
    const remains: Remains = { counts: new Map(), finalizers: new Map(), errors: [] };
    const types = (await discover(client, signal)).filter((r) => r.namespaced && r.verbs.includes('list') && r.verbs.includes('delete'));
    // Pods first, and everything else when they are gone: what they use, policies that hold them among it, outlives them.
    const isPods = (type: DiscoveredResource) => type.group === '' && type.resource === 'pods';
    for (const type of types.filter(isPods)) await deleteAll(type, namespace, remains);
    if (remains.counts.size > 0) return remains;
    // A few at a time: quick, and gentle to the server.
    const queue = types.filter((type) => !isPods(type));
    const worker = async () => {
      for (let type = queue.shift(); type; type = queue.shift()) {
        try {
          await deleteAll(type, namespace, remains);
        } catch (error) {
          // A resource that vanished since discovery has nothing left in it.
          if (error instanceof StatusError && (error.code === 404 || error.code === 405)) continue;
          remains.errors.push(`${qualified(type)}: ${(error as Error).message}`);
        }
      }
    };
    await Promise.all(Array.from({ length: 6 }, worker));
    return remains;
  }

  async function deleteAll(type: DiscoveredResource, namespace: string, remains: Remains): Promise<void> {
    const before: KubeList = await client.list(type, { namespace, limit: 500 });
    if (before.items.length === 0) return;
    if (type.verbs.includes('deletecollection')) {
      await client.deleteCollection(type, { namespace, deleteOptions: { propagationPolicy: 'Background' } });
    } else {
      for (const item of before.items) await client.delete(type, item.metadata, { propagationPolicy: 'Background' }).catch(ignoreNotFound);
    }
    const left = await client.list(type, { namespace, limit: 500 });
    if (left.items.length === 0) return;
    remains.counts.set(qualified(type), left.items.length + (left.metadata.remainingItemCount ?? 0));
    for (const item of left.items as KubeObject[]) {
      for (const finalizer of item.metadata.finalizers ?? []) remains.finalizers.set(finalizer, (remains.finalizers.get(finalizer) ?? 0) + 1);
    }
  }

  async function report(namespace: Namespace, { counts, finalizers, errors }: Remains): Promise<Namespace> {
    const list = (entries: Map<string, number>, text: (name: string, count: number) => string) =>
      Array.from(entries, ([name, count]) => text(name, count))
        .sort()
        .join(', ');
    const wanted = [
      make('NamespaceDeletionDiscoveryFailure', '', 'ResourcesDiscovered', 'All resources successfully discovered'),
      make('NamespaceDeletionGroupVersionParsingFailure', '', 'ParsedGroupVersions', 'All legacy kube types successfully parsed'),
      errors.length
        ? make(
            'NamespaceDeletionContentFailure',
            'ContentDeletionFailed',
            '',
            `Failed to delete all resource types, ${errors.length} remaining: ${errors.sort().join(', ')}`,
          )
        : make('NamespaceDeletionContentFailure', '', 'ContentDeleted', 'All content successfully deleted, may be waiting on finalization'),
      counts.size
        ? make(
            'NamespaceContentRemaining',
            'SomeResourcesRemain',
            '',
            `Some resources are remaining: ${list(counts, (name, count) => `${name} has ${count} resource instances`)}`,
          )
        : make('NamespaceContentRemaining', '', 'ContentRemoved', 'All content successfully removed'),
      finalizers.size
        ? make(
            'NamespaceFinalizersRemaining',
            'SomeFinalizersRemain',
            '',
            `Some content in the namespace has finalizers remaining: ${list(finalizers, (name, count) => `${name} in ${count} resource instances`)}`,
          )
        : make('NamespaceFinalizersRemaining', '', 'ContentHasNoFinalizers', 'All content-preserving finalizers finished'),
    ];
    const before = namespace.status?.conditions ?? [];
    const conditions = wanted.map((c) => {
      const old = before.find((b) => b.type === c.type);
      return { ...c, lastTransitionTime: old?.status === c.status ? old?.lastTransitionTime : timestamp(clock) };
    });
    const others = before.filter((b) => !wanted.some((c) => c.type === b.type));
    const status = { ...namespace.status, phase: 'Terminating', conditions: [...others, ...conditions] };
    if (semanticEqual(status, namespace.status)) return namespace;
    return client.update(resources.namespaces, { ...namespace, status }, { subresource: 'status' });
  }
}

function make(type: string, bad: string, good: string, message: string): NamespaceCondition {
  return { type, status: bad ? 'True' : 'False', reason: bad || good, message };
}

const qualified = (type: { group: string; resource: string }): string => `${type.resource}.${type.group}`;

function ignoreNotFound(error: unknown): void {
  if (!isNotFound(error)) throw error;
}
