import type { FieldError } from '../errors.ts';
import { internalForm, internalList } from '../internal-form.ts';
import { labelSelectorMatches } from '../selectors.ts';
import { labelProblems } from '../validation.ts';
import { scheduleProblem } from './cron-schedule.ts';
import { Findings } from './findings.ts';
import { validateJobSpec } from './job-validation.ts';
import { validatePodTemplate } from './pod-validation.ts';
import { validateLabelSelector } from './scheduling-validation.ts';
import { validateClaimSpec } from './storage-validation.ts';

const percent = /^[0-9]+%$/;
const percentProblem =
  "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";

/** A count, or a share as `25%`. */
export function validateCountOrPercent(found: Findings, field: string, value: unknown): void {
  if (typeof value === 'number') found.nonNegative(field, value);
  else if (typeof value === 'string' && !percent.test(value)) found.invalid(field, value, percentProblem);
}
const isZero = (value: unknown) => value === 0 || (typeof value === 'string' && percent.test(value) && Number.parseInt(value, 10) === 0);
/** Zero, or nothing that could be read. */
const isNone = (value: unknown) => isZero(value) || (typeof value === 'string' && !percent.test(value));
const isTooMuch = (value: unknown) => typeof value === 'string' && percent.test(value) && Number.parseInt(value, 10) > 100;

/** The selector, and the template that it must match, as a kind demands it. `odd` is what is said of a selector that cannot be read. */
export function validateSelectorAndTemplate(found: Findings, spec: any, kind: string, emptyFor: string, odd: string, template = spec.template): void {
  const { selector } = spec;
  if (!selector) found.required('spec.selector');
  else {
    const before = found.errors.length;
    validateLabelSelector(found, selector, 'spec.selector');
    const unreadable = found.errors.length > before;
    const empty = !Object.keys(selector.matchLabels ?? {}).length && !selector.matchExpressions?.length;
    if (empty) found.invalid('spec.selector', selector, `empty selector is invalid for ${emptyFor}`);
    if (unreadable) return found.invalid('spec.selector', selector, odd);
    const labels = template?.metadata?.labels;
    if (!empty && !labelSelectorMatches(selector, labels))
      found.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
  }
  // No selector selects nothing.
  if (!selector) found.invalid('spec.template.metadata.labels', template?.metadata?.labels ?? null, '`selector` does not match template `labels`');
  found.errors.push(...validatePodTemplate(template, 'spec.template'));
  validateOfControllers(found, spec.template, kind);
}

/** Pods of controllers that keep them running are restarted always, and have no deadline. */
export function validateOfControllers(found: Findings, template: any, kind: string): void {
  const { restartPolicy, activeDeadlineSeconds } = template?.spec ?? {};
  found.oneOf('spec.template.spec.restartPolicy', restartPolicy ?? '', ['Always']);
  if (activeDeadlineSeconds !== undefined)
    found.forbidden('spec.template.spec.activeDeadlineSeconds', `activeDeadlineSeconds in ${kind} is not Supported`);
}

export function validateDeployment(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  found.nonNegative('spec.replicas', s.replicas);
  validateSelectorAndTemplate(found, s, 'ReplicaSet', 'deployment', 'invalid label selector');
  const { type, rollingUpdate } = s.strategy ?? {};
  if (type === 'Recreate') {
    if (rollingUpdate) found.forbidden('spec.strategy.rollingUpdate', "may not be specified when strategy `type` is 'Recreate'");
  } else if (type !== 'RollingUpdate') found.oneOf('spec.strategy', internalForm('apps.DeploymentStrategy', s.strategy), ['Recreate', 'RollingUpdate']);
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
  validateSelectorAndTemplate(found, s, 'ReplicaSet', 'deployment', 'invalid label selector');
  return found.errors;
}

export function validateReplicationController(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const later = new Findings();
  later.nonNegative('spec.replicas', s.replicas);
  later.nonNegative('spec.minReadySeconds', s.minReadySeconds);
  const empty = !Object.keys(s.selector ?? {}).length;
  if (empty) found.required('spec.selector');
  const labels = s.template?.metadata?.labels;
  if (!s.template) found.required('spec.template');
  else {
    if (!empty && !labelSelectorMatches({ matchLabels: s.selector }, labels))
      found.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
    found.errors.push(...validatePodTemplate(s.template, 'spec.template'));
    validateOfControllers(found, s.template, 'ReplicationController');
  }
  return [...found.errors, ...later.errors];
}

