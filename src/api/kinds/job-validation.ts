import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { labelSelectorMatches } from '../selectors.ts';
import { internalForm } from '../internal-form.ts';
import { labelProblems, qualifiedNameProblems } from '../validation.ts';
import { Findings } from './findings.ts';
import { validateDomainPath } from './names-validation.ts';
import { validatePodTemplate } from './pod-validation.ts';
import { validateLabelSelector } from './scheduling-validation.ts';

const mostParallel = 100_000;
const quoted = (list: string[]) => `valid values: [${list.map((v) => JSON.stringify(v)).join(' ')}]`;

function required(found: Findings, field: string, value: string | undefined, supported: string[]): void {
  if (!value) found.required(field, quoted(supported));
  else found.oneOf(field, value, supported);
}

function validateExitCodes(found: Findings, codes: any, at: string, containers: string[]): void {
  required(found, `${at}.operator`, codes.operator, ['In', 'NotIn']);
  if (codes.containerName !== undefined && !containers.includes(codes.containerName))
    found.invalid(`${at}.containerName`, codes.containerName, 'must be one of the container or initContainer names in the pod template');
  const values: number[] = codes.values ?? [];
  if (!values.length) found.invalid(`${at}.values`, codes.values ?? null, 'at least one value is required');
  else if (values.length > 255) found.tooMany(`${at}.values`, values.length, 255);
  const seen = new Set<number>();
  values.forEach((value, i) => {
    if (codes.operator === 'In' && value === 0) found.invalid(`${at}.values[${i}]`, value, 'must not be 0 for the In operator');
    if (seen.has(value)) found.duplicate(`${at}.values[${i}]`, value);
    seen.add(value);
  });
  if (values.some((value, i) => i > 0 && values[i - 1]! > value)) found.invalid(`${at}.values`, values, 'must be ordered');
}

function validateFailurePolicy(found: Findings, spec: any, at: string): void {
  const pod = spec.template?.spec ?? {};
  const containers = [...(pod.containers ?? []), ...(pod.initContainers ?? [])].map((c: any) => c.name);
  const rules = spec.podFailurePolicy.rules ?? [];
  if (rules.length > 20) return found.tooMany(`${at}.rules`, rules.length, 20);
  rules.forEach((rule: any, i: number) => {
    const path = `${at}.rules[${i}]`;
    if (rule.action === 'FailIndex') {
      if (spec.backoffLimitPerIndex === undefined) found.invalid(`${path}.action`, rule.action, 'requires the backoffLimitPerIndex to be set');
    } else required(found, `${path}.action`, rule.action, ['Count', 'FailIndex', 'FailJob', 'Ignore']);
    if (rule.onExitCodes) validateExitCodes(found, rule.onExitCodes, `${path}.onExitCodes`, containers);
    const conditions = rule.onPodConditions ?? [];
    conditions.forEach((c: any, j: number) => {
      found.problems(`${path}.onPodConditions[${j}].type`, c.type ?? '', qualifiedNameProblems);
      required(found, `${path}.onPodConditions[${j}].status`, c.status, ['False', 'True', 'Unknown']);
    });
    if (rule.onExitCodes && conditions.length) found.malformed(path, 'specifying both OnExitCodes and OnPodConditions is not supported');
    if (!rule.onExitCodes && !conditions.length) found.malformed(path, 'specifying one of OnExitCodes and OnPodConditions is required');
  });
}

/** How many indexes a text such as `0-2,5` names; throws with what is wrong with it. */
function countIndexes(text: string, completions: number): number {
  if (!text) return 0;
  let count = 0;
  let last = -1;
  for (const part of text.split(',')) {
    const [first = '', end, ...rest] = part.split('-');
    if (rest.length) throw new Error(`the fragment ${JSON.stringify(part)} violates the requirement that an index interval can have at most two parts separated by '-'`);
    const number = (index: string) => {
      if (!/^[+-]?\d+$/.test(index)) throw new Error(`cannot convert string to integer for index: ${JSON.stringify(index)}`);
      if (Number(index) >= completions) throw new Error(`too large index: ${JSON.stringify(index)}`);
      return Number(index);
    };
    const from = number(first);
    if (last >= from) throw new Error(`non-increasing order, previous: ${last}, current: ${from}`);
    const to = end === undefined ? from : number(end);
    if (end !== undefined && from >= to) throw new Error(`non-increasing order, previous: ${from}, current: ${to}`);
    count += to - from + 1;
    last = to;
  }
  return count;
}

