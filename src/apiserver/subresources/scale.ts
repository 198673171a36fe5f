import { memberAt } from '../../api/crd/strategy.ts';
import { badRequest, type FieldError, internalError, invalid, modified, notFound } from '../../api/errors.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import type { CustomResource } from '../../api/scheme.ts';
import { formatLabelSelector } from '../../api/selectors.ts';
import type { PatchType } from '../../client/client.ts';
import type { Api, Call } from '../api.ts';
import { clone } from '../storage/json.ts';
import { get } from '../verbs/get.ts';
import { applyTo } from '../verbs/managed-fields.ts';
import { applyPatch, type PatchBody } from '../verbs/patch.ts';
import { checkBody, type ParsedBody } from '../verbs/prepare.ts';
import { updateWith } from '../verbs/update.ts';

export const scaleType = { group: 'autoscaling', version: 'v1', kind: 'Scale', definition: 'io.k8s.api.autoscaling.v1.Scale' };

interface Scale extends KubeObject {
  spec?: { replicas?: number };
  status: { replicas: number; selector?: string };
}

interface Scalable extends KubeObject {
  spec: { replicas?: number; selector?: unknown };
  status?: { replicas?: number };
}

export function scaleOf(object: KubeObject, paths?: CustomResource['scale']): Scale {
  const { spec, status, metadata } = object as Scalable;
  if (paths) return { ...scaleHead(metadata), ...customScale(object, paths) };
  const selector = object.kind === 'ReplicationController' ? mapSelector(spec.selector) : formatLabelSelector(spec.selector as never);
  return {
    ...scaleHead(metadata),
    spec: spec.replicas ? { replicas: spec.replicas } : {},
    status: { replicas: status?.replicas ?? 0, ...(selector ? { selector } : {}) },
  };
}

const scaleHead = (metadata: KubeObject['metadata']) => ({
  kind: 'Scale',
  apiVersion: 'autoscaling/v1',
  metadata: {
    name: metadata.name,
    namespace: metadata.namespace,
    uid: metadata.uid,
    resourceVersion: metadata.resourceVersion,
    creationTimestamp: metadata.creationTimestamp,
  } as KubeObject['metadata'],
});

/** Of a custom resource, whose definition names the fields. */
function customScale(object: KubeObject, paths: NonNullable<CustomResource['scale']>): Pick<Scale, 'spec' | 'status'> {
  const replicas = memberAt(object, paths.specReplicasPath);
  const current = memberAt(object, paths.statusReplicasPath);
  const selector = paths.labelSelectorPath ? memberAt(object, paths.labelSelectorPath) : undefined;
  return {
    spec: typeof replicas === 'number' && replicas ? { replicas } : {},
    status: { replicas: typeof current === 'number' ? current : 0, ...(typeof selector === 'string' && selector ? { selector } : {}) },
  };
}

/** Sets the member at a simple path; what lies on the way to it is made where it is missing. */
function setMember(object: object, path: string, value: unknown): void {
  const names = path.replace(/^\./, '').split('.');
  const last = names.pop() as string;
  let at = object as Record<string, any>;
  for (const name of names) at = at[name] = typeof at[name] === 'object' && at[name] !== null ? at[name] : {};
  at[last] = value;
}

const mapSelector = (selector: unknown) =>
  Object.entries((selector as Record<string, string>) ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([k, v]) => `${k}=${v}`)
    .join(',');

export async function getScale(api: Api, call: Call): Promise<Scale> {
  const entry = await get(api, call, undefined);
  const path = call.target.served.custom?.scale?.specReplicasPath;
  if (path && typeof memberAt(entry.object, path) !== 'number') throw internalError(`the spec replicas field ${JSON.stringify(path)} does not exist`);
  return scaleOf(entry.object, call.target.served.custom?.scale);
}

export function updateScale(api: Api, call: Call, body: ParsedBody): Promise<Scale> {
  const scale = checkBody<Scale>(call, body, scaleType);
  if (scale.metadata?.name && scale.metadata.name !== call.name) {
    throw badRequest(`the name of the object (${scale.metadata.name}) does not match the name on the URL (${call.name})`);
  }
  return write(api, call, 'update', () => scale);
}

export function patchScale(api: Api, call: Call, type: PatchType, body: PatchBody): Promise<Scale> {
  if (type === 'apply') return applyScale(api, call, body);
  return write(api, call, 'patch', (current) => {
    const before = scaleOf(current, call.target.served.custom?.scale);
    const scale = clone(applyPatch(type, scaleType.definition, before, body.object)) as Scale;
    checkBody(call, { object: scale, duplicates: body.duplicates ?? [] }, scaleType);
    if (scale.metadata?.resourceVersion === before.metadata.resourceVersion) delete (scale.metadata as { resourceVersion?: string }).resourceVersion;
    return scale;
  });
}

/** An apply owns the object's replicas, in the version of the object. */
async function applyScale(api: Api, call: Call, body: PatchBody): Promise<Scale> {
  const scale = checkBody<Scale>({ ...call, fieldValidation: 'Strict' }, { object: clone(body.object), duplicates: [] }, scaleType);
  const { served } = call.target;
  const config = { apiVersion: apiVersionOf(served), kind: served.kind, metadata: { name: call.name } };
  if (scale.spec?.replicas !== undefined) setReplicas(call, config, checkedReplicas(call, scale));
  const next = (current: KubeObject | undefined) => {
    if (!current) throw notFound(call.target.subject, call.name);
    const version = scale.metadata?.resourceVersion;
    const completed = (merged: KubeObject) => ({ ...merged, metadata: { ...merged.metadata, ...(version ? { resourceVersion: version } : {}) } });
    const merged = applyTo(api, call, current, config, body.force === true, 'scale');
    return merged instanceof Promise ? merged.then(completed) : completed(merged);
  };
  const written = await updateWith(api, { ...call, subresource: '' }, 'patch', next, { apply: true });
  return scaleOf(written.entry.as(served).object, served.custom?.scale);
}

function checkedReplicas(call: Call, scale: Scale): number {
  const replicas = scale.spec?.replicas ?? 0;
  if (!Number.isInteger(replicas) || replicas < 0) throw invalid(scaleType, call.name, [notNegative(replicas)]);
  return replicas;
}

function setReplicas(call: Call, object: object, replicas: number): void {
  setMember(object, call.target.served.custom?.scale?.specReplicasPath ?? '.spec.replicas', replicas);
}

/** Only spec.replicas is taken over. */
async function write(api: Api, call: Call, verb: 'update' | 'patch', scaleFrom: (current: KubeObject) => Scale): Promise<Scale> {
  const plain: Call = { ...call, subresource: '', admitted: true };
  const next = async (current: KubeObject | undefined) => {
    const scale = scaleFrom(current!);
    const admission = api.admission.begin(api, call, 'UPDATE', scale, scaleOf(current!, call.target.served.custom?.scale));
    await admission.admit();
    await admission.validate();
    const version = scale.metadata?.resourceVersion;
    if (version && version !== current!.metadata.resourceVersion) throw modified(call.target.subject, call.name);
    const object = clone(current!);
    setReplicas(call, object, checkedReplicas(call, scale));
    return object;
  };
  const written = await updateWith(api, plain, verb, next, { fieldsOf: 'scale' });
  return scaleOf(written.entry.as(call.target.served).object, call.target.served.custom?.scale);
}

const notNegative = (value: unknown): FieldError => ({
  type: 'FieldValueInvalid',
  field: 'spec.replicas',
  value,
  detail: 'must be greater than or equal to 0',
});
