import type { ServedResource } from '../../../api/scheme.ts';
import type { AdmissionRequest } from '../../admission/chain.ts';
import { kindAt } from './matching.ts';

const optionsKinds: Record<string, string> = { CREATE: 'CreateOptions', UPDATE: 'UpdateOptions', DELETE: 'DeleteOptions' };

/** The options of a request, as reviews and policies see them. */
function optionsOf(request: AdmissionRequest): object | null {
  const { call, operation } = request;
  const kind = call.verb === 'patch' && operation === 'UPDATE' ? 'PatchOptions' : optionsKinds[operation];
  if (!kind) return null;
  return {
    kind,
    apiVersion: 'meta.k8s.io/v1',
    ...(call.dryRun ? { dryRun: ['All'] } : {}),
    ...(call.fieldManager && operation !== 'DELETE' ? { fieldManager: call.fieldManager } : {}),
    ...(operation !== 'DELETE' && operation !== 'CONNECT' ? { fieldValidation: call.fieldValidation } : {}),
  };
}

/** AdmissionReview's request: a request as it was made, told in the version in which it was asked for. */
export function reviewRequest(request: AdmissionRequest, at: ServedResource, uid: string, object: unknown, old: unknown): Record<string, unknown> {
  const { call } = request;
  const { served } = call.target;
  const resource = (r: ServedResource) => ({ group: r.group, version: r.version, resource: r.resource });
  const { user } = call;
  return {
    uid,
    kind: kindAt(request, at),
    resource: resource(at),
    ...(request.subresource ? { subResource: request.subresource } : {}),
    requestKind: kindAt(request, served),
    requestResource: resource(served),
    ...(request.subresource ? { requestSubResource: request.subresource } : {}),
    ...(request.name ? { name: request.name } : {}),
    ...(request.namespace ? { namespace: request.namespace } : {}),
    operation: request.operation,
    userInfo: { username: user.name, ...(user.uid ? { uid: user.uid } : {}), groups: user.groups, ...(user.extra ? { extra: user.extra } : {}) },
    object: object ?? null,
    oldObject: old ?? null,
    dryRun: call.dryRun,
    options: optionsOf(request),
  };
}
