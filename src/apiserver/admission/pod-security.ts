import { forbidden, invalid } from '../../api/errors.ts';
import type { Container, Namespace, ObjectMeta, Pod, PodSpec } from '../../api/generated/types.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';
import { evaluate, type Violation } from './pod-security/checks.ts';
import { isStricter, type LevelVersion, minorOf, type Policy, policyOf, textOf } from './pod-security/policy.ts';

/** Where a pod template stands in what makes pods, by group/resource. */
const templates: Record<string, (object: any) => { metadata?: Partial<ObjectMeta>; spec?: PodSpec } | undefined> = {
  '/podtemplates': (o) => o.template,
  '/replicationcontrollers': (o) => o.spec?.template,
  'apps/replicasets': (o) => o.spec?.template,
  'apps/deployments': (o) => o.spec?.template,
  'apps/statefulsets': (o) => o.spec?.template,
  'apps/daemonsets': (o) => o.spec?.template,
  'batch/jobs': (o) => o.spec?.template,
  'batch/cronjobs': (o) => o.spec?.jobTemplate?.spec?.template,
};

/** Most pods looked at when a namespace's level is raised. */
const podsChecked = 3000;

/** Holds pods to the Pod Security Standards that the labels of their namespace name; warns about templates that will be refused. */
export const podSecurity: AdmissionPlugin = {
  name: 'PodSecurity',
  validate(request) {
    if (request.operation !== 'CREATE' && request.operation !== 'UPDATE') return;
    const resource = `${request.group}/${request.resource}`;
    if (resource === '/namespaces') return validateNamespace(request);
    if (resource === '/pods') return validatePod(request);
    const template = templates[resource];
    if (template && !request.subresource) validateTemplate(request, template(request.object));
  },
};

const detailOf = (violations: Violation[]) => violations.map(({ reason, detail }) => (detail ? `${reason} (${detail})` : reason)).join(', ');
const check = (at: LevelVersion, metadata: Partial<ObjectMeta>, spec: PodSpec) => evaluate(at.level, minorOf(at), metadata, spec);

function policyFor(request: AdmissionRequest): Policy {
  const entry = request.api.registry.cache('', 'v1', 'namespaces').get(request.namespace);
  return policyOf(entry?.labels ?? {}).policy;
}

function validatePod(request: AdmissionRequest): void {
  if (request.subresource && request.subresource !== 'ephemeralcontainers' && request.subresource !== 'resize') return;
  const policy = policyFor(request);
  const { metadata, spec } = request.object as Pod;
  if (request.operation === 'UPDATE' && !isSignificant(spec, (request.old as Pod).spec)) return;
  const violations = check(policy.enforce, metadata, spec);
  if (violations.length) {
    throw forbidden(request.call.target.subject, request.name, `violates PodSecurity "${textOf(policy.enforce)}": ${detailOf(violations)}`);
  }
  warn(request, policy.warn, metadata, spec);
}

function validateTemplate(request: AdmissionRequest, template: { metadata?: Partial<ObjectMeta>; spec?: PodSpec } | undefined): void {
  if (!template?.spec) return;
  warn(request, policyFor(request).warn, template.metadata ?? {}, template.spec);
}

function warn(request: AdmissionRequest, at: LevelVersion, metadata: Partial<ObjectMeta>, spec: PodSpec): void {
  const violations = check(at, metadata, spec);
  if (violations.length) request.call.warnings.push(`would violate PodSecurity "${textOf(at)}": ${detailOf(violations)}`);
}

/** Whether an update brings containers or images that were not looked at. */
function isSignificant(spec: PodSpec, old: PodSpec): boolean {
  const changed = (now: Container[] = [], before: Container[] = []) => now.length !== before.length || now.some((c, i) => c.image !== before[i]?.image);
  if (changed(spec.containers, old.containers) || changed(spec.initContainers, old.initContainers)) return true;
  const before = new Map((old.ephemeralContainers ?? []).map((c) => [c.name, c.image]));
  return (spec.ephemeralContainers ?? []).some((c) => before.get(c.name) !== c.image);
}

async function validateNamespace(request: AdmissionRequest): Promise<void> {
  if (request.subresource) return;
  const { metadata } = request.object as Namespace;
  const now = policyOf(metadata.labels ?? {});
  const refuse = () => {
    throw invalid({ group: '', kind: 'Namespace' }, request.name, now.errors);
  };
  if (request.operation === 'CREATE') {
    if (now.errors.length) refuse();
    return;
  }
  const before = policyOf((request.old as Namespace).metadata.labels ?? {});
  if (now.errors.length && JSON.stringify(now.errors) !== JSON.stringify(before.errors)) refuse();
  const [next, last] = [now.policy.enforce, before.policy.enforce];
  if (next.level === 'privileged' || (next.version === last.version && !isStricter(next.level, last.level))) return;
  await request.api.hub.current(request.call.signal);
  request.call.warnings.push(...warningsAboutPods(request, metadata.name as string, next));
}

/** What stands in the namespace that a raised level would have refused; one line for each kind of violation. */
function warningsAboutPods(request: AdmissionRequest, namespace: string, level: LevelVersion): string[] {
  const pods = request.api.registry.cache('', 'v1', 'pods').list(namespace);
  // One pod of each controller first: the others are like it.
  const seen = new Set<string>();
  const [first, rest]: [Pod[], Pod[]] = [[], []];
  for (const entry of pods) {
    const pod = entry.object as unknown as Pod;
    const owner = pod.metadata.ownerReferences?.find((o) => o.controller)?.uid;
    if (owner && seen.has(owner)) rest.push(pod);
    else first.push(pod);
    if (owner) seen.add(owner);
  }
  const byReason = new Map<string, string[]>();
  const checked = [...first, ...rest].slice(0, podsChecked);
  for (const { metadata, spec } of checked) {
    const violations = check(level, metadata, spec);
    if (!violations.length) continue;
    const reason = violations.map((v) => v.reason).join(', ');
    byReason.set(reason, [...(byReason.get(reason) ?? []), metadata.name as string]);
  }
  const warnings: string[] = [];
  if (checked.length < pods.length)
    warnings.push(`new PodSecurity enforce level only checked against the first ${checked.length} of ${pods.length} existing pods`);
  if (byReason.size) warnings.push(`existing pods in namespace "${namespace}" violate the new PodSecurity enforce level "${textOf(level)}"`);
  const lines = [...byReason].map(([reason, names]) => {
    const others = names.length - 1;
    return `${names.sort()[0]}${others ? ` (and ${others} other ${others === 1 ? 'pod' : 'pods'})` : ''}: ${reason}`;
  });
  return [...warnings, ...lines.sort()];
}
