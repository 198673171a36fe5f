import { sameJson } from '../equality.ts';
import type { ManagedFieldsEntry } from '../generated/types.ts';
import { badRequest, StatusError } from '../errors.ts';
import { parseJson } from '../json.ts';
import { compareValues, fieldsOf } from './compare.ts';
import { ApplyConflict } from './conflicts.ts';
import { FieldSet } from './field-set.ts';
import { capUpdateManagers, decodeManagers, encodeManagers, identityOf, isReset, type Manager, type Managers } from './managers.ts';
import { applyConfiguration, ConversionPending, type Ownership, recordUpdate } from './ownership.ts';
import { IdentityError } from './path-element.ts';
import { configurationProblems } from './validate.ts';

/** Who writes, and how. */
export interface FieldWriter {
  /** The manager's name; `unknown` where it is empty. */
  manager: string;
  apiVersion: string;
  kind: string;
  subresource: string;
  /** RFC 3339, whole seconds. */
  now: string;
}

const beforeFirstApply = 'before-first-apply';
const currentOperation = 'current-operation';
const lastAppliedAnnotation = 'kubectl.kubernetes.io/last-applied-configuration';

/** Never owned by anyone. */
const unowned = FieldSet.of(
  ['apiVersion'],
  ['kind'],
  ['metadata'],
  ...['name', 'namespace', 'creationTimestamp', 'selfLink', 'uid', 'clusterName', 'generation', 'managedFields', 'resourceVersion'].map((field) => [
    'metadata',
    field,
  ]),
);

interface Tracked {
  metadata?: { uid?: string; managedFields?: ManagedFieldsEntry[]; resourceVersion?: string; annotations?: Record<string, string> };
}

/** The object without what every write changes and nobody owns. */
function comparable(object: Tracked): Tracked {
  const { metadata } = object;
  if (!metadata) return object;
  const { managedFields: _m, resourceVersion: _r, ...rest } = metadata;
  return { ...object, metadata: rest };
}

/** The object with the parts of another one where they are the same: what is one and the same need not be compared, type by type. */
function sharing(object: Tracked, other: Tracked): Tracked {
  const result: Record<string, unknown> = { ...object };
  for (const name in result) {
    const theirs = (other as Record<string, unknown>)[name];
    if (name !== 'metadata' && typeof theirs === 'object' && sameJson(result[name], theirs)) result[name] = theirs;
  }
  return result as Tracked;
}

function decodeOrNothing(entries: ManagedFieldsEntry[] | undefined): Managers {
  try {
    return decodeManagers(entries);
  } catch {
    return new Map();
  }
}

/** Who manages what as the write begins: what the request says where it says anything valid, else what is known of the live object. */
function managersBefore(live: Tracked | undefined, next: Tracked, subresource: string): Managers {
  const known = live?.metadata?.managedFields;
  const said = next.metadata?.managedFields;
  if (subresource !== '' || said === undefined || said === null || said === known) return decodeOrNothing(known);
  if (isReset(said)) return new Map();
  // Clients send back what they read.
  if (known && JSON.stringify(said) === JSON.stringify(known)) return decodeOrNothing(known);
  try {
    const managers = decodeManagers(said);
    if (managers.size > 0) return managers;
  } catch {
    // Nonsense is overlooked.
  }
  return decodeOrNothing(known);
}

/**
 * The managedFields of an object that is about to be written other than by apply. `live` is undefined for a creation. Both are in the
 * version of the request. What cannot be compared leaves ownership as it was.
 */
export function managedFieldsAfterUpdate(
  o: Ownership,
  live: Tracked | undefined,
  next: Tracked,
  writer: FieldWriter,
): ManagedFieldsEntry[] | undefined {
  const managers = managersBefore(live, next, writer.subresource);
  try {
    // Whoever gave up ownership, or never had it recorded, goes on without until the first apply.
    if (managers.size > 0 || !live?.metadata?.uid) {
      const before = live ? comparable(live) : {};
      record(o, before, sharing(comparable(next), before), managers, writer);
    }
    return encodeManagers(managers);
  } catch (error) {
    if (error instanceof IdentityError) return live?.metadata?.managedFields;
    throw error;
  }
}

/** Upstream knows no time of what was written by scale. */
const timeOf = (writer: FieldWriter): string | undefined => (writer.subresource === 'scale' ? undefined : writer.now);

function record(o: Ownership, live: Tracked, next: Tracked, managers: Managers, writer: FieldWriter): void {
  const fields = recordUpdate(o, live, next, writer.apiVersion, managers, currentOperation).difference(unowned);
  if (!fields.empty) {
    const manager: Manager = {
      name: writer.manager || 'unknown',
      operation: 'Update',
      apiVersion: writer.apiVersion,
      subresource: writer.subresource,
      time: timeOf(writer),
      fields,
    };
    const id = identityOf(manager);
    const before = managers.get(id);
    managers.set(id, before ? { ...manager, fields: fields.union(before.fields) } : manager);
  }
  capUpdateManagers(managers);
}

