import { isAlreadyExists } from '../../api/errors.ts';
import type { Draft, KubeObject } from '../../api/object.ts';
import type { OwnerReference, PersistentVolumeClaim, StatefulSet } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import type { Informer } from '../../client/informer.ts';
import type { ControllerContext } from '../controller.ts';
import { controllerRef } from '../ownership.ts';
import { claimNameAt, isInRange, nameAndOrdinal } from './identity.ts';

type Claim = PersistentVolumeClaim;
/** A pod that exists or is about to: claims refer to it by name and uid. */
export interface PodIdentity {
  metadata: { name: string; namespace: string; uid?: string };
}

const templatesOf = (set: StatefulSet) => set.spec.volumeClaimTemplates ?? [];
const policyOf = (set: StatefulSet) => {
  const { whenDeleted = 'Retain', whenScaled = 'Retain' } = set.spec.persistentVolumeClaimRetentionPolicy ?? {};
  return { whenDeleted, whenScaled };
};

const refersTo = (ref: OwnerReference, kind: string, apiVersion: string, name: string) =>
  ref.kind === kind && ref.apiVersion === apiVersion && ref.name === name;
const refersToSet = (ref: OwnerReference, set: StatefulSet) => refersTo(ref, 'StatefulSet', 'apps/v1', set.metadata.name);
const refersToPod = (ref: OwnerReference, pod: PodIdentity) => refersTo(ref, 'Pod', 'v1', pod.metadata.name);

/** The claims of a pod's place, as a set keeps them. */
export class StatefulClaims {
  readonly #context: ControllerContext;
  readonly #informer: Informer<Claim>;

  constructor(context: ControllerContext, informer: Informer<Claim>) {
    this.#context = context;
    this.#informer = informer;
  }

  #existing(set: StatefulSet, pod: PodIdentity): Claim[] {
    const { ordinal } = nameAndOrdinal(pod.metadata.name);
    return templatesOf(set)
      .map((t) => this.#informer.get(`${set.metadata.namespace}/${claimNameAt(set, t, ordinal)}`))
      .filter((c) => c !== undefined);
  }

  /** Creates those that are missing. Throws where one cannot be created or is on its way out. */
  async create(set: StatefulSet, pod: PodIdentity): Promise<void> {
    const { client, events } = this.#context;
    const { ordinal } = nameAndOrdinal(pod.metadata.name);
    const problems: string[] = [];
    for (const template of templatesOf(set)) {
      const name = claimNameAt(set, template, ordinal);
      const known = this.#informer.get(`${set.metadata.namespace}/${name}`);
      if (known?.metadata.deletionTimestamp) problems.push(`pvc ${name} is being deleted`);
      if (known) continue;
      const { labels, annotations, finalizers } = template.metadata;
      const draft: Draft<Claim> = {
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: {
          name,
          namespace: set.metadata.namespace,
          labels: { ...labels, ...set.spec.selector.matchLabels },
          ...(annotations ? { annotations: { ...annotations } } : {}),
          ...(finalizers ? { finalizers: [...finalizers] } : {}),
        },
        spec: structuredClone(template.spec),
      };
      const about = `Create Claim ${name}`;
      try {
        await client.create(resources.persistentvolumeclaims, draft);
        events.event(set, 'Normal', 'SuccessfulCreate', `${about} Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} success`);
      } catch (error) {
        if (isAlreadyExists(error)) continue;
        const why = (error as Error).message;
        events.event(set, 'Warning', 'FailedCreate', `${about} for Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} failed error: ${why}`);
        problems.push(`failed to create PVC ${name}: ${why}`);
      }
    }
    if (problems.length) throw new Error(problems.join(', '));
  }

  /** True while a claim still belongs to the place's former pod: it will go, and a new pod must not start on it. */
  isStale(set: StatefulSet, pod: PodIdentity): boolean {
    if (policyOf(set).whenScaled === 'Retain') return false;
    return this.#existing(set, pod).some((c) => hasStaleRef(c, (ref) => refersToPod(ref, pod), pod.metadata.uid));
  }

