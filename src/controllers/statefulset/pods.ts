import { isAlreadyExists, isNotFound } from '../../api/errors.ts';
import type { Pod, PodTemplateSpec, StatefulSet } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import { keyOf } from '../../api/object.ts';
import type { ControllerContext } from '../controller.ts';
import type { Expectations } from '../expectations.ts';
import type { PodIdentity, StatefulClaims } from './claims.ts';
import { identityLabels, identityMatches, ordinalOf, podAt, storageMatches, withClaims } from './identity.ts';

/** Creates, repairs and deletes the pods of a set, each with its claims and an event. */
export class StatefulPods {
  readonly #context: ControllerContext;
  readonly #expectations: Expectations;
  readonly claims: StatefulClaims;

  constructor(context: ControllerContext, expectations: Expectations, claims: StatefulClaims) {
    this.#context = context;
    this.#expectations = expectations;
    this.claims = claims;
  }

  /** Creates the pod of a place, its claims first. */
  async create(set: StatefulSet, place: { template: PodTemplateSpec; revision: string; ordinal: number }): Promise<Pod> {
    const draft = podAt(set, place.template, place.revision, place.ordinal);
    const name = draft.metadata.name!;
    const key = keyOf(set);
    try {
      await this.claims.create(set, { metadata: { name, namespace: set.metadata.namespace } });
      this.#expectations.raise(key, 1);
      const pod = await this.#context.client.create(resources.pods, draft).catch((error) => {
        this.#expectations.creationObserved(key);
        throw error;
      });
      await this.claims.applyRetention(set, pod);
      this.#record(set, 'Create', name);
      return pod;
    } catch (error) {
      if (!isAlreadyExists(error)) this.#record(set, 'Create', name, error);
      throw error;
    }
  }

  async delete(set: StatefulSet, pod: Pod): Promise<void> {
    const { uid, name } = pod.metadata;
    this.#expectations.raise(keyOf(set), 0, [uid]);
    try {
      await this.#context.client.delete(resources.pods, pod.metadata, { preconditions: { uid } });
    } catch (error) {
      this.#expectations.deletionObserved(keyOf(set), uid);
      if (!isNotFound(error)) {
        this.#record(set, 'Delete', name, error);
        throw error;
      }
    }
    this.#record(set, 'Delete', name);
  }

  /** Brings labels, volumes and the claims' owners in line with the pod's place, where they are not. */
  async repair(set: StatefulSet, pod: Pod): Promise<void> {
    const claimsMatch = this.claims.retentionMatches(set, pod);
    if (identityMatches(pod) && storageMatches(set, pod) && claimsMatch) return;
    const ordinal = ordinalOf(pod);
    try {
      if (!storageMatches(set, pod)) await this.claims.create(set, pod);
      if (!claimsMatch) await this.claims.applyRetention(set, pod);
      if (!identityMatches(pod) || !storageMatches(set, pod)) {
        const metadata = { ...pod.metadata, labels: { ...pod.metadata.labels, ...identityLabels(set, ordinal) } };
        const spec = { ...pod.spec, volumes: withClaims(set, ordinal, pod.spec.volumes) };
        await this.#context.client.update(resources.pods, { ...pod, metadata, spec });
      }
      this.#record(set, 'Update', pod.metadata.name);
    } catch (error) {
      this.#record(set, 'Update', pod.metadata.name, error);
      throw error;
    }
  }

  /** The claims that a waiting pod may lack. */
  async completeClaims(set: StatefulSet, pod: PodIdentity): Promise<void> {
    await this.claims.create(set, pod);
    await this.claims.applyRetention(set, pod);
  }

  #record(set: StatefulSet, verb: 'Create' | 'Update' | 'Delete', pod: string, error?: unknown): void {
    const what = `${verb} Pod ${pod} in StatefulSet ${set.metadata.name}`;
    if (error === undefined) this.#context.events.event(set, 'Normal', `Successful${verb}`, `${what} successful`);
    else this.#context.events.event(set, 'Warning', `Failed${verb}`, `${what} failed error: ${(error as Error).message}`);
  }
}