/**
 * Server-side apply: the live object (undefined where there is none) with the configuration laid over it, without defaults, and its
 * managedFields. StatusErrors: 400 for a configuration that is not of the type, 409 for fields that others own.
 */
export function applied(o: Ownership, live: (Tracked & Record<string, any>) | undefined, config: any, writer: FieldWriter, force: boolean): any {
  checkConfiguration(o, config, writer);
  let managers: Managers;
  try {
    managers = decodeManagers(live?.metadata?.managedFields);
  } catch (error) {
    throw new StatusError(500, 'InternalError', `failed to decode managed fields: ${(error as Error).message}`);
  }
  const { apiVersion, kind } = writer;
  const current: Tracked & Record<string, any> = live ? comparable(live) : { apiVersion, kind };
  if (managers.size === 0 && live) record(o, { apiVersion, kind } as object, current, managers, { ...writer, manager: beforeFirstApply });
  const applier: Manager = {
    name: writer.manager || 'unknown',
    operation: 'Apply',
    apiVersion,
    subresource: writer.subresource,
    time: undefined,
    fields: new FieldSet(),
  };
  const attempt = (forced: boolean, start: Managers) => ({
    managers: start,
    ...applyConfiguration(o, current, config, apiVersion, start, applier, forced),
  });
  let result: ReturnType<typeof attempt>;
  try {
    result = attempt(force, new Map(managers));
  } catch (error) {
    if (error instanceof IdentityError) throw badRequest(`failed to merge config: ${error.message}`);
    if (!(error instanceof ApplyConflict)) throw error;
    // What kubectl applied by itself before, and nobody changed since, is kubectl's.
    const conflicts = writer.manager === 'kubectl' ? conflictsBeyond(error, lastAppliedFields(o, live, writer)) : error;
    if (conflicts.conflicts.length > 0) throw conflicts.toStatus();
    result = attempt(true, new Map(managers));
  }
  const id = identityOf(applier);
  const own = result.managers.get(id);
  if (own) {
    const fields = own.fields.difference(unowned);
    if (fields.empty) result.managers.delete(id);
    else result.managers.set(id, { ...own, fields, time: result.object === undefined ? own.time : timeOf(writer) });
  }
  const object = result.object ?? current;
  const entries = encodeManagers(result.managers);
  const annotations = object.metadata?.annotations;
  const metadata = { ...object.metadata, ...(entries ? { managedFields: entries } : {}) };
  if (writer.manager === 'kubectl' && annotations?.[lastAppliedAnnotation])
    metadata.annotations = { ...annotations, [lastAppliedAnnotation]: lastAppliedOf(config) };
  return { ...object, metadata };
}

function checkConfiguration(o: Ownership, config: any, writer: FieldWriter): void {
  const { metadata } = config;
  if (metadata?.managedFields !== undefined && metadata.managedFields !== null) throw badRequest('metadata.managedFields must be nil');
  const type = o.convert(config, writer.apiVersion)?.type;
  const problems = type ? configurationProblems(type, config) : '';
  if (problems === '') return;
  const about = `${metadata?.namespace ?? ''}/${metadata?.name ?? ''}; ${writer.apiVersion}, Kind=${writer.kind}`;
  throw badRequest(`failed to create typed patch object (${about}): ${problems}`);
}

function conflictsBeyond(error: ApplyConflict, allowed: FieldSet | undefined): ApplyConflict {
  return allowed ? new ApplyConflict(error.conflicts.filter(({ path }) => !allowed.has(path))) : error;
}

/** What kubectl's annotation lists and the live object still has as it says. */
function lastAppliedFields(o: Ownership, live: Tracked | undefined, writer: FieldWriter): FieldSet | undefined {
  const text = live?.metadata?.annotations?.[lastAppliedAnnotation];
  if (!live || !text) return undefined;
  try {
    const last = parseJson(text);
    if (last?.apiVersion !== writer.apiVersion) return undefined;
    const { type, value } = o.convert(comparable(live), writer.apiVersion) as { type: any; value: any };
    if (configurationProblems(type, last) !== '') return undefined;
    const { added, modified, removed } = compareValues(type, last, value);
    return fieldsOf(type, last).difference(modified).difference(added).difference(removed);
  } catch (error) {
    if (error instanceof ConversionPending) throw error;
    return undefined;
  }
}

/** A configuration as kubectl writes it into its annotation: keys sorted, with a line's end. */
function lastAppliedOf(config: any): string {
  const { [lastAppliedAnnotation]: _, ...annotations } = config.metadata?.annotations ?? {};
  const metadata = { ...config.metadata, ...(config.metadata?.annotations ? { annotations } : {}) };
  return `${JSON.stringify(sorted({ ...config, metadata }))}\n`;
}

function sorted(value: any): any {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}
