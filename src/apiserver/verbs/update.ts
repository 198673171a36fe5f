import {
  badRequest,
  conflict,
  type FieldError,
  invalid,
  isAlreadyExists,
  methodNotSupported,
  modified,
  notFound,
  StatusError,
} from '../../api/errors.ts';
import { complete } from '../../api/canonical.ts';
import type { KubeObject, ObjectMeta } from '../../api/object.ts';
import { validateObjectMeta, validateObjectMetaUpdate, validateSchema } from '../../api/validation.ts';
import { type Api, type Call, keyFor } from '../api.ts';
import { type Allocation, kindHooks } from '../services/hooks.ts';
import { settle, toStored } from '../storage/conversion.ts';
import type { Entry } from '../storage/entry.ts';
import { clone } from '../storage/json.ts';
import type { Outcome, Written } from '../storage/transactions.ts';
import { subresourceWrites } from '../subresources/writes.ts';
import { createObject, failWhere, inForce, kindInErrors } from './create.ts';
import { trackFields } from './managed-fields.ts';
import { decodeObject, matchNamespace, type ParsedBody, requestContext } from './prepare.ts';

/** PUT of an object or of a subresource of the same kind. */
export async function update(api: Api, call: Call, body: ParsedBody): Promise<Written> {
  const { served, storage, subject } = call.target;
  if (!storage || !served.verbs.includes('update')) throw methodNotSupported(subject, 'update');
  const object = decodeObject(call, body);
  matchNamespace(call, object);
  if (!object.metadata.name) throw badRequest(`the name of the object (based on URL) was undeterminable: name must be provided`);
  if (object.metadata.name !== call.name) {
    throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${call.name})`);
  }
  return updateWith(api, call, 'update', () => clone(object));
}

export interface UpdateOptions {
  /** The objects that `next` makes carry their managedFields already, and may come into being. */
  apply?: boolean;
  /** Under which subresource changes of fields are recorded; the call's own where left out. */
  fieldsOf?: string;
}

/**
 * The transaction behind update and patch: `next` makes the wanted object (in the request's version) of the current one.
 * It may be called several times.
 */
export async function updateWith(
  api: Api,
  call: Call,
  verb: 'update' | 'patch',
  next: (current: KubeObject | undefined) => KubeObject | Promise<KubeObject>,
  o: UpdateOptions = {},
): Promise<Written> {
  const { served, storage, subject } = call.target;
  const key = keyFor(call.namespace, call.name);
  const stored = storage!.cache.resource;
  const warnings = call.warnings.length;
  let allocation: Allocation | undefined;
  const mayCreate = !call.subresource && (o.apply === true || (verb === 'update' && served.strategy.allowCreateOnUpdate === true));
  try {
    const written = await storage!.update(key, async (current): Promise<Outcome> => {
      if (allocation) await allocation.release();
      allocation = undefined;
      call.warnings.length = warnings;
      if (!current) {
        if (!mayCreate) throw notFound(subject, call.name);
        throw new CreateInstead(await next(undefined));
      }
      const wait = settle([current], served);
      if (wait) await wait;
      const old = current.as(served).object;
      const object = await next(old);
      const result = await checkUpdate(api, call, verb, object, old, current, o);
      allocation = result.allocation;
      const toWrite = await toStored(object, served, stored);
      if (result.remove) return { remove: true, dryRun: call.dryRun, last: toWrite };
      const ttl = stored.registryPath === 'events' ? { ttlSeconds: 3600 } : {};
      return { put: toWrite, dryRun: call.dryRun, ...ttl };
    });
    if (call.dryRun) await allocation?.release();
    else {
      if (allocation) await allocation.commit(written.entry.revision);
      if (written.removed) await kindHooks[stored.registryPath]?.afterRemove?.(api, written.entry.object);
    }
    await settle([written.entry], served);
    await inForce(api, served, written.entry);
    return written;
  } catch (error) {
    if (allocation) await allocation.release(error);
    if (!(error instanceof CreateInstead)) throw error;
    const permit = await api.authorizer.require(api, { ...call, verb: 'create' });
    const { resourceVersion, uid } = error.object.metadata as { resourceVersion?: string; uid?: string };
    if (uid && o.apply)
      throw conflict(subject, call.name, `uid mismatch: the provided object specified uid ${uid}, and no existing object was found`);
    if (resourceVersion && !o.apply) throw notFound(subject, call.name);
    delete (error.object.metadata as { resourceVersion?: string }).resourceVersion;
    try {
      return { entry: await createObject(api, { ...call, permit }, error.object, o.apply === true), removed: false, created: true };
    } catch (inner) {
      if (isAlreadyExists(inner)) throw modified(subject, call.name);
      throw inner;
    }
  }
}

/** A StatusError, so that it is believed only when the store itself, and not a cache behind it, has no such object. */
class CreateInstead extends StatusError {
  readonly object: KubeObject;
  constructor(object: KubeObject) {
    super(404, 'NotFound', 'the object does not exist');
    this.object = object;
  }
}

/** Applies the strategy, admission and validation to `object` in place. */
async function checkUpdate(api: Api, call: Call, verb: 'update' | 'patch', object: KubeObject, old: KubeObject, current: Entry, o: UpdateOptions) {
  const { served, subject } = call.target;
  const { strategy } = served;
  const metadata: Partial<ObjectMeta> & { selfLink?: string } = object.metadata;
  const before: Partial<ObjectMeta> = old.metadata;

  if (metadata.uid && metadata.uid !== before.uid) {
    if (verb === 'patch')
      throw invalid(served, call.name, [{ type: 'FieldValueInvalid', field: 'metadata.uid', value: metadata.uid, detail: 'field is immutable' }]);
    throw conflict(subject, call.name, `Precondition failed: UID in precondition: ${metadata.uid}, UID in object meta: ${before.uid}`);
  }
  if (metadata.resourceVersion && metadata.resourceVersion !== '0') {
    if (metadata.resourceVersion !== String(current.revision)) throw modified(subject, call.name);
  } else if (verb === 'update' && strategy.allowUnconditionalUpdate === false) {
    throw mustBeSpecified({ group: served.group, kind: served.resource }, call.name);
  }
  keep(metadata, before, 'uid');
  keep(metadata, before, 'creationTimestamp');
  delete metadata.resourceVersion;
  const tracking = o.apply ? undefined : trackFields(api, call, old, object, o.fieldsOf);
  if (tracking) await tracking;
  keepSystemFields(metadata, before);

  const context = requestContext(api, call, verb);
  const own = call.subresource ? subresourceWrites[`${served.registryPath}/${call.subresource}`] : undefined;
  const admission = api.admission.begin(api, call, 'UPDATE', object, old);
  if (own) {
    own.prepare(object, old, api, call);
    await admission.admit();
  } else if (call.subresource === 'status') {
    await admission.admit();
    keepSystemFields(object.metadata, before);
    strategy.prepareForStatusUpdate?.(object, old, context);
  } else {
    await admission.admit();
    keepSystemFields(object.metadata, before);
    strategy.prepareForUpdate?.(object, old, context);
  }
  const allocation = call.subresource ? undefined : await kindHooks[served.registryPath]?.beforeUpdate?.(api, call, object, old);
  try {
    complete(served.definition, object);
    const errors: FieldError[] = [
      // Admission may have put other metadata in the place of that which came.
      ...validateObjectMeta(object.metadata, served),
      ...validateObjectMetaUpdate(object.metadata, before),
      ...(strategy.validate ? [] : validateSchema(served.definition, object)),
      ...(call.subresource === 'status' ? (strategy.validateStatusUpdate?.(object, old) ?? []) : []),
      ...(call.subresource
        ? (own?.validate?.(object, old) ?? [])
        : [
            ...(strategy.updateFirst?.(object, old) ?? []),
            ...(strategy.updateValidatesAll ? [] : (strategy.validate?.(object) ?? [])),
            ...(strategy.validateUpdate?.(object, old) ?? []),
          ]),
    ];
    failWhere(kindInErrors(served), call.name, errors);
    if (!call.subresource) for (const warning of strategy.warnings?.(object, old) ?? []) call.warnings.push(warning);
    await admission.validate();
  } catch (error) {
    if (allocation) await allocation.release();
    throw error;
  }
  return { allocation, remove: deletionComplete(object) };
}

/** What neither clients nor admission have a say in. */
function keepSystemFields(metadata: Partial<ObjectMeta> & { selfLink?: string }, before: Partial<ObjectMeta>): void {
  for (const field of ['uid', 'creationTimestamp', 'generation', 'deletionTimestamp', 'deletionGracePeriodSeconds', 'generateName']) keep(metadata, before, field);
  delete metadata.resourceVersion;
  delete metadata.selfLink;
}

function keep<K extends string>(metadata: object, before: object, field: K): void {
  const to = metadata as Record<string, unknown>;
  const value = (before as Record<string, unknown>)[field];
  if (value === undefined) delete to[field];
  else to[field] = value;
}

/** An object marked for deletion goes when nothing holds it: no finalizers, no grace, and for namespaces no content. */
export function deletionComplete(object: KubeObject): boolean {
  const { metadata } = object;
  if (!metadata.deletionTimestamp || (metadata.finalizers?.length ?? 0) > 0 || (metadata.deletionGracePeriodSeconds ?? 0) > 0) return false;
  return object.kind !== 'Namespace' || ((object as { spec?: { finalizers?: string[] } }).spec?.finalizers?.length ?? 0) === 0;
}

function mustBeSpecified(kind: { group: string; kind: string }, name: string): StatusError {
  return invalid(kind, name, [{ type: 'FieldValueInvalid', field: 'metadata.resourceVersion', value: 0, detail: 'must be specified for an update' }]);
}
