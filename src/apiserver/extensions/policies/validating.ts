import { CelError, CostExceededError, type Value } from '../../../api/cel/values.ts';
import { forbidden } from '../../../api/errors.ts';
import type { KubeObject } from '../../../api/object.ts';
import type { ServedResource } from '../../../api/scheme.ts';
import type { AdmissionPlugin, AdmissionRequest } from '../../admission/chain.ts';
import { conditionsHold, decided } from '../webhooks/conditions.ts';
import { isExempt } from '../webhooks/matching.ts';
import {
  type Binding,
  bindingFits,
  boundPolicies,
  type CompiledPolicy,
  compilePolicy,
  evaluationVariables,
  expressionOf,
  paramsOf,
  type Policy,
  PolicyFailure,
  policyFits,
} from './bindings.ts';

/** One expression of a policy that the request does not meet. */
interface Failure {
  message: string;
  reason: string;
  /** Of the validation in its policy. */
  index: number;
}

const codes: Record<string, number> = { Forbidden: 403, Unauthorized: 401, RequestEntityTooLarge: 413, Invalid: 422 };

/** Policies written in CEL, as their bindings put them into force. */
export const validatingPolicies: AdmissionPlugin = {
  name: 'ValidatingAdmissionPolicy',
  validate(request) {
    const bound = boundPolicies(request, 'validatingadmissionpolicies', 'validatingadmissionpolicybindings');
    if (bound.length === 0 || isExempt(request)) return undefined;
    return validate(bound, request);
  },
};

async function validate(bound: { policy: Policy; bindings: Binding[] }[], request: AdmissionRequest): Promise<void> {
  const denials: { policy: Policy; binding: Binding; failure: Failure }[] = [];
  const audited: object[] = [];
  for (const { policy, bindings } of bound) {
    const at = policyFits(policy, request);
    if (!at) continue;
    for (const binding of bindings) {
      if (!bindingFits(binding, request)) continue;
      for (const failure of await evaluate(policy, binding, at, request)) {
        const actions = binding.spec.validationActions ?? [];
        if (actions.includes('Deny')) denials.push({ policy, binding, failure });
        if (actions.includes('Warn'))
          request.call.warnings.push(
            `Validation failed for ValidatingAdmissionPolicy '${policy.metadata.name}' with binding '${binding.metadata.name}': ${failure.message}`,
          );
        if (actions.includes('Audit'))
          audited.push({
            message: failure.message,
            policy: policy.metadata.name,
            binding: binding.metadata.name,
            expressionIndex: failure.index,
            validationActions: actions,
          });
      }
    }
  }
  if (audited.length > 0) annotate(request, 'validation.policy.admission.k8s.io/validation_failure', JSON.stringify(audited));
  const [first] = denials;
  if (!first) return;
  const message = `ValidatingAdmissionPolicy '${first.policy.metadata.name}' with binding '${first.binding.metadata.name}' denied request: ${first.failure.message}`;
  const error = forbidden(request.call.target.subject, request.name || request.object?.metadata?.name || '', message);
  error.status.reason = first.failure.reason;
  error.status.code = codes[first.failure.reason] ?? 422;
  error.status.details = { ...error.status.details, causes: [{ message }] };
  throw error;
}

function annotate(request: AdmissionRequest, key: string, value: string): void {
  request.call.auditAnnotations ??= {};
  request.call.auditAnnotations[key] = value;
}

async function evaluate(policy: Policy, binding: Binding, at: ServedResource, request: AdmissionRequest): Promise<Failure[]> {
  const made = compilePolicy(policy, false);
  const failed = (message: string): Failure[] => (policy.spec.failurePolicy === 'Ignore' ? [] : [{ message, reason: 'Invalid', index: -1 }]);
  let params: (KubeObject | undefined)[];
  try {
    params = await paramsOf(policy, binding, request);
  } catch (error) {
    if (!(error instanceof PolicyFailure)) throw error;
    return failed(`failed to configure binding: ${error.message}`);
  }
  const variables = await evaluationVariables(made, request, at);
  const failures: Failure[] = [];
  for (const param of params) {
    const found = await decided(() => {
      const lookUp = variables.withParams(param);
      const { matches, error } = conditionsHold(made.conditions, lookUp);
      if (error !== undefined) return failed(error);
      return matches ? validations(policy, made, lookUp, request, failed) : [];
    });
    failures.push(...found);
  }
  return failures;
}

function validations(
  policy: Policy,
  made: CompiledPolicy,
  lookUp: (name: string) => Value | undefined,
  request: AdmissionRequest,
  failed: (message: string) => Failure[],
): Failure[] {
  const failures: Failure[] = [];
  (policy.spec.validations ?? []).forEach((validation: any, index: number) => {
    const { program, error } = expressionOf(made, validation.expression);
    if (!program) return failures.push(...failed(`compilation error: ${error}`));
    try {
      if (program.run(lookUp).value === true) return undefined;
    } catch (failure) {
      if (!(failure instanceof CelError || failure instanceof CostExceededError)) throw failure;
      return failures.push(...failed(`expression '${validation.expression}' resulted in error: ${failure.message}`));
    }
    return failures.push({ message: messageOf(made, validation, lookUp), reason: validation.reason ?? 'Invalid', index });
  });
  for (const annotation of policy.spec.auditAnnotations ?? []) {
    const value = evaluated(made, annotation.valueExpression.trim(), lookUp);
    if (value) annotate(request, `${policy.metadata.name}/${annotation.key}`, value);
  }
  return failures;
}

/** A text that an expression makes; undefined where it makes none. */
function evaluated(made: CompiledPolicy, expression: string, lookUp: (name: string) => Value | undefined): string | undefined {
  const { program } = expressionOf(made, expression);
  try {
    const value = program?.run(lookUp).value;
    return typeof value === 'string' ? value.trim() : undefined;
  } catch (error) {
    if (error instanceof CelError || error instanceof CostExceededError) return undefined;
    throw error;
  }
}

function messageOf(made: CompiledPolicy, validation: any, lookUp: (name: string) => Value | undefined): string {
  const text = validation.messageExpression ? evaluated(made, validation.messageExpression, lookUp) : undefined;
  if (text && text.length <= 5 * 1024 && !text.includes('\n')) return text;
  return validation.message?.trim() || `failed expression: ${validation.expression.trim()}`;
}
