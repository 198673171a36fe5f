import { CompilationError, Environment } from '../cel/environment.ts';
import { t, typeText } from '../cel/types.ts';
import { labelProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';

/*
 * What the kinds of dynamic resource allocation have in common. Upstream checks some of it by declarations, and reports that after
 * all else: those findings are collected in `later`.
 */
export interface DeviceFindings {
  found: Findings;
  later: Findings;
}

const identifier = /^[A-Za-z_][A-Za-z0-9_]*$/;
const identifierProblem =
  "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')";
const anyCaseProblem =
  "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'Example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** As subdomainProblems, with lengths in bytes. */
export function longNameProblems(name: string): string[] {
  return subdomainProblems(name).map((problem) => problem.replace('253 characters', '253 bytes'));
}

/** The name of a driver, where it stands for itself. */
export function validateDriverName(found: Findings, field: string, name: string | undefined): void {
  if (!name) return found.required(field);
  if (name.length > 63) found.tooLong(field, 'may not be more than 63 bytes');
  for (const problem of subdomainProblems(name.toLowerCase())) found.invalid(field, name, problem);
}

/** The name of a driver in a configuration. */
function validateConfiguredDriver(later: Findings, field: string, name: string | undefined): void {
  if (!name) return later.required(field);
  if (name.length > 253) later.invalid(field, name, 'must be no more than 253 bytes');
  if (!subdomain.test(name.toLowerCase())) later.invalid(field, name, anyCaseProblem);
  if (name.length > 63) later.tooLong(field, 'may not be more than 63 characters');
}

function validateIdentifier(found: Findings, field: string, name: string): void {
  if (name.length > 32) found.tooLong(field, 'may not be more than 32 bytes');
  if (!identifier.test(name)) found.invalid(field, name, identifierProblem);
}

/** The name of an attribute or capacity, with or without the domain of who defines it. */
export function validateAttributeName(found: Findings, field: string, name: string): void {
  const [first = '', second, ...more] = name.split('/');
  if (more.length) return;
  if (second === undefined) return validateIdentifier(found, field, first);
  if (!first) found.invalid(field, '', 'the domain must not be empty');
  else validateDriverName(found, field, first);
  if (!second) found.invalid(field, '', 'the name must not be empty');
  else validateIdentifier(found, field, second);
}

export function validateFullAttributeName(found: Findings, field: string, name: string): void {
  validateAttributeName(found, field, name);
  if (!name.includes('/')) found.invalid(field, name, 'a fully qualified name must be a domain and a name separated by a slash');
}

/** No more than so many, each right, and none twice. */
export function validateItems<T>({ later }: DeviceFindings, path: string, items: T[] | undefined, most: number, check: (item: T, at: string) => void, key?: (item: T) => unknown): void {
  if (!items) return;
  if (most >= 0 && items.length > most) return later.tooMany(path, items.length, most);
  const seen = new Set<unknown>();
  items.forEach((item, i) => {
    check(item, `${path}[${i}]`);
    if (!key) return;
    if (seen.has(key(item))) later.duplicate(`${path}[${i}]`, ordered(item));
    seen.add(key(item));
  });
}

/** Fields of requests in the order of Go's declaration, as messages show them. */
const fieldOrder = ['name', 'exactly', 'firstAvailable', 'deviceClassName', 'selectors', 'allocationMode', 'count', 'adminAccess', 'tolerations', 'capacity', 'derivedAttributes'];

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null) return value;
  const rank = (key: string) => (fieldOrder.indexOf(key) + fieldOrder.length + 1) % (fieldOrder.length + 1);
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => rank(a) - rank(b))
      .map(([key, inner]) => [key, ordered(inner)]),
  );
}

const quantityType = t.opaque('kubernetes.Quantity');
const bounded = (most: number) => ({ ...t.string, max: most });
let environment: Environment | undefined;

/** What expressions that select devices can refer to. */
const selectors = (): Environment =>
  (environment ??= new Environment({
    variables: {
      device: t.object('kubernetes.DRADevice', {
        driver: bounded(63),
        allowMultipleAllocations: t.bool,
        attributes: { ...t.map(bounded(63), { ...t.map(bounded(32), t.dyn), max: 32 }), max: 32 },
        capacity: { ...t.map(bounded(63), { ...t.map(bounded(32), quantityType), max: 32 }), max: 32 },
      }),
    },
  }));

const mostCost = 1_000_000;

function validateExpression(found: Findings, field: string, expression: string): void {
  if (expression.length > 10_240) return found.tooLong(field, 'may not be more than 10240 bytes');
  try {
    const program = selectors().compile(expression);
    if (program.output.kind !== 'bool' && program.output.kind !== 'dyn')
      found.invalid(field, expression, `must evaluate to bool or the unknown type, not ${typeText(program.output)}`);
    else if (program.estimate() > mostCost) found.forbidden(field, 'too complex, exceeds cost limit');
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    found.invalid(field, expression, `compilation failed: ${error.message}`);
  }
}

