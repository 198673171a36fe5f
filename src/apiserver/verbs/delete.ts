import { conflict, invalid, methodNotSupported, notFound } from '../../api/errors.ts';
import type { DeleteOptions, Status } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import { type Api, type Call, keyFor, timestamp } from '../api.ts';
import { cleanupFinalizer } from '../../api/crd/definition-strategy.ts';
import { settle } from '../storage/conversion.ts';
import type { Entry } from '../storage/entry.ts';
import { kindHooks } from '../services/hooks.ts';
import { clone } from '../storage/json.ts';
import type { Outcome } from '../storage/transactions.ts';
import { inForce } from './create.ts';
import { deletionComplete } from './update.ts';
import { type ListParameters, list } from './list.ts';

export type Deletion =
  /** The object stays (grace, finalizers), or is of a kind whose deletion answers with it. */
  { entry: Entry; status?: undefined } | { entry?: undefined; status: Status };

/** Seconds that a deletion may lie ahead and still have a date: three thousand years. It is only the date that is nearer then. */
const mostGrace = 3000 * 365 * 86_400;
const seconds = (grace: number): number => Math.min(Number(grace), mostGrace);
const foreground = 'foregroundDeletion';
const orphan = 'orphan';
/** Deleting these answers with the object. */
const answersObject = new Set([
  'csidrivers',
  'csinodes',
  'deviceclasses',
  'devicetaintrules',
  'namespaces',
  'persistentvolumeclaims',
  'persistentvolumes',
  'pods',
  'podtemplates',
  'resourceclaims',
  'resourceclaimtemplates',
  'resourcepoolstatusrequests',
  'resourcequotas',
  'resourceslices',
  'serviceaccounts',
  'services/specs',
  'storageclasses',
  'volumeattachments',
  'volumeattributesclasses',
]);
const definitionsPath = 'apiextensions.k8s.io/customresourcedefinitions';
/** Kinds whose dependents stay by default, from the time before garbage collection. */
const orphansByDefault = new Set(['controllers', 'jobs']);

const jobsKeepPods =
  'child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning';

/** StatusError 422 where the options contradict themselves. */
export function checkDeleteOptions(options: Partial<DeleteOptions>): void {
  const { propagationPolicy: policy, orphanDependents, gracePeriodSeconds, dryRun } = options;
  const about = { group: 'meta.k8s.io', kind: 'DeleteOptions' };
  if (dryRun?.some((value) => value !== 'All')) {
    throw invalid(about, '', [{ type: 'FieldValueNotSupported', field: 'dryRun', value: dryRun, detail: 'supported values: "All"' }]);
  }
  if (policy !== undefined && orphanDependents !== undefined) {
    throw invalid(about, '', [
      { type: 'FieldValueInvalid', field: 'propagationPolicy', value: policy, detail: 'orphanDependents and deletionPropagation cannot be both set' },
    ]);
  }
  if (policy !== undefined && !['Foreground', 'Background', 'Orphan'].includes(policy)) {
    throw invalid(about, '', [
      {
        type: 'FieldValueNotSupported',
        field: 'propagationPolicy',
        value: policy,
        detail: 'supported values: "Foreground", "Background", "Orphan", "nil"',
      },
    ]);
  }
  if (gracePeriodSeconds !== undefined && gracePeriodSeconds < 0 && gracePeriodSeconds !== -1) options.gracePeriodSeconds = 1;
}

export async function remove(api: Api, call: Call, options: Partial<DeleteOptions>): Promise<Deletion> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('delete')) throw methodNotSupported(subject, 'delete');
  checkDeleteOptions(options);
  const stored = storage.cache.resource;
  if (stored.registryPath === 'jobs' && options.orphanDependents === undefined && options.propagationPolicy === undefined) call.warnings.push(jobsKeepPods);
  let admitted = false;
  const written = await storage.update(keyFor(call.namespace, call.name), async (current): Promise<Outcome> => {
    if (!current) throw notFound(subject, call.name);
    checkPreconditions(call, options, current);
    if (!admitted) {
      await settle([current], served);
      const admission = api.admission.begin(api, call, 'DELETE', undefined, current.as(served).object);
      await admission.admit();
      await admission.validate();
      admitted = true;
    }
    return deletionOf(api, stored.registryPath, current.object, options, stored.strategy.gracefulDelete === true, call.dryRun);
  });
  await inForce(api, served, written.entry);
  if (written.removed && !call.dryRun) await kindHooks[stored.registryPath]?.afterRemove?.(api, written.entry.object);
  if (!written.removed || answersObject.has(stored.registryPath)) {
    await settle([written.entry], served);
    return { entry: written.entry };
  }
  return {
    status: {
      kind: 'Status',
      apiVersion: 'v1',
      metadata: {},
      status: 'Success',
      details: {
        name: call.name,
        ...(served.group ? { group: served.group } : {}),
        kind: served.resource,
        ...(written.entry.object.metadata.uid ? { uid: written.entry.object.metadata.uid } : {}),
      },
    } as Status,
  };
}

