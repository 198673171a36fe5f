import { badRequest, internalError, isConflict, notFound, StatusError } from '../../api/errors.ts';
import type { DeleteOptions, Pod, PodDisruptionBudget } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import { labelSelectorMatches } from '../../api/selectors.ts';
import { type Api, type Call, keyFor, timestamp } from '../api.ts';
import { clone } from '../storage/json.ts';
import type { Outcome } from '../storage/transactions.ts';
import { remove } from '../verbs/delete.ts';
import { trackOwnStatus } from '../verbs/managed-fields.ts';
import { checkBody, type ParsedBody } from '../verbs/prepare.ts';

export const evictionType = { group: 'policy', version: 'v1', kind: 'Eviction', definition: 'io.k8s.api.policy.v1.Eviction' };

/** Deletes a pod if the disruption budgets that cover it allow one more disruption; StatusError 429 where they do not. */
export async function evict(api: Api, call: Call, body: ParsedBody): Promise<void> {
  const eviction = checkBody<KubeObject & { deleteOptions?: DeleteOptions }>(call, body, evictionType);
  const name = call.name;
  if (eviction.metadata?.name && eviction.metadata.name !== name) throw badRequest(`name in URL does not match name in Eviction object`);
  const options: Partial<DeleteOptions> = { ...eviction.deleteOptions };
  const entry = await api.registry.storage('', 'v1', 'pods').read(keyFor(call.namespace, name));
  if (!entry) throw notFound(call.target.subject, name);
  const pod = entry.object as unknown as Pod;
  const admission = api.admission.begin(api, call, 'CREATE', eviction, undefined);
  await admission.admit();
  await admission.validate();
  const dryRun = call.dryRun || (options.dryRun?.includes('All') ?? false);
  if (!harmless(pod)) await claimDisruption(api, call, pod, dryRun);
  if (!dryRun) await markDisrupted(api, call, pod);
  const { metadata } = pod;
  options.preconditions = { ...options.preconditions, ...(metadata.uid ? { uid: metadata.uid } : {}) };
  await remove(api, { ...call, subresource: '', verb: 'delete', dryRun }, options);
}

/** Pods that serve nobody can always go. */
function harmless(pod: Pod): boolean {
  const phase = pod.status?.phase;
  return phase === 'Succeeded' || phase === 'Failed' || phase === 'Pending' || pod.metadata.deletionTimestamp !== undefined;
}

const isReady = (pod: Pod) => pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;

async function claimDisruption(api: Api, call: Call, pod: Pod, dryRun: boolean): Promise<void> {
  const storage = api.registry.storage('policy', 'v1', 'poddisruptionbudgets');
  await api.hub.current();
  const covering = storage.cache
    .list(call.namespace)
    .filter((e) => labelSelectorMatches((e.object as unknown as PodDisruptionBudget).spec?.selector as never, pod.metadata.labels));
  if (covering.length === 0) return;
  if (covering.length > 1) throw internalError('This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.');
  try {
    await storage.update(covering[0]!.key, (current): Outcome => {
      if (!current) throw new BudgetGone();
      const budget = clone(current.object) as unknown as PodDisruptionBudget;
      const status = budget.status;
      const policy = budget.spec?.unhealthyPodEvictionPolicy;
      if (!isReady(pod)) {
        const healthyEnough = (status?.currentHealthy ?? 0) >= (status?.desiredHealthy ?? 0) && (status?.desiredHealthy ?? 0) > 0;
        if (policy === 'AlwaysAllow' || healthyEnough) return { keep: true };
      }
      if ((status?.observedGeneration ?? 0) < (budget.metadata.generation ?? 0)) {
        throw tooMany(`The disruption budget ${budget.metadata.name} is still being processed by the server.`, 10);
      }
      if ((status?.disruptionsAllowed ?? 0) <= 0) {
        const failed = status?.conditions?.find((c) => c.type === 'DisruptionAllowed' && c.reason === 'SyncFailed');
        throw tooMany(
          failed
            ? `The disruption budget ${budget.metadata.name} does not allow evicting pods currently because it failed sync: ${failed.message}`
            : `The disruption budget ${budget.metadata.name} needs ${status?.desiredHealthy ?? 0} healthy pods and has ${status?.currentHealthy ?? 0} currently`,
        );
      }
      const left = (status?.disruptionsAllowed ?? 0) - 1;
      budget.status = {
        ...status!,
        disruptionsAllowed: left,
        ...(left === 0 ? { conditions: exhausted(api, budget) } : {}),
        disruptedPods: { ...status!.disruptedPods, [pod.metadata.name!]: timestamp(api) as never },
      };
      trackOwnStatus(api, { group: 'policy', version: 'v1', resource: 'poddisruptionbudgets' }, current.object, budget as unknown as KubeObject);
      return { put: budget as unknown as KubeObject, dryRun };
    });
  } catch (error) {
    if (error instanceof BudgetGone) return;
    if (isConflict(error)) throw tooMany('The disruption budget is being changed by others', 10);
    throw error;
  }
}

/** Says on the pod why it goes: Jobs do not count it as failed, where their policy says so. */
async function markDisrupted(api: Api, call: Call, evicted: Pod): Promise<void> {
  await api.registry.storage('', 'v1', 'pods').update(keyFor(call.namespace, call.name), (current): Outcome => {
    if (!current || current.object.metadata.uid !== evicted.metadata.uid) return { keep: true };
    const pod = clone(current.object) as unknown as Pod;
    const conditions = pod.status?.conditions ?? [];
    const before = conditions.find((c) => c.type === 'DisruptionTarget');
    const lastTransitionTime = before?.status === 'True' ? before.lastTransitionTime : (timestamp(api) as never);
    const condition = {
      type: 'DisruptionTarget',
      status: 'True',
      reason: 'EvictionByEvictionAPI',
      message: 'Eviction API: evicting',
      lastTransitionTime,
    };
    pod.status = { ...pod.status, conditions: [...conditions.filter((c) => c !== before), condition] };
    return { put: pod as unknown as KubeObject, dryRun: false };
  });
}

class BudgetGone extends Error {}

function exhausted(api: Api, budget: PodDisruptionBudget) {
  const conditions = budget.status?.conditions ?? [];
  const before = conditions.find((c) => c.type === 'DisruptionAllowed');
  const lastTransitionTime = before?.status === 'False' ? before.lastTransitionTime : (timestamp(api) as never);
  const observedGeneration = budget.status?.observedGeneration;
  const condition = { type: 'DisruptionAllowed', status: 'False', reason: 'InsufficientPods', message: '', lastTransitionTime, observedGeneration };
  return [...conditions.filter((c) => c !== before), condition];
}

function tooMany(why: string, retryAfterSeconds = 0): StatusError {
  return new StatusError(
    429,
    'TooManyRequests',
    `Cannot evict pod as it would violate the pod's disruption budget.`,
    { causes: [{ reason: 'DisruptionBudget', message: `${why}` }], ...(retryAfterSeconds ? { retryAfterSeconds } : {}) },
    retryAfterSeconds ? { 'retry-after': String(retryAfterSeconds) } : {},
  );
}
