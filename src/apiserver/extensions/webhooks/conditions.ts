import { adaptAny } from '../../../api/cel/adapt.ts';
import { conditionEnvironment } from '../../../api/admission/environment.ts';
import { CompilationError, type Program } from '../../../api/cel/environment.ts';
import { type AccessCheck, type AccessDecision, authorizerValue, resourceCheckValue } from '../../../api/cel/library/authorizer.ts';
import { CelError, CostExceededError, type Value } from '../../../api/cel/values.ts';
import type { AdmissionRequest } from '../../admission/chain.ts';
import { serviceAccountName } from '../../authn/user.ts';

/** The values of these variables for one request, made when first asked for. */
export function requestVariables(request: AdmissionRequest, review: Record<string, unknown>): (name: string) => Value | undefined {
  const made = new Map<string, Value>();
  const make: Record<string, () => Value> = {
    object: () => adaptAny(review['object']),
    oldObject: () => adaptAny(review['oldObject']),
    request: () => adaptAny(requestOf(review)),
    authorizer: () => authorizerValue(decider(request)),
    'authorizer.requestResource': () =>
      resourceCheckValue(decider(request), {
        group: request.group,
        resource: request.resource,
        subresource: request.subresource,
        namespace: request.namespace,
        name: request.name,
      }),
  };
  return (name) => {
    const known = made.get(name);
    if (known !== undefined) return known;
    const value = Object.hasOwn(make, name) ? make[name]?.() : undefined;
    if (value !== undefined) made.set(name, value);
    return value;
  };
}

function requestOf(review: Record<string, unknown>): unknown {
  const { object: _object, oldObject: _old, uid: _uid, ...rest } = review;
  return { subResource: '', requestSubResource: '', name: '', namespace: '', ...rest };
}

/** An expression asked an authorizer that answers later. */
class Undecided extends Error {
  readonly decision: Promise<unknown>;
  constructor(decision: Promise<unknown>) {
    super('the authorizer has not answered yet');
    this.decision = decision;
  }
}

/** Answers of authorizers that had to be waited for, by request and question. */
const answers = new WeakMap<AdmissionRequest, Map<string, AccessDecision>>();

/** Evaluates, and evaluates again each time that an authorizer had to be asked elsewhere: expressions cannot wait. */
export async function decided<T>(evaluate: () => T): Promise<T> {
  for (;;) {
    try {
      return evaluate();
    } catch (error) {
      if (!(error instanceof Undecided)) throw error;
      await error.decision;
    }
  }
}

function decider(request: AdmissionRequest) {
  const { api, call } = request;
  return (check: AccessCheck): AccessDecision => {
    const account = check.serviceAccount;
    const user = account
      ? {
          name: serviceAccountName(account.namespace, account.name),
          groups: ['system:serviceaccounts', `system:serviceaccounts:${account.namespace}`, 'system:authenticated'],
        }
      : call.user;
    const { serviceAccount: _, ...attributes } = check;
    const question = JSON.stringify(check);
    const known = answers.get(request)?.get(question);
    if (known) return known;
    const decision = api.authorizer.authorize({ user, ...attributes });
    if (!(decision instanceof Promise)) return decision;
    throw new Undecided(
      decision.then((d) => {
        const all = answers.get(request) ?? new Map<string, AccessDecision>();
        answers.set(request, all.set(question, d));
      }),
    );
  };
}

export interface MatchCondition {
  name: string;
  expression: string;
}

export interface CompiledCondition {
  name: string;
  program: Program | undefined;
  error: string;
}

export function compileConditions(conditions: MatchCondition[] | undefined, environment = conditionEnvironment): CompiledCondition[] {
  return (conditions ?? []).map(({ name, expression }) => {
    try {
      return { name, program: environment.compile(expression), error: '' };
    } catch (error) {
      if (!(error instanceof CompilationError)) throw error;
      return { name, program: undefined, error: `compilation error: compilation failed: ${error.message}` };
    }
  });
}

/** Whether all conditions hold. One that is false decides; `error` says what failed where none is. */
export function conditionsHold(conditions: CompiledCondition[], variables: (name: string) => Value | undefined): { matches: boolean; error?: string } {
  const errors: string[] = [];
  for (const { name, program, error } of conditions) {
    if (!program) {
      errors.push(`matchCondition ${JSON.stringify(name)}: ${error}`);
      continue;
    }
    try {
      const { value } = program.run(variables);
      if (value === false) return { matches: false };
      if (value !== true) errors.push(`cel evaluation error: valueToCEL: expected bool`);
    } catch (failure) {
      if (!(failure instanceof CelError || failure instanceof CostExceededError)) throw failure;
      errors.push(`expression '${program.source}' resulted in error: ${failure.message}`);
    }
  }
  if (errors.length === 0) return { matches: true };
  return { matches: false, error: errors.length === 1 ? (errors[0] as string) : `[${errors.join(', ')}]` };
}
