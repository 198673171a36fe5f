import { toJson } from '../../../api/cel/to-json.ts';
import { CelError, CostExceededError, isList, isMap, itemsOfList, type Value } from '../../../api/cel/values.ts';
import { forbidden } from '../../../api/errors.ts';
import { FailedTest } from '../../../api/json-patch.ts';
import { atomicPaths } from '../../../api/managed-fields/atomic.ts';
import { mergeValues } from '../../../api/managed-fields/merge.ts';
import { fieldTypeOf } from '../../../api/managed-fields/types.ts';
import type { KubeObject } from '../../../api/object.ts';
import { applyJsonPatch } from '../../../api/patch.ts';
import type { ServedResource } from '../../../api/scheme.ts';
import type { AdmissionPlugin, AdmissionRequest } from '../../admission/chain.ts';
import { clone } from '../../storage/json.ts';
import { conditionsHold, decided } from '../webhooks/conditions.ts';
import { inVersion, isExempt } from '../webhooks/matching.ts';
import { replaceObject } from '../webhooks/mutation.ts';
import {
  type Binding,
  bindingFits,
  boundPolicies,
  compilePolicy,
  type CompiledPolicy,
  evaluationVariables,
  expressionOf,
  paramsOf,
  type Policy,
  PolicyFailure,
  policyFits,
} from './bindings.ts';

/** Policies that change objects, one after the other; again where a later one changed what an earlier one had seen. */
export const mutatingPolicies: AdmissionPlugin = {
  name: 'MutatingAdmissionPolicy',
  admit(request) {
    if (request.operation === 'DELETE') return undefined;
    const bound = boundPolicies(request, 'mutatingadmissionpolicies', 'mutatingadmissionpolicybindings');
    if (bound.length === 0 || isExempt(request)) return undefined;
    return mutate(bound, request);
  },
};

async function mutate(bound: { policy: Policy; bindings: Binding[] }[], request: AdmissionRequest): Promise<void> {
  const { reinvocation } = request;
  reinvocation.begin('policies', request.object);
  for (const { policy, bindings } of bound) {
    const at = policyFits(policy, request);
    if (!at) continue;
    for (const binding of bindings) {
      if (!bindingFits(binding, request)) continue;
      const id = `${policy.metadata.uid}/${binding.metadata.uid}`;
      if (reinvocation.again && !reinvocation.wants('policies', id)) continue;
      const changed = await run(policy, binding, at, request);
      reinvocation.invoked('policies', id, policy.spec.reinvocationPolicy === 'IfNeeded', changed);
    }
  }
  reinvocation.end('policies', request.object);
}

/** Applies a policy as one binding has it; whether it changed the object. */
async function run(policy: Policy, binding: Binding, at: ServedResource, request: AdmissionRequest): Promise<boolean> {
  const made = compilePolicy(policy, true);
  let changed = false;
  try {
    for (const param of await paramsOf(policy, binding, request)) {
      const variables = await evaluationVariables(made, request, at);
      const { matches, error } = await decided(() => conditionsHold(made.conditions, variables.withParams(param)));
      if (error !== undefined) throw new PolicyFailure(error);
      if (!matches) continue;
      for (const mutation of policy.spec.mutations ?? []) if (await apply(made, mutation, param, at, request)) changed = true;
    }
  } catch (error) {
    if (!(error instanceof PolicyFailure)) throw error;
    if (policy.spec.failurePolicy === 'Ignore') return changed;
    const message = `policy '${policy.metadata.name}' with binding '${binding.metadata.name}' denied request: ${error.message}`;
    const refused = forbidden(request.call.target.subject, request.name || request.object?.metadata?.name || '', message);
    refused.status.reason = 'Invalid';
    refused.status.code = 422;
    refused.status.details = { ...refused.status.details, causes: [{ message }] };
    throw refused;
  }
  return changed;
}

async function apply(made: CompiledPolicy, mutation: any, param: KubeObject | undefined, at: ServedResource, request: AdmissionRequest): Promise<boolean> {
  const { served } = request.call.target;
  // Each mutation sees what those before it made.
  const variables = await evaluationVariables(made, request, at);
  const patching = mutation.patchType === 'JSONPatch';
  const text = (patching ? mutation.jsonPatch : mutation.applyConfiguration).expression.trim();
  const { program, error } = expressionOf(made, text);
  if (!program) throw new PolicyFailure(error);
  const object = clone(variables.review['object']) as any;
  try {
    const { value } = await decided(() => program.run(variables.withParams(param)));
    const next = patching ? applyJsonPatch(object, patchesOf(value)) : configured(object, value, at);
    return replaceObject(request, await inVersion(next, at, served));
  } catch (failure) {
    if (failure instanceof CelError || failure instanceof CostExceededError) throw new PolicyFailure(`expression '${text}' resulted in error: ${failure.message}`);
    // A test says whether the patch is for this object.
    if (failure instanceof FailedTest) return false;
    if ((failure as { reason?: string }).reason === 'Invalid') throw new PolicyFailure(`JSON Patch: ${(failure as Error).message}`);
    throw failure;
  }
}

function patchesOf(value: Value): unknown[] {
  if (!isList(value)) throw new CelError('type mismatch: JSONPatchType.expression should evaluate to array');
  return [...itemsOfList(value)].map((patch) => {
    if (!isMap(patch)) throw new CelError('type mismatch: JSONPatchType.expression should evaluate to array of JSONPatch');
    const { op, path, from, value: content } = toJson(patch) as { op?: string; path?: string; from?: string; value?: unknown };
    return { op, path, ...(from === undefined ? {} : { from }), ...(content === undefined && op !== 'add' && op !== 'replace' ? {} : { value: content ?? null }) };
  });
}

/** The object with an apply configuration merged into it, by the rules of server-side apply. */
function configured(object: any, value: Value, at: ServedResource): any {
  if (!isMap(value)) throw new CelError('type mismatch: ApplyConfiguration.expression should evaluate to Object');
  const configuration = toJson(value) as Record<string, any>;
  for (const field of ['apiVersion', 'kind', 'metadata']) {
    if (field !== 'metadata' && configuration[field] !== undefined) throw new CelError(`invalid ApplyConfiguration: may not set ${field}`);
  }
  const type = fieldTypeOf(at.definition);
  if (!type) throw new CelError('the kind of the object is not known to server-side apply');
  const atomic = atomicPaths(type, configuration);
  if (atomic.length) throw new PolicyFailure(`error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: ${atomic.join(', ')}`);
  return mergeValues(type, object, { ...configuration, apiVersion: object.apiVersion, kind: object.kind } as never);
}
