import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type {
  DeviceRequestAllocationResult,
  DeviceTaint,
  DeviceTaintRule,
  Pod,
  ResourceV1ResourceClaim as ResourceClaim,
  ResourceSlice,
} from '../api/generated/types.ts';
import { keyOf } from '../api/object.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { isPodTerminal } from './pod-facts.ts';
import { addPodCondition } from './pod-status.ts';
import { startReconciler } from './reconciler.ts';
import { isReservedFor } from './resourceclaim/references.ts';
import { selects, tolerates } from './resourceclaim/taints.ts';
import { millis } from './timestamps.ts';

const byPool = 'pool';
const byPod = 'pod';
const poolOf = (driver: string, pool: string) => `${driver}/${pool}`;

/**
 * Deletes pods whose claims have a device with a taint NoExecute that they do not tolerate, or no longer. Watches pods, ResourceClaims,
 * ResourceSlices and DeviceTaintRules.
 */
export function startDeviceTaintEvictionController(context: ControllerContext): Controller {
  const { client, clock, events, informers } = context;
  const pods = informers.informer(resources.pods);
  const claims = informers.informer(resources.resourceclaims);
  const slices = informers.informer(resources.resourceslices);
  const rules = informers.informer(resources.devicetaintrules);
  const announced = new Set<string>();
  claims.addIndex(byPool, (claim) => [...new Set(resultsOf(claim).map((r) => poolOf(r.driver, r.pool)))]);
  claims.addIndex(byPod, (claim) => (claim.status?.reservedFor ?? []).map((r) => r.uid));
  slices.addIndex(byPool, ({ spec }) => [poolOf(spec.driver, spec.pool.name)]);
  const loop = startReconciler(context, {
    name: 'device-taint-eviction-controller',
    workers: 4,
    waitFor: [pods, claims, slices, rules],
    reconcile,
  });
  const enqueueUsers = (claim: ResourceClaim) => {
    for (const { apiGroup, resource, name } of claim.status?.reservedFor ?? [])
      if (!apiGroup && resource === 'pods') loop.enqueue(`${claim.metadata.namespace}/${name}`);
  };
  claims.addHandlers({ onAdd: enqueueUsers, onUpdate: (before, after) => !semanticEqual(before.status, after.status) && enqueueUsers(after) });
  const sliceChanged = ({ spec }: ResourceSlice) => claims.byIndex(byPool, poolOf(spec.driver, spec.pool.name)).forEach(enqueueUsers);
  const taintsOf = ({ spec }: ResourceSlice) => (spec.devices ?? []).flatMap((d) => (d.taints?.length ? [[d.name, d.taints]] : []));
  slices.addHandlers({
    onAdd: (slice) => taintsOf(slice).length && sliceChanged(slice),
    onUpdate: (before, after) => !semanticEqual(taintsOf(before), taintsOf(after)) && sliceChanged(after),
    onDelete: (slice) => taintsOf(slice).length && sliceChanged(slice),
  });
  const ruleChanged = (rule: DeviceTaintRule) => {
    for (const claim of claims.list()) if (resultsOf(claim).some((r) => selects(rule, r))) enqueueUsers(claim);
  };
  rules.addHandlers({
    onAdd: ruleChanged,
    onUpdate(before, after) {
      if (semanticEqual(before.spec, after.spec)) return;
      ruleChanged(before);
      ruleChanged(after);
    },
    onDelete: ruleChanged,
  });
  pods.addHandlers({
    onUpdate: (before, after) => before.spec.nodeName !== after.spec.nodeName && after.spec.resourceClaims?.length && loop.enqueue(keyOf(after)),
    onDelete: (pod) => void announced.delete(keyOf(pod)),
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const pod = pods.get(key);
    if (!pod?.spec.nodeName || pod.metadata.deletionTimestamp || isPodTerminal(pod)) return;
    const end = evictionTime(pod);
    if (end === undefined) {
      if (announced.delete(key)) events.event(pod, 'Normal', 'DeviceTaintManagerEviction', 'Cancelling deletion');
      return;
    }
    if (end > clock.now()) {
      announced.add(key);
      return loop.enqueueAfter(key, end - clock.now());
    }
    announced.delete(key);
    events.event(pod, 'Normal', 'DeviceTaintManagerEviction', 'Marking for deletion');
    try {
      const message = 'Device Taint manager: deleting due to NoExecute taint';
      await addPodCondition(context, pod, { type: 'DisruptionTarget', status: 'True', reason: 'DeletionByDeviceTaintManager', message });
      await client.delete(resources.pods, pod.metadata, { preconditions: { uid: pod.metadata.uid } });
    } catch (error) {
      if (!isNotFound(error)) throw error;
    }
  }

  /** When the pod has to go, in milliseconds since the epoch; undefined: it may stay. */
  function evictionTime(pod: Pod): number | undefined {
    let end: number | undefined;
    for (const claim of claims.byIndex(byPod, pod.metadata.uid)) {
      if (claim.metadata.namespace !== pod.metadata.namespace || !isReservedFor(claim, pod)) continue;
      for (const result of resultsOf(claim)) {
        for (const taint of evictingTaints(result)) {
          const used = (result.tolerations ?? []).filter((one) => tolerates(one, taint));
          const seconds = used.length
            ? Math.min(...used.map((t) => (t.tolerationSeconds === undefined ? Number.POSITIVE_INFINITY : Number(t.tolerationSeconds))))
            : 0;
          if (seconds === Number.POSITIVE_INFINITY) continue;
          const at = (taint.timeAdded ? millis(taint.timeAdded) : clock.now()) + Math.max(0, seconds) * 1000;
          end = Math.min(end ?? Number.POSITIVE_INFINITY, at);
        }
      }
    }
    return end;
  }

  function evictingTaints(result: DeviceRequestAllocationResult): DeviceTaint[] {
    const found = slices.byIndex(byPool, poolOf(result.driver, result.pool)).sort((a, b) => b.spec.pool.generation - a.spec.pool.generation);
    const device = found.flatMap((slice) => slice.spec.devices ?? []).find((d) => d.name === result.device);
    const ruled = rules.list().filter((rule) => selects(rule, result));
    return [...(device?.taints ?? []), ...ruled.map((rule) => rule.spec.taint)].filter((taint) => taint.effect === 'NoExecute');
  }
}

const resultsOf = (claim: ResourceClaim): DeviceRequestAllocationResult[] => claim.status?.allocation?.devices?.results ?? [];
