import { trackOwnStatus } from '../../verbs/managed-fields.ts';
import { cleanupFinalizer } from '../../../api/crd/definition-strategy.ts';
import { approvalOf, isProtectedGroup } from '../../../api/crd/definition-validation.ts';
import { canonicalJson, sameJson } from '../../../api/equality.ts';
import { isNotFound } from '../../../api/errors.ts';
import type { CustomResourceDefinition } from '../../../api/generated/types.ts';
import type { CustomResource } from '../../../api/scheme.ts';
import { type Api, timestamp } from '../../api.ts';
import type { UserInfo } from '../../authn/user.ts';
import { clone } from '../../storage/json.ts';
import type { ResourceStorage } from '../../storage/transactions.ts';
import { removeCollection } from '../../verbs/delete.ts';
import { acceptNames, isTrue, setCondition } from './names.ts';
import { type ServedDefinition, serveDefinition } from './serving.ts';

const system: UserInfo = { name: 'system:apiserver', groups: ['system:masters', 'system:authenticated'] };
/** Milliseconds before a definition is looked at again after a failure. */
const retryMs = 1000;

interface Serving {
  /** Everything that what is served depends on, as text. */
  from: string;
  definition: ServedDefinition;
  storage: ResourceStorage;
  unfollow: () => void;
}

/**
 * Follows CustomResourceDefinitions: accepts their names, serves their objects, says so in their status, and deletes the objects
 * before a definition goes.
 */
export class CustomResources {
  #api: Api;
  #storage: ResourceStorage;
  #serving = new Map<string, Serving>();
  #queue = new Set<string>();
  #running: Promise<void> | undefined;
  #makeConversion: (crd: CustomResourceDefinition) => CustomResource['conversion'];

  constructor(api: Api, makeConversion: (crd: CustomResourceDefinition) => CustomResource['conversion']) {
    this.#api = api;
    this.#makeConversion = makeConversion;
    this.#storage = api.registry.storage('apiextensions.k8s.io', 'v1', 'customresourcedefinitions');
  }

  /** Serves what is established already, then follows changes. */
  async start(): Promise<void> {
    const { cache } = this.#storage;
    cache.onChange(({ entry }) => this.#enqueue(entry.key));
    for (const { object } of cache.list()) {
      const crd = object as unknown as CustomResourceDefinition;
      if (isTrue(crd, 'Established')) await this.#serve(crd);
      this.#enqueue(crd.metadata.name);
    }
  }

  #enqueue(name: string): void {
    this.#queue.add(name);
    this.#running ??= this.#run();
  }

