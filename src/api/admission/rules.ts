import { CompilationError, type Environment } from '../cel/environment.ts';
import type { Type } from '../cel/types.ts';
import { typeText } from '../cel/types.ts';
import { validateClientConfig } from '../crd/client-config.ts';
import { dns1035Problems } from '../crd/metadata.ts';
import type { FieldError } from '../errors.ts';
import { Findings } from '../kinds/findings.ts';
import { validateLabelSelector } from '../kinds/scheduling-validation.ts';
import { pathSegmentProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { conditionEnvironment } from './environment.ts';

export const required = (field: string, detail = ''): FieldError => ({ type: 'FieldValueRequired', field, detail });
export const wrong = (field: string, value: unknown, detail: string): FieldError => ({ type: 'FieldValueInvalid', field, value, detail });
export const duplicate = (field: string, value: unknown): FieldError => ({ type: 'FieldValueDuplicate', field, value, detail: '' });

/** The value must be one of these. */
export function oneOf(field: string, value: unknown, supported: string[]): FieldError[] {
  if (supported.includes(value as string)) return [];
  return [{ type: 'FieldValueNotSupported', field, value, detail: `supported values: ${supported.map((s) => JSON.stringify(s)).join(', ')}` }];
}

/** What is wrong with the selectors of a webhook or of a policy's constraints. */
export function selectorErrors(of: any, path: string): FieldError[] {
  const found = new Findings();
  for (const name of ['namespaceSelector', 'objectSelector']) if (of[name]) validateLabelSelector(found, of[name], `${path}.${name}`);
  return found.errors;
}

const operations = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];

/** What is wrong with a rule of a webhook or a policy. */
export function validateRule(rule: any, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const alone = (name: string, what: string) => {
    const list: string[] = rule[name] ?? [];
    if (list.length === 0) errors.push(required(`${path}.${name}`));
    if (list.length > 1 && list.includes('*')) errors.push(wrong(`${path}.${name}`, list, `if '*' is present, must not specify other ${what}`));
  };
  const names: string[] = rule.resourceNames ?? [];
  names.forEach((name, i) => {
    for (const problem of pathSegmentProblems(name)) errors.push(wrong(`${path}.resourceNames[${i}]`, name, problem));
    if (names.indexOf(name) < i) errors.push(duplicate(`${path}.resourceNames[${i}]`, name));
  });
  alone('operations', 'operations');
  (rule.operations ?? []).forEach((operation: string, i: number) => errors.push(...oneOf(`${path}.operations[${i}]`, operation, operations)));
  alone('apiGroups', 'API groups');
  alone('apiVersions', 'API versions');
  (rule.apiVersions ?? []).forEach((version: string, i: number) => {
    if (!version) errors.push(required(`${path}.apiVersions[${i}]`));
  });
  errors.push(...resourceErrors(rule.resources ?? [], `${path}.resources`));
  if (rule.scope !== undefined) errors.push(...oneOf(`${path}.scope`, rule.scope, ['*', 'Cluster', 'Namespaced']));
  return errors;
}

function resourceErrors(resources: string[], path: string): FieldError[] {
  if (resources.length === 0) return [required(path)];
  const errors: FieldError[] = [];
  const allParts = new Set<string>();
  const allOwners = new Set<string>();
  let plain = false;
  resources.forEach((resource, i) => {
    if (!resource) {
      errors.push(required(`${path}[${i}]`));
      return;
    }
    const slash = resource.indexOf('/');
    if (slash < 0) {
      plain = resource !== '*';
      return;
    }
    const [name, part] = [resource.slice(0, slash), resource.slice(slash + 1)];
    if (allParts.has(name)) errors.push(wrong(`${path}[${i}]`, resource, `if '${name}/*' is present, must not specify ${resource}`));
    if (allOwners.has(part)) errors.push(wrong(`${path}[${i}]`, resource, `if '*/${part}' is present, must not specify ${resource}`));
    if (part === '*') allParts.add(name);
    if (name === '*') allOwners.add(part);
  });
  if (resources.length > 1 && resources.includes('*/*')) errors.push(wrong(path, resources, "if '*/*' is present, must not specify other resources"));
  if (resources.includes('*') && plain) errors.push(wrong(path, resources, "if '*' is present, must not specify other resources without subresources"));
  return errors;
}

/** What is wrong with an expression: it does not compile, or is of none of these types. */
export function expressionErrors(environment: Environment, expression: string, results: Type[], field: string): FieldError[] {
  try {
    const { output } = environment.compile(expression);
    const name = (type: Type) => (type.kind === 'null' ? 'null_type' : typeText(type));
    const texts = results.map(name);
    if (texts.includes(name(output))) return [];
    const wanted = texts.length === 1 ? texts[0] : `one of [${texts.join(' ')}]`;
    return [wrong(field, expression, `must evaluate to ${wanted} but got ${name(output)}`)];
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    return [wrong(field, expression, `compilation failed: ${error.message}`)];
  }
}

