import type { KubeObject, ResourceType } from '../api/object.ts';
import type { LabelSelector, OwnerReference } from '../api/generated/types.ts';
import { isInvalid, isNotFound } from '../api/errors.ts';
import { labelSelectorMatches } from '../api/selectors.ts';
import type { Client } from '../client/client.ts';
import type { Informer } from '../client/informer.ts';

/** The owner that manages the object, where there is one. */
export function controllerOf(object: { metadata: { ownerReferences?: OwnerReference[] } }): OwnerReference | undefined {
  const owners = object.metadata.ownerReferences;
  if (owners) for (const owner of owners) if (owner.controller) return owner;
  return undefined;
}

export function isControlledBy(object: { metadata: { ownerReferences?: OwnerReference[] } }, owner: KubeObject): boolean {
  return controllerOf(object)?.uid === owner.metadata.uid;
}

/** The reference that makes owner the managing controller of what carries it. */
export const controllerRef = (owner: KubeObject): OwnerReference => ({
  apiVersion: owner.apiVersion,
  kind: owner.kind,
  name: owner.metadata.name,
  uid: owner.metadata.uid,
  controller: true,
  blockOwnerDeletion: true,
});

const INDEX = 'controller';
const orphansOf = (namespace: string) => `orphans/${namespace}`;

/** Indexes an informer by the uid of the managing controller; objects without one by their namespace. */
export function indexByController<T extends KubeObject>(informer: Informer<T>): void {
  informer.addIndex(INDEX, (object) => [controllerOf(object)?.uid ?? orphansOf(object.metadata.namespace)]);
}

export const controlledBy = <T extends KubeObject>(informer: Informer<T>, uid: string): T[] => informer.byIndex(INDEX, uid);
export const orphansIn = <T extends KubeObject>(informer: Informer<T>, namespace: string): T[] => informer.byIndex(INDEX, orphansOf(namespace));

/**
 * What an owner manages: objects that name it and match its selector, and matching orphans, which are adopted.
 * Objects that name it and no longer match are released. As upstream's ControllerRefManager.
 *
 * @throws StatusError where an adoption or a release fails for another reason than that the object is gone
 */
export async function claim<T extends KubeObject>(options: {
  client: Client;
  ownerType: ResourceType<any>;
  owner: KubeObject;
  type: ResourceType<T>;
  informer: Informer<T>;
  selector: LabelSelector | undefined;
  /** Objects for which this does not hold are left alone: neither claimed nor released. */
  filter?: (object: T) => boolean;
  /** A finalizer that comes with adoption and goes with release. */
  finalizer?: string;
}): Promise<T[]> {
  const { client, owner, informer, selector, filter = () => true } = options;
  const matches = (object: T) => labelSelectorMatches(selector, object.metadata.labels);
  const claimed: T[] = [];
  for (const object of controlledBy(informer, owner.metadata.uid)) {
    if (object.metadata.namespace !== owner.metadata.namespace || !filter(object)) continue;
    if (matches(object)) claimed.push(object);
    else if (!owner.metadata.deletionTimestamp) await release(options, object);
  }
  if (owner.metadata.deletionTimestamp) return claimed;
  let mayAdopt: boolean | undefined;
  for (const object of orphansIn(informer, owner.metadata.namespace)) {
    if (object.metadata.deletionTimestamp || !filter(object) || !matches(object)) continue;
    mayAdopt ??= await ownerStillLives(client, options.ownerType, owner);
    if (!mayAdopt) break;
    const adopted = await adopt(options, object);
    if (adopted) claimed.push(adopted);
  }
  return claimed;
}

/** Asks the API server, since the cache may show an owner that has been deleted and made anew. */
async function ownerStillLives(client: Client, type: ResourceType<KubeObject>, owner: KubeObject): Promise<boolean> {
  try {
    const live = await client.get(type, owner.metadata);
    return live.metadata.uid === owner.metadata.uid && !live.metadata.deletionTimestamp;
  } catch (error) {
    if (isNotFound(error)) return false;
    throw error;
  }
}

async function adopt<T extends KubeObject>(
  { client, type, owner, finalizer }: { client: Client; type: ResourceType<T>; owner: KubeObject; finalizer?: string },
  object: T,
): Promise<T | undefined> {
  const ownerReferences = [...(object.metadata.ownerReferences ?? []), controllerRef(owner)];
  const { uid, resourceVersion, finalizers = [] } = object.metadata;
  const added = finalizer && !finalizers.includes(finalizer) ? { finalizers: [...finalizers, finalizer] } : {};
  try {
    return await client.patch(type, object.metadata, 'merge', { metadata: { uid, resourceVersion, ownerReferences, ...added } });
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

async function release<T extends KubeObject>(
  { client, type, owner, finalizer }: { client: Client; type: ResourceType<T>; owner: KubeObject; finalizer?: string },
  object: T,
): Promise<void> {
  const ownerReferences = (object.metadata.ownerReferences ?? []).filter((o) => o.uid !== owner.metadata.uid);
  const { uid, resourceVersion, finalizers } = object.metadata;
  const taken = finalizer && finalizers?.includes(finalizer) ? { finalizers: finalizers.filter((f) => f !== finalizer) } : {};
  try {
    await client.patch(type, object.metadata, 'merge', { metadata: { uid, resourceVersion, ownerReferences, ...taken } });
  } catch (error) {
    // Gone, or another object of that name by now: nothing left to release.
    if (!isNotFound(error) && !isInvalid(error)) throw error;
  }
}
