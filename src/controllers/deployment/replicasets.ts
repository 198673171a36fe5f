import type { Draft } from '../../api/object.ts';
import { isAlreadyExists } from '../../api/errors.ts';
import type { Deployment, ReplicaSet } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import { objectHash } from '../canonical.ts';
import type { ControllerContext } from '../controller.ts';
import { controllerRef, isControlledBy } from '../ownership.ts';
import { isNamespaceTerminating } from '../pod-control.ts';
import { conditionOf, DESIRED_REPLICAS, findNewReplicaSet, HASH_LABEL, MAX_REPLICAS, maxSurgeOf, newReplicaSetSize } from './facts.ts';
import { parseRevision, REVISION, REVISION_HISTORY, replicasOf, revisionOf, sameTemplate, withCondition } from './facts.ts';
import { newCondition } from './progress.ts';

/** One reconciliation of a Deployment: what was read, kept current by what is written. */
export interface Rollout {
  deployment: Deployment;
  newSet?: ReplicaSet;
  old: ReplicaSet[];
}

export const allSets = (r: Rollout): ReplicaSet[] => (r.newSet ? [...r.old, r.newSet] : r.old);

/** Annotations of the Deployment that its ReplicaSets do not take over. */
const NOT_COPIED = new Set([
  'kubectl.kubernetes.io/last-applied-configuration',
  REVISION,
  REVISION_HISTORY,
  DESIRED_REPLICAS,
  MAX_REPLICAS,
  'deprecated.deployment.rollback.to',
]);
/** The longest revision history kept in the annotation, in characters. */
const HISTORY_LENGTH = 2000;

/** Finds the ReplicaSet of the current template and numbers it; creates it where asked to. */
export async function findSets(context: ControllerContext, deployment: Deployment, sets: ReplicaSet[], create: boolean): Promise<Rollout> {
  const found = findNewReplicaSet(deployment, sets);
  const old = sets.filter((rs) => rs.metadata.uid !== found?.metadata.uid);
  const rollout: Rollout = { deployment, newSet: found, old };
  let revision = 1n;
  for (const before of old.map(revisionOf)) if (before >= revision) revision = before + 1n;
  if (found) await keepNewSet(context, rollout, revision);
  else if (create) await createNewSet(context, rollout, revision);
  return rollout;
}

async function keepNewSet(context: ControllerContext, rollout: Rollout, revision: bigint): Promise<void> {
  const { client, clock } = context;
  const { deployment: d, newSet } = rollout;
  const rs = newSet!;
  const annotations = annotationsFor(d, rs.metadata.annotations, revision);
  if (annotations || (rs.spec.minReadySeconds ?? 0) !== (d.spec.minReadySeconds ?? 0)) {
    const metadata = { ...rs.metadata, annotations: annotations ?? rs.metadata.annotations };
    const spec = { ...rs.spec, minReadySeconds: d.spec.minReadySeconds ?? 0 };
    rollout.newSet = await client.update(resources.replicasets, { ...rs, metadata, spec });
    return;
  }
  await numberDeployment(context, rollout, rs.metadata.annotations?.[REVISION]);
  if (d.spec.progressDeadlineSeconds !== undefined && !conditionOf(rollout.deployment.status?.conditions, 'Progressing')) {
    const condition = newCondition(clock, 'Progressing', 'True', 'FoundNewReplicaSet', `Found new replica set "${rs.metadata.name}"`);
    await setCondition(context, rollout, condition);
  }
}

async function createNewSet(context: ControllerContext, rollout: Rollout, revision: bigint): Promise<void> {
  const { client, clock, events } = context;
  const { deployment: d, old } = rollout;
  const size = newReplicaSetSize(d, old, 0);
  const draft = newSetDraft(d, revision, size);
  const name = draft.metadata.name!;
  try {
    rollout.newSet = await client.create(resources.replicasets, draft);
    if (size > 0) events.event(d, 'Normal', 'ScalingReplicaSet', `Scaled up replica set ${name} from 0 to ${size}`);
  } catch (error) {
    if (isAlreadyExists(error)) rollout.newSet = await ownSetOrCollision(context, rollout, name);
    else {
      if (!isNamespaceTerminating(error)) {
        const message = `Failed to create new replica set "${name}": ${(error as Error).message}`;
        if (d.spec.progressDeadlineSeconds !== undefined)
          await setCondition(context, rollout, newCondition(clock, 'Progressing', 'False', 'ReplicaSetCreateError', message));
        events.event(d, 'Warning', 'ReplicaSetCreateError', message);
      }
      throw error;
    }
  }
  const condition = newCondition(clock, 'Progressing', 'True', 'NewReplicaSetCreated', `Created new replica set "${name}"`);
  await numberDeployment(context, rollout, String(revision), d.spec.progressDeadlineSeconds === undefined ? undefined : condition);
}

