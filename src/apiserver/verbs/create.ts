import { randomUUID } from 'node:crypto';
import { complete } from '../../api/canonical.ts';
import { badRequest, type FieldError, fieldErrorBody, invalid, isAlreadyExists, methodNotSupported, type StatusError } from '../../api/errors.ts';
import { generateName } from '../../api/names.ts';
import type { KubeObject, ObjectMeta } from '../../api/object.ts';
import type { ServedResource } from '../../api/scheme.ts';
import { validateObjectMeta, validateSchema } from '../../api/validation.ts';
import { type Api, type Call, keyFor, timestamp } from '../api.ts';
import { kindHooks } from '../services/hooks.ts';
import type { Entry } from '../storage/entry.ts';
import { settle, toStored } from '../storage/conversion.ts';
import { clone } from '../storage/json.ts';
import { trackFields } from './managed-fields.ts';
import { decodeObject, matchNamespace, type ParsedBody, requestContext } from './prepare.ts';

const generateAttempts = 8;
const eventTtlSeconds = 3600;

/** Creates an object of the call's resource. The body is consumed. Answers the entry in storage version. */
export async function create(api: Api, call: Call, body: ParsedBody): Promise<Entry> {
  const { served, storage } = call.target;
  if (!storage || !served.verbs.includes('create')) throw methodNotSupported(call.target.subject, 'create');
  const object = decodeObject(call, body);
  if (call.name && object.metadata.name && call.name !== object.metadata.name) {
    throw badRequest(`the name of the object (${object.metadata.name}) does not match the name on the URL (${call.name})`);
  }
  return createObject(api, call, object);
}

/** The part after decoding, also for an update that creates; an apply that creates has its managedFields already. */
export async function createObject(api: Api, call: Call, object: KubeObject, tracked = false): Promise<Entry> {
  call.permit.demand('create');
  const { metadata } = object;
  if (call.target.served.custom?.terminating) throw terminating(call);
  matchNamespace(call, object);
  if (metadata.resourceVersion && !call.dryRun) throw badRequest('resourceVersion should not be set on objects to be created');
  const tracking = tracked ? undefined : trackFields(api, call, undefined, object);
  if (tracking) await tracking;
  const generated = !metadata.name && metadata.generateName ? metadata.generateName : undefined;
  const original = generated ? clone(object) : undefined;
  for (let attempt = 1; ; attempt++) {
    const candidate = original ? clone(original) : object;
    if (generated) candidate.metadata.name = generateName(generated);
    try {
      return await createNamed(api, call, candidate);
    } catch (error) {
      if (!generated || attempt >= generateAttempts || !isAlreadyExists(error)) throw error;
    }
  }
}

async function createNamed(api: Api, call: Call, object: KubeObject): Promise<Entry> {
  const { served, storage } = call.target;
  const { strategy } = served;
  const named: Call = { ...call, name: object.metadata.name ?? '' };
  const admission = api.admission.begin(api, named, 'CREATE', object, undefined);
  await admission.admit();
  // Admission may have put another object in this one's place: nothing of it is relied on before.
  const { metadata } = object;
  matchNamespace(call, object);
  fillSystemFields(api, metadata);
  strategy.prepareForCreate?.(object, requestContext(api, named, 'create'));
  const allocation = await kindHooks[served.registryPath]?.beforeCreate?.(api, named, object);
  try {
    complete(served.definition, object);
    failWhere(kindInErrors(served), metadata.name || '', [
      ...validateObjectMeta(metadata, served),
      ...(strategy.validate ? strategy.validate(object) : validateSchema(served.definition, object)),
      ...(strategy.validateCreate?.(object) ?? []),
    ]);
    strategy.afterValidation?.(object);
    for (const warning of strategy.warnings?.(object) ?? []) call.warnings.push(warning);
    await admission.validate();
    const stored = await toStored(object, served, storage!.cache.resource);
    const entry = await storage!.create(keyFor(metadata.namespace ?? '', metadata.name!), stored, {
      dryRun: call.dryRun,
      ...(storage!.cache.resource.registryPath === 'events' ? { ttlSeconds: eventTtlSeconds } : {}),
    });
    if (allocation && !call.dryRun) await allocation.commit(entry.revision);
    await settle([entry], served);
    await inForce(api, served, entry);
    return entry;
  } catch (error) {
    if (allocation) await allocation.release(error);
    throw error;
  }
}

/** What no client has a say in. */
function fillSystemFields(api: Api, metadata: Partial<ObjectMeta> & { selfLink?: string }): void {
  metadata.uid = randomUUID();
  metadata.creationTimestamp = timestamp(api);
  delete metadata.deletionTimestamp;
  delete metadata.deletionGracePeriodSeconds;
  delete metadata.resourceVersion;
  delete metadata.generation;
  delete metadata.selfLink;
}

/** What configures admission is in force when its writer hears that it was written. */
export async function inForce(api: Api, served: { group: string }, entry: Entry): Promise<void> {
  if (served.group === 'admissionregistration.k8s.io') await api.hub.waitFor(entry.revision);
}

function terminating(call: Call): StatusError {
  const error = methodNotSupported(call.target.subject, 'create');
  error.status.message = 'create not allowed while custom resource definition is terminating';
  return error;
}

/** Both events are one kind to who validates them: that of the core group. */
export const kindInErrors = (served: ServedResource) => ({ group: served.storageGroup, kind: served.kind });

/** Groups whose findings are reported as often as they are made. */
const repeating = new Set(['apiextensions.k8s.io', 'apiregistration.k8s.io']);

/** Throws 422 with all findings, where there are any. */
export function failWhere(kind: { group: string; kind: string }, name: string, errors: FieldError[]): void {
  if (errors.length === 0) return;
  if (errors.length === 1 || repeating.has(kind.group)) throw invalid(kind, name, errors);
  const seen = new Set<string>();
  throw invalid(
    kind,
    name,
    errors.filter((e) => {
      const text = `${e.field}: ${fieldErrorBody(e)}`;
      return !seen.has(text) && seen.add(text);
    }),
  );
}