const bool: Type = { kind: 'bool' };

export function validateMatchConditions(conditions: any[] | undefined, path: string, environment = conditionEnvironment): FieldError[] {
  const list = conditions ?? [];
  const errors: FieldError[] = [];
  if (list.length > 64) errors.push({ type: 'FieldValueTooMany', field: path, value: list.length, detail: 'must have at most 64 items' });
  list.forEach((condition, i) => {
    const expression = (condition.expression ?? '').trim();
    if (!expression) errors.push(required(`${path}[${i}].expression`));
    else errors.push(...expressionErrors(environment, expression, [bool], `${path}[${i}].expression`));
    if (!condition.name) errors.push(required(`${path}[${i}].name`));
    else for (const problem of qualifiedNameProblems(condition.name)) errors.push(wrong(`${path}[${i}].name`, condition.name, problem));
    if (condition.name && list.findIndex((c) => c.name === condition.name) < i) errors.push(duplicate(`${path}[${i}].name`, condition.name));
  });
  return errors;
}

const sideEffects = ['None', 'NoneOnDryRun'];
const reviewVersions = ['v1', 'v1beta1'];

function webhookErrors(hook: any, path: string, mutating: boolean): FieldError[] {
  const errors: FieldError[] = [];
  errors.push(...fullyQualified(hook.name ?? '', `${path}.name`));
  (hook.rules ?? []).forEach((rule: any, i: number) => errors.push(...validateRule(rule, `${path}.rules[${i}]`)));
  if (hook.failurePolicy !== undefined) errors.push(...oneOf(`${path}.failurePolicy`, hook.failurePolicy, ['Fail', 'Ignore']));
  if (hook.matchPolicy !== undefined) errors.push(...oneOf(`${path}.matchPolicy`, hook.matchPolicy, ['Equivalent', 'Exact']));
  if (hook.sideEffects === undefined || hook.sideEffects === null) errors.push(required(`${path}.sideEffects`, `must specify one of ${sideEffects.join(', ')}`));
  else errors.push(...oneOf(`${path}.sideEffects`, hook.sideEffects, sideEffects));
  if (hook.timeoutSeconds !== undefined && (hook.timeoutSeconds > 30 || hook.timeoutSeconds < 1))
    errors.push(wrong(`${path}.timeoutSeconds`, hook.timeoutSeconds, 'the timeout value must be between 1 and 30 seconds'));
  if (mutating && hook.reinvocationPolicy !== undefined) errors.push(...oneOf(`${path}.reinvocationPolicy`, hook.reinvocationPolicy, ['IfNeeded', 'Never']));
  errors.push(...selectorErrors(hook, path), ...validateClientConfig(`${path}.clientConfig`, hook.clientConfig));
  errors.push(...validateMatchConditions(hook.matchConditions, `${path}.matchConditions`));
  const versions: string[] = hook.admissionReviewVersions ?? [];
  const at = `${path}.admissionReviewVersions`;
  if (versions.length === 0) return [...errors, required(at, `must specify one of ${reviewVersions.join(', ')}`)];
  versions.forEach((version, i) => {
    if (versions.indexOf(version) < i) errors.push(wrong(`${at}[${i}]`, version, 'duplicate version'));
    else for (const problem of dns1035Problems(version)) errors.push(wrong(`${at}[${i}]`, version, problem));
  });
  if (!versions.some((v) => reviewVersions.includes(v))) errors.push(wrong(at, versions, `must include at least one of ${reviewVersions.join(', ')}`));
  return errors;
}

function fullyQualified(name: string, field: string): FieldError[] {
  if (!name) return [required(field)];
  const problems = subdomainProblems(name);
  if (problems.length) return [wrong(field, name, problems.join(','))];
  return name.split('.').length < 3 ? [wrong(field, name, 'should be a domain with at least three segments separated by dots')] : [];
}

/** What is wrong with a webhook configuration. */
export function validateWebhooks(configuration: any, mutating: boolean): FieldError[] {
  const hooks: any[] = configuration.webhooks ?? [];
  return hooks.flatMap((hook, i) => {
    const errors = webhookErrors(hook, `webhooks[${i}]`, mutating);
    if (hook.name && hooks.findIndex((h) => h.name === hook.name) < i) errors.push(duplicate(`webhooks[${i}].name`, hook.name));
    return errors;
  });
}