function validateSuccessPolicy(found: Findings, spec: any, at: string): void {
  const rules = spec.successPolicy.rules ?? [];
  if (!rules.length) return found.required(`${at}.rules`, 'at least one rules must be specified when the successPolicy is specified');
  if (rules.length > 20) found.tooMany(`${at}.rules`, rules.length, 20);
  rules.forEach((rule: any, i: number) => {
    const path = `${at}.rules[${i}]`;
    const { succeededCount: wanted, succeededIndexes: indexes } = rule;
    if (wanted === undefined && indexes === undefined)
      return found.required(path, 'at least one of succeededCount or succeededIndexes must be specified');
    let named: number | undefined;
    if (indexes !== undefined)
      try {
        named = countIndexes(indexes, spec.completions ?? 0);
      } catch (error) {
        found.invalid(`${path}.succeededIndexes`, indexes, `error parsing succeededIndexes: ${(error as Error).message}`);
        named = 0;
      }
    if (wanted === undefined) return;
    const field = `${path}.succeededCount`;
    found.nonNegative(field, wanted);
    if (wanted > (spec.completions ?? 0))
      found.invalid(field, wanted, `must be less than or equal to ${spec.completions} (the number of specified completions)`);
    if (named !== undefined && wanted > named)
      found.invalid(field, wanted, `must be less than or equal to ${named} (the number of indexes in the specified succeededIndexes field)`);
  });
}

const counts = ['parallelism', 'completions', 'activeDeadlineSeconds', 'backoffLimit', 'ttlSecondsAfterFinished', 'backoffLimitPerIndex', 'maxFailedIndexes'];

/** A JobSpec at a path: a Job's own, or that of a CronJob's template. */
export function validateJobSpec(found: Findings, spec: any, path: string): void {
  for (const field of counts) found.nonNegative(`${path}.${field}`, spec?.[field]);
  const { completions, parallelism, backoffLimitPerIndex: perIndex, maxFailedIndexes: failed, completionMode = 'NonIndexed' } = spec ?? {};
  if (failed !== undefined && perIndex === undefined) found.required(`${path}.backoffLimitPerIndex`, 'when maxFailedIndexes is specified');
  if (spec?.managedBy !== undefined) {
    validateDomainPath(found, `${path}.managedBy`, spec.managedBy);
    if (spec.managedBy.length > 63) found.tooLong(`${path}.managedBy`, 'may not be more than 63 bytes');
  }
  found.oneOf(`${path}.completionMode`, completionMode, ['NonIndexed', 'Indexed']);
  if (completionMode === 'Indexed') {
    if (completions === undefined) found.required(`${path}.completions`, 'when completion mode is Indexed');
    if (parallelism > mostParallel)
      found.invalid(`${path}.parallelism`, parallelism, `must be less than or equal to ${mostParallel} when completion mode is Indexed`);
    if (failed > completions) found.invalid(`${path}.maxFailedIndexes`, failed, 'must be less than or equal to completions');
    if (failed > mostParallel) found.invalid(`${path}.maxFailedIndexes`, failed, `must be less than or equal to ${mostParallel}`);
    if (completions > mostParallel && perIndex !== undefined) {
      const detail = `must be less than or equal to 10000 when completions are above ${mostParallel} and used with backoff limit per index`;
      if (failed === undefined) found.required(`${path}.maxFailedIndexes`, `must be specified when completions is above ${mostParallel}`);
      if (parallelism > 10_000) found.invalid(`${path}.parallelism`, parallelism, detail);
      if (failed > 10_000) found.invalid(`${path}.maxFailedIndexes`, failed, detail);
    }
  } else if (completionMode === 'NonIndexed') {
    if (perIndex !== undefined) found.invalid(`${path}.backoffLimitPerIndex`, perIndex, 'requires indexed completion mode');
    if (failed !== undefined) found.invalid(`${path}.maxFailedIndexes`, failed, 'requires indexed completion mode');
  }
  if (spec?.podFailurePolicy) validateFailurePolicy(found, spec, `${path}.podFailurePolicy`);
  if (spec?.successPolicy) {
    if (completionMode === 'Indexed') validateSuccessPolicy(found, spec, `${path}.successPolicy`);
    else found.invalid(`${path}.successPolicy`, internalForm('batch.SuccessPolicy', spec.successPolicy), 'requires indexed completion mode');
  }
  const replacement = spec?.podReplacementPolicy;
  if (replacement !== undefined) {
    if (spec.podFailurePolicy) found.oneOf(`${path}.podReplacementPolicy`, replacement, ['Failed']);
    else found.oneOf(`${path}.podReplacementPolicy`, replacement, ['Failed', 'TerminatingOrFailed']);
  }
  found.errors.push(...validatePodTemplate(spec?.template, `${path}.template`));
  const field = `${path}.template.spec.restartPolicy`;
  const policy = spec?.template?.spec?.restartPolicy;
  if (policy === undefined || policy === 'Always') found.required(field, 'valid values: "OnFailure", "Never"');
  else if (policy !== 'OnFailure' && policy !== 'Never') found.oneOf(field, policy, ['OnFailure', 'Never']);
  else if (spec.podFailurePolicy && policy !== 'Never') found.invalid(field, policy, 'only "Never" is supported when podFailurePolicy is specified');
}

