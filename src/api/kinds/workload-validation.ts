import type { FieldError } from '../errors.ts';
import { labelSelectorMatches } from '../selectors.ts';
import { validateLabels } from '../validation.ts';
import { Findings } from './findings.ts';
import { validateJobSpec } from './job-validation.ts';
import { validatePodSpec } from './pod-validation.ts';
import { validateLabelSelector } from './scheduling-validation.ts';

const percent = /^[0-9]+%$/;
const percentProblem =
  "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/** A count, or a share as `25%`. */
export function validateCountOrPercent(found: Findings, field: string, value: unknown): void {
  if (typeof value === 'number') found.nonNegative(field, value);
  else if (typeof value === 'string' && !percent.test(value)) found.invalid(field, value, percentProblem);
}
const isZero = (value: unknown) => value === 0 || (typeof value === 'string' && percent.test(value) && Number.parseInt(value, 10) === 0);
const isTooMuch = (value: unknown) => typeof value === 'string' && percent.test(value) && Number.parseInt(value, 10) > 100;

/** The selector, and the template that it must match; both where a selector is demanded. */
export function validateSelectorAndTemplate(found: Findings, spec: any, options: { selectorRequired: boolean }): void {
  const { selector, template } = spec;
  const before = found.errors.length;
  if (!selector) {
    if (options.selectorRequired) found.required('spec.selector');
  } else {
    validateLabelSelector(found, selector, 'spec.selector');
    if (found.errors.length > before) return found.invalid('spec.selector', selector, 'invalid label selector');
    if (!Object.keys(selector.matchLabels ?? {}).length && !selector.matchExpressions?.length)
      found.invalid('spec.selector', selector, 'empty selector is invalid for deployment');
  }
  const labels = template?.metadata?.labels;
  const empty = selector && found.errors.length > before;
  if (!empty && !labelSelectorMatches(selector, labels))
    found.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
  found.errors.push(...validateLabels(labels, 'spec.template.labels'), ...validatePodSpec(template?.spec, 'spec.template.spec'));
  const { restartPolicy, activeDeadlineSeconds } = template?.spec ?? {};
  if (restartPolicy && restartPolicy !== 'Always') found.oneOf('spec.template.spec.restartPolicy', restartPolicy, ['Always']);
  if (activeDeadlineSeconds !== undefined)
    found.forbidden('spec.template.spec.activeDeadlineSeconds', 'activeDeadlineSeconds in ReplicaSet is not Supported');
}

export function validateDeployment(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  found.nonNegative('spec.replicas', s.replicas);
  validateSelectorAndTemplate(found, s, { selectorRequired: true });
  const { type, rollingUpdate } = s.strategy ?? {};
  if (type === 'Recreate') {
    if (rollingUpdate) found.forbidden('spec.strategy.rollingUpdate', "may not be specified when strategy `type` is 'Recreate'");
  } else if (type !== 'RollingUpdate') found.oneOf('spec.strategy', { Type: type, RollingUpdate: null }, ['Recreate', 'RollingUpdate']);
  else if (rollingUpdate) {
    const at = 'spec.strategy.rollingUpdate';
    validateCountOrPercent(found, `${at}.maxUnavailable`, rollingUpdate.maxUnavailable);
    validateCountOrPercent(found, `${at}.maxSurge`, rollingUpdate.maxSurge);
    if (isZero(rollingUpdate.maxUnavailable) && isZero(rollingUpdate.maxSurge))
      found.invalid(`${at}.maxUnavailable`, rollingUpdate.maxUnavailable, 'may not be 0 when `maxSurge` is 0');
    if (isTooMuch(rollingUpdate.maxUnavailable)) found.invalid(`${at}.maxUnavailable`, rollingUpdate.maxUnavailable, 'must not be greater than 100%');
  }
  for (const field of ['minReadySeconds', 'revisionHistoryLimit', 'progressDeadlineSeconds']) found.nonNegative(`spec.${field}`, s[field]);
  if (s.progressDeadlineSeconds !== undefined && s.progressDeadlineSeconds <= (s.minReadySeconds ?? 0))
    found.invalid('spec.progressDeadlineSeconds', s.progressDeadlineSeconds, 'must be greater than minReadySeconds');
  return found.errors;
}

export function validateReplicaSet(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  found.nonNegative('spec.replicas', s.replicas);
  found.nonNegative('spec.minReadySeconds', s.minReadySeconds);
  validateSelectorAndTemplate(found, s, { selectorRequired: true });
  return found.errors;
}