/** What is only demanded of new ones may be otherwise in old ones. */
export function validateStatefulSet(o: any, isNew = true): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (!s.podManagementPolicy) found.required('spec.podManagementPolicy');
  else if (s.podManagementPolicy !== 'OrderedReady' && s.podManagementPolicy !== 'Parallel')
    found.invalid('spec.podManagementPolicy', s.podManagementPolicy, "must be 'OrderedReady' or 'Parallel'");
  const { type, rollingUpdate } = s.updateStrategy ?? {};
  const at = 'spec.updateStrategy.rollingUpdate';
  if (!type) found.required('spec.updateStrategy');
  else if (type === 'OnDelete') {
    if (rollingUpdate) found.invalid(at, internalForm('apps.RollingUpdateStatefulSetStrategy', rollingUpdate), "only allowed for updateStrategy 'RollingUpdate'");
  } else if (type === 'RollingUpdate') {
    found.nonNegative(`${at}.partition`, rollingUpdate?.partition);
    const most = rollingUpdate?.maxUnavailable;
    if (most !== undefined) {
      validateCountOrPercent(found, `${at}.maxUnavailable`, most);
      if (isNone(most)) found.invalid(`${at}.maxUnavailable`, most, 'cannot be 0');
      if (isTooMuch(most)) found.invalid(`${at}.maxUnavailable`, most, 'must not be greater than 100%');
    }
  } else found.invalid('spec.updateStrategy', internalForm('apps.StatefulSetUpdateStrategy', s.updateStrategy), "must be 'RollingUpdate' or 'OnDelete'");
  for (const field of ['whenDeleted', 'whenScaled']) {
    const policy = s.persistentVolumeClaimRetentionPolicy?.[field];
    if (policy !== undefined) found.oneOf(`spec.persistentVolumeClaimRetentionPolicy.${field}`, policy, ['Retain', 'Delete']);
  }
  const claims: any[] = s.volumeClaimTemplates ?? [];
  if (isNew) claims.forEach((claim, i) => {
    validateClaimSpec(found, claim.spec ?? {}, `spec.volumeClaimTemplates[${i}].spec`);
  });
  for (const field of ['replicas', 'minReadySeconds']) found.nonNegative(`spec.${field}`, s[field]);
  found.nonNegative('spec.ordinals.start', s.ordinals?.start);
  if (isNew && s.serviceName) found.problems('spec.serviceName', s.serviceName, labelProblems);
  validateSelectorAndTemplate(found, s, 'StatefulSet', 'statefulset', '', templateWithClaims(s.template, claims));
  if (s.selector && found.errors.at(-1)?.field === 'spec.selector') validateOfControllers(found, s.template, 'StatefulSet');
  return found.errors;
}

/** The template as its pods will be: names come from the set, and claims become volumes. */
function templateWithClaims(template: any, claims: any[]): any {
  const { hostname, subdomain, ...spec } = template?.spec ?? {};
  if (!template?.spec || (hostname === undefined && subdomain === undefined && !claims.length)) return template;
  if (claims.length) {
    const added = new Map(claims.map(({ metadata }) => [metadata?.name, { name: metadata?.name, persistentVolumeClaim: { claimName: metadata?.name } }]));
    spec.volumes = [...added.values(), ...(spec.volumes ?? []).filter((v: any) => !added.has(v.name))];
  }
  return { ...template, spec };
}

/** What a changed StatefulSet may be. */
export function validateStatefulSetUpdate(o: any, old: any): FieldError[] {
  const found = new Findings();
  found.errors.push(...validateStatefulSet(o, false));
  const [s, before] = [o.spec ?? {}, old.spec ?? {}];
  found.immutable('spec.selector', s.selector, before.selector);
  const ofClaims = (list: any[] | undefined) => (list?.length ? internalList('core.PersistentVolumeClaim', list) : null);
  const [mine, theirs] = [ofClaims(s.volumeClaimTemplates), ofClaims(before.volumeClaimTemplates)];
  found.immutable('spec.volumeClaimTemplates', mine, theirs);
  found.immutable('spec.serviceName', s.serviceName ?? '', before.serviceName ?? '');
  found.immutable('spec.podManagementPolicy', s.podManagementPolicy, before.podManagementPolicy);
  return found.errors;
}