/** The cache may lag behind: then the ReplicaSet is ours. Else another one has our hash, and the next attempt takes another hash. */
async function ownSetOrCollision({ client }: ControllerContext, rollout: Rollout, name: string): Promise<ReplicaSet> {
  const d = rollout.deployment;
  const existing = await client.get(resources.replicasets, { namespace: d.metadata.namespace, name });
  if (isControlledBy(existing, d) && sameTemplate(existing.spec.template, d.spec.template)) return existing;
  const collisionCount = (d.status?.collisionCount ?? 0) + 1;
  rollout.deployment = await client.update(resources.deployments, { ...d, status: { ...d.status, collisionCount } }, { subresource: 'status' });
  throw new Error(`replica set ${name} exists already and is not ours: trying another hash`);
}

function newSetDraft(d: Deployment, revision: bigint, replicas: number): Draft<ReplicaSet> {
  const hash = objectHash(d.spec.template, d.status?.collisionCount);
  const template = structuredClone(d.spec.template);
  const labels = { ...template.metadata?.labels, [HASH_LABEL]: hash };
  template.metadata = { ...template.metadata!, labels };
  const annotations = {
    ...annotationsFor(d, {}, revision),
    [DESIRED_REPLICAS]: String(replicasOf(d)),
    [MAX_REPLICAS]: String(replicasOf(d) + maxSurgeOf(d)),
  };
  return {
    apiVersion: 'apps/v1',
    kind: 'ReplicaSet',
    metadata: {
      name: `${d.metadata.name}-${hash}`,
      namespace: d.metadata.namespace,
      ownerReferences: [controllerRef(d)],
      labels: { ...labels },
      annotations,
    },
    spec: {
      replicas,
      minReadySeconds: d.spec.minReadySeconds ?? 0,
      selector: { ...d.spec.selector, matchLabels: { ...d.spec.selector.matchLabels, [HASH_LABEL]: hash } },
      template,
    },
  };
}

/** The ReplicaSet's annotations as they should be, or undefined where they are so already. */
function annotationsFor(d: Deployment, before: Record<string, string> | undefined, revision: bigint): Record<string, string> | undefined {
  const after = { ...before };
  for (const [key, value] of Object.entries(d.metadata.annotations ?? {})) if (!NOT_COPIED.has(key)) after[key] = value;
  const was = before?.[REVISION];
  if (parseRevision(was) < revision) {
    after[REVISION] = String(revision);
    if (was) after[REVISION_HISTORY] = shortened([...(before?.[REVISION_HISTORY]?.split(',') ?? []), was]);
  }
  const changed = Object.keys(after).some((key) => after[key] !== before?.[key]);
  return changed ? after : undefined;
}

function shortened(history: string[]): string {
  let kept = history;
  while (kept.length > 1 && kept.join(',').length > HISTORY_LENGTH) kept = kept.slice(1);
  return kept.join(',');
}

/** Writes the revision, and a condition where there is one. */
async function numberDeployment(
  { client }: ControllerContext,
  rollout: Rollout,
  revision: string | undefined,
  condition?: ReturnType<typeof newCondition>,
): Promise<void> {
  const d = rollout.deployment;
  const before = d.status?.conditions ?? [];
  const conditions = condition ? withCondition(before, condition) : before;
  if (!revision || (d.metadata.annotations?.[REVISION] === revision && conditions === before)) return;
  // Annotations travel with the status; the controller's role does not let it patch Deployments.
  const metadata = { ...d.metadata, annotations: { ...d.metadata.annotations, [REVISION]: revision } };
  const status = { ...d.status, conditions };
  rollout.deployment = await client.update(resources.deployments, { ...d, metadata, status }, { subresource: 'status' });
}

export async function setCondition({ client }: ControllerContext, rollout: Rollout, condition: ReturnType<typeof newCondition>): Promise<void> {
  const d = rollout.deployment;
  const conditions = withCondition(d.status?.conditions ?? [], condition);
  if (conditions === d.status?.conditions) return;
  rollout.deployment = await client.update(resources.deployments, { ...d, status: { ...d.status, conditions } }, { subresource: 'status' });
}
