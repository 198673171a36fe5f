import type { ManagedFieldsEntry } from '../../api/generated/types.ts';
import { ConversionPending, type Converter, type Ownership } from '../../api/managed-fields/ownership.ts';
import { resetFields } from '../../api/managed-fields/reset-fields.ts';
import { applied, type FieldWriter, managedFieldsAfterUpdate } from '../../api/managed-fields/tracking.ts';
import { anyType, fieldTypeOf } from '../../api/managed-fields/types.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import { type Api, type Call, timestamp } from '../api.ts';
import { convertTo } from '../storage/entry.ts';
import { clone } from '../storage/json.ts';

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
    const source = servedAs(api, call, from);
    const target = servedAs(api, call, apiVersion);
    if (!source || !target) return undefined;
    return { type: typeOf(target.definition), value: from === apiVersion ? value : convertTo(value as KubeObject, source, target) };
  }
}

/**
 * Runs what compares an object in the versions of all its managers. Where only a webhook knows how custom resources get from version to
 * version, what it is needed for shows on the way: it is asked, and the run begins anew with the answer.
 */
function withOwnership<T>(api: Api, call: Pick<Call, 'target'>, subresource: string, run: (ownership: Ownership) => T): T | Promise<T> {
  const filter = resetFields(call.target.served, subresource);
  const { conversion } = call.target.served.custom ?? {};
  if (!conversion) return run({ convert: converterOf(api, call), filter });
  const known = new Map<string, unknown>();
  const keyOf = (value: unknown, apiVersion: string) => `${apiVersion} ${JSON.stringify(value)}`;
  const own = apiVersionOf(call.target.served);
  const convert: Converter = (value, apiVersion) => {
    const target = servedAs(api, call, apiVersion);
    if (!target) return undefined;
    const type = typeOf(target.definition);
    if ((value?.apiVersion ?? own) === apiVersion) return { type, value };
    // Nothing is the same in all versions.
    if (!value?.metadata) return { type, value: { ...value, apiVersion } };
    const key = keyOf(value, apiVersion);
    if (!known.has(key)) throw new ConversionPending(value, apiVersion);
    return { type, value: known.get(key) };
  };
  const attempt = async (): Promise<T> => {
    for (;;) {
      try {
        return run({ convert, filter });
      } catch (error) {
        if (!(error instanceof ConversionPending)) throw error;
        const [converted] = await conversion.convert([clone(error.value)], error.apiVersion);
        servedAs(api, call, error.apiVersion)?.custom?.prune(converted);
        known.set(keyOf(error.value, error.apiVersion), converted);
      }
    }
  };
  return attempt();
}

/** The call's resource in another of its versions. */
function servedAs(api: Api, call: Pick<Call, 'target'>, apiVersion: string) {
  const slash = apiVersion.indexOf('/');
  return api.registry.find(apiVersion.slice(0, Math.max(slash, 0)), apiVersion.slice(slash + 1), call.target.served.resource)?.served;
}

function writerOf(api: Api, call: Writing, subresource: string): FieldWriter {
  const { served } = call.target;
  return { manager: call.fieldManager, apiVersion: apiVersionOf(served), kind: served.kind, subresource, now: timestamp(api) };
}

/** Records in `next` (in the request's version) what the call's manager changed. `live` is undefined for a creation. A promise only where a webhook converts. */
export function trackFields(api: Api, call: Writing, live: KubeObject | undefined, next: KubeObject, subresource = call.subresource): void | Promise<void> {
  const metadata = next.metadata as { managedFields?: ManagedFieldsEntry[] };
  const writer = writerOf(api, call, subresource);
  const put = (entries: ManagedFieldsEntry[] | undefined) => {
    if (entries) metadata.managedFields = entries;
    else delete metadata.managedFields;
  };
  const made = withOwnership(api, call, subresource, (ownership) => managedFieldsAfterUpdate(ownership, live, next, writer));
  if (made instanceof Promise) return made.then(put);
  put(made);
}

/** Records in `next` a status that this server itself has written, as upstream's does through a client of its own. */
export function trackOwnStatus(api: Api, resource: { group: string; version: string; resource: string }, live: KubeObject, next: KubeObject): void {
  const target = api.registry.find(resource.group, resource.version, resource.resource);
  if (target) void trackFields(api, { target, fieldManager: 'kube-apiserver', subresource: 'status' }, live, next);
}

/** The live object with the configuration applied to it, managedFields included, without defaults. StatusError 400, 409. A promise only where a webhook converts. */
export function applyTo(
  api: Api,
  call: Writing,
  live: KubeObject | undefined,
  config: unknown,
  force: boolean,
  subresource = call.subresource,
): KubeObject | Promise<KubeObject> {
  const writer = writerOf(api, call, subresource);
  return withOwnership(api, call, subresource, (ownership): KubeObject => applied(ownership, live, config, writer, force));
}