export function validateDaemonSet(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const { selector, template } = s;
  if (selector) validateLabelSelector(found, selector, 'spec.selector');
  const labels = template?.metadata?.labels;
  if (!found.errors.length && !labelSelectorMatches(selector, labels))
    found.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
  if (selector && !Object.keys(selector.matchLabels ?? {}).length && !selector.matchExpressions?.length)
    found.invalid('spec.selector', selector, 'empty selector is invalid for daemonset');
  found.errors.push(...validatePodTemplate(template, 'spec.template'));
  validateOfControllers(found, template, 'DaemonSet');
  found.nonNegative('spec.minReadySeconds', s.minReadySeconds);
  const { type, rollingUpdate } = s.updateStrategy ?? {};
  const at = 'spec.updateStrategy.rollingUpdate';
  if (type === 'RollingUpdate') {
    const { maxUnavailable, maxSurge } = rollingUpdate ?? {};
    validateCountOrPercent(found, `${at}.maxUnavailable`, maxUnavailable);
    validateCountOrPercent(found, `${at}.maxSurge`, maxSurge);
    if (isTooMuch(maxUnavailable)) found.invalid(`${at}.maxUnavailable`, maxUnavailable, 'must not be greater than 100%');
    if (isTooMuch(maxSurge)) found.invalid(`${at}.maxSurge`, maxSurge, 'must not be greater than 100%');
    if (isNone(maxUnavailable) && isNone(maxSurge)) found.required(`${at}.maxUnavailable`, 'cannot be 0 when maxSurge is 0');
    else if (!isNone(maxUnavailable) && !isNone(maxSurge))
      found.invalid(`${at}.maxSurge`, maxSurge, 'may not be set when maxUnavailable is non-zero');
  } else if (type !== 'OnDelete') found.oneOf('spec.updateStrategy', internalForm('apps.DaemonSetUpdateStrategy', s.updateStrategy), ['RollingUpdate', 'OnDelete']);
  found.nonNegative('spec.revisionHistoryLimit', s.revisionHistoryLimit);
  return found.errors;
}

/** What is demanded of a new CronJob; of a changed one, what it was may stay. */
export function validateCronJob(o: any, old?: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const before = old?.spec;
  if (s.schedule) {
    const problem = scheduleProblem(s.schedule);
    if (problem) found.invalid('spec.schedule', s.schedule, problem);
    const zoned = s.schedule.includes('TZ');
    if (zoned && before?.schedule?.includes('TZ')) {
      if (s.timeZone !== undefined) found.invalid('spec.schedule', s.schedule, 'cannot use both timeZone field and TZ or CRON_TZ in schedule');
    } else if (zoned) found.invalid('spec.schedule', s.schedule, 'cannot use TZ or CRON_TZ in schedule, use timeZone field instead');
  }
  found.nonNegative('spec.startingDeadlineSeconds', s.startingDeadlineSeconds);
  if (s.timeZone !== undefined && s.timeZone !== before?.timeZone) validateTimeZone(found, s.timeZone);
  if (!s.concurrencyPolicy) found.required('spec.concurrencyPolicy');
  else found.oneOf('spec.concurrencyPolicy', s.concurrencyPolicy, ['Allow', 'Forbid', 'Replace']);
  const template = s.jobTemplate?.spec ?? {};
  validateJobSpec(found, template, 'spec.jobTemplate.spec');
  if (template.selector) found.invalid('spec.jobTemplate.spec.selector', template.selector, '`selector` will be auto-generated');
  if (template.manualSelector) found.unsupported('spec.jobTemplate.spec.manualSelector', true, ['nil', 'false']);
  for (const field of ['successfulJobsHistoryLimit', 'failedJobsHistoryLimit']) found.nonNegative(`spec.${field}`, s[field]);
  if (!old && o.metadata.name?.length > 52) found.invalid('metadata.name', o.metadata.name, 'must be no more than 52 characters');
  if (!s.schedule) found.required('spec.schedule');
  return found.errors;
}

const zonePart = /^[A-Za-z\d_+-]+$/;

function validateTimeZone(found: Findings, zone: string): void {
  if (!zone) return found.invalid('spec.timeZone', zone, 'timeZone must be nil or non-empty string');
  if (zone.split('/').some((part) => part.startsWith('-') || !zonePart.test(part))) return found.invalid('spec.timeZone', zone, `unknown time zone ${zone}`);
  if (zone.toLowerCase() === 'local')
    return found.invalid('spec.timeZone', zone, 'timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones');
  try {
    new Intl.DateTimeFormat('en', { timeZone: zone });
  } catch {
    found.invalid('spec.timeZone', zone, `unknown time zone ${zone}`);
  }
}
