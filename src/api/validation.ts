import type { FieldError } from './errors.ts';
import { definitionOf, type Shape } from './schema.ts';
import type { ServedResource } from './scheme.ts';

export const dnsSubdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
export const dnsLabel = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const qualifiedName = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;

const subdomainMessage =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const labelMessage =
  "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";

export function subdomainProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 253) problems.push('must be no more than 253 characters');
  if (!dnsSubdomain.test(name)) problems.push(subdomainMessage);
  return problems;
}
export function labelProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 63) problems.push('must be no more than 63 characters');
  if (!dnsLabel.test(name)) problems.push(dnsSubdomain.test(name) ? 'must not contain dots' : labelMessage);
  return problems;
}
/** Names that only must fit into a path: RBAC objects. */
export function pathSegmentProblems(name: string): string[] {
  if (name === '.' || name === '..') return [`may not be '${name}'`];
  return ['/', '%'].filter((c) => name.includes(c)).map((c) => `may not contain '${c}'`);
}

/** What is wrong with a label's key, the name of a finalizer and the like. */
export function qualifiedNameProblems(key: string): string[] {
  const parts = key.split('/');
  const name = parts.at(-1) as string;
  const message =
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
  const problems: string[] = [];
  if (parts.length > 2)
    return [`${message.replace('name part', 'a valid label key')} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`];
  if (parts.length === 2)
    problems.push(...(parts[0] ? subdomainProblems(parts[0]).map((p) => `prefix part ${p.replace('253 characters', '253 bytes')}`) : ['prefix part must be non-empty']));
  if (name === '') problems.push('name part must be non-empty');
  else if (name.length > 63) problems.push('name part must be no more than 63 bytes');
  if (!qualifiedName.test(name)) problems.push(message);
  return problems;
}

/** What is wrong with a label's value. */
export function labelValueProblems(value: string): string[] {
  const problems: string[] = [];
  if (value.length > 63) problems.push('must be no more than 63 bytes');
  if (!labelValue.test(value))
    problems.push(
      "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    );
  return problems;
}

export function validateLabels(labels: Record<string, string> | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const [key, value] of Object.entries(labels ?? {})) {
    for (const detail of qualifiedNameProblems(key)) errors.push({ type: 'FieldValueInvalid', field: path, value: key, detail });
    for (const detail of labelValueProblems(String(value))) errors.push({ type: 'FieldValueInvalid', field: path, value: String(value), detail });
  }
  return errors;
}

const annotationLimit = 256 * 1024;

export function validateAnnotations(annotations: Record<string, string> | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  let size = 0;
  for (const [key, value] of Object.entries(annotations ?? {})) {
    for (const detail of qualifiedNameProblems(key.toLowerCase())) errors.push({ type: 'FieldValueInvalid', field: path, value: key, detail });
    size += key.length + String(value).length;
  }
  if (size > annotationLimit) errors.push({ type: 'FieldValueTooLong', field: path, detail: `may not be more than ${annotationLimit} bytes` });
  return errors;
}

/** Checks metadata: name, namespace, labels, annotations, finalizers, owner references. */
export function validateObjectMeta(meta: any, resource: ServedResource): FieldError[] {
  const errors: FieldError[] = [];
  const nameProblems = resource.strategy.validateName ?? subdomainProblems;
  if (meta.generateName)
    for (const detail of nameProblems(`${meta.generateName}x`.slice(0, 63), true))
      errors.push({ type: 'FieldValueInvalid', field: 'metadata.generateName', value: meta.generateName, detail });
  if (!meta.name) errors.push({ type: 'FieldValueRequired', field: 'metadata.name', detail: 'name or generateName is required' });
  else
    for (const detail of nameProblems(meta.name, false)) errors.push({ type: 'FieldValueInvalid', field: 'metadata.name', value: meta.name, detail });
  if (resource.namespaced) {
    if (!meta.namespace) errors.push({ type: 'FieldValueRequired', field: 'metadata.namespace', detail: '' });
    else
      for (const detail of labelProblems(meta.namespace))
        errors.push({ type: 'FieldValueInvalid', field: 'metadata.namespace', value: meta.namespace, detail });
  } else if (meta.namespace) errors.push({ type: 'FieldValueForbidden', field: 'metadata.namespace', detail: 'not allowed on this type' });
  errors.push(...validateLabels(meta.labels, 'metadata.labels'));
  if (meta.annotations) errors.push(...validateAnnotations(meta.annotations, 'metadata.annotations'));
  errors.push(...validateOwners(meta.ownerReferences ?? []), ...validateFinalizers(meta.finalizers ?? [], resource.custom !== undefined || lenientFinalizers.has(resource.storageGroup)));
  return errors;
}

const standardFinalizers = ['orphan', 'foregroundDeletion', 'kubernetes'];

