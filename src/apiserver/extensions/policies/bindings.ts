import { randomUUID } from 'node:crypto';
import { policyEnvironment, type PolicyEnvironment, compileExpression, type Compiled } from '../../../api/admission/policy.ts';
import { adaptAny } from '../../../api/cel/adapt.ts';
import type { Environment } from '../../../api/cel/environment.ts';
import { CelError, type CelMap, type Value } from '../../../api/cel/values.ts';
import { groupVersionOf, type KubeObject } from '../../../api/object.ts';
import type { ServedResource } from '../../../api/scheme.ts';
import { type LabelSelector, labelSelectorMatches } from '../../../api/selectors.ts';
import type { AdmissionRequest } from '../../admission/chain.ts';
import { keyFor } from '../../api.ts';
import { type CompiledCondition, compileConditions, requestVariables } from '../webhooks/conditions.ts';
import { fittingResource, inVersion, namespaceFits, objectFits, type Rule } from '../webhooks/matching.ts';
import { reviewRequest } from '../webhooks/review.ts';

export interface Policy extends KubeObject {
  spec: any;
}

export interface Binding extends KubeObject {
  spec: {
    policyName: string;
    paramRef?: { name?: string; namespace?: string; selector?: LabelSelector; parameterNotFoundAction?: string };
    matchResources?: MatchResources;
    validationActions?: string[];
  };
}

interface MatchResources {
  resourceRules?: Rule[];
  excludeResourceRules?: Rule[];
  matchPolicy?: string;
  namespaceSelector?: LabelSelector;
  objectSelector?: LabelSelector;
}

/** A policy's expressions, compiled once for each of its generations. */
export interface CompiledPolicy extends PolicyEnvironment {
  conditions: CompiledCondition[];
  expressions: Map<string, Compiled>;
}

const compiled = new WeakMap<KubeObject, CompiledPolicy>();

export function compilePolicy(policy: Policy, mutating: boolean): CompiledPolicy {
  let known = compiled.get(policy);
  if (!known) {
    const made = policyEnvironment(policy.spec, mutating);
    const bare = policyEnvironment({ ...policy.spec, variables: [] }, mutating).environment;
    known = { ...made, conditions: compileConditions(policy.spec.matchConditions, bare), expressions: new Map() };
    compiled.set(policy, known);
  }
  return known;
}

/** An expression of a policy, compiled when first asked for. */
export function expressionOf(policy: CompiledPolicy, text: string, environment: Environment = policy.environment): Compiled {
  let known = policy.expressions.get(text);
  if (!known) policy.expressions.set(text, (known = compileExpression(environment, text)));
  return known;
}

const group = 'admissionregistration.k8s.io';

/** Policies with their bindings, in the order of their names. */
export function boundPolicies(request: AdmissionRequest, policies: string, bindings: string): { policy: Policy; bindings: Binding[] }[] {
  const { registry } = request.api;
  const all = registry.cache(group, 'v1', bindings);
  if (all.size === 0) return [];
  const byPolicy = new Map<string, Binding[]>();
  for (const { object } of all.list()) {
    const binding = object as Binding;
    const list = byPolicy.get(binding.spec.policyName);
    if (list) list.push(binding);
    else byPolicy.set(binding.spec.policyName, [binding]);
  }
  const found: { policy: Policy; bindings: Binding[] }[] = [];
  for (const { object } of registry.cache(group, 'v1', policies).list()) {
    const own = byPolicy.get(object.metadata.name);
    if (own) found.push({ policy: object as Policy, bindings: own });
  }
  return found;
}

function constraintsFit(match: MatchResources | undefined, request: AdmissionRequest): ServedResource | undefined {
  if (!match) return request.call.target.served;
  // A binding without rules restricts nothing by them.
  const rules = match.resourceRules?.length ? match.resourceRules : [everything];
  const resource = fittingResource(rules, match.excludeResourceRules ?? [], match.matchPolicy, request);
  if (!resource || !namespaceFits(match.namespaceSelector, request) || !objectFits(match.objectSelector, request)) return undefined;
  return resource;
}

const everything: Rule = { operations: ['*'], apiGroups: ['*'], apiVersions: ['*'], resources: ['*', '*/*'], scope: '*' };

