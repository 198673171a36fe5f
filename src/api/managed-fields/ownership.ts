import { sameJson } from '../equality.ts';
import { compareValues, type Comparison, expanded, fieldsOf } from './compare.ts';
import { ApplyConflict, type Conflict } from './conflicts.ts';
import { FieldSet, typeBelow } from './field-set.ts';
import { identityOf, type Manager, type Managers, withFields } from './managers.ts';
import { mergeValues, removeFields } from './merge.ts';
import type { FieldFilter } from './reset-fields.ts';
import type { FieldType } from './types.ts';

/** An object in one version, with what is known of its type there. */
export interface Versioned {
  type: FieldType;
  value: any;
}

/** Thrown by a converter that has to ask elsewhere first: then everything is done again, with the answer. */
export class ConversionPending extends Error {
  readonly value: any;
  readonly apiVersion: string;
  constructor(value: any, apiVersion: string) {
    super(`not converted to ${apiVersion} yet`);
    this.value = value;
    this.apiVersion = apiVersion;
  }
}

/** How objects get from version to version; undefined where a version is not served any more. */
export type Converter = (value: any, apiVersion: string) => Versioned | undefined;

export interface Ownership {
  convert: Converter;
  filter: FieldFilter | undefined;
}

const filtered = (comparison: Comparison, filter: FieldFilter | undefined): Comparison =>
  filter ? { added: filter(comparison.added), modified: filter(comparison.modified), removed: filter(comparison.removed) } : comparison;

/** Takes from the others what changed; with `force` false, what others own and would lose is a conflict. Changes managers. */
function takeOver(
  o: Ownership,
  before: any,
  after: any,
  apiVersion: string,
  comparison: Comparison,
  managers: Managers,
  self: string,
  force: boolean,
): void {
  const comparisons = new Map<string, Comparison>([[apiVersion, filtered(comparison, o.filter)]]);
  const conflicts: { id: string; manager: Manager; set: FieldSet }[] = [];
  const removals: { id: string; set: FieldSet }[] = [];
  for (const [id, manager] of managers) {
    if (id === self) continue;
    let found = comparisons.get(manager.apiVersion);
    if (!found) {
      const old = o.convert(before, manager.apiVersion);
      const fresh = o.convert(after, manager.apiVersion);
      if (!old || !fresh) {
        managers.delete(id);
        continue;
      }
      found = filtered(compareValues(old.type, old.value, fresh.value), o.filter);
      comparisons.set(manager.apiVersion, found);
    }
    const lost = manager.fields.intersection(found.modified.union(found.added));
    if (!lost.empty) conflicts.push({ id, manager, set: lost });
    if (!found.removed.empty) removals.push({ id, set: found.removed });
  }
  if (!force && conflicts.length > 0) {
    throw new ApplyConflict(conflicts.flatMap(({ manager, set }): Conflict[] => [...set.paths()].map((path) => ({ manager, path }))));
  }
  for (const { id, set } of [...conflicts, ...removals]) {
    const manager = managers.get(id) as Manager;
    const left = manager.fields.difference(set);
    if (!left.equals(manager.fields)) managers.set(id, withFields(manager, left));
  }
  for (const [id, manager] of managers) if (manager.fields.empty) managers.delete(id);
}

/** Sets that are known to agree with a type. */
const agreed = new WeakMap<FieldSet, FieldType>();

/** Where a type that was owned in parts has come to be owned whole, its owners own all of it. */
function reconcile(o: Ownership, live: any, managers: Managers): void {
  for (const [id, manager] of managers) {
    const versioned = o.convert(live, manager.apiVersion);
    if (!versioned) {
      managers.delete(id);
      continue;
    }
    if (agreed.get(manager.fields) === versioned.type) continue;
    const set = reconciled(versioned.type, manager.fields);
    agreed.set(set, versioned.type);
    if (set !== manager.fields) managers.set(id, withFields(manager, set));
  }
}

const ownedWhole = (type: FieldType | undefined): boolean =>
  type !== undefined && type.kind !== 'scalar' && (type.kind === 'list' ? type.identity === 'atomic' : type.atomic);

