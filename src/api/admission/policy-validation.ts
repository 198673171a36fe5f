import type { Environment } from '../cel/environment.ts';
import { t } from '../cel/types.ts';
import { dns1035Problems } from '../crd/metadata.ts';
import type { FieldError } from '../errors.ts';
import { groupVersionOf } from '../object.ts';
import { pathSegmentProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { jsonPatchesType, objectType, policyEnvironment } from './policy.ts';
import { duplicate, expressionErrors, oneOf, required, selectorErrors, validateMatchConditions, validateRule, wrong } from './rules.ts';

const identifier = /^[_a-zA-Z][_a-zA-Z0-9]*$/;
const reserved = new Set(
  'true false null in as break const continue else for function if import let loop package namespace return var void while'.split(' '),
);
const mutatingOperations = ['*', 'CONNECT', 'CREATE', 'UPDATE'];

function matchErrors(match: any, path: string): FieldError[] {
  if (!match) return [];
  const errors = match.matchPolicy === undefined ? [required(`${path}.matchPolicy`)] : oneOf(`${path}.matchPolicy`, match.matchPolicy, ['Equivalent', 'Exact']);
  errors.push(...selectorErrors(match, path));
  for (const name of ['resourceRules', 'excludeResourceRules'])
    (match[name] ?? []).forEach((rule: any, i: number) => errors.push(...validateRule(rule, `${path}.${name}[${i}]`)));
  return errors;
}

function operationErrors(match: any, path: string): FieldError[] {
  return (match?.resourceRules ?? []).flatMap((rule: any) =>
    (rule.operations ?? []).flatMap((operation: string) => oneOf(`${path}.resourceRules.operations`, operation, mutatingOperations)),
  );
}

function paramKindErrors(kind: any, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const { apiVersion } = kind;
  if (!apiVersion) errors.push(required(`${path}.apiVersion`));
  else if (apiVersion.split('/').length > 2) errors.push(wrong(`${path}.apiVersion`, apiVersion, `unexpected GroupVersion string: ${apiVersion}`));
  else {
    const { group, version } = groupVersionOf(apiVersion);
    const groupProblems = group ? subdomainProblems(group) : [];
    if (groupProblems.length) errors.push(wrong(`${path}.apiVersion`, group, groupProblems.join(',')));
    const problems = dns1035Problems(version);
    if (!version) errors.push(wrong(`${path}.apiVersion`, apiVersion, 'version must be specified'));
    else if (problems.length) errors.push(wrong(`${path}.apiVersion`, version, problems.join(',')));
  }
  if (!kind.kind) errors.push(required(`${path}.kind`));
  else {
    const problems = dns1035Problems(kind.kind.toLowerCase());
    if (problems.length) errors.push(wrong(`${path}.kind`, kind.kind, `may have mixed case, but should otherwise match: ${problems.join(',')}`));
  }
  return errors;
}

/** What is wrong with a ValidatingAdmissionPolicy or a MutatingAdmissionPolicy. */
export function validatePolicy(policy: any, mutating: boolean): FieldError[] {
  const { spec = {}, metadata } = policy;
  const errors: FieldError[] = [];
  if (spec.failurePolicy !== undefined) errors.push(...oneOf('spec.failurePolicy', spec.failurePolicy, ['Fail', 'Ignore']));
  if (spec.paramKind) errors.push(...paramKindErrors(spec.paramKind, 'spec.paramKind'));
  const match = spec.matchConstraints;
  if (!match) errors.push(required('spec.matchConstraints'));
  else {
    errors.push(...matchErrors(match, 'spec.matchConstraints'));
    if (!match.resourceRules?.length) errors.push(required('spec.matchConstraints.resourceRules'));
    if (mutating) errors.push(...operationErrors(match, 'spec.matchConstraints'));
  }
  const bare = policyEnvironment({ ...spec, variables: [] }, mutating).environment;
  errors.push(...validateMatchConditions(spec.matchConditions, 'spec.matchConditions', bare));
  const { environment, variables } = policyEnvironment(spec, mutating);
  (spec.variables ?? []).forEach((variable: any, i: number) => {
    const at = `spec.variables[${i}]`;
    if (!variable.name?.trim()) errors.push(required(`${at}.name`, 'name is not specified'));
    else if (!identifier.test(variable.name) || reserved.has(variable.name)) errors.push(wrong(`${at}.name`, variable.name, 'must be a valid CEL identifier'));
    const compiled = variables[i]?.compiled;
    if (!variable.expression?.trim()) errors.push(required(`${at}.expression`, 'expression is not specified'));
    else if (!compiled?.program) errors.push(wrong(`${at}.expression`, variable.expression, compiled?.error ?? ''));
  });
  errors.push(...(mutating ? mutationErrors(spec, environment) : validationErrors(spec, metadata, environment)));
  return errors;
}

const hasLineBreak = (text: string) => /[\n\r]/.test(text);

function validationErrors(spec: any, metadata: any, environment: Environment): FieldError[] {
  const errors: FieldError[] = [];
  const validations: any[] = spec.validations ?? [];
  const annotations: any[] = spec.auditAnnotations ?? [];
  if (validations.length === 0 && annotations.length === 0) {
    const detail = 'validations or auditAnnotations must contain at least one item';
    return [required('spec.validations', detail), required('spec.auditAnnotations', detail)];
  }
  validations.forEach((validation, i) => {
    const at = `spec.validations[${i}]`;
    if (!validation.expression?.trim()) errors.push(required(`${at}.expression`, 'expression is not specified'));
    else errors.push(...expressionErrors(environment, validation.expression, [t.bool], `${at}.expression`));
    const message = validation.message?.trim() ?? '';
    if (validation.messageExpression && !validation.messageExpression.trim())
      errors.push(wrong(`${at}.messageExpression`, validation.messageExpression, 'must be non-empty if specified'));
    else if (validation.messageExpression) errors.push(...expressionErrors(environment, validation.messageExpression, [t.string], `${at}.messageExpression`));
    if (validation.message && !message) errors.push(wrong(`${at}.message`, validation.message, 'must be non-empty if specified'));
    else if (hasLineBreak(message)) errors.push(wrong(`${at}.message`, validation.message, 'must not contain line breaks'));
    if (validation.reason !== undefined)
      errors.push(...oneOf(`${at}.reason`, validation.reason, ['Forbidden', 'Invalid', 'RequestEntityTooLarge']));
  });
  if (annotations.length > 20) errors.push(wrong('spec.auditAnnotations', annotations, 'must not have more than 20 auditAnnotations'));
  annotations.forEach((annotation, i) => {
    const at = `spec.auditAnnotations[${i}]`;
    const key = `${metadata?.name ?? ''}/${annotation.key ?? ''}`;
    if (!metadata?.name) errors.push(wrong(`${at}.key`, annotation.key ?? '', 'requires metadata.name be non-empty'));
    else for (const problem of qualifiedNameProblems(key)) errors.push(wrong(`${at}.key`, key, problem));
    const expression = annotation.valueExpression?.trim();
    if (!expression) errors.push(required(`${at}.valueExpression`, 'valueExpression is not specified'));
    else errors.push(...expressionErrors(environment, expression, [t.string, t.null], `${at}.valueExpression`));
    if (annotations.findIndex((a) => a.key === annotation.key) < i) errors.push(duplicate(`${at}.key`, annotation.key));
  });
  return errors;
}

function mutationErrors(spec: any, environment: Environment): FieldError[] {
  const errors: FieldError[] = [];
  const mutations: any[] = spec.mutations ?? [];
  if (mutations.length === 0) errors.push(required('spec.mutations', 'mutations must contain at least one item'));
  const forms = {
    JSONPatch: { own: 'jsonPatch', other: 'applyConfiguration', result: jsonPatchesType },
    ApplyConfiguration: { own: 'applyConfiguration', other: 'jsonPatch', result: objectType },
  };
  mutations.forEach((mutation, i) => {
    const at = `spec.mutations[${i}]`;
    if (!mutation.patchType) return void errors.push(required(`${at}.patchType`));
    const form = forms[mutation.patchType as keyof typeof forms];
    if (!form) return void errors.push(...oneOf(`${at}.patchType`, mutation.patchType, ['ApplyConfiguration', 'JSONPatch']));
    const { own, other, result } = form;
    const expression = mutation[own]?.expression?.trim();
    if (!mutation[own]) errors.push(required(`${at}.${own}`, `must be specified when patchType is ${mutation.patchType}`));
    else if (!expression) errors.push(required(`${at}.${own}.expression`));
    else errors.push(...expressionErrors(environment, expression, [result], `${at}.${own}.expression`));
    if (mutation[other]) errors.push(wrong(`${at}.${other}`, `{${other}}`, `must not be specified when patchType is ${mutation.patchType}`));
  });
  if (!spec.reinvocationPolicy) errors.push(required('spec.reinvocationPolicy'));
  else errors.push(...oneOf('spec.reinvocationPolicy', spec.reinvocationPolicy, ['IfNeeded', 'Never']));
  return errors;
}

/** What is wrong with the binding of a policy. */
export function validateBinding(binding: any, mutating: boolean): FieldError[] {
  const { spec = {} } = binding;
  const errors: FieldError[] = [];
  if (!spec.policyName) errors.push(required('spec.policyName'));
  else for (const problem of subdomainProblems(spec.policyName)) errors.push(wrong('spec.policyName', spec.policyName, problem));
  const ref = spec.paramRef;
  if (ref) {
    const both = 'name and selector are mutually exclusive';
    if (ref.name) for (const problem of pathSegmentProblems(ref.name)) errors.push(wrong('spec.paramRef.name', ref.name, problem));
    if (ref.name && ref.selector)
      for (const field of ['name', 'selector']) errors.push({ type: 'FieldValueForbidden', field: `spec.paramRef.${field}`, detail: both });
    if (!ref.name && !ref.selector) errors.push(required('spec.paramRef', 'one of name or selector must be specified'));
    if (!ref.parameterNotFoundAction) errors.push(required('spec.paramRef.parameterNotFoundAction'));
    else errors.push(...oneOf('spec.paramRef.parameterNotFoundAction', ref.parameterNotFoundAction, ['Deny', 'Allow']));
  }
  errors.push(...matchErrors(spec.matchResources, 'spec.matchResources'));
  if (mutating) return [...errors, ...operationErrors(spec.matchResources, 'spec.matchResources')];
  const actions: string[] = spec.validationActions ?? [];
  const at = 'spec.validationActions';
  actions.forEach((action, i) => {
    errors.push(...oneOf(`${at}[${i}]`, action, ['Audit', 'Deny', 'Warn']));
    if (actions.indexOf(action) < i) errors.push(duplicate(`${at}[${i}]`, action));
  });
  if (actions.includes('Deny') && actions.includes('Warn')) {
    const detail = 'must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)';
    errors.push(wrong(at, actions, detail));
  }
  if (actions.length === 0) errors.push(required(at));
  return errors;
}
