import { Environment } from '../cel/environment.ts';
import { authorizerType, resourceCheckType } from '../cel/library/authorizer.ts';
import { t, type Type } from '../cel/types.ts';

const fields = (names: Record<string, Type>) => names;
const gvk = t.object('kubernetes.GroupVersionKind', fields({ group: t.string, version: t.string, kind: t.string }));
const gvr = t.object('kubernetes.GroupVersionResource', fields({ group: t.string, version: t.string, resource: t.string }));
const userInfo = t.object(
  'kubernetes.UserInfo',
  fields({ username: t.string, uid: t.string, groups: t.list(t.string), extra: t.map(t.string, t.list(t.string)) }),
);
const requestType = t.object(
  'kubernetes.AdmissionRequest',
  fields({
    kind: gvk,
    resource: gvr,
    subResource: t.string,
    requestKind: gvk,
    requestResource: gvr,
    requestSubResource: t.string,
    name: t.string,
    namespace: t.string,
    operation: t.string,
    userInfo,
    dryRun: t.bool,
    options: t.dyn,
  }),
);

/** What every expression about a request can refer to. */
export const admissionVariables: Record<string, Type> = {
  object: t.dyn,
  oldObject: t.dyn,
  request: requestType,
  authorizer: authorizerType,
  'authorizer.requestResource': resourceCheckType,
};

export const conditionEnvironment = new Environment({ variables: admissionVariables });
