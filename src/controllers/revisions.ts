import { canonicalJson } from '../api/equality.ts';
import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import type { Draft, KubeObject, ResourceType } from '../api/object.ts';
import type { ControllerRevision, LabelSelector, PodTemplateSpec } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Informer } from '../client/informer.ts';
import { objectHash, semanticEqual } from './canonical.ts';
import type { ControllerContext } from './controller.ts';
import { claim, controllerRef } from './ownership.ts';

/** The pod label that names the revision a pod was made from. */
export const REVISION_LABEL = 'controller-revision-hash';

interface Templated extends KubeObject {
  spec: { template: PodTemplateSpec; selector: LabelSelector };
}

/** What a revision keeps: the strategic merge patch that brings the template back. */
interface RevisionData {
  spec?: { template?: PodTemplateSpec & { $patch?: string } };
}

export const byRevision = (a: ControllerRevision, b: ControllerRevision): number =>
  (a.revision ?? 0) - (b.revision ?? 0) ||
  (a.metadata.creationTimestamp ?? '').localeCompare(b.metadata.creationTimestamp ?? '') ||
  a.metadata.name.localeCompare(b.metadata.name);

/** The template that a revision keeps. */
export function templateOf(revision: ControllerRevision): PodTemplateSpec {
  const { $patch: _, ...template } = (revision.data as RevisionData).spec?.template ?? {};
  return template as PodTemplateSpec;
}

/** The owner's revisions, oldest first; orphans that its selector matches are adopted. */
export async function revisionsOf<T extends Templated>(
  { client }: ControllerContext,
  owner: T,
  ownerType: ResourceType<T>,
  informer: Informer<ControllerRevision>,
): Promise<ControllerRevision[]> {
  const { selector } = owner.spec;
  const all = await claim({ client, owner, ownerType, type: resources.controllerrevisions, informer, selector });
  return all.sort(byRevision);
}

export interface NewRevision {
  /** The label that carries the hash. */
  hashLabel: string;
  collisionCount: number;
}

/**
 * The revision of the owner's present template: an existing one, renumbered where it is not the newest (a rollback), or a new one.
 * Returns the collision count, which has grown where a foreign revision has the name.
 */
export async function currentRevision<T extends Templated>(
  { client }: ControllerContext,
  owner: T,
  revisions: ControllerRevision[],
  options: NewRevision,
): Promise<{ revision: ControllerRevision; collisionCount: number }> {
  const { template } = owner.spec;
  const newest = revisions.at(-1);
  const equal = revisions.filter((r) => semanticEqual(templateOf(r), template)).at(-1);
  const next = (newest?.revision ?? 0) + 1;
  let { collisionCount } = options;
  if (equal) {
    if (equal === newest || equal.revision === newest?.revision) return { revision: equal, collisionCount };
    return { revision: await client.update(resources.controllerrevisions, { ...equal, revision: next }), collisionCount };
  }
  for (;;) {
    const hash = objectHash(template, collisionCount || undefined);
    const name = `${owner.metadata.name}-${hash}`;
    // In upstream's order of keys: its clients compare bytes.
    const data: RevisionData = JSON.parse(canonicalJson({ spec: { template: { ...template, $patch: 'replace' } } }));
    const draft: Draft<ControllerRevision> = {
      apiVersion: 'apps/v1',
      kind: 'ControllerRevision',
      metadata: {
        name,
        namespace: owner.metadata.namespace,
        labels: { ...template.metadata?.labels, [options.hashLabel]: hash },
        annotations: { ...owner.metadata.annotations },
        ownerReferences: [controllerRef(owner)],
      },
      data: data as never,
      revision: next,
    };
    try {
      return { revision: await client.create(resources.controllerrevisions, draft), collisionCount };
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const existing = await client.get(resources.controllerrevisions, { namespace: owner.metadata.namespace, name });
      // The cache may lag behind; then the revision is the one we made.
      const ours = existing.metadata.ownerReferences?.some((o) => o.uid === owner.metadata.uid);
      if (ours && semanticEqual(templateOf(existing), template)) return { revision: existing, collisionCount };
      collisionCount++;
    }
  }
}

/** Deletes the oldest revisions that are not in use, beyond the limit. */
export async function truncateRevisions(
  { client }: ControllerContext,
  revisions: ControllerRevision[],
  inUse: (revision: ControllerRevision) => boolean,
  limit: number,
): Promise<void> {
  const idle = revisions.filter((r) => !inUse(r));
  for (const revision of idle.slice(0, Math.max(0, idle.length - limit))) {
    await client.delete(resources.controllerrevisions, revision.metadata, { preconditions: { uid: revision.metadata.uid } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}
