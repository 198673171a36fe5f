import { badRequest, invalid } from '../../api/errors.ts';
import type { PolicyRule } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import { type Api, type Call, timestamp } from '../api.ts';
import { userOfToken } from '../authn/authenticate.ts';
import type { UserInfo } from '../authn/user.ts';
import { checkBody, type ParsedBody } from '../verbs/prepare.ts';
import type { Attributes } from './authorizer.ts';

/** Resources that are questions: created, answered, never stored. By group and resource. */
export const reviews: Record<string, ((api: Api, call: Call, body: ParsedBody) => Promise<object> | object) | undefined> = {
  'authentication.k8s.io/tokenreviews': tokenReview,
  'authentication.k8s.io/selfsubjectreviews': (api, call, body) => {
    const review = checkBody<KubeObject>(call, body, call.target.served);
    return { ...review, metadata: { creationTimestamp: timestamp(api) }, status: { userInfo: shownUser(call.user) } };
  },
  'authorization.k8s.io/subjectaccessreviews': (api, call, body) => subjectReview(api, call, body),
  'authorization.k8s.io/localsubjectaccessreviews': (api, call, body) => subjectReview(api, call, body, call.namespace),
  'authorization.k8s.io/selfsubjectaccessreviews': async (api, call, body) => {
    const review = checkBody<Review>(call, body, call.target.served);
    return { ...review, status: await decide(api, call, review, call.user) };
  },
  'authorization.k8s.io/selfsubjectrulesreviews': (api, call, body) => {
    const review = checkBody<KubeObject & { spec?: { namespace?: string } }>(call, body, call.target.served);
    const namespace = review.spec?.namespace;
    if (!namespace) throw badRequest('no namespace on request');
    const rules = api.rbac.rulesFor(call.user, namespace);
    return { ...review, spec: {}, status: { ...split(rules), incomplete: false } };
  },
};

const shownUser = (user: UserInfo) => ({
  username: user.name,
  ...(user.uid ? { uid: user.uid } : {}),
  groups: user.groups,
  ...(user.extra && Object.keys(user.extra).length ? { extra: user.extra } : {}),
});

async function tokenReview(api: Api, call: Call, body: ParsedBody): Promise<object> {
  const review = checkBody<KubeObject & { spec?: { token?: string; audiences?: string[] } }>(call, body, call.target.served);
  const token = review.spec?.token;
  if (!token) throw badRequest('token is required for TokenReview in authentication');
  const audiences = review.spec?.audiences?.length ? review.spec.audiences : undefined;
  const found = await userOfToken(api, token, audiences);
  const status = found
    ? { authenticated: true, user: shownUser(found.user), audiences: found.audiences }
    : { user: {}, error: 'invalid bearer token' };
  return { ...review, status };
}

interface Review extends KubeObject {
  spec?: {
    user?: string;
    groups?: string[];
    uid?: string;
    extra?: Record<string, string[]>;
    resourceAttributes?: {
      namespace?: string;
      verb?: string;
      group?: string;
      version?: string;
      resource?: string;
      subresource?: string;
      name?: string;
    };
    nonResourceAttributes?: { path?: string; verb?: string };
  };
}

async function subjectReview(api: Api, call: Call, body: ParsedBody, namespace?: string): Promise<object> {
  const review = checkBody<Review>(call, body, call.target.served);
  const { spec } = review;
  if (!spec?.user && !spec?.groups?.length) {
    throw invalid(call.target.served, '', [
      { type: 'FieldValueInvalid', field: 'spec.user', value: '', detail: 'at least one of user or group must be specified' },
    ]);
  }
  if (namespace !== undefined && spec.resourceAttributes?.namespace !== namespace) {
    throw invalid(call.target.served, '', [
      {
        type: 'FieldValueInvalid',
        field: 'spec.resourceAttributes.namespace',
        value: spec.resourceAttributes?.namespace ?? '',
        detail: 'must match metadata.namespace',
      },
    ]);
  }
  const user: UserInfo = { name: spec.user ?? '', groups: spec.groups ?? [], ...(spec.uid ? { uid: spec.uid } : {}), ...(spec.extra ? { extra: spec.extra } : {}) };
  return { ...review, status: await decide(api, call, review, user) };
}

async function decide(api: Api, call: Call, review: Review, user: UserInfo): Promise<object> {
  const { resourceAttributes: r, nonResourceAttributes: n } = review.spec ?? {};
  if ((r ? 1 : 0) + (n ? 1 : 0) !== 1) {
    throw invalid(call.target.served, '', [
      {
        type: 'FieldValueInvalid',
        field: 'spec.resourceAttributes',
        value: r ?? null,
        detail: r
          ? 'cannot be specified in combination with nonResourceAttributes'
          : 'exactly one of nonResourceAttributes or resourceAttributes must be specified',
      },
    ]);
  }
  const attributes: Attributes = {
    user,
    verb: r?.verb ?? n?.verb ?? '',
    ...(n ? { path: n.path ?? '' } : {}),
    group: r?.group ?? '',
    version: r?.version ?? '',
    resource: r?.resource ?? '',
    subresource: r?.subresource ?? '',
    namespace: r?.namespace ?? '',
    name: r?.name ?? '',
  };
  const { allowed, denied, reason, error } = await api.authorizer.authorize(attributes);
  return {
    allowed,
    ...(denied ? { denied } : {}),
    ...(reason ? { reason } : {}),
    ...(error ? { evaluationError: error } : {}),
  };
}

function split(rules: PolicyRule[]): { resourceRules: object[]; nonResourceRules: object[] } {
  const resourceRules: object[] = [];
  const nonResourceRules: object[] = [];
  for (const { verbs, apiGroups, resources, resourceNames, nonResourceURLs } of rules) {
    if (resources?.length) resourceRules.push({ verbs, apiGroups, resources, ...(resourceNames ? { resourceNames } : {}) });
    if (nonResourceURLs?.length) nonResourceRules.push({ verbs, nonResourceURLs });
  }
  return { resourceRules, nonResourceRules };
}
