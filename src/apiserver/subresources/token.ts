import { badRequest, conflict, type FieldError, invalid, notFound } from '../../api/errors.ts';
import type { Pod, AuthenticationV1TokenRequest as TokenRequest } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import { type Api, type Call, keyFor } from '../api.ts';
import type { BoundObject } from '../authn/serviceaccount.ts';
import { checkBody, type ParsedBody } from '../verbs/prepare.ts';

export const tokenRequestType = {
  group: 'authentication.k8s.io',
  version: 'v1',
  kind: 'TokenRequest',
  definition: 'io.k8s.api.authentication.v1.TokenRequest',
};

const shortestSeconds = 600;
const longestSeconds = 2 ** 32;

/** Issues a token of the service account, bound to what the request names. */
export async function createToken(api: Api, call: Call, body: ParsedBody): Promise<TokenRequest> {
  const request = checkBody<TokenRequest & KubeObject>(call, body, tokenRequestType);
  const entry = await api.registry.storage('', 'v1', 'serviceaccounts').read(keyFor(call.namespace, call.name));
  if (!entry) throw notFound(call.target.subject, call.name);
  const { metadata } = entry.object;
  const about = request.metadata;
  if (about?.name && about.name !== call.name)
    throw badRequest(`the name of the object (${about.name}) does not match the name on the URL (${call.name})`);
  if (about?.namespace && about.namespace !== call.namespace)
    throw badRequest('the namespace of the provided object does not match the namespace sent on the request');
  const spec = request.spec ?? ({} as TokenRequest['spec']);
  const audiences = spec.audiences?.length ? spec.audiences : api.tokens.audiences;
  const seconds = spec.expirationSeconds ?? 3600;
  const errors: FieldError[] = [];
  if (seconds < shortestSeconds)
    errors.push({
      type: 'FieldValueInvalid',
      field: 'spec.expirationSeconds',
      value: seconds,
      detail: 'may not specify a duration less than 10 minutes',
    });
  if (seconds > longestSeconds)
    errors.push({
      type: 'FieldValueInvalid',
      field: 'spec.expirationSeconds',
      value: seconds,
      detail: 'may not specify a duration larger than 2^32 seconds',
    });
  if (errors.length > 0) throw invalid(tokenRequestType, request.metadata?.name ?? '', errors);
  const admission = api.admission.begin(api, call, 'CREATE', request, undefined);
  await admission.admit();
  await admission.validate();
  const bound = spec.boundObjectRef ? await boundObject(api, call, spec.boundObjectRef) : undefined;
  const { token, expires } = await api.tokens.issue({
    namespace: call.namespace,
    name: call.name,
    uid: metadata.uid ?? '',
    audiences,
    expirationSeconds: seconds,
    ...(bound ? { bound: bound.object } : {}),
    ...(bound?.node ? { node: bound.node } : {}),
  });
  return {
    kind: 'TokenRequest',
    apiVersion: 'authentication.k8s.io/v1',
    metadata: { name: call.name, namespace: call.namespace, creationTimestamp: metadata.creationTimestamp } as never,
    spec: { ...spec, audiences, expirationSeconds: seconds },
    status: { token, expirationTimestamp: `${new Date(expires).toISOString().slice(0, 19)}Z` },
  } as TokenRequest;
}

async function boundObject(
  api: Api,
  call: Call,
  ref: { kind?: string; name?: string; uid?: string },
): Promise<{ object: BoundObject; node?: { name: string; uid?: string } }> {
  const kinds = { Pod: 'pods', Secret: 'secrets', Node: 'nodes' } as const;
  const kind = ref.kind as keyof typeof kinds;
  if (!(kind in kinds)) {
    throw badRequest(
      `cannot bind token for serviceaccount "${call.name}" to object: kind ${JSON.stringify(ref.kind ?? '')} is not supported; use Pod, Secret or Node`,
    );
  }
  const name = ref.name ?? '';
  const resource = kinds[kind];
  const entry = await api.registry.storage('', 'v1', resource).read(kind === 'Node' ? name : keyFor(call.namespace, name));
  if (!entry) throw notFound({ group: '', resource }, name);
  const uid = entry.object.metadata.uid ?? '';
  if (ref.uid && ref.uid !== uid) {
    throw conflict(
      { group: '', resource },
      name,
      `the UID in the bound object reference (${ref.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
  }
  const object: BoundObject = { kind, name, uid };
  if (kind !== 'Pod') return { object };
  const pod = entry.object as unknown as Pod;
  const account = pod.spec?.serviceAccountName ?? '';
  if (account !== call.name)
    throw badRequest(`cannot bind token for serviceaccount "${call.name}" to pod running with different serviceaccount name.`);
  const nodeName = pod.spec?.nodeName;
  if (!nodeName) return { object };
  const node = api.registry.cache('', 'v1', 'nodes').get(nodeName);
  return { object, node: { name: nodeName, ...(node?.object.metadata.uid ? { uid: node.object.metadata.uid } : {}) } };
}
