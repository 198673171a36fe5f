import { forbidden, StatusError } from '../../api/errors.ts';
import type { Api, Call } from '../api.ts';
import { mastersGroup, type UserInfo } from '../authn/user.ts';

/** What somebody wants to do. */
export interface Attributes {
  user: UserInfo;
  verb: string;
  /** For requests that are not about resources. */
  path?: string;
  group: string;
  version?: string;
  resource: string;
  subresource: string;
  namespace: string;
  name: string;
  fieldSelector?: string;
  labelSelector?: string;
}

export interface Decision {
  allowed: boolean;
  /** Why, or why not. */
  reason: string;
}

/** Answers undefined where it has no opinion. */
export type AuthorizerStep = (attributes: Attributes) => Decision | undefined;

/** The union of several authorizers: the first that allows decides. */
export class Authorizer {
  #steps: AuthorizerStep[];

  constructor(steps: AuthorizerStep[]) {
    this.#steps = steps;
  }

  authorize(attributes: Attributes): Decision {
    if (attributes.user.groups.includes(mastersGroup)) return { allowed: true, reason: '' };
    const reasons: string[] = [];
    for (const step of this.#steps) {
      const decision = step(attributes);
      if (decision?.allowed) return decision;
      if (decision?.reason) reasons.push(decision.reason);
    }
    return { allowed: false, reason: reasons.join(', ') };
  }

  /** StatusError 403 where the call is not allowed. */
  require(
    _api: Api,
    call: Pick<Call, 'user' | 'verb' | 'target' | 'subresource' | 'namespace' | 'name'>,
    selectors: { fieldSelector?: string; labelSelector?: string } = {},
  ): void {
    const { served } = call.target;
    this.check({
      user: call.user,
      verb: call.verb,
      group: served.group,
      version: served.version,
      resource: served.resource,
      subresource: call.subresource,
      namespace: call.namespace,
      name: call.name,
      ...selectors,
    });
  }

  check(attributes: Attributes): void {
    const decision = this.authorize(attributes);
    if (!decision.allowed) throw forbiddenBy(attributes, decision.reason);
  }
}

/** The 403 in kube-apiserver's wording. */
export function forbiddenBy(a: Attributes, reason: string): StatusError {
  const user = JSON.stringify(a.user.name);
  const because = reason ? `: ${reason}` : '';
  if (a.path !== undefined) {
    return new StatusError(403, 'Forbidden', `forbidden: User ${user} cannot ${a.verb} path ${JSON.stringify(a.path)}${because}`, {});
  }
  const resource = a.subresource ? `${a.resource}/${a.subresource}` : a.resource;
  const where = a.namespace ? ` in the namespace ${JSON.stringify(a.namespace)}` : ' at the cluster scope';
  return forbidden(
    { group: a.group, resource: a.resource },
    a.name,
    `User ${user} cannot ${a.verb} resource ${JSON.stringify(resource)} in API group ${JSON.stringify(a.group)}${where}${because}`,
  );
}