/** Expressions that select devices; those that were stored before are not looked at again. */
export function validateSelectors(to: DeviceFindings, path: string, list: any[] | undefined, stored = false): void {
  validateItems(to, path, list, 32, (selector: any, at) => {
    if (!selector.cel) to.found.required(`${at}.cel`);
    else if (!stored) validateExpression(to.found, `${at}.cel.expression`, selector.cel.expression ?? '');
  });
}

/** Configuration that only a driver understands. */
export function validateConfiguration(to: DeviceFindings, at: string, config: any, stored = false): void {
  const { opaque } = config;
  if (!opaque) return to.found.required(`${at}.opaque`);
  validateConfiguredDriver(to.later, `${at}.opaque.driver`, opaque.driver);
  const field = `${at}.opaque.parameters`;
  const { parameters } = opaque;
  if (parameters === undefined || parameters === null) to.found.required(field);
  else if (!stored && JSON.stringify(parameters).length > 10_240) to.found.tooLong(field, 'may not be more than 10240 bytes');
  else if (typeof parameters !== 'object' || Array.isArray(parameters)) to.found.invalid(field, '<value omitted>', 'must be a valid JSON object');
}

const effects = ['NoExecute', 'NoSchedule', 'None'];

function validateLabelValue(found: Findings, field: string, value: string): void {
  if (value.length > 63) found.invalid(field, value, 'must be no more than 63 bytes');
  if (!/^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/.test(value))
    found.invalid(
      field,
      value,
      "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    );
}

export function validateDeviceTaint({ found, later }: DeviceFindings, taint: any, at: string): void {
  found.problems(`${at}.key`, taint.key ?? '', qualifiedNameProblems);
  if (taint.value) validateLabelValue(found, `${at}.value`, taint.value);
  if (!taint.effect) later.required(`${at}.effect`);
  else later.oneOf(`${at}.effect`, taint.effect, effects);
}

export function validateDeviceToleration({ found, later }: DeviceFindings, toleration: any, at: string): void {
  if (toleration.key) later.problems(`${at}.key`, toleration.key, qualifiedNameProblems);
  const { operator } = toleration;
  if (operator === 'Exists') {
    if (toleration.value) found.invalid(`${at}.value`, toleration.value, 'must be empty for operator `Exists`');
  } else if (operator === 'Equal') validateLabelValue(found, `${at}.value`, toleration.value ?? '');
  else if (!operator) later.required(`${at}.operator`);
  else later.unsupported(`${at}.operator`, operator, ['Equal', 'Exists']);
  if (toleration.effect) later.oneOf(`${at}.effect`, toleration.effect, effects);
}

/** Conditions that must hold, or must not, before a pod is bound. */
export function validateBindingConditions({ found, later }: DeviceFindings, object: any, at: string): void {
  const conditions: string[] = object.bindingConditions ?? [];
  const failures: string[] = object.bindingFailureConditions ?? [];
  for (const [name, list] of Object.entries({ bindingConditions: conditions, bindingFailureConditions: failures })) {
    if (list.length > 4) later.tooMany(`${at}.${name}`, list.length, 4);
    else
      list.forEach((condition, i) => {
        found.problems(`${at}.${name}[${i}]`, condition, qualifiedNameProblems);
      });
  }
  conditions.forEach((condition, i) => {
    if (conditions.indexOf(condition) < i) found.duplicate(`${at}.bindingConditions[${i}]`, condition);
  });
  failures.forEach((condition, i) => {
    const field = `${at}.bindingFailureConditions[${i}]`;
    if (failures.indexOf(condition) < i) found.duplicate(field, condition);
    if (conditions.includes(condition)) found.invalid(field, condition, 'bindingFailureConditions must not overlap with bindingConditions');
  });
  if (!conditions.length && failures.length) found.invalid(`${at}.bindingConditions`, null, 'bindingConditions are required to use bindingFailureConditions');
  if (!failures.length && conditions.length)
    found.invalid(`${at}.bindingFailureConditions`, null, 'bindingFailureConditions are required to use bindingConditions');
}

/** The name of a pool: subdomains between slashes. */
export function validatePoolName(found: Findings, field: string, name: string | undefined): void {
  if (!name) return found.required(field);
  if (name.length > 253) found.tooLong(field, 'may not be more than 253 bytes');
  for (const part of name.split('/')) found.problems(field, part, subdomainProblems);
}

export const requestNameProblems = labelProblems;
