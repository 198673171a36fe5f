import { canonicalJson } from '../equality.ts';
import type { KindStrategy } from '../scheme.ts';
import { validateWebhooks } from './rules.ts';
import { validateBinding, validatePolicy } from './policy-validation.ts';

function defaultRules(rules: any[] | undefined): void {
  for (const rule of rules ?? []) rule.scope ??= '*';
}

function defaultMatch(match: any): void {
  if (!match) return;
  match.matchPolicy ??= 'Equivalent';
  match.namespaceSelector ??= {};
  match.objectSelector ??= {};
  defaultRules(match.resourceRules);
  defaultRules(match.excludeResourceRules);
}

function defaultWebhooks(configuration: any, mutating: boolean): void {
  for (const hook of configuration.webhooks ?? []) {
    hook.failurePolicy ??= 'Fail';
    hook.matchPolicy ??= 'Equivalent';
    hook.namespaceSelector ??= {};
    hook.objectSelector ??= {};
    hook.timeoutSeconds ??= 10;
    if (mutating) hook.reinvocationPolicy ??= 'Never';
    defaultRules(hook.rules);
    if (hook.clientConfig?.service) hook.clientConfig.service.port ??= 443;
  }
}

/** Generation counts changes of everything but metadata and status, which is its subresource's alone. */
const counting: KindStrategy = {
  prepareForCreate(o) {
    delete o.status;
    o.metadata.generation = 1;
  },
  prepareForUpdate(o, old) {
    if (old.status === undefined) delete o.status;
    else o.status = structuredClone(old.status);
    const content = (x: any) => canonicalJson({ ...x, metadata: undefined, status: undefined });
    o.metadata.generation = (old.metadata.generation ?? 0) + (content(o) === content(old) ? 0 : 1);
  },
  prepareForStatusUpdate(o, old) {
    const { status } = o;
    const { resourceVersion, managedFields } = o.metadata;
    for (const key of Object.keys(o)) delete o[key];
    Object.assign(o, structuredClone(old));
    for (const [key, value] of [['resourceVersion', resourceVersion], ['managedFields', managedFields]] as const) {
      if (value === undefined) delete o.metadata[key];
      else o.metadata[key] = value;
    }
    if (status !== undefined) o.status = status;
    else delete o.status;
  },
};

const webhooks = (mutating: boolean): KindStrategy => ({
  ...counting,
  default: (o) => defaultWebhooks(o, mutating),
  validate: (o) => validateWebhooks(o, mutating),
});

const policy = (mutating: boolean): KindStrategy => ({
  ...counting,
  default(o) {
    if (!o.spec) return;
    o.spec.failurePolicy ??= 'Fail';
    defaultMatch(o.spec.matchConstraints);
  },
  validate: (o) => validatePolicy(o, mutating),
});

const binding = (mutating: boolean): KindStrategy => ({
  ...counting,
  default: (o) => defaultMatch(o.spec?.matchResources),
  validate: (o) => validateBinding(o, mutating),
});

/** The kinds that configure admission. */
export const admissionStrategies: Record<string, KindStrategy> = {
  'admissionregistration.k8s.io/MutatingWebhookConfiguration': webhooks(true),
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration': webhooks(false),
  'admissionregistration.k8s.io/ValidatingAdmissionPolicy': policy(false),
  'admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding': binding(false),
  'admissionregistration.k8s.io/MutatingAdmissionPolicy': policy(true),
  'admissionregistration.k8s.io/MutatingAdmissionPolicyBinding': binding(true),
};
