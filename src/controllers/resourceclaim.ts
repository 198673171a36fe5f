import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Pod, PodResourceClaim, ResourceClaimConsumerReference, ResourceV1ResourceClaim as ResourceClaim } from '../api/generated/types.ts';
import { keyOf } from '../api/object.ts';
import { claimNameOf } from '../api/resource-claims.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';
import {
  ALLOCATION_FINALIZER,
  canBeReserved,
  isOwnedBy,
  isPodDone,
  isReservedFor,
  POD_CLAIM_ANNOTATION,
  reservedWith,
} from './resourceclaim/references.ts';

const byTemplate = 'template';
const byOwner = 'owner';

/** A base for names of 63 letters, a hyphen and five random ones included; both parts are cut in proportion. */
function nameBase(pod: string, claim: string): string {
  const whole = `${pod}-${claim}-`;
  const most = 57;
  if (whole.length <= most) return whole;
  const part = (text: string) => text.slice(0, Math.floor((text.length * most) / whole.length));
  return `${part(pod)}-${part(claim)}`;
}

/**
 * Makes claims from the templates that pods name, and takes back what ended pods held: their reservations, then the allocation, then claims
 * that were theirs. Watches pods, ResourceClaims and ResourceClaimTemplates.
 */
export function startResourceClaimController(context: ControllerContext): Controller {
  const { client, events, informers } = context;
  const pods = informers.informer(resources.pods);
  const claims = informers.informer(resources.resourceclaims);
  const templates = informers.informer(resources.resourceclaimtemplates);
  pods.addIndex(byTemplate, (pod) =>
    (pod.spec.resourceClaims ?? []).flatMap((c) => (c.resourceClaimTemplateName ? [`${pod.metadata.namespace}/${c.resourceClaimTemplateName}`] : [])),
  );
  claims.addIndex(byOwner, (claim) => (claim.metadata.ownerReferences ?? []).filter((o) => o.controller === true).map((o) => o.uid));
  const loop = startReconciler(context, {
    name: 'resourceclaim-controller',
    workers: 5,
    waitFor: [pods, claims, templates],
    reconcile: (key) => (key.startsWith('pod:') ? syncPod(key.slice(4)) : syncClaim(key.slice(6))),
  });
  const claimsOf = (pod: Pod) => {
    const named = (pod.spec.resourceClaims ?? []).map((entry) => claimNameOf(pod, entry)).filter((name) => typeof name === 'string');
    return new Set([...named.map((name) => `${pod.metadata.namespace}/${name}`), ...claims.byIndex(byOwner, pod.metadata.uid).map(keyOf)]);
  };
  const podChanged = (pod: Pod, gone: boolean) => {
    if (!pod.spec.resourceClaims?.length) return;
    if (gone || isPodDone(pod)) for (const key of claimsOf(pod)) loop.enqueue(`claim:${key}`);
    else if (!pod.metadata.deletionTimestamp) loop.enqueue(`pod:${keyOf(pod)}`);
  };
  pods.addHandlers({
    onAdd: (pod) => podChanged(pod, false),
    onUpdate: (_, pod) => podChanged(pod, false),
    onDelete: (pod) => podChanged(pod, true),
  });
  const claimChanged = (claim: ResourceClaim) => loop.enqueue(`claim:${keyOf(claim)}`);
  claims.addHandlers({
    onAdd: claimChanged,
    onUpdate: (_, claim) => claimChanged(claim),
    onDelete(claim) {
      // Its pod may still want it.
      const owner = claim.metadata.ownerReferences?.find((o) => o.controller === true && o.kind === 'Pod');
      if (owner) loop.enqueue(`pod:${claim.metadata.namespace}/${owner.name}`);
    },
  });
  templates.addHandlers({ onAdd: (template) => pods.byIndex(byTemplate, keyOf(template)).forEach((pod) => podChanged(pod, false)) });
  return loop;

  async function syncPod(key: string): Promise<void> {
    const pod = pods.get(key);
    if (!pod || pod.metadata.deletionTimestamp) return;
    const made = new Map<string, string>();
    for (const entry of pod.spec.resourceClaims ?? []) {
      try {
        const name = await claimFor(pod, entry);
        if (name !== undefined) made.set(entry.name, name);
      } catch (error) {
        events.event(pod, 'Warning', 'FailedResourceClaimCreation', `PodResourceClaim ${entry.name}: ${(error as Error).message}`);
        throw error;
      }
    }
    if (made.size) {
      const resourceClaimStatuses = [...made].map(([name, resourceClaimName]) => ({ name, resourceClaimName }));
      const { uid } = pod.metadata;
      await client.patch(
        resources.pods,
        pod.metadata,
        'strategic',
        { metadata: { uid }, status: { resourceClaimStatuses } },
        { subresource: 'status' },
      );
    }
    // The scheduler reserves for pods that it places; one that came with a node has only us.
    if (pod.spec.nodeName) for (const entry of pod.spec.resourceClaims ?? []) await reserve(pod, entry);
  }

  /** The name of a claim that was made from the entry's template and that the pod's status does not show yet. */
  async function claimFor(pod: Pod, entry: PodResourceClaim): Promise<string | undefined> {
    const { namespace, name: podName, uid } = pod.metadata;
    if (!entry.resourceClaimTemplateName) return undefined;
    const known = claimNameOf(pod, entry);
    if (known === null) return undefined;
    const recorded = known === undefined ? undefined : claims.get(`${namespace}/${known}`);
    if (recorded && isOwnedBy(recorded, pod)) return undefined;
    const orphan = claims
      .byIndex(byOwner, uid)
      .find((c) => c.metadata.annotations?.[POD_CLAIM_ANNOTATION] === entry.name && !c.metadata.deletionTimestamp);
    if (orphan) return orphan.metadata.name;
    // The cache may lag behind our own creation.
    const selected = await client.list(resources.resourceclaims, { namespace });
    const there = selected.items.find((c) => isOwnedBy(c, pod) && c.metadata.annotations?.[POD_CLAIM_ANNOTATION] === entry.name);
    if (there) return there.metadata.name;
    const template = templates.get(`${namespace}/${entry.resourceClaimTemplateName}`);
    if (!template)
      throw new Error(
        `resource claim template "${entry.resourceClaimTemplateName}": resourceclaimtemplate.resource.k8s.io "${entry.resourceClaimTemplateName}" not found`,
      );
    const { labels, annotations } = template.spec.metadata ?? {};
    const metadata = {
      generateName: nameBase(podName, entry.name),
      namespace,
      ...(labels ? { labels } : {}),
      annotations: { ...annotations, [POD_CLAIM_ANNOTATION]: entry.name },
      ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: podName, uid, controller: true }],
    };
    const claim = await client.create(resources.resourceclaims, { metadata: metadata as never, spec: structuredClone(template.spec.spec) });
    return claim.metadata.name;
  }

  async function reserve(pod: Pod, entry: PodResourceClaim): Promise<void> {
    const name = claimNameOf(pod, entry);
    const claim = name ? claims.get(`${pod.metadata.namespace}/${name}`) : undefined;
    if (!claim?.status?.allocation || isReservedFor(claim, pod) || !canBeReserved(claim)) return;
    if (entry.resourceClaimTemplateName && !isOwnedBy(claim, pod))
      throw new Error(`ResourceClaim ${keyOf(claim)} was not created for pod ${keyOf(pod)}`);
    const status = { ...claim.status, reservedFor: reservedWith(claim, pod) };
    await client.update(resources.resourceclaims, { ...claim, status }, { subresource: 'status' });
  }

  async function stillNeeds(namespace: string, consumer: ResourceClaimConsumerReference): Promise<boolean> {
    if (consumer.apiGroup || consumer.resource !== 'pods') return true;
    const cached = pods.get(`${namespace}/${consumer.name}`);
    if (cached) return cached.metadata.uid === consumer.uid && !isPodDone(cached);
    // The scheduler may know of a pod that the cache does not show yet.
    const pod = await client.get(resources.pods, { namespace, name: consumer.name }).catch((error) => {
      if (isNotFound(error)) return undefined;
      throw error;
    });
    return pod?.metadata.uid === consumer.uid;
  }

  async function syncClaim(key: string): Promise<void> {
    let claim = claims.get(key);
    if (!claim) return;
    const { namespace } = claim.metadata;
    const reserved = claim.status?.reservedFor ?? [];
    const remaining: ResourceClaimConsumerReference[] = [];
    for (const consumer of reserved) if (await stillNeeds(namespace, consumer)) remaining.push(consumer);
    const finalized = claim.metadata.finalizers?.includes(ALLOCATION_FINALIZER) ?? false;
    const unused = remaining.length === 0;
    if (remaining.length < reserved.length || (finalized && claim.metadata.deletionTimestamp && unused && claim.status?.allocation))
      claim = await release(claim, remaining, unused && finalized);
    if (
      unused &&
      !claim.status?.allocation &&
      claim.metadata.finalizers?.includes(ALLOCATION_FINALIZER) &&
      (reserved.length || claim.metadata.deletionTimestamp)
    ) {
      const finalizers = claim.metadata.finalizers.filter((name) => name !== ALLOCATION_FINALIZER);
      claim = await client.update(resources.resourceclaims, { ...claim, metadata: { ...claim.metadata, finalizers } });
    }
    if (!unused) return;
    const owner = claim.metadata.ownerReferences?.find((o) => o.controller === true && o.apiVersion === 'v1' && o.kind === 'Pod');
    const pod = owner && pods.get(`${namespace}/${owner.name}`);
    if (!pod || claim.metadata.deletionTimestamp || (pod.metadata.uid === owner.uid && !isPodDone(pod))) return;
    // The garbage collector would wait for the pod to go.
    await client.delete(resources.resourceclaims, claim.metadata, { preconditions: { uid: claim.metadata.uid } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }

  async function release(claim: ResourceClaim, reservedFor: ResourceClaimConsumerReference[], deallocate: boolean): Promise<ResourceClaim> {
    const { allocation, reservedFor: _, devices, ...rest } = claim.status ?? {};
    const kept = deallocate ? {} : { ...(allocation ? { allocation } : {}), ...(devices ? { devices } : {}) };
    const status = { ...rest, ...kept, ...(reservedFor.length ? { reservedFor } : {}) };
    return client.update(resources.resourceclaims, { ...claim, status }, { subresource: 'status' });
  }
}