function reconciled(type: FieldType | undefined, set: FieldSet): FieldSet {
  let changed: FieldSet | undefined;
  for (const [step, node] of set.nodes) {
    if (!node.children) continue;
    const inner = typeBelow(type, step);
    if (!inner || inner.kind === 'scalar') continue;
    const whole = ownedWhole(inner);
    const children = whole ? undefined : reconciled(inner, node.children);
    if (children === node.children) continue;
    if (!changed) {
      changed = new FieldSet();
      for (const [other, kept] of set.nodes) changed.nodes.set(other, kept);
    }
    changed.nodes.set(step, { member: node.member || whole, children });
  }
  return changed ?? set;
}

/** What a write that was not an apply changed; its own part of it under `self`. Changes managers. */
export function recordUpdate(o: Ownership, live: any, next: any, apiVersion: string, managers: Managers, self: string): FieldSet {
  const before = o.convert(live, apiVersion) as Versioned;
  const after = o.convert(next, apiVersion) as Versioned;
  reconcile(o, live, managers);
  const comparison = compareValues(after.type, before.value, after.value);
  takeOver(o, live, next, apiVersion, comparison, managers, self, true);
  const set = comparison.modified.union(comparison.added);
  return o.filter ? o.filter(set) : set;
}

export interface Applied {
  /** The merged object, without defaults; undefined where nothing changes. */
  object: any;
  /** What the configuration claims. */
  fields: FieldSet;
}

/** Lays a configuration over the live object and takes away what its manager no longer claims. Throws ApplyConflict. Changes managers. */
export function applyConfiguration(
  o: Ownership,
  live: any,
  config: any,
  apiVersion: string,
  managers: Managers,
  applier: Omit<Manager, 'fields' | 'time'>,
  force: boolean,
): Applied {
  const found = o.convert(live, apiVersion) as Versioned;
  const current = { type: found.type, value: expanded(found.type, found.value) };
  reconcile(o, live, managers);
  const id = identityOf(applier);
  const last = managers.get(id);
  let merged = mergeValues(current.type, current.value, config);
  let fields = fieldsOf(current.type, config);
  if (o.filter) fields = o.filter(fields);
  managers.set(id, { ...applier, apiVersion, time: last?.time, fields });
  merged = prune(o, merged, managers, last, apiVersion);
  takeOver(o, live, merged, apiVersion, compareValues(current.type, current.value, merged), managers, id, force);
  return { object: sameJson(current.value, merged) ? undefined : merged, fields };
}

/** Takes away what the manager applied last time, does not now, and nobody else claims. */
function prune(o: Ownership, merged: any, managers: Managers, last: Manager | undefined, apiVersion: string): any {
  if (!last || last.fields.empty) return merged;
  const there = o.convert(merged, last.apiVersion);
  if (!there) return merged;
  const { type, value } = there;
  const claimed = last.fields.withNamedFields(type);
  let pruned = removeFields(type, value, claimed);
  pruned = addBackOwned(o, value, pruned, last.apiVersion, managers);
  const atLast = o.convert(pruned, last.apiVersion);
  if (!atLast) return merged;
  // What was not the manager's stays, whoever else lost it on the way.
  const gone = fieldsOf(type, value).withNamedFields(type).difference(fieldsOf(type, atLast.value).withNamedFields(type));
  pruned = removeFields(type, value, gone.intersection(claimed));
  return o.convert(pruned, apiVersion)?.value ?? merged;
}

/** Puts back what others, or the new configuration, claim. */
function addBackOwned(o: Ownership, merged: any, pruned: any, prunedVersion: string, managers: Managers): any {
  const claims = new Map<string, FieldSet>();
  for (const manager of managers.values()) claims.set(manager.apiVersion, (claims.get(manager.apiVersion) ?? new FieldSet()).union(manager.fields));
  const versions = [...claims.keys()].sort((a, b) => Number(b === prunedVersion) - Number(a === prunedVersion));
  let whole = merged;
  let left = pruned;
  for (const version of versions) {
    const from = o.convert(whole, version);
    const to = o.convert(left ?? emptyLike(merged), version);
    if (!from || !to) continue;
    const all = fieldsOf(from.type, from.value).withNamedFields(from.type);
    const kept = fieldsOf(to.type, to.value)
      .withNamedFields(from.type)
      .union((claims.get(version) as FieldSet).withNamedFields(from.type));
    whole = from.value;
    left = removeFields(from.type, from.value, all.difference(kept));
  }
  return left ?? emptyLike(merged);
}

const emptyLike = (object: any) => ({ apiVersion: object.apiVersion, kind: object.kind });
