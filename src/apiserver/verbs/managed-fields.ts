import type { ManagedFieldsEntry } from '../../api/generated/types.ts';
import type { Converter, Ownership } from '../../api/managed-fields/ownership.ts';
import { resetFields } from '../../api/managed-fields/reset-fields.ts';
import { applied, type FieldWriter, managedFieldsAfterUpdate } from '../../api/managed-fields/tracking.ts';
import { anyType, fieldTypeOf } from '../../api/managed-fields/types.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import { type Api, type Call, timestamp } from '../api.ts';
import { convertTo } from '../storage/entry.ts';

/** Who writes what. */
type Writing = Pick<Call, 'target' | 'fieldManager' | 'subresource'>;

const typeOf = (definition: string) => fieldTypeOf(definition) ?? anyType;

/** How an object of the call's resource gets from version to version; each version's form of an object is made once. */
function converterOf(api: Api, call: Pick<Call, 'target'>): Converter {
  const { served } = call.target;
  const own = apiVersionOf(served);
  const made = new Map<unknown, Map<string, ReturnType<Converter>>>();
  return (value, apiVersion) => {
    const from = (value as { apiVersion?: string }).apiVersion ?? own;
    if (from === apiVersion && apiVersion === own) return { type: typeOf(served.definition), value };
    let versions = made.get(value);
    if (!versions) made.set(value, (versions = new Map()));
    if (!versions.has(apiVersion)) versions.set(apiVersion, convert(value, from, apiVersion));
    return versions.get(apiVersion);
  };
  function convert(value: unknown, from: string, apiVersion: string): ReturnType<Converter> {
    const source = find(from);
    const target = find(apiVersion);
    if (!source || !target) return undefined;
    return { type: typeOf(target.definition), value: from === apiVersion ? value : convertTo(value as KubeObject, source, target) };
  }
  function find(apiVersion: string) {
    const slash = apiVersion.indexOf('/');
    return api.registry.find(apiVersion.slice(0, Math.max(slash, 0)), apiVersion.slice(slash + 1), served.resource)?.served;
  }
}

const ownershipOf = (api: Api, call: Pick<Call, 'target'>, subresource: string): Ownership => ({
  convert: converterOf(api, call),
  filter: resetFields(call.target.served, subresource),
});

function writerOf(api: Api, call: Writing, subresource: string): FieldWriter {
  const { served } = call.target;
  return { manager: call.fieldManager, apiVersion: apiVersionOf(served), kind: served.kind, subresource, now: timestamp(api) };
}

/** Records in `next` (in the request's version) what the call's manager changed. `live` is undefined for a creation. */
export function trackFields(api: Api, call: Writing, live: KubeObject | undefined, next: KubeObject, subresource = call.subresource): void {
  const metadata = next.metadata as { managedFields?: ManagedFieldsEntry[] };
  const entries = managedFieldsAfterUpdate(ownershipOf(api, call, subresource), live, next, writerOf(api, call, subresource));
  if (entries) metadata.managedFields = entries;
  else delete metadata.managedFields;
}

/** Records in `next` a status that this server itself has written, as upstream's does through a client of its own. */
export function trackOwnStatus(api: Api, resource: { group: string; version: string; resource: string }, live: KubeObject, next: KubeObject): void {
  const target = api.registry.find(resource.group, resource.version, resource.resource);
  if (target) trackFields(api, { target, fieldManager: 'kube-apiserver', subresource: 'status' }, live, next);
}

/** The live object with the configuration applied to it, managedFields included, without defaults. StatusError 400, 409. */
export function applyTo(
  api: Api,
  call: Writing,
  live: KubeObject | undefined,
  config: unknown,
  force: boolean,
  subresource = call.subresource,
): KubeObject {
  return applied(ownershipOf(api, call, subresource), live, config, writerOf(api, call, subresource), force);
}
