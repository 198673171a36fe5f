import type { FieldError } from '../errors.ts';
import { internalForm } from '../internal-form.ts';
import { labelValueProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';
import { validateLabelSelector } from './scheduling-validation.ts';
import { blockProblems, parseBlock } from './names-validation.ts';
import { validateCountOrPercent } from './workload-validation.ts';

const highestUserPriority = 1_000_000_000;

export function validateRole(o: any): FieldError[] {
  const found = new Findings();
  (o.rules ?? []).forEach((rule: any, i: number) => {
    const at = `rules[${i}]`;
    if (rule.nonResourceURLs?.length) {
      if (o.kind === 'Role') found.invalid(`${at}.nonResourceURLs`, rule.nonResourceURLs, 'namespaced rules cannot apply to non-resource URLs');
      if (rule.apiGroups?.length || rule.resources?.length || rule.resourceNames?.length)
        found.invalid(`${at}.nonResourceURLs`, rule.nonResourceURLs, 'rules cannot apply to both regular resources and non-resource URLs');
    } else {
      if (!rule.apiGroups?.length) found.required(`${at}.apiGroups`, 'resource rules must supply at least one api group');
      if (!rule.resources?.length) found.required(`${at}.resources`, 'resource rules must supply at least one resource');
    }
    if (!rule.verbs?.length) found.required(`${at}.verbs`);
  });
  if (o.aggregationRule) {
    const at = 'aggregationRule.clusterRoleSelectors';
    const selectors = o.aggregationRule.clusterRoleSelectors ?? [];
    if (!selectors.length) found.required(at, 'at least one clusterRoleSelector required if aggregationRule is non-nil');
    selectors.forEach((selector: any, i: number) => {
      const before = found.errors.length;
      validateLabelSelector(found, selector, `${at}[${i}]`);
      if (found.errors.length > before) found.invalid(`${at}[${i}]`, null, 'invalid label selector.');
    });
  }
  return found.errors;
}

export function validateRoleBinding(o: any): FieldError[] {
  const found = new Findings();
  const { apiGroup, kind, name } = o.roleRef ?? {};
  if (apiGroup !== 'rbac.authorization.k8s.io') found.oneOf('roleRef.apiGroup', apiGroup ?? '', ['rbac.authorization.k8s.io']);
  found.oneOf('roleRef.kind', kind ?? '', o.kind === 'RoleBinding' ? ['Role', 'ClusterRole'] : ['ClusterRole']);
  if (!name) found.required('roleRef.name');
  (o.subjects ?? []).forEach((s: any, i: number) => {
    const at = `subjects[${i}]`;
    if (s.kind === 'ServiceAccount') {
      if (s.name) found.problems(`${at}.name`, s.name, subdomainProblems);
      if (s.apiGroup) found.oneOf(`${at}.apiGroup`, s.apiGroup, ['']);
      // A binding within a namespace means that one where none is named.
      if (!s.namespace && o.kind === 'ClusterRoleBinding') found.required(`${at}.namespace`);
    } else if (s.kind === 'User' || s.kind === 'Group') {
      if (s.apiGroup !== 'rbac.authorization.k8s.io') found.oneOf(`${at}.apiGroup`, s.apiGroup ?? '', ['rbac.authorization.k8s.io']);
    } else found.oneOf(`${at}.kind`, s.kind ?? '', ['ServiceAccount', 'User', 'Group']);
    if (!s.name) found.required(`${at}.name`);
  });
  return found.errors;
}

export function validatePodDisruptionBudget(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (s.minAvailable !== undefined && s.maxUnavailable !== undefined)
    found.invalid('spec', internalForm('policy.PodDisruptionBudgetSpec', s), 'minAvailable and maxUnavailable cannot be both set');
  for (const field of ['minAvailable', 'maxUnavailable']) {
    if (s[field] === undefined) continue;
    validateCountOrPercent(found, `spec.${field}`, s[field]);
    if (typeof s[field] === 'string' && /^\d+%$/.test(s[field]) && Number.parseInt(s[field], 10) > 100) found.invalid(`spec.${field}`, s[field], 'must not be greater than 100%');
  }
  if (s.selector) validateLabelSelector(found, s.selector, 'spec.selector');
  const policy = s.unhealthyPodEvictionPolicy;
  if (policy !== undefined) found.oneOf('spec.unhealthyPodEvictionPolicy', policy, ['AlwaysAllow', 'IfHealthyBudget']);
  return found.errors;
}

export function validatePriorityClass(o: any): FieldError[] {
  const found = new Findings();
  const system = String(o.metadata?.name ?? '').startsWith('system-');
  if (!system && o.value > highestUserPriority)
    found.forbidden('value', `maximum allowed value of a user defined priority is ${highestUserPriority}`);
  if (o.preemptionPolicy === '') found.required('preemptionPolicy');
  else if (o.preemptionPolicy !== undefined) found.oneOf('preemptionPolicy', o.preemptionPolicy, ['PreemptLowerPriority', 'Never']);
  return found.errors;
}

/** Neither value nor policy may change; the rest is free. */
export function validatePriorityClassUpdate(o: any, old: any): FieldError[] {
  const found = new Findings();
  if (o.value !== old.value) found.forbidden('value', 'may not be changed in an update.');
  found.immutable('preemptionPolicy', o.preemptionPolicy, old.preemptionPolicy);
  return found.errors;
}

export function validateControllerRevision(o: any, old?: any): FieldError[] {
  const found = new Findings();
  found.nonNegative('revision', o.revision);
  const { data } = o;
  if (old) found.immutable('data', data, old.data);
  else if (data === undefined || data === null) found.required('data', 'data is mandatory');
  else if (typeof data !== 'object' || Array.isArray(data)) found.required('data', 'data must be a valid JSON object');
  return found.errors;
}

export function validateLease(o: any): FieldError[] {
  const found = new Findings();
  const { leaseDurationSeconds, leaseTransitions } = o.spec ?? {};
  if (leaseDurationSeconds !== undefined && leaseDurationSeconds <= 0)
    found.invalid('spec.leaseDurationSeconds', leaseDurationSeconds, 'must be greater than 0');
  found.nonNegative('spec.leaseTransitions', leaseTransitions);
  return found.errors;
}

/** Taints stand at metadata in upstream's messages, wherever they are. */
export function validateNode(o: any): FieldError[] {
  const found = new Findings();
  const seen = new Set<string>();
  (o.spec?.taints ?? []).forEach((t: any, i: number) => {
    const at = `metadata.taints[${i}]`;
    found.problems(`${at}.key`, t.key ?? '', qualifiedNameProblems);
    const problems = labelValueProblems(t.value ?? '');
    if (problems.length) found.invalid(`${at}.value`, t.value, problems.join(';'));
    if (!t.effect) found.required(`${at}.effect`);
    else found.oneOf(`${at}.effect`, t.effect, ['NoSchedule', 'PreferNoSchedule', 'NoExecute']);
    const id = `${t.key}:${t.effect}`;
    if (seen.has(id)) found.duplicate(at, { Key: t.key ?? '', Value: t.value ?? '', Effect: t.effect ?? '', TimeAdded: t.timeAdded ?? null }, 'taints must be unique by key and effect pair');
    seen.add(id);
  });
  const blocks: string[] = o.spec?.podCIDRs ?? [];
  blocks.forEach((block, i) => {
    found.problems(`spec.podCIDRs[${i}]`, block, blockProblems);
  });
  if (blocks.length > 1) {
    const families = blocks.map((block) => parseBlock(block)?.family);
    if (blocks.length > 2 || families.includes(undefined) || families[0] === families[1])
      found.invalid('spec.podCIDRs', blocks, 'may specify no more than one CIDR for each IP family');
  }
  return found.errors;
}

export function validateNodeUpdate(o: any, old: any): FieldError[] {
  const found = new Findings();
  const declared = new Findings();
  const before: string[] = old.spec?.podCIDRs ?? [];
  const now: string[] = o.spec?.podCIDRs ?? [];
  const detail = 'node updates may not change podCIDR except from "" to valid';
  if (before.length && before.length !== now.length) found.forbidden('spec.podCIDRs', detail);
  else before.forEach((block, i) => { if (block !== now[i]) found.forbidden('spec.podCIDRs', detail); });
  const [was, is] = [old.spec?.providerID, o.spec?.providerID];
  if (was && !is) declared.invalid('spec.providerID', null, 'field cannot be cleared once set');
  else if (was && was !== is) declared.invalid('spec.providerID', null, 'field cannot be modified once set');
  if ((o.spec?.externalID ?? '') !== (old.spec?.externalID ?? '')) found.forbidden('spec.externalID', 'may not be updated');
  return [...found.errors, ...declared.errors];
}
