import type { FieldError } from '../errors.ts';
import { qualifiedNameProblems } from '../validation.ts';
import { Findings } from './findings.ts';
import { validateLabelSelector } from './scheduling-validation.ts';
import { validateCountOrPercent } from './workload-validation.ts';

const highestUserPriority = 1_000_000_000;

export function validateRole(o: any): FieldError[] {
  const found = new Findings();
  (o.rules ?? []).forEach((rule: any, i: number) => {
    const at = `rules[${i}]`;
    if (rule.nonResourceURLs?.length) {
      if (o.kind === 'Role') found.invalid(`${at}.nonResourceURLs`, rule.nonResourceURLs, 'namespaced rules cannot apply to non-resource URLs');
      else if (rule.apiGroups?.length || rule.resources?.length || rule.resourceNames?.length)
        found.invalid(`${at}.nonResourceURLs`, rule.nonResourceURLs, 'rules cannot apply to both regular resources and non-resource URLs');
    } else {
      if (!rule.apiGroups?.length) found.required(`${at}.apiGroups`, 'resource rules must supply at least one api group');
      if (!rule.resources?.length) found.required(`${at}.resources`, 'resource rules must supply at least one resource');
    }
    if (!rule.verbs?.length) found.required(`${at}.verbs`);
  });
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
    if (!s.name) found.required(`${at}.name`);
    if (s.kind === 'ServiceAccount') {
      if (!s.namespace) found.required(`${at}.namespace`);
    } else found.oneOf(`${at}.kind`, s.kind ?? '', ['ServiceAccount', 'User', 'Group']);
  });
  return found.errors;
}

export function validatePodDisruptionBudget(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (s.minAvailable !== undefined && s.maxUnavailable !== undefined) found.invalid('spec', s, 'minAvailable and maxUnavailable cannot be both set');
  if (s.minAvailable !== undefined) validateCountOrPercent(found, 'spec.minAvailable', s.minAvailable);
  else if (s.maxUnavailable !== undefined) validateCountOrPercent(found, 'spec.maxUnavailable', s.maxUnavailable);
  if (s.selector) validateLabelSelector(found, s.selector, 'spec.selector');
  return found.errors;
}

export function validatePriorityClass(o: any): FieldError[] {
  const found = new Findings();
  const system = String(o.metadata?.name ?? '').startsWith('system-');
  if (!system && o.value > highestUserPriority)
    found.forbidden('value', `maximum allowed value of a user defined priority is ${highestUserPriority}`);
  if (o.preemptionPolicy) found.oneOf('preemptionPolicy', o.preemptionPolicy, ['PreemptLowerPriority', 'Never']);
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
    if (!t.effect) found.required(`${at}.effect`);
    else found.oneOf(`${at}.effect`, t.effect, ['NoSchedule', 'PreferNoSchedule', 'NoExecute']);
    const id = `${t.key}:${t.effect}`;
    if (seen.has(id)) found.duplicate(at, t);
    seen.add(id);
  });
  return found.errors;
}

/** Events tell of something in their own namespace; those of what has none are in default or kube-system. */
export function validateEvent(o: any): FieldError[] {
  const about = o.involvedObject ?? o.regarding ?? {};
  const field = o.involvedObject ? 'involvedObject.namespace' : 'regarding.namespace';
  const found = new Findings();
  const namespace = o.metadata?.namespace;
  if (about.namespace && about.namespace !== namespace) found.invalid(field, about.namespace, 'does not match event.namespace');
  return found.errors;
}