export function validateStatefulSet(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (s.podManagementPolicy !== 'OrderedReady' && s.podManagementPolicy !== 'Parallel')
    found.invalid('spec.podManagementPolicy', s.podManagementPolicy ?? '', "must be 'OrderedReady' or 'Parallel'");
  const { type, rollingUpdate } = s.updateStrategy ?? {};
  if (type === 'OnDelete') {
    if (rollingUpdate) found.invalid('spec.updateStrategy.rollingUpdate', rollingUpdate, "only allowed for updateStrategy 'RollingUpdate'");
  } else if (type === 'RollingUpdate') {
    found.nonNegative('spec.updateStrategy.rollingUpdate.partition', rollingUpdate?.partition);
    validateCountOrPercent(found, 'spec.updateStrategy.rollingUpdate.maxUnavailable', rollingUpdate?.maxUnavailable);
  } else found.invalid('spec.updateStrategy', { Type: type, RollingUpdate: null }, "must be 'RollingUpdate' or 'OnDelete'");
  for (const field of ['replicas', 'minReadySeconds', 'ordinals.start'])
    found.nonNegative(`spec.${field}`, field === 'ordinals.start' ? s.ordinals?.start : s[field]);
  for (const field of ['whenDeleted', 'whenScaled']) {
    const policy = s.persistentVolumeClaimRetentionPolicy?.[field];
    if (policy !== undefined) found.oneOf(`spec.persistentVolumeClaimRetentionPolicy.${field}`, policy, ['Retain', 'Delete']);
  }
  // Claims become volumes of the pods: their mounts are no mistakes.
  const claims = (s.volumeClaimTemplates ?? []).map((c: any) => ({ name: c.metadata?.name, emptyDir: {} }));
  const podSpec = s.template?.spec;
  const own = new Set((podSpec?.volumes ?? []).map((v: any) => v.name));
  const volumes = [...(podSpec?.volumes ?? []), ...claims.filter((c: any) => c.name && !own.has(c.name))];
  const template = podSpec && claims.length ? { ...s.template, spec: { ...podSpec, volumes } } : s.template;
  validateSelectorAndTemplate(found, { ...s, template }, { selectorRequired: true });
  return found.errors;
}

export function validateDaemonSet(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  validateSelectorAndTemplate(found, s, { selectorRequired: false });
  found.nonNegative('spec.minReadySeconds', s.minReadySeconds);
  const { type, rollingUpdate } = s.updateStrategy ?? {};
  const at = 'spec.updateStrategy.rollingUpdate';
  if (type === 'RollingUpdate') {
    const { maxUnavailable, maxSurge } = rollingUpdate ?? {};
    validateCountOrPercent(found, `${at}.maxUnavailable`, maxUnavailable);
    validateCountOrPercent(found, `${at}.maxSurge`, maxSurge);
    if (isTooMuch(maxUnavailable)) found.invalid(`${at}.maxUnavailable`, maxUnavailable, 'must not be greater than 100%');
    if (isTooMuch(maxSurge)) found.invalid(`${at}.maxSurge`, maxSurge, 'must not be greater than 100%');
    if (isZero(maxUnavailable) && isZero(maxSurge)) found.invalid(`${at}.maxUnavailable`, maxUnavailable, 'cannot be 0 when maxSurge is 0');
    else if (!isZero(maxUnavailable) && !isZero(maxSurge))
      found.invalid(`${at}.maxSurge`, maxSurge, 'may not be set when maxUnavailable is non-zero');
  } else if (type !== 'OnDelete') found.oneOf('spec.updateStrategy', { Type: type, RollingUpdate: null }, ['RollingUpdate', 'OnDelete']);
  found.nonNegative('spec.revisionHistoryLimit', s.revisionHistoryLimit);
  return found.errors;
}

const macros = ['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly'];

export function validateCronJob(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const scheduled = new Findings();
  const declared = new Findings();
  if (!s.schedule) scheduled.required('spec.schedule');
  else if (!macros.includes(s.schedule) && !/^@every \S+$/.test(s.schedule)) {
    const fields = s.schedule
      .replace(/^(CRON_)?TZ=\S+\s+/, '')
      .trim()
      .split(/\s+/);
    if (fields.length !== 5)
      scheduled.invalid('spec.schedule', s.schedule, `expected exactly 5 fields, found ${fields.length}: [${fields.join(' ')}]`);
  }
  if (s.timeZone !== undefined && !isTimeZone(s.timeZone)) scheduled.invalid('spec.timeZone', s.timeZone, `unknown time zone ${s.timeZone}`);
  if (s.concurrencyPolicy) scheduled.oneOf('spec.concurrencyPolicy', s.concurrencyPolicy, ['Allow', 'Forbid', 'Replace']);
  for (const field of ['startingDeadlineSeconds', 'successfulJobsHistoryLimit', 'failedJobsHistoryLimit'])
    scheduled.nonNegative(`spec.${field}`, s[field]);
  validateJobSpec(found, s.jobTemplate?.spec ?? {}, 'spec.jobTemplate.spec', declared);
  return s.schedule ? [...scheduled.errors, ...found.errors] : [...found.errors, ...scheduled.errors];
}

function isTimeZone(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return name !== '';
  } catch {
    return false;
  }
}
