import type { ManagedFieldsEntry } from '../generated/types.ts';
import { FieldSet } from './field-set.ts';

/** What one manager owns by one kind of operation, version and subresource. */
export interface Manager {
  name: string;
  operation: 'Apply' | 'Update';
  apiVersion: string;
  subresource: string;
  /** RFC 3339; undefined where the entry had none. */
  time: string | undefined;
  fields: FieldSet;
  /** The entry as it stands in the object, while nothing of it has changed. */
  entry?: ManagedFieldsEntry;
}

/** Managers by identity, in no order. */
export type Managers = Map<string, Manager>;

const maxUpdateManagers = 10;
const ancientChanges = 'ancient-changes';

/** Appliers are the same in whatever version they apply. */
export const identityOf = (m: Pick<Manager, 'name' | 'operation' | 'apiVersion' | 'subresource'>): string =>
  JSON.stringify([m.name, m.operation, m.operation === 'Apply' ? '' : m.apiVersion, m.subresource]);

/** An empty list, or a list of one empty entry, gives up what is known of ownership. */
export function isReset(entries: readonly Partial<ManagedFieldsEntry>[] | null | undefined): boolean {
  if (!entries) return false;
  if (entries.length === 0) return true;
  return entries.length === 1 && Object.values(entries[0] as object).every((v) => v === undefined || v === null || v === '');
}

/** Throws on what is no list of managed fields. */
export function decodeManagers(entries: readonly Partial<ManagedFieldsEntry>[] | null | undefined): Managers {
  const managers: Managers = new Map();
  (entries ?? []).forEach((entry, i) => {
    const { operation, apiVersion, fieldsType, fieldsV1 } = entry;
    if (operation !== 'Apply' && operation !== 'Update') throw new Error('operation must be `Apply` or `Update`');
    if (!apiVersion) throw new Error('apiVersion must not be empty');
    if (!fieldsType) throw new Error(`missing fieldsType in managed fields entry ${i}`);
    if (fieldsType !== 'FieldsV1') throw new Error(`invalid fieldsType ${JSON.stringify(fieldsType)} in managed fields entry ${i}`);
    const manager: Manager = {
      name: entry.manager ?? '',
      operation,
      apiVersion,
      subresource: entry.subresource ?? '',
      time: entry.time ?? undefined,
      fields: FieldSet.fromJson(fieldsV1 ?? {}),
      entry: entry as ManagedFieldsEntry,
    };
    managers.set(identityOf(manager), manager);
  });
  return managers;
}

/** Undefined where nobody manages anything. */
export function encodeManagers(managers: Managers): ManagedFieldsEntry[] | undefined {
  if (managers.size === 0) return undefined;
  return [...managers.values()].sort(byOperationAndTime).map(
    (m) =>
      m.entry ??
      ({
        ...(m.name ? { manager: m.name } : {}),
        operation: m.operation,
        apiVersion: m.apiVersion,
        ...(m.time === undefined ? {} : { time: m.time }),
        fieldsType: 'FieldsV1',
        fieldsV1: m.fields.toJson(),
        ...(m.subresource ? { subresource: m.subresource } : {}),
      } as ManagedFieldsEntry),
  );
}

const secondsOf = (m: Manager): number => (m.time === undefined ? 0 : Math.floor(Date.parse(m.time) / 1000));
const compareTexts = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

function byOperationAndTime(a: Manager, b: Manager): number {
  return (
    compareTexts(a.operation, b.operation) ||
    secondsOf(a) - secondsOf(b) ||
    compareTexts(a.name, b.name) ||
    compareTexts(a.apiVersion, b.apiVersion) ||
    compareTexts(a.subresource, b.subresource)
  );
}

/** Joins the oldest of too many updating managers, version by version. */
export function capUpdateManagers(managers: Managers): void {
  const updaters = [...managers.values()].filter((m) => m.operation === 'Update');
  let count = updaters.length;
  if (count <= maxUpdateManagers) return;
  updaters.sort((a, b) => secondsOf(a) - secondsOf(b) || compareTexts(identityOf(a), identityOf(b)));
  const firstOf = new Map<string, Manager>();
  for (const manager of updaters) {
    if (count <= maxUpdateManagers) return;
    const first = firstOf.get(manager.apiVersion);
    if (!first) {
      firstOf.set(manager.apiVersion, manager);
      continue;
    }
    const joined: Manager = {
      name: ancientChanges,
      operation: 'Update',
      apiVersion: manager.apiVersion,
      subresource: '',
      time: manager.time,
      fields: manager.fields,
    };
    const bucket = identityOf(joined);
    const before = managers.get(bucket) ?? first;
    if (!managers.has(bucket)) managers.delete(identityOf(first));
    managers.delete(identityOf(manager));
    managers.set(bucket, { ...joined, fields: manager.fields.union(before.fields) });
    count--;
  }
}

/** A manager with other fields: its entry has to be written anew. */
export function withFields(manager: Manager, fields: FieldSet): Manager {
  const { entry: _, ...rest } = manager;
  return { ...rest, fields };
}