  async #run(): Promise<void> {
    // What is written while a change is applied must not be handled within it.
    await Promise.resolve();
    for (const name of this.#queue) {
      if (this.#api.stopping.aborted) break;
      this.#queue.delete(name);
      try {
        await this.#sync(name);
      } catch (error) {
        if (this.#api.stopping.aborted) break;
        // It went while its status was written: its deletion is the next change.
        if (isNotFound(error)) continue;
        this.#api.log.error({ err: error, customresourcedefinition: name }, 'a custom resource definition could not be served');
        this.#api.clock.after(retryMs, () => this.#enqueue(name));
      }
    }
    this.#running = undefined;
    if (this.#queue.size > 0 && !this.#api.stopping.aborted) this.#running = this.#run();
  }

  #all(): CustomResourceDefinition[] {
    return this.#storage.cache.list().map((e) => e.object as unknown as CustomResourceDefinition);
  }

  async #sync(name: string): Promise<void> {
    const entry = this.#storage.cache.get(name);
    if (!entry) {
      const gone = this.#serving.get(name);
      if (gone) this.#stopServing(name, gone);
      // Names that it held are free for others.
      const group = name.slice(name.indexOf('.') + 1);
      for (const other of this.#all()) if (other.spec.group === group && !isTrue(other, 'NamesAccepted')) this.#enqueue(other.metadata.name);
      return;
    }
    const crd = entry.object as unknown as CustomResourceDefinition;
    if (crd.metadata.deletionTimestamp) {
      if (isTrue(crd, 'Established')) await this.#serve(crd);
      return this.#finalize(crd);
    }
    const others = this.#all().filter((o) => o.spec.group === crd.spec.group && o.metadata.name !== name);
    const { names, accepted } = acceptNames(crd, others);
    const established = isTrue(crd, 'Established') || accepted.status === 'True';
    // Served first: who reads that it is established finds it so.
    if (established) await this.#serve({ ...crd, status: { ...crd.status, acceptedNames: names } });
    await this.#write(name, (next) => {
      next.status = { ...next.status, acceptedNames: names };
      setCondition(next, accepted, timestamp(this.#api));
      if (!isTrue(next, 'Established')) {
        setCondition(
          next,
          established
            ? { type: 'Established', status: 'True', reason: 'InitialNamesAccepted', message: 'the initial names have been accepted' }
            : { type: 'Established', status: 'False', reason: 'NotAccepted', message: 'not all names are accepted' },
          timestamp(this.#api),
        );
      }
      if (isProtectedGroup(next.spec.group)) setCondition(next, approvalCondition(next), timestamp(this.#api));
    });
  }

  /** Changes the definition's status, where `change` makes a difference. */
  async #write(name: string, change: (crd: CustomResourceDefinition) => void): Promise<void> {
    await this.#storage.update(name, (current) => {
      if (!current) return { keep: true };
      const next = clone(current.object) as unknown as CustomResourceDefinition;
      change(next);
      if (sameJson(next.status, (current.object as unknown as CustomResourceDefinition).status)) return { keep: true };
      trackOwnStatus(this.#api, definitions, current.object, next as never);
      return { put: next as never };
    });
  }

  async #serve(crd: CustomResourceDefinition): Promise<void> {
    const { name } = crd.metadata;
    const from = canonicalJson([crd.spec, crd.status?.acceptedNames, crd.metadata.deletionTimestamp !== undefined, crd.metadata.uid]);
    const known = this.#serving.get(name);
    if (known?.from === from) return;
    const definition = serveDefinition(crd, this.#makeConversion(crd));
    const storage = await this.#api.registry.addCustom(definition.versions, definition.storage);
    known?.unfollow();
    const unfollow = storage.cache.onChange(() => {
      // The last object of a definition that is being deleted is gone.
      if (storage.cache.size === 0 && definition.storage.custom?.terminating) this.#enqueue(name);
    });
    this.#serving.set(name, { from, definition, storage, unfollow });
    // Requests that have begun still use the old one's schemas.
    if (known) this.#api.clock.after(60_000, () => known.definition.release());
  }

  #stopServing(name: string, serving: Serving): void {
    this.#serving.delete(name);
    serving.unfollow();
    const { group, resource } = serving.definition.storage;
    this.#api.registry.removeCustom(group, resource);
    this.#api.clock.after(60_000, () => serving.definition.release());
  }

  /** Deletes the objects of a definition that is to go, and lets it go when the last one has. */
  async #finalize(crd: CustomResourceDefinition): Promise<void> {
    const { name, finalizers = [] } = crd.metadata;
    if (!finalizers.includes(cleanupFinalizer)) return;
    const condition = (status: string, reason: string, message: string) =>
      this.#write(name, (next) => setCondition(next, { type: 'Terminating', status, reason, message }, timestamp(this.#api)));
    const serving = this.#serving.get(name);
    if (serving && serving.storage.cache.size > 0) {
      await condition('True', 'InstanceDeletionInProgress', 'CustomResource deletion is in progress');
      await this.#deleteObjects(serving);
      await this.#api.hub.current();
      if (serving.storage.cache.size > 0) return;
    }
    await this.#storage.update(name, (current) => {
      if (!current) return { keep: true };
      const next = clone(current.object) as unknown as CustomResourceDefinition;
      next.metadata.finalizers = (next.metadata.finalizers ?? []).filter((f) => f !== cleanupFinalizer);
      const done = 'removed all instances';
      setCondition(next, { type: 'Terminating', status: 'False', reason: 'InstanceDeletionCompleted', message: done }, timestamp(this.#api));
      if (next.metadata.finalizers.length === 0) return { remove: true, last: next as never };
      trackOwnStatus(this.#api, definitions, current.object, next as never);
      return { put: next as never };
    });
  }

  async #deleteObjects({ definition, storage }: Serving): Promise<void> {
    const { storage: served } = definition;
    const target = { served, subject: { group: served.group, resource: served.resource }, storage };
    const namespaces = served.namespaced ? [...new Set(storage.cache.list().map((e) => e.object.metadata.namespace ?? ''))] : [''];
    for (const namespace of namespaces) {
      const call = {
        user: system,
        target,
        verb: 'deletecollection',
        namespace,
        name: '',
        subresource: '',
        dryRun: false,
        fieldValidation: 'Ignore' as const,
        fieldManager: '',
        warnings: [],
        signal: undefined,
      };
      const permit = await this.#api.authorizer.require(this.#api, call);
      await removeCollection(this.#api, { ...call, permit }, {}, {});
    }
  }
}

const definitions = { group: 'apiextensions.k8s.io', version: 'v1', resource: 'customresourcedefinitions' };

function approvalCondition(crd: CustomResourceDefinition) {
  const { state, reason } = approvalOf(crd.metadata.annotations as Record<string, string> | undefined);
  const type = 'KubernetesAPIApprovalPolicyConformant';
  if (state === 'approved') return { type, status: 'True', reason: 'ApprovedAnnotation', message: reason };
  if (state === 'bypassed') return { type, status: 'False', reason: 'UnapprovedAnnotation', message: reason };
  return { type, status: 'False', reason: state === 'missing' ? 'MissingAnnotation' : 'InvalidAnnotation', message: reason };
}