function checkPreconditions(call: Call, options: Partial<DeleteOptions>, current: Entry): void {
  const { preconditions } = options;
  if (!preconditions) return;
  const { uid } = current.object.metadata;
  if (preconditions.uid !== undefined && preconditions.uid !== uid) {
    // Two kinds have their own way of deletion, with its words.
    const own = { Namespace: 'P', CustomResourceDefinition: 'p' }[call.target.served.kind];
    if (own && call.target.served.storageGroup === current.object.apiVersion.replace(/\/?v1$/, ''))
      throw conflict(call.target.subject, call.name, `${own}recondition failed: UID in precondition: ${preconditions.uid}, UID in object meta: ${uid}`);
    throw conflict(
      { group: call.target.subject.group, resource: call.target.served.kind },
      call.name,
      `the UID in the precondition (${preconditions.uid}) does not match the UID in record (${uid}). The object might have been deleted and then recreated`,
    );
  }
  if (preconditions.resourceVersion !== undefined && preconditions.resourceVersion !== String(current.revision)) {
    throw conflict(
      { group: call.target.subject.group, resource: call.target.served.kind },
      call.name,
      `the ResourceVersion in the precondition (${preconditions.resourceVersion}) does not match the ResourceVersion in record (${current.revision}). The object might have been modified`,
    );
  }
}

/** What deleting makes of an object: gone, or marked. */
function deletionOf(api: Api, path: string, before: KubeObject, options: Partial<DeleteOptions>, graceful: boolean, dryRun: boolean): Outcome {
  const object = clone(before);
  const { metadata } = object;
  let grace = 0;
  if (graceful) {
    grace = gracePeriod(object, options);
    if (metadata.deletionTimestamp) {
      // Only shortening is possible once a deletion has begun.
      const running = metadata.deletionGracePeriodSeconds ?? 0;
      if (options.gracePeriodSeconds === undefined || options.gracePeriodSeconds < 0 || grace >= running) grace = running;
    }
  }
  // A definition goes only after its objects.
  if (path === definitionsPath && !metadata.deletionTimestamp) metadata.finalizers = [...new Set([...(metadata.finalizers ?? []), cleanupFinalizer])];
  const finalizers = finalizersAfter(path, metadata.finalizers ?? [], options);
  if (finalizers.length > 0) metadata.finalizers = finalizers;
  else delete metadata.finalizers;

  const namespaceHeld = object.kind === 'Namespace';
  if (grace === 0 && finalizers.length === 0 && !namespaceHeld) {
    metadata.deletionTimestamp ??= timestamp(api);
    metadata.deletionGracePeriodSeconds = 0;
    // The last state of what ends by itself tells that it has ended.
    if (graceful && metadata.generation) metadata.generation++;
    return { remove: true, dryRun, last: graceful ? object : before };
  }
  if (!metadata.deletionTimestamp || (metadata.deletionGracePeriodSeconds ?? 0) > grace) {
    metadata.deletionTimestamp = metadata.deletionTimestamp
      ? new Date(Date.parse(metadata.deletionTimestamp) - (seconds(metadata.deletionGracePeriodSeconds ?? 0) - seconds(grace)) * 1000)
          .toISOString()
          .replace('.000Z', 'Z')
      : timestamp(api, seconds(grace));
    metadata.deletionGracePeriodSeconds = grace;
    if (metadata.generation) metadata.generation++;
  }
  if (path === definitionsPath) delete metadata.deletionGracePeriodSeconds;
  if (namespaceHeld) {
    delete metadata.deletionGracePeriodSeconds;
    const namespace = object as KubeObject & { status?: { phase?: string } };
    namespace.status = { ...namespace.status, phase: 'Terminating' };
    if (deletionComplete(object)) return { remove: true, dryRun, last: object };
  }
  return { put: object, dryRun };
}

function gracePeriod(object: KubeObject, options: Partial<DeleteOptions>): number {
  const pod = object as KubeObject & { spec?: { nodeName?: string; terminationGracePeriodSeconds?: number }; status?: { phase?: string } };
  let grace = options.gracePeriodSeconds ?? pod.spec?.terminationGracePeriodSeconds ?? 30;
  // A pod that no kubelet looks after, or that has run its course, has nothing to end.
  if (!pod.spec?.nodeName || pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') grace = 0;
  return grace < 0 ? 1 : grace;
}

/** The finalizers for the garbage collector follow the propagation policy; others stay. */
function finalizersAfter(path: string, existing: string[], options: Partial<DeleteOptions>): string[] {
  const others = existing.filter((f) => f !== foreground && f !== orphan);
  let policy = options.propagationPolicy;
  if (policy === undefined && options.orphanDependents !== undefined) policy = options.orphanDependents ? 'Orphan' : 'Background';
  if (policy === undefined) {
    if (existing.includes(orphan)) policy = 'Orphan';
    else if (existing.includes(foreground)) policy = 'Foreground';
    else policy = orphansByDefault.has(path) ? 'Orphan' : 'Background';
  }
  if (policy === 'Orphan') return [...others, orphan];
  if (policy === 'Foreground') return [...others, foreground];
  return others;
}

/** Deletes everything a list finds, several at a time; an object that is gone already counts as deleted. */
export async function removeCollection(api: Api, call: Call, parameters: ListParameters, options: Partial<DeleteOptions>): Promise<Entry[]> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('deletecollection')) throw methodNotSupported(subject, 'deletecollection');
  checkDeleteOptions(options);
  const { entries } = await list(api, call, parameters);
  const queue = [...entries];
  const worker = async () => {
    for (let entry = queue.shift(); entry; entry = queue.shift()) {
      const { metadata } = entry.object;
      const one: Call = { ...call, name: metadata.name ?? '', namespace: metadata.namespace ?? '', verb: 'deletecollection' };
      try {
        await remove(api, one, { ...options });
      } catch (error) {
        if ((error as { reason?: string }).reason !== 'NotFound') throw error;
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(8, queue.length) }, worker));
  return entries;
}