/** The version in which a policy is asked about the request; undefined where it has nothing to say. */
export const policyFits = (policy: Policy, request: AdmissionRequest): ServedResource | undefined => constraintsFit(policy.spec.matchConstraints, request);
export const bindingFits = (binding: Binding, request: AdmissionRequest): boolean => constraintsFit(binding.spec.matchResources, request) !== undefined;

/** Why a policy cannot be evaluated at all: its failure policy decides what then. */
export class PolicyFailure extends Error {}

/** The parameters that a binding names; one undefined where the policy takes none. */
export async function paramsOf(policy: Policy, binding: Binding, request: AdmissionRequest): Promise<(KubeObject | undefined)[]> {
  const kind = policy.spec.paramKind as { apiVersion: string; kind: string } | undefined;
  const ref = binding.spec.paramRef;
  if (!kind || !ref) return [undefined];
  const { group, version } = groupVersionOf(kind.apiVersion);
  const target = request.api.registry.findKind(group, version, kind.kind);
  if (!target?.storage) throw new PolicyFailure(`paramKind kind \`${kind.apiVersion}, Kind=${kind.kind}\` not known`);
  let namespace = '';
  if (target.served.namespaced) {
    namespace = ref.namespace || request.namespace;
    if (!namespace) throw new PolicyFailure('cannot use namespaced paramRef in policy binding that matches cluster-scoped resources');
  } else if (ref.namespace) throw new PolicyFailure('paramRef.namespace must not be provided for a cluster-scoped `paramKind`');
  await request.api.hub.current(request.call.signal);
  const { cache } = target.storage;
  let found: KubeObject[];
  if (ref.name) {
    const entry = cache.get(keyFor(namespace, ref.name));
    found = entry ? [entry.as(target.served).object] : [];
  } else found = cache.list(namespace || undefined).filter((e) => labelSelectorMatches(ref.selector ?? {}, e.labels)).map((e) => e.as(target.served).object);
  if (found.length > 0) return found;
  if (ref.parameterNotFoundAction === 'Allow') return [];
  throw new PolicyFailure('no params found for policy binding with `Deny` parameterNotFoundAction');
}

/** What a namespace's policies may see of it. */
function namespaceObject(request: AdmissionRequest): Value {
  const name = request.group === '' && request.resource === 'namespaces' ? '' : request.namespace;
  const object = name ? request.api.registry.cache('', 'v1', 'namespaces').get(name)?.object : undefined;
  return object ? adaptAny(object) : null;
}

/** The variables of one evaluation of a policy. Those that it defines are evaluated when first used. */
export async function evaluationVariables(policy: CompiledPolicy, request: AdmissionRequest, at: ServedResource) {
  const { served } = request.call.target;
  const own = request.subresource && request.subresource !== 'status' ? served : at;
  const review = reviewRequest(request, at, randomUUID(), await inVersion(request.object, served, own), await inVersion(request.old, served, own));
  const base = requestVariables(request, review);
  return {
    review,
    withParams(params: KubeObject | undefined): (name: string) => Value | undefined {
      const values = new Map<string, Value | CelError>();
      let namespace: Value | undefined;
      let adapted: Value | undefined;
      const variables: CelMap = {
        map: true,
        size: policy.variables.length,
        typeName: 'kubernetes.variables',
        keys: () => policy.variables.map((v) => v.name),
        get(key) {
          let value = values.get(key as string);
          if (value === undefined) {
            const program = policy.variables.find((v) => v.name === key)?.compiled.program;
            if (!program) return undefined;
            try {
              value = program.run(lookUp).value;
            } catch (error) {
              if (!(error instanceof CelError)) throw error;
              value = new CelError(`composited variable ${JSON.stringify(key)} fails to evaluate: ${error.message}`);
            }
            values.set(key as string, value);
          }
          if (value instanceof CelError) throw value;
          return value;
        },
      };
      const lookUp = (name: string): Value | undefined => {
        if (name === 'params') return (adapted ??= params ? adaptAny(params) : null);
        if (name === 'namespaceObject') return (namespace ??= namespaceObject(request));
        return name === 'variables' ? variables : base(name);
      };
      return lookUp;
    },
  };
}