  /** Whether the owners of the claims say what persistentVolumeClaimRetentionPolicy wants. */
  retentionMatches(set: StatefulSet, pod: PodIdentity): boolean {
    return this.#existing(set, pod).every((c) => isUpToDate(c, set, pod));
  }

  /** Gives the claims the owners that persistentVolumeClaimRetentionPolicy asks for. */
  async applyRetention(set: StatefulSet, pod: PodIdentity): Promise<void> {
    const { client, events } = this.#context;
    for (const claim of this.#existing(set, pod)) {
      if (hasUnexpectedController(claim, set, pod)) {
        const message = `PersistentVolumeClaim ${claim.metadata.name} has a conflicting OwnerReference that acts as a managing controller, the retention policy is ignored for this claim`;
        events.event(set, 'Warning', 'ConflictingController', message);
      }
      if (isUpToDate(claim, set, pod)) continue;
      const ownerReferences = wantedOwners(claim, set, pod);
      await client.update(resources.persistentvolumeclaims, { ...claim, metadata: { ...claim.metadata, ownerReferences } });
    }
  }
}

const ownersOf = (claim: Claim) => claim.metadata.ownerReferences ?? [];
const has = (claim: Claim, uid: string | undefined) => uid !== undefined && ownersOf(claim).some((o) => o.uid === uid);

function hasStaleRef(claim: Claim, refers: (ref: OwnerReference) => boolean, uid: string | undefined): boolean {
  const ref = ownersOf(claim).find(refers);
  return ref !== undefined && ref.uid !== uid;
}

function hasUnexpectedController(claim: Claim, set: StatefulSet, pod: PodIdentity): boolean {
  const { whenScaled, whenDeleted } = policyOf(set);
  if (whenScaled === 'Retain' && whenDeleted === 'Retain') return false;
  return ownersOf(claim).some((ref) => {
    if (refersToSet(ref, set)) return ref.uid !== set.metadata.uid;
    if (refersToPod(ref, pod)) return ref.uid !== pod.metadata.uid;
    return ref.controller === true;
  });
}

/** Which of the two should own the claim. */
function wanted(set: StatefulSet, pod: PodIdentity): { bySet: boolean; byPod: boolean } {
  const { whenScaled, whenDeleted } = policyOf(set);
  const byPod = whenScaled === 'Delete' && !isInRange(set, nameAndOrdinal(pod.metadata.name).ordinal);
  return { byPod, bySet: whenDeleted === 'Delete' && !byPod };
}

function isUpToDate(claim: Claim, set: StatefulSet, pod: PodIdentity): boolean {
  // References to a former set or pod of the name: the garbage collector will take the claim, nothing is to be repaired.
  const stale = hasStaleRef(claim, (r) => refersToSet(r, set), set.metadata.uid) || hasStaleRef(claim, (r) => refersToPod(r, pod), pod.metadata.uid);
  if (stale) return true;
  if (hasUnexpectedController(claim, set, pod)) return !has(claim, set.metadata.uid) && !has(claim, pod.metadata.uid);
  if (ownersOf(claim).some((o) => (o.uid === set.metadata.uid || o.uid === pod.metadata.uid) && !o.controller)) return false;
  const { bySet, byPod } = wanted(set, pod);
  return has(claim, set.metadata.uid) === bySet && has(claim, pod.metadata.uid) === byPod;
}

function wantedOwners(claim: Claim, set: StatefulSet, pod: PodIdentity): OwnerReference[] {
  const others = ownersOf(claim).filter((ref) => !refersToSet(ref, set) && !refersToPod(ref, pod));
  if (hasUnexpectedController(claim, set, pod)) return others;
  const { bySet, byPod } = wanted(set, pod);
  const asPod = { apiVersion: 'v1', kind: 'Pod', metadata: pod.metadata } as KubeObject;
  return [...others, ...(bySet ? [controllerRef(set)] : []), ...(byPod ? [controllerRef(asPod)] : [])];
}
