import type { KubeObject, ResourceType } from '../../api/object.ts';
import type { OwnerReference } from '../../api/generated/types.ts';

/** The finalizers by which a deletion says what is to become of dependents. */
export const FOREGROUND = 'foregroundDeletion';
export const ORPHAN = 'orphan';

/** One object in the graph of owners and dependents. */
export interface GraphNode {
  uid: string;
  /** What it is; for one known only by references, what those say (type is missing where its kind is unknown). */
  type?: ResourceType;
  apiVersion: string;
  kind: string;
  namespace?: string;
  name: string;
  owners: OwnerReference[];
  dependents: Set<GraphNode>;
  /** Never seen itself, only referred to. */
  virtual: boolean;
  deleting: boolean;
  /** Being deleted, and waits until its dependents are. */
  deletingDependents: boolean;
}

/** What has to be looked at after a change. */
export interface Effects {
  /** May have to be deleted, or may now be free to go. */
  attempt(node: GraphNode): void;
  /** Its dependents are to lose their reference to it. */
  orphan(node: GraphNode): void;
}

/** Owners and dependents of all objects, by uid. Every change costs no more than the references of the changed object. */
export class Graph {
  readonly #nodes = new Map<string, GraphNode>();
  readonly #effects: Effects;

  constructor(effects: Effects) {
    this.#effects = effects;
  }

  get(uid: string): GraphNode | undefined {
    return this.#nodes.get(uid);
  }

  get size(): number {
    return this.#nodes.size;
  }

  /** An object was seen, new or changed. */
  observe(type: ResourceType, object: KubeObject): void {
    const { uid, name, namespace, ownerReferences = [], deletionTimestamp, finalizers = [] } = object.metadata;
    let node = this.#nodes.get(uid);
    const wasVirtual = node?.virtual ?? false;
    if (!node) {
      // Objects without any relation are most: they get a node only when one refers to them.
      if (ownerReferences.length === 0 && !deletionTimestamp) return;
      node = {
        uid,
        apiVersion: object.apiVersion,
        kind: object.kind,
        name,
        owners: [],
        dependents: new Set(),
        virtual: false,
        deleting: false,
        deletingDependents: false,
      };
      this.#nodes.set(uid, node);
    }
    Object.assign(node, { type, apiVersion: object.apiVersion, kind: object.kind, name, namespace, virtual: false });
    // A reference may have named it wrongly: then the dependents' owner does not exist.
    if (wasVirtual) for (const dependent of node.dependents) if (!this.#refersRightly(dependent, node)) this.#effects.attempt(dependent);
    this.#setOwners(node, ownerReferences);
    node.deleting = !!deletionTimestamp;
    if (deletionTimestamp && finalizers.includes(ORPHAN)) this.#effects.orphan(node);
    else if (deletionTimestamp && finalizers.includes(FOREGROUND)) {
      if (!node.deletingDependents) {
        node.deletingDependents = true;
        for (const dependent of node.dependents) this.#effects.attempt(dependent);
      }
      this.#effects.attempt(node);
    }
  }

  /** An object is gone. */
  remove(uid: string): void {
    const node = this.#nodes.get(uid);
    if (!node) return;
    this.#nodes.delete(uid);
    this.#setOwners(node, []);
    for (const dependent of node.dependents) this.#effects.attempt(dependent);
  }

  /** Takes out what nothing refers to any more and was never seen. */
  forget(node: GraphNode): void {
    if (node.virtual && node.dependents.size === 0) this.#nodes.delete(node.uid);
  }

  #refersRightly(dependent: GraphNode, owner: GraphNode): boolean {
    const ref = dependent.owners.find((o) => o.uid === owner.uid);
    return !ref || (ref.kind === owner.kind && ref.name === owner.name && (!owner.namespace || owner.namespace === dependent.namespace));
  }

  #setOwners(node: GraphNode, owners: OwnerReference[]): void {
    const before = node.owners;
    node.owners = owners;
    const kept = new Map(owners.map((o) => [o.uid, o]));
    for (const old of before) {
      const now = kept.get(old.uid);
      const owner = this.#nodes.get(old.uid);
      if (!now) owner?.dependents.delete(node);
      // The owner may have waited for this one.
      const unblocked = old.blockOwnerDeletion && !now?.blockOwnerDeletion;
      if (owner?.deletingDependents && (unblocked || !now)) this.#effects.attempt(owner);
      if (owner && !now) this.forget(owner);
    }
    const had = new Set(before.map((o) => o.uid));
    for (const ref of owners) {
      if (had.has(ref.uid)) continue;
      let owner = this.#nodes.get(ref.uid);
      if (!owner) {
        owner = {
          uid: ref.uid,
          apiVersion: ref.apiVersion,
          kind: ref.kind,
          name: ref.name,
          namespace: node.namespace,
          owners: [],
          dependents: new Set(),
          virtual: true,
          deleting: false,
          deletingDependents: false,
        };
        this.#nodes.set(ref.uid, owner);
        this.#effects.attempt(owner);
      }
      owner.dependents.add(node);
      if (owner.deletingDependents) this.#effects.attempt(node);
    }
  }
}