/** Groups that are served apart from the others. */
const lenientFinalizers = new Set(['apiextensions.k8s.io', 'apiregistration.k8s.io', 'admissionregistration.k8s.io', 'node.k8s.io', 'coordination.k8s.io', 'policy']);

/** Finalizers of custom resources need no domain: the server only warns. */
function validateFinalizers(finalizers: string[], custom: boolean): FieldError[] {
  const errors: FieldError[] = [];
  finalizers.forEach((finalizer, i) => {
    for (const detail of qualifiedNameProblems(finalizer))
      errors.push({ type: 'FieldValueInvalid', field: 'metadata.finalizers', value: finalizer, detail });
    if (!custom && !finalizer.includes('/') && !standardFinalizers.includes(finalizer)) {
      const detail = 'name is neither a standard finalizer name nor is it fully qualified';
      errors.push({ type: 'FieldValueInvalid', field: `metadata.finalizers[${i}]`, value: finalizer, detail });
    }
  });
  if (finalizers.includes('orphan') && finalizers.includes('foregroundDeletion')) {
    const detail = 'finalizer orphan and foregroundDeletion cannot be both set';
    errors.push({ type: 'FieldValueInvalid', field: 'metadata.finalizers', value: finalizers, detail });
  }
  return errors;
}

function validateOwners(owners: any[]): FieldError[] {
  const errors: FieldError[] = [];
  owners.forEach((owner, i) => {
    const path = `metadata.ownerReferences[${i}]`;
    for (const field of ['apiVersion', 'kind', 'name', 'uid'])
      if (!owner[field]) errors.push({ type: 'FieldValueRequired', field: `${path}.${field}`, detail: 'must not be empty' });
    if (String(owner.apiVersion ?? '').split('/').length > 2) {
      const detail = 'must be <group>/<version> or <version>';
      errors.push({ type: 'FieldValueInvalid', field: `${path}.apiVersion`, value: owner.apiVersion, detail });
    }
    if (owner.kind === 'Event' && owner.apiVersion === 'v1')
      errors.push({ type: 'FieldValueInvalid', field: path, value: owner, detail: '/v1, Kind=Event is disallowed from being an owner' });
  });
  const controllers = owners.filter((o) => o.controller === true).map((o) => `${o.kind}/${o.name}`);
  if (controllers.length > 1) {
    const detail = `Only one reference can have Controller set to true. Found "true" in references for ${controllers[0]} and ${controllers[1]}`;
    errors.push({ type: 'FieldValueInvalid', field: 'metadata.ownerReferences', value: owners, detail });
  }
  return errors;
}

/** Checks what of metadata may not change. */
export function validateObjectMetaUpdate(meta: any, old: any): FieldError[] {
  const errors: FieldError[] = [];
  for (const field of ['name', 'namespace', 'uid', 'creationTimestamp', 'deletionTimestamp', 'deletionGracePeriodSeconds'] as const) {
    if (JSON.stringify(meta[field]) !== JSON.stringify(old[field]))
      errors.push({ type: 'FieldValueInvalid', field: `metadata.${field}`, value: meta[field], detail: 'field is immutable' });
  }
  if (old.deletionTimestamp) {
    const added = (meta.finalizers ?? []).filter((f: string) => !(old.finalizers ?? []).includes(f));
    if (added.length)
      errors.push({
        type: 'FieldValueForbidden',
        field: 'metadata.finalizers',
        detail: `no new finalizers can be added if the object is being deleted, found new finalizers []string{${added.map((f: string) => JSON.stringify(f)).join(', ')}}`,
      });
  }
  return errors;
}

/** Checks that required fields are there (a required list may be empty; the kinds judge that). */
export function validateSchema(definition: string, object: unknown): FieldError[] {
  const errors: FieldError[] = [];
  const visit = (value: any, shape: Shape, path: string): void => {
    if (typeof value !== 'object' || value === null) return;
    if (shape.kind === 'array' && Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) visit(value[i], shape.items as Shape, `${path}[${i}]`);
    } else if (shape.kind === 'map') for (const [k, v] of Object.entries(value)) visit(v, shape.items as Shape, `${path}[${k}]`);
    else if (shape.kind === 'object' && shape.definition && !shape.definition.open) {
      for (const field of shape.definition.fields.values()) {
        const inner = value[field.name];
        const at = path ? `${path}.${field.name}` : field.name;
        if (inner !== undefined && inner !== null) visit(inner, field.shape, at);
        // A zero value cannot be told from none where Go's types are concerned: only what has no zero form is demanded here.
        else if (field.required && field.shape.kind === 'string' && field.defaultValue === '' && field.name === 'name')
          errors.push({ type: 'FieldValueRequired', field: at, detail: '' });
      }
    }
  };
  const root = definitionOf(definition);
  if (!root || root.custom || typeof object !== 'object' || object === null) return errors;
  for (const field of root.fields.values()) if (field.name !== 'metadata') visit((object as any)[field.name], field.shape, field.name);
  return errors;
}
