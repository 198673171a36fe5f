import { sameJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { CustomResourceDefinition } from '../generated/types.ts';
import { compileJsonPath } from '../jsonpath.ts';
import { internalList } from '../internal-form.ts';
import { subdomainProblems } from '../validation.ts';
import { validateClientConfig } from './client-config.ts';
import { isKnownFormat } from './formats.ts';
import { type JsonSchema, itemsOf, propertyOf, valuesOf } from './json-schema.ts';
import { dns1035Problems } from './metadata.ts';
import { validateSchema } from './schema-rules.ts';

type Version = NonNullable<CustomResourceDefinition['spec']['versions']>[number];
type Names = Partial<CustomResourceDefinition['spec']['names']>;

const required = (field: string, detail = ''): FieldError => ({ type: 'FieldValueRequired', field, detail });
const wrong = (field: string, value: unknown, detail: string): FieldError => ({ type: 'FieldValueInvalid', field, value, detail });

/** What is wrong with a new CustomResourceDefinition, under the paths kube-apiserver reports. */
export function validateDefinition(crd: CustomResourceDefinition): FieldError[] {
  return validate(crd, undefined);
}

export function validateDefinitionUpdate(crd: CustomResourceDefinition, old: CustomResourceDefinition): FieldError[] {
  return validate(crd, old);
}

function immutableErrors(crd: CustomResourceDefinition, old: CustomResourceDefinition): FieldError[] {
  const errors: FieldError[] = [];
  const immutable = (field: string, value: unknown, before: unknown) => {
    if ((value ?? '') !== (before ?? '')) errors.push(wrong(field, value ?? '', 'field is immutable'));
  };
  if (old.status?.conditions?.some((c) => c.type === 'Established' && c.status === 'True')) {
    immutable('spec.scope', crd.spec.scope, old.spec.scope);
    immutable('spec.names.kind', crd.spec.names?.kind, old.spec.names.kind);
  }
  immutable('spec.group', crd.spec.group, old.spec.group);
  immutable('spec.names.plural', crd.spec.names?.plural, old.spec.names.plural);
  return errors;
}

export function validateDefinitionStatus(crd: CustomResourceDefinition): FieldError[] {
  return namesErrors(crd.status?.acceptedNames ?? {}, 'status.acceptedNames');
}

function validate(crd: CustomResourceDefinition, old: CustomResourceDefinition | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const { spec, metadata } = crd;
  if (!old && metadata.name && metadata.name !== `${spec?.names?.plural ?? ''}.${spec?.group ?? ''}`)
    errors.push(wrong('metadata.name', metadata.name, 'must be spec.names.plural+"."+spec.group'));
  errors.push(...specErrors(crd, old), ...(old ? immutableErrors(crd, old) : []));
  errors.push(...namesErrors(crd.status?.acceptedNames ?? {}, 'status.acceptedNames'));
  errors.push(...storedVersionErrors(crd));
  errors.push(...approvalErrors(crd, old));
  if (spec.preserveUnknownFields && !old?.spec.preserveUnknownFields) {
    const detail = 'cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead';
    errors.push(wrong('spec.preserveUnknownFields', true, detail));
  }
  return errors;
}

function specErrors(crd: CustomResourceDefinition, old: CustomResourceDefinition | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const { spec } = crd;
  if (!spec.group) errors.push(required('spec.group'));
  else {
    const problems = subdomainProblems(spec.group);
    if (problems.length) errors.push(wrong('spec.group', spec.group, problems.join(',')));
    else if (!spec.group.includes('.')) errors.push(wrong('spec.group', spec.group, 'should be a domain with at least one dot'));
  }
  if (!spec.scope) errors.push(required('spec.scope'));
  else if (spec.scope !== 'Cluster' && spec.scope !== 'Namespaced')
    errors.push({ type: 'FieldValueNotSupported', field: 'spec.scope', value: spec.scope, detail: 'supported values: "Cluster", "Namespaced"' });
  const versions = spec.versions ?? [];
  versions.forEach((version, i) => {
    if (!version.schema?.openAPIV3Schema) errors.push(required(`spec.versions[${i}].schema.openAPIV3Schema`));
  });
  errors.push(...versionErrors(versions, old));
  const names = versions.map((v) => v.name);
  if (new Set(names).size !== names.length) errors.push(wrong('spec.versions', shownVersions(versions), 'must contain unique version names'));
  if (versions.filter((v) => v.storage).length !== 1)
    errors.push(wrong('spec.versions', shownVersions(spec.versions), 'must have exactly one version marked as storage version'));
  const first = versions[0]?.name ?? '';
  if (first && dns1035Problems(first).length) errors.push(wrong('spec.version', first, dns1035Problems(first).join(',')));
  for (const name of ['plural', 'singular', 'kind', 'listKind'] as const) if (!spec.names?.[name]) errors.push(required(`spec.names.${name}`));
  errors.push(...namesErrors(spec.names ?? {}, 'spec.names'));
  errors.push(...conversionErrors(crd));
  return errors;
}

const sharedBy = (versions: Version[], part: keyof Version): boolean =>
  versions.length > 0 && versions.every((v) => sameJson(v[part], (versions[0] as Version)[part]));

/** Versions without what they share, as messages show them. */
function shownVersions(versions: Version[] | undefined): unknown {
  const shared = (['schema', 'subresources', 'additionalPrinterColumns', 'selectableFields'] as const).filter((part) => sharedBy(versions ?? [], part));
  return internalList('apiextensions.CustomResourceDefinitionVersion', versions?.map((v) => ({ ...v, ...Object.fromEntries(shared.map((part) => [part, undefined])) })));
}

/**
 * What all versions share is reported at the top of the spec, as kube-apiserver's internal form has it; a single version shares
 * everything with itself.
 */
function versionErrors(versions: Version[], old: CustomResourceDefinition | undefined): FieldError[] {
  const errors: FieldError[] = [];
  const sharedSchema = sharedBy(versions, 'schema');
  const sharedSubresources = sharedBy(versions, 'subresources');
  const sharedColumns = sharedBy(versions, 'additionalPrinterColumns');
  const sharedFields = sharedBy(versions, 'selectableFields');
  const anyStatus = versions.some((v) => v.subresources?.status);
  versions.forEach((version, i) => {
    const path = `spec.versions[${i}]`;
    const problems = dns1035Problems(version.name ?? '');
    if (problems.length) errors.push(wrong(`${path}.name`, version.name, problems.join(',')));
    errors.push(...deprecationErrors(version, `${path}.deprecationWarning`));
    if (i > 0 && sharedSchema && sharedSubresources && sharedColumns && sharedFields) return;
    const before = old?.spec.versions?.find((v) => v.name === version.name);
    if (!sharedSchema || i === 0) {
      const at = sharedSchema ? 'spec.validation' : `${path}.schema`;
      const schema = version.schema?.openAPIV3Schema as JsonSchema | undefined;
      const unchanged = before !== undefined && sameJson(before.schema, version.schema);
      const withStatus = sharedSchema ? anyStatus : version.subresources?.status !== undefined;
      if (schema) errors.push(...validateSchema(schema, at, { withStatus, unchanged, old: oldSchemas(old) }));
    }
    if (!sharedSubresources || i === 0) errors.push(...subresourceErrors(version, sharedSubresources ? 'spec.subresources' : `${path}.subresources`));
    if (!sharedColumns || i === 0)
      errors.push(...columnErrors(version, sharedColumns ? 'spec.additionalPrinterColumns' : `${path}.additionalPrinterColumns`));
    if (!sharedFields || i === 0)
      errors.push(...selectableErrors(version, before, sharedFields ? 'spec.selectableFields' : `${path}.selectableFields`));
  });
  return errors;
}

const oldSchemas = (old: CustomResourceDefinition | undefined): JsonSchema[] =>
  (old?.spec.versions ?? []).flatMap((v) => (v.schema?.openAPIV3Schema ? [v.schema.openAPIV3Schema as JsonSchema] : []));

function deprecationErrors(version: Version, field: string): FieldError[] {
  const warning = version.deprecationWarning;
  if (warning === undefined) return [];
  const error = (detail: string) => wrong(field, warning, detail);
  if (!version.deprecated) return [error('can only be set for deprecated versions')];
  const errors: FieldError[] = [];
  if (Buffer.byteLength(warning) > 256) errors.push(error('must be <= 256 characters long'));
  if (warning === '') errors.push(error('must not be an empty string'));
  const bad = [...warning].findIndex((c) => /[\p{C}\p{Zl}\p{Zp}]/u.test(c) || (c !== ' ' && /\p{Zs}/u.test(c)));
  if (bad >= 0)
    errors.push(error(`must only contain printable UTF-8 characters; non-printable character found at index ${Buffer.byteLength([...warning].slice(0, bad).join(''))}`));
  return errors;
}

function namesErrors(names: Names, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const label = (name: string | undefined, field: string, mixed: boolean, optional = true) => {
    if (name === undefined || (optional && !name)) return;
    const problems = dns1035Problems(mixed ? name.toLowerCase() : name);
    if (problems.length) errors.push(wrong(field, name, `${mixed ? 'may have mixed case, but should otherwise match: ' : ''}${problems.join(',')}`));
  };
  label(names.plural, `${path}.plural`, false);
  label(names.singular, `${path}.singular`, false);
  label(names.kind, `${path}.kind`, true);
  label(names.listKind, `${path}.listKind`, true);
  names.shortNames?.forEach((name, i) => label(name, `${path}.shortNames[${i}]`, false, false));
  if (names.kind && names.kind === names.listKind) errors.push(wrong(`${path}.listKind`, names.listKind, 'kind and listKind may not be the same'));
  names.categories?.forEach((name, i) => label(name, `${path}.categories[${i}]`, false, false));
  return errors;
}

function simplePathErrors(path: string, field: string): FieldError[] {
  return path.startsWith('.') ? [] : [wrong(field, path, 'must be a simple json path starting with .')];
}

function subresourceErrors(version: Version, path: string): FieldError[] {
  const { scale } = version.subresources ?? {};
  if (!scale) return [];
  const errors: FieldError[] = [];
  const check = (value: string | undefined, name: string, roots: string[], optional: boolean) => {
    const field = `${path}.scale.${name}`;
    if (!value) {
      if (!optional) errors.push(required(field));
      return;
    }
    const simple = simplePathErrors(value, field);
    errors.push(...simple);
    if (simple.length || roots.some((root) => value.startsWith(`${root}.`))) return;
    errors.push(wrong(field, value, `should be a json path under ${roots.length > 1 ? `either ${roots.join(' or ')}` : roots[0]}`));
  };
  check(scale.specReplicasPath, 'specReplicasPath', ['.spec'], false);
  check(scale.statusReplicasPath, 'statusReplicasPath', ['.status'], false);
  check(scale.labelSelectorPath, 'labelSelectorPath', ['.spec', '.status'], true);
  return errors;
}

const columnTypes = ['boolean', 'date', 'integer', 'number', 'string'];
const columnFormats = ['byte', 'date', 'date-time', 'double', 'float', 'int32', 'int64', 'password'];

function columnErrors(version: Version, path: string): FieldError[] {
  return (version.additionalPrinterColumns ?? []).flatMap((column, i) => {
    const errors: FieldError[] = [];
    const at = `${path}[${i}]`;
    if (!column.name) errors.push(required(`${at}.name`));
    const types = `must be one of ${columnTypes.join(',')}`;
    if (!column.type) errors.push(required(`${at}.type`, types));
    else if (!columnTypes.includes(column.type)) errors.push(wrong(`${at}.type`, column.type, types));
    if (column.format && !columnFormats.includes(column.format))
      errors.push(wrong(`${at}.format`, column.format, `must be one of ${columnFormats.join(',')}`));
    if (!column.jsonPath) errors.push(required(`${at}.JSONPath`));
    else errors.push(...simplePathErrors(column.jsonPath, `${at}.JSONPath`));
    return errors;
  });
}

const mostSelectableFields = 8;

function selectableErrors(version: Version, before: Version | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const seen = new Set<string>();
  (version.selectableFields ?? []).forEach((field, i) => {
    const at = `${path}[${i}].jsonPath`;
    const { jsonPath } = field;
    if (!jsonPath) {
      errors.push(required(at));
      return;
    }
    const found = schemaAt(version.schema?.openAPIV3Schema as JsonSchema | undefined, jsonPath);
    if (typeof found === 'string') {
      errors.push(wrong(at, jsonPath, `is an invalid path: ${found}`));
      return;
    }
    if (/^\.metadata(\.|$)/.test(jsonPath)) errors.push(wrong(at, jsonPath, 'must not point to fields in metadata'));
    if (!['string', 'boolean', 'integer'].includes(found.type ?? '')) {
      const detail = 'must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.';
      errors.push(wrong(at, jsonPath, detail));
    }
    if (seen.has(jsonPath)) errors.push({ type: 'FieldValueDuplicate', field: at, value: jsonPath, detail: '' });
    seen.add(jsonPath);
  });
  if (seen.size > mostSelectableFields && !(before && sameJson(before.selectableFields, version.selectableFields)))
    errors.push({ type: 'FieldValueTooMany', field: path, value: seen.size, detail: `must have at most ${mostSelectableFields} items` });
  return errors;
}

/** The schema of the field at a simple path, or why there is none. */
function schemaAt(schema: JsonSchema | undefined, path: string): JsonSchema | string {
  if (!path.startsWith('.')) return `expected [ or . but got: ${path.slice(0, 1)}`;
  try {
    compileJsonPath(path);
  } catch (error) {
    return (error as Error).message;
  }
  let current = schema;
  for (const name of path.slice(1).split('.')) {
    if (name.includes('[')) return 'array notation is not allowed';
    current = propertyOf(current, name);
    if (!current) return 'does not refer to a valid field';
  }
  return current as JsonSchema;
}

function conversionErrors(crd: CustomResourceDefinition): FieldError[] {
  const { conversion } = crd.spec;
  if (!conversion) return [];
  const path = 'spec.conversion';
  const errors: FieldError[] = [];
  const { strategy, webhook } = conversion;
  if (!strategy) errors.push(required(`${path}.strategy`));
  else if (strategy !== 'None' && strategy !== 'Webhook')
    errors.push({ type: 'FieldValueNotSupported', field: `${path}.strategy`, value: strategy, detail: 'supported values: "None", "Webhook"' });
  if (strategy !== 'Webhook') {
    const detail = 'should not be set when strategy is not set to Webhook';
    if (webhook?.clientConfig) errors.push({ type: 'FieldValueForbidden', field: `${path}.webhookClientConfig`, detail });
    if (webhook?.conversionReviewVersions?.length) errors.push({ type: 'FieldValueForbidden', field: `${path}.conversionReviewVersions`, detail });
    return errors;
  }
  if (!webhook?.clientConfig) errors.push(required(`${path}.webhookClientConfig`, 'required when strategy is set to Webhook'));
  else errors.push(...validateClientConfig(`${path}.webhookClientConfig`, webhook.clientConfig as never));
  const reviews = webhook?.conversionReviewVersions ?? [];
  const field = `${path}.conversionReviewVersions`;
  if (reviews.length === 0) return [...errors, required(field)];
  reviews.forEach((version, i) => {
    if (reviews.indexOf(version) < i) errors.push(wrong(`${field}[${i}]`, version, 'duplicate version'));
    else for (const problem of dns1035Problems(version)) errors.push(wrong(`${field}[${i}]`, version, problem));
  });
  if (!reviews.some((v) => v === 'v1' || v === 'v1beta1')) errors.push(wrong(field, reviews, 'must include at least one of v1, v1beta1'));
  return errors;
}

function storedVersionErrors(crd: CustomResourceDefinition): FieldError[] {
  const stored = crd.status?.storedVersions ?? [];
  const field = 'status.storedVersions';
  if (stored.length === 0) return [wrong(field, undefined, 'must have at least one stored version')];
  const errors: FieldError[] = [];
  const versions = crd.spec.versions ?? [];
  for (const version of versions)
    if (version.storage && !stored.includes(version.name)) errors.push(wrong(field, stored, `must have the storage version ${version.name}`));
  stored.forEach((name, i) => {
    if (versions.some((v) => v.name === name)) return;
    const detail = `missing from spec.versions; ${name} was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in ${name} and removes ${name} from status.storedVersions`;
    errors.push(wrong(`${field}[${i}]`, name, detail));
  });
  return errors;
}

const approvalAnnotation = 'api-approved.kubernetes.io';

export const isProtectedGroup = (group: string): boolean => /(^|\.)(k8s\.io|kubernetes\.io)$/.test(group);

export type Approval = { state: 'approved' | 'bypassed' | 'missing' | 'invalid'; reason: string };

/** Whether the API of a *.k8s.io group says that it was reviewed. */
export function approvalOf(annotations: Record<string, string> | undefined): Approval {
  const value = annotations?.[approvalAnnotation] ?? '';
  const see = 'see https://github.com/kubernetes/enhancements/pull/1111';
  const must = `protected groups must have approval annotation "${approvalAnnotation}"`;
  if (!value) return { state: 'missing', reason: `${must}, ${see}` };
  if (value.startsWith('unapproved')) return { state: 'bypassed', reason: `not approved: ${JSON.stringify(value)}` };
  if (/^[a-zA-Z][a-zA-Z0-9+.-]*:\/\/[^/]+/.test(value)) return { state: 'approved', reason: `approved in ${value}` };
  return { state: 'invalid', reason: `${must} with either a URL or a reason starting with "unapproved", ${see}` };
}

function approvalErrors(crd: CustomResourceDefinition, old: CustomResourceDefinition | undefined): FieldError[] {
  if (!isProtectedGroup(crd.spec.group)) return [];
  const annotations = crd.metadata.annotations as Record<string, string> | undefined;
  const approval = approvalOf(annotations);
  if (old && approvalOf(old.metadata.annotations as Record<string, string> | undefined).state === approval.state) return [];
  const field = `metadata.annotations[${approvalAnnotation}]`;
  if (approval.state === 'missing') return [required(field, approval.reason)];
  return approval.state === 'invalid' ? [wrong(field, annotations?.[approvalAnnotation], approval.reason)] : [];
}

function* eachSchema(schema: JsonSchema): Generator<JsonSchema> {
  yield schema;
  const inner = [
    itemsOf(schema),
    valuesOf(schema),
    schema.not,
    ...Object.values(schema.properties ?? {}),
    ...(schema.allOf ?? []),
    ...(schema.anyOf ?? []),
    ...(schema.oneOf ?? []),
  ];
  for (const one of inner) if (one) yield* eachSchema(one);
}

/** Formats the server does not check, and sets that server-side apply cannot merge. */
export function definitionWarnings(crd: CustomResourceDefinition, old?: CustomResourceDefinition): string[] {
  const of = (definition: CustomResourceDefinition | undefined): Set<string> => {
    const found = new Set<string>();
    for (const root of oldSchemas(definition))
      for (const schema of eachSchema(root)) {
        if (schema.format && !isKnownFormat(schema.type, schema.format)) found.add(`unrecognized format ${JSON.stringify(schema.format)}`);
        const type = schema['x-kubernetes-list-type'] === 'set' ? itemsOf(schema)?.type : undefined;
        if (type === 'object' || type === 'array')
          found.add(`x-kubernetes-list-type: set for items of type "${type}" is not supported by server-side apply or CEL validation rules`);
      }
    return found;
  };
  const before = of(old);
  return [...of(crd)].filter((w) => !before.has(w)).sort();
}
