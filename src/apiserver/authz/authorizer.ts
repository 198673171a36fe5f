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
  /** Nobody further down the chain is asked. */
  denied?: boolean;
  /** What went wrong while it was decided. */
  error?: string;
}

/** For the authorizer below alone, which has allowed it. */
let issue: (attributes: Attributes) => Permit;

/**
 * That somebody may do something. Whatever acts for a user wants one, and only an authorizer that has allowed it makes one: a check that
 * is left out, or whose promise nobody awaits, gives none, and what depends on it does not compile.
 */
export class Permit {
  // A private member makes the type nominal: nothing else is assignable to it, least of all a promise of one.
  readonly #attributes: Attributes;

  private constructor(attributes: Attributes) {
    this.#attributes = attributes;
  }

  static {
    issue = (attributes) => new Permit(attributes);
  }

  get user(): UserInfo {
    return this.#attributes.user;
  }

  get verb(): string {
    return this.#attributes.verb;
  }

  /** Of the object that it is about. */
  get name(): string {
    return this.#attributes.name;
  }

  /** Throws where what is about to be done is not what was asked for. */
  demand(verb: string): void {
    if (this.verb !== verb) throw new Error(`what was allowed is to ${this.verb}, not to ${verb}`);
  }
}

/** Answers undefined where it has no opinion; a promise where it has to ask elsewhere. */
export type AuthorizerStep = ((attributes: Attributes) => Decision | undefined | Promise<Decision | undefined>) & { title?: AuthorizerTitle };

/** What an authorizer is told of by: its type as in configurations, and its name. */
export interface AuthorizerTitle {
  type: string;
  name: string;
}

const masters: Decision = Object.freeze({ allowed: true, reason: '' });

/** Is told of decisions about requests. */
export interface AuthorizationObserver {
  authorized(decision: Decision, ms: number): void;
  /** Which authorizer had the last word. */
  decided(type: string, name: string, allowed: boolean): void;
}

/** The union of several authorizers: the first that allows or denies decides. Answers at once wherever no step has to ask elsewhere. */
export class Authorizer {
  #steps: AuthorizerStep[];
  readonly #observer: AuthorizationObserver | undefined;

  constructor(steps: AuthorizerStep[], observer?: AuthorizationObserver) {
    this.#steps = steps;
    this.#observer = observer;
  }

  /** Puts other steps in their place, for all that is asked from now on. */
  replace(steps: AuthorizerStep[]): void {
    this.#steps = steps;
  }

  authorize(attributes: Attributes): Decision | Promise<Decision> {
    if (attributes.user.groups.includes(mastersGroup)) return masters;
    return ask(this.#steps, 0, attributes, [], [], this.#observer);
  }

  /** StatusError 403 where the call is not allowed. */
  require(
    _api: Api,
    call: Pick<Call, 'user' | 'verb' | 'target' | 'subresource' | 'namespace' | 'name'>,
    selectors: { fieldSelector?: string; labelSelector?: string } = {},
    heard?: (decision: Decision) => void,
  ): Permit | Promise<Permit> {
    const { served } = call.target;
    return this.check({
      user: call.user,
      verb: call.verb,
      group: served.group,
      version: served.version,
      resource: served.resource,
      subresource: call.subresource,
      namespace: call.namespace,
      name: call.name,
      ...selectors,
    }, heard);
  }

  /** StatusError 403 where it is not allowed. `heard` is told of the decision. */
  check(attributes: Attributes, heard?: (decision: Decision) => void): Permit | Promise<Permit> {
    const started = performance.now();
    const decision = this.authorize(attributes);
    const settle = (d: Decision) => {
      this.#observer?.authorized(d, performance.now() - started);
      return permitted(attributes, d, heard);
    };
    return decision instanceof Promise ? decision.then(settle) : settle(decision);
  }
}

function permitted(attributes: Attributes, decision: Decision, heard: ((decision: Decision) => void) | undefined): Permit {
  heard?.(decision);
  if (!decision.allowed) throw forbiddenBy(attributes, decision.reason);
  return issue(attributes);
}

function ask(
  steps: AuthorizerStep[],
  from: number,
  attributes: Attributes,
  reasons: string[],
  errors: string[],
  observer: AuthorizationObserver | undefined,
): Decision | Promise<Decision> {
  const final = (step: AuthorizerStep, answer: Decision | undefined) => {
    const decision = settled(answer, reasons, errors);
    if (decision && step.title) observer?.decided(step.title.type, step.title.name, decision.allowed);
    return decision;
  };
  for (let at = from; at < steps.length; at++) {
    const step = steps[at]!;
    const answer = step(attributes);
    if (answer instanceof Promise) return answer.then((decision) => final(step, decision) ?? ask(steps, at + 1, attributes, reasons, errors, observer));
    const decision = final(step, answer);
    if (decision) return decision;
  }
  return { allowed: false, reason: reasons.join(', '), ...(errors.length ? { error: errors.join(', ') } : {}) };
}

/** The decision where it ends the chain; what it says is kept where it does not. */
function settled(decision: Decision | undefined, reasons: string[], errors: string[]): Decision | undefined {
  if (!decision) return undefined;
  if (decision.allowed || decision.denied) return decision;
  if (decision.reason) reasons.push(decision.reason);
  if (decision.error) errors.push(decision.error);
  return undefined;
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