export function validateJob(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  validateJobSpec(found, s, 'spec');
  if (!s.selector) found.required('spec.selector');
  else validateLabelSelector(found, s.selector, 'spec.selector');
  const labels = s.template?.metadata?.labels;
  if (!s.selector || !labelSelectorMatches(s.selector, labels))
    found.invalid('spec.template.metadata.labels', labels ?? null, '`selector` does not match template `labels`');
  return found.errors;
}

/** Pods of an indexed job have the job's name and their index as host name. */
export function validateHostnames(o: any): FieldError[] {
  const { completionMode, completions } = o.spec ?? {};
  if (completionMode !== 'Indexed' || !(completions > 0)) return [];
  const longest = `${o.metadata.name ?? ''}-${completions - 1}`;
  const detail = `will not able to create pod with invalid DNS label: ${longest}`;
  return labelProblems(longest).length ? [{ type: 'FieldValueInvalid', field: 'metadata.name', value: o.metadata.name ?? '', detail }] : [];
}

export function validateJobUpdate(o: any, old: any): FieldError[] {
  const found = new Findings();
  const [s, before] = [o.spec ?? {}, old.spec ?? {}];
  if (s.completionMode !== 'Indexed') found.immutable('spec.completions', s.completions, before.completions);
  else if (s.completions !== undefined && s.completions !== before.completions && s.completions !== s.parallelism)
    found.invalid('spec.completions', s.completions, 'can only be modified in tandem with spec.parallelism');
  found.immutable('spec.selector', s.selector, before.selector);
  // While a job is suspended and has not begun, some of its template may still be set.
  const open = before.suspend === true && !old.status?.startTime;
  const fixed = (template: any) => {
    const copy = structuredClone(template ?? {});
    if (open) {
      for (const field of ['nodeSelector', 'tolerations', 'schedulingGates', 'affinity']) delete copy.spec?.[field];
      for (const c of [...(copy.spec?.containers ?? []), ...(copy.spec?.initContainers ?? [])]) delete c.resources;
      delete copy.metadata;
    }
    return canonicalJson(copy);
  };
  if (fixed(s.template) !== fixed(before.template)) {
    if (before.suspend === true) found.invalid('spec.template.spec', internalForm('core.PodSpec', s.template?.spec), 'field is immutable');
    else found.invalid('spec.template', internalForm('core.PodTemplateSpec', s.template), 'field is immutable');
  }
  found.immutable('spec.completionMode', s.completionMode, before.completionMode);
  if (canonicalJson(s.podFailurePolicy) !== canonicalJson(before.podFailurePolicy))
    found.invalid('spec.podFailurePolicy', s.podFailurePolicy ? internalForm('batch.PodFailurePolicy', s.podFailurePolicy) : null, 'field is immutable');
  found.immutable('spec.backoffLimitPerIndex', s.backoffLimitPerIndex, before.backoffLimitPerIndex);
  found.immutable('spec.managedBy', s.managedBy, before.managedBy);
  if (canonicalJson(s.successPolicy) !== canonicalJson(before.successPolicy))
    found.invalid('spec.successPolicy', s.successPolicy ? internalForm('batch.SuccessPolicy', s.successPolicy) : null, 'field is immutable');
  found.errors.push(...validateHostnames(o));
  return found.errors;
}
