import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { internalForm } from '../internal-form.ts';
import { compareQuantities, parseQuantity } from '../quantity.ts';
import { labelProblems, subdomainProblems } from '../validation.ts';
import {
  type DeviceFindings,
  requestNameProblems,
  validateAttributeName,
  validateBindingConditions,
  validateDeviceTaint,
  validateDriverName,
  validateItems,
  validatePoolName,
} from './device-names.ts';
import { Findings } from './findings.ts';
import { validateNodeSelector } from './scheduling-validation.ts';

const semantic =
  /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(\.(0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*)?(\+[0-9a-zA-Z-]+(\.[0-9a-zA-Z-]+)*)?$/;
const nodeChoice = 'exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required';
const deviceChoice =
  'exactly one of `nodeName`, `nodeSelector`, or `allNodes` is required when `perDeviceNodeSelection` is set to true in the ResourceSlice spec';
const kindsOfValue = ['int', 'bool', 'string', 'version', 'ints', 'bools', 'strings', 'versions'];

export function validateResourceSlice(slice: any, old?: any): FieldError[] {
  const to: DeviceFindings = { found: new Findings(), later: new Findings() };
  const { found } = to;
  const spec = slice.spec ?? {};
  const before = old?.spec;
  validateDriverName(found, 'spec.driver', spec.driver);
  validatePoolName(found, 'spec.pool.name', spec.pool?.name);
  const { resourceSliceCount: count = 0, generation = 0 } = spec.pool ?? {};
  if (count <= 0) found.invalid('spec.pool.resourceSliceCount', count, 'must be greater than zero');
  if (generation < 0) found.invalid('spec.pool.generation', generation, 'must be greater than or equal to zero');
  if (before) {
    found.immutable('spec.pool.name', spec.pool?.name ?? '', before.pool?.name ?? '');
    found.immutable('spec.driver', spec.driver ?? '', before.driver ?? '');
    found.immutable('spec.nodeName', spec.nodeName, before.nodeName);
  }
  validatePlace(found, spec);
  if (spec.sharedCounters && spec.devices) found.invalid('spec', '', 'only one of `sharedCounters` or `devices` is allowed');
  const devices: any[] = spec.devices ?? [];
  const advanced = devices.some((d) => d.taints?.length || d.consumesCounters?.length || Object.values(d.attributes ?? {}).some((a: any) => a.bools || a.ints || a.strings || a.versions));
  const most = advanced ? 64 : 128;
  if (devices.length > most) found.tooMany('spec.devices', devices.length, most);
  else {
    devices.forEach((device, i) => {
      validateDevice(to, device, before?.devices?.find((d: any) => d.name === device.name), `spec.devices[${i}]`, spec.perDeviceNodeSelection === true);
    });
    const names = new Set<string>();
    devices.forEach(({ name = '' }, i) => {
      if (names.has(name)) found.duplicate(`spec.devices[${i}]`, name);
      names.add(name);
    });
  }
  validateItems(to, 'spec.sharedCounters', spec.sharedCounters, 8, (set: any, at) => validateCounters(to, set, at, 'name'), (set: any) => set.name ?? '');
  return [...found.errors, ...to.later.errors];
}

/** Where the devices are: on a node, on nodes of a kind, on all, or each where it says. */
function validatePlace(found: Findings, spec: any): void {
  const set: string[] = [];
  if (spec.nodeName === '') found.invalid('spec.nodeName', '', 'must be either unset or set to a non-empty string');
  else if (spec.nodeName !== undefined) {
    set.push('`nodeName`');
    found.problems('spec.nodeName', spec.nodeName, subdomainProblems);
  }
  if (spec.nodeSelector) {
    set.push('`nodeSelector`');
    validateNodeSelector(found, spec.nodeSelector, 'spec.nodeSelector');
    const terms = spec.nodeSelector.nodeSelectorTerms;
    if (terms?.length !== 1)
      found.invalid('spec.nodeSelector.nodeSelectorTerms', terms?.length ? terms.map((term: any) => internalForm('core.NodeSelectorTerm', term)) : null, 'must have exactly one node selector term');
  }
  for (const field of ['allNodes', 'perDeviceNodeSelection']) {
    if (spec[field] === true) set.push(`\`${field}\``);
    else if (spec[field] === false) found.invalid(`spec.${field}`, false, 'must be either unset or set to true');
  }
  if (!set.length) found.required('spec', nodeChoice);
  else if (set.length > 1) found.invalid('spec', `{${set.join(', ')}}`, `${nodeChoice}, but multiple fields are set`);
}

function validateCounters({ later }: DeviceFindings, set: any, at: string, name: 'name' | 'counterSet'): void {
  if (!set[name]) later.required(`${at}.${name}`);
  else later.problems(`${at}.${name}`, set[name], labelProblems);
  const keys = Object.keys(set.counters ?? {});
  if (!keys.length) return later.required(`${at}.counters`);
  if (keys.length > 32) return later.tooMany(`${at}.counters`, keys.length, 32);
  for (const key of keys) later.problems(`${at}.counters`, key, labelProblems);
}

function validateDevice(to: DeviceFindings, device: any, old: any, at: string, perDevice: boolean): void {
  const { found } = to;
  found.problems(`${at}.name`, device.name ?? '', requestNameProblems);
  const attributes = Object.entries((device.attributes ?? {}) as Record<string, any>);
  const capacity = Object.entries((device.capacity ?? {}) as Record<string, any>);
  const total = attributes.length + capacity.length;
  if (total > 32) found.invalid(at, total, 'the total number of attributes and capacities must not exceed 32');
  for (const [name, attribute] of attributes) {
    validateAttributeName(found, `${at}.attributes`, name);
    validateAttribute(to, attribute, `${at}.attributes[${name}]`);
  }
  if (!old || canonicalJson(old.capacity) !== canonicalJson(device.capacity))
    for (const [name, one] of capacity) {
      validateAttributeName(found, `${at}.capacity`, name);
      if (!one.requestPolicy) continue;
      const field = `${at}.capacity[${name}].requestPolicy`;
      if (device.allowMultipleAllocations === true) validateRequestPolicy(found, one.value ?? '0', one.requestPolicy, field);
      else found.forbidden(field, 'allowMultipleAllocations must be true');
    }
  if (!old || canonicalJson(old.taints) !== canonicalJson(device.taints)) {
    if (device.taints?.length > 16) found.tooMany(`${at}.taints`, device.taints.length, 16);
    else
      (device.taints ?? []).forEach((taint: any, i: number) => {
        validateDeviceTaint(to, taint, `${at}.taints[${i}]`);
      });
  }
  validateItems(to, `${at}.consumesCounters`, device.consumesCounters, 2, (use: any, where) => validateCounters(to, use, where, 'counterSet'), (use: any) => use.counterSet ?? '');
  if (perDevice) validateDevicePlace(found, device, at);
  else if (device.nodeName !== undefined || device.nodeSelector || device.allNodes !== undefined)
    found.invalid(at, null, '`nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec');
  validateBindingConditions(to, device, at);
}

function validateDevicePlace(found: Findings, device: any, at: string): void {
  const set: string[] = [];
  if (device.nodeName === '') found.invalid(`${at}.nodeName`, '', 'must not be empty');
  else if (device.nodeName !== undefined) {
    set.push('`nodeName`');
    found.problems(`${at}.nodeName`, device.nodeName, subdomainProblems);
  }
  if (device.nodeSelector) {
    set.push('`nodeSelector`');
    validateNodeSelector(found, device.nodeSelector, `${at}.nodeSelector`);
  }
  if (device.allNodes === true) set.push('`allNodes`');
  else if (device.allNodes === false) found.invalid(`${at}.allNodes`, false, 'must be either unset or set to true');
  if (!set.length) found.required(at, deviceChoice);
  else if (set.length > 1) found.invalid(at, `{${set.join(', ')}}`, `${deviceChoice}, but multiple fields are set`);
}

function validateAttribute({ found, later }: DeviceFindings, attribute: any, at: string): void {
  const tooLong = (field: string, value: string) => {
    if (value.length > 64) found.tooLong(field, 'may not be more than 64 bytes');
  };
  const version = (field: string, value: string) => {
    if (!semantic.test(value)) found.invalid(field, value, 'must be a string compatible with semver.org spec 2.0.0');
    tooLong(field, value);
  };
  if (attribute.string !== undefined) tooLong(`${at}.string`, attribute.string);
  if (attribute.version !== undefined) version(`${at}.version`, attribute.version);
  const set = kindsOfValue.filter((kind) => attribute[kind] !== undefined);
  const all = kindsOfValue.map((kind) => `\`${kind}\``).join(', ');
  if (!set.length) later.invalid(at, '', `must specify one of: ${all}`);
  else if (set.length > 1) later.invalid(at, `{${set.join(', ')}}`, `must specify exactly one of: ${all}`);
}

/** How much of a capacity may be asked for. */
function validateRequestPolicy(found: Findings, most: string, policy: any, at: string): void {
  const values: string[] = policy.validValues ?? [];
  const range = policy.validRange;
  if (values.length && range) return found.forbidden(at, 'exactly one policy can be specified, cannot specify "validValues" and "validRange" at the same time');
  const kind = values.length ? 'validValues' : range ? 'validRange' : undefined;
  if (!kind) return;
  if (policy.default === undefined) return found.required(`${at}.default`, `required when ${kind} is defined`);
  if (range) return validateRange(found, policy.default, most, range, `${at}.validRange`);
  const field = `${at}.validValues`;
  values.forEach((value, i) => {
    if (i > 0 && compareQuantities(values[i - 1] as string, value) > 0) found.invalid(`${field}[${i}]`, value, 'values must be sorted in ascending order');
  });
  if (values.length > 10) return found.tooMany(field, values.length, 10);
  values.forEach((value, i) => {
    if (compareQuantities(value, most) > 0) found.invalid(`${field}[${i}]`, value, `option is larger than capacity value: ${most}`);
  });
  const seen = new Set<bigint>();
  values.forEach((value, i) => {
    const amount = parseQuantity(value).nano;
    if (seen.has(amount)) found.duplicate(`${field}[${i}]`, Number(amount / 1_000_000_000n));
    seen.add(amount);
  });
  if (!seen.has(parseQuantity(policy.default).nano)) found.invalid(field, policy.default, 'default value is not valid according to the requestPolicy');
}

function validateRange(found: Findings, preset: string, most: string, range: any, at: string): void {
  const { min, max, step } = range;
  if (min === undefined) return found.required(`${at}.min`, 'required when validRange is defined');
  const larger = (a: string, b: string) => compareQuantities(a, b) > 0;
  if (larger(min, most)) found.invalid(`${at}.min`, min, `min is larger than capacity value: ${most}`);
  if (larger(min, preset)) found.invalid(`${at}.default`, preset, `default is less than min: ${min}`);
  if (max !== undefined) {
    if (larger(min, max)) found.invalid(`${at}.max`, min, `min is larger than max: ${max}`);
    if (larger(max, most)) found.invalid(`${at}.max`, max, `max is larger than capacity value: ${most}`);
    if (larger(preset, max)) found.invalid(`${at}.default`, preset, `default is more than max: ${max}`);
  }
  if (step === undefined) return;
  const [from, by] = [parseQuantity(min).nano, parseQuantity(step).nano];
  if (by <= 0n) return found.invalid(`${at}.step`, step, 'must be greater than zero');
  for (const value of max === undefined ? [preset] : [preset, max])
    if ((parseQuantity(value).nano - from) % by !== 0n) found.invalid(`${at}.step`, value, `value is not a multiple of a given step (${step}) from (${min})`);
}
