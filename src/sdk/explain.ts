import { resources } from '../api/generated/resources.ts';
import type { Event } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';
import type { RecordedCall } from '../localaws/api/calls.ts';
import { readiness } from './readiness.ts';
import { describeTarget, keyOfTarget, type Target } from './references.ts';
import type { AnyObject } from './types.ts';
import { ignoreNotFound } from './wait.ts';

const shown = 12;

/** How an object stands and why: its state, that of what it owns, their events, and the AWS calls that failed meanwhile. */
export async function explain(client: Client, target: Target, calls: () => Promise<RecordedCall[]>): Promise<string> {
  const object = await client.get<AnyObject>(target.type, keyOfTarget(target)).catch(ignoreNotFound);
  const lines: string[] = [object ? `${describeTarget(target)}: ${stateOf(object)}` : `${describeTarget(target)} does not exist`];
  const owned = object?.metadata.uid ? await ownedBy(client, object) : [];
  for (const one of owned.slice(0, shown)) lines.push(`  ${one.kind} ${one.metadata.name}: ${stateOf(one)}`);
  if (owned.length > shown) lines.push(`  and ${owned.length - shown} more`);
  lines.push(...(await eventLines(client, target, object, owned)));
  const since = object ? Date.parse(object.metadata['creationTimestamp'] as string) - 1000 : 0;
  lines.push(...callLines((await calls()).filter((c) => c.at >= since)));
  return lines.join('\n');
}

const stateOf = (object: AnyObject): string => {
  const state = readiness(object);
  return state === true ? 'ready' : state;
};

async function ownedBy(client: Client, owner: AnyObject): Promise<AnyObject[]> {
  const { namespace } = owner.metadata;
  if (!namespace) return [];
  const types = [resources.replicasets, resources.jobs, resources.pods] as never[];
  const all = (await Promise.all(types.map((type) => client.list<AnyObject>(type, { namespace })))).flatMap((l) => l.items);
  const found: AnyObject[] = [];
  const uids = new Set([owner.metadata.uid]);
  for (const object of all) {
    const owners = object.metadata['ownerReferences'] as { uid: string }[] | undefined;
    if (!owners?.some((o) => uids.has(o.uid))) continue;
    uids.add(object.metadata.uid as string);
    // An old ReplicaSet without pods explains nothing.
    if (object.kind !== 'ReplicaSet' || object['spec']?.replicas > 0) found.push(object);
  }
  return found;
}

async function eventLines(client: Client, target: Target, object: AnyObject | undefined, owned: AnyObject[]): Promise<string[]> {
  const { items } = await client.list<Event>(resources.events, target.namespace ? { namespace: target.namespace } : {});
  const uids = new Set([object?.metadata.uid, ...owned.map((o) => o.metadata.uid)].filter(Boolean));
  const about = (e: Event) => uids.has(e.involvedObject.uid) || (e.involvedObject.kind === target.type.kind && e.involvedObject.name === target.name);
  const at = (e: Event) => Date.parse((e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp) as string);
  const found = items.filter(about).sort((a, b) => at(a) - at(b));
  if (!found.length) return ['no events about it'];
  return [
    'events:',
    ...found
      .slice(-shown)
      .map(
        (e) =>
          `  ${e.type} ${e.reason} ${e.involvedObject.kind} ${e.involvedObject.name}: ${e.message}${(e.count ?? 1) > 1 ? ` (${e.count} times)` : ''}`,
      ),
  ];
}

function callLines(calls: RecordedCall[]): string[] {
  const failed = calls.filter((c) => c.code !== undefined);
  const writes = calls.filter((c) => c.code === undefined && !/^(Describe|Get|List)/.test(c.operation));
  return [
    ...(failed.length ? ['AWS calls that failed:', ...grouped(failed, (c) => `${c.operation}: ${c.code}: ${c.message}`)] : ['no AWS call failed']),
    ...(writes.length ? ['AWS calls that changed something:', ...grouped(writes, (c) => c.operation)] : []),
  ];
}

function grouped(calls: RecordedCall[], textOf: (call: RecordedCall) => string): string[] {
  const counts = new Map<string, number>();
  for (const call of calls) counts.set(textOf(call), (counts.get(textOf(call)) ?? 0) + 1);
  return [...counts].slice(-shown).map(([text, count]) => `  ${text}${count > 1 ? ` (${count} times)` : ''}`);
}
