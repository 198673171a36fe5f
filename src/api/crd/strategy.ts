import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { compileJsonPath, type JsonPath, printJsonPathValue } from '../jsonpath.ts';
import type { CustomResource, KindStrategy } from '../scheme.ts';
import { qualifiedNameProblems } from '../validation.ts';
import { type PrinterColumn, printerColumns } from './columns.ts';
import { Correlated } from './correlation.ts';
import type { JsonSchema } from './json-schema.ts';
import { isObject } from './json-schema.ts';
import { validateListTypes } from './list-types.ts';
import { validateEmbedded } from './metadata.ts';
import { validateAgainstSchema } from './schema-validation.ts';

/** x-kubernetes-validations of a schema, compiled. */
export interface SchemaRules {
  validate(object: unknown, old: unknown, correlated: Correlated | undefined): FieldError[];
}

/** What of a version makes the strategy of its objects. */
export interface CustomKind {
  schema: JsonSchema;
  hasStatus: boolean;
  scale: CustomResource['scale'];
  columns: PrinterColumn[] | undefined;
  selectableFields: string[];
  rules: SchemaRules | undefined;
}

const blocking = new Set<FieldError['type']>([
  'FieldValueNotSupported',
  'FieldValueRequired',
  'FieldValueTooLong',
  'FieldValueTooMany',
  'FieldValueTypeInvalid',
]);

/** How objects of a version of a custom resource are created, updated, checked and shown. */
export function customStrategy(kind: CustomKind): KindStrategy {
  const { schema, hasStatus, scale, rules } = kind;
  const statusSchema = schema.properties?.['status'];

  /** The rules are asked only about objects whose schema holds, so that they can trust the types. */
  const withRules = (errors: FieldError[], object: unknown, old: unknown, correlated: Correlated | undefined): FieldError[] => {
    if (!rules) return errors;
    if (!errors.some((e) => blocking.has(e.type))) return [...errors, ...rules.validate(object, old, correlated)];
    const detail =
      'some validation rules were not checked because the object was invalid; correct the existing errors to complete validation';
    return [...errors, { type: 'FieldValueInvalid', field: '<nil>', value: undefined, detail }];
  };

  const fields: [string, JsonPath][] = kind.selectableFields.map((path) => [path.replace(/^\./, ''), compileJsonPath(path)]);

  return {
    allowUnconditionalUpdate: false,
    updateValidatesAll: true,
    columns: printerColumns(kind.columns),
    prepareForCreate(object) {
      if (hasStatus) delete object.status;
      object.metadata.generation = 1;
    },
    prepareForUpdate(object, old) {
      if (hasStatus) {
        if (old.status === undefined) delete object.status;
        else object.status = old.status;
      }
      const content = (o: any) => canonicalJson({ ...o, metadata: undefined });
      if (content(object) !== content(old)) object.metadata.generation = (old.metadata.generation ?? 0) + 1;
    },
    prepareForStatusUpdate(object, old) {
      const { status } = object;
      const { resourceVersion, managedFields } = object.metadata;
      for (const key of Object.keys(object)) delete object[key];
      Object.assign(object, structuredClone(old));
      if (resourceVersion === undefined) delete object.metadata.resourceVersion;
      else object.metadata.resourceVersion = resourceVersion;
      if (managedFields === undefined) delete object.metadata.managedFields;
      else object.metadata.managedFields = managedFields;
      if (status === undefined) delete object.status;
      else object.status = status;
    },
    validate(object) {
      const errors = [
        ...validateAgainstSchema(schema, object),
        ...validateReplicas(object, scale, 'spec'),
        ...validateReplicas(object, scale, 'status'),
        ...validateEmbedded(schema, object),
        ...validateListTypes(schema, object),
      ];
      return withRules(errors, object, undefined, undefined);
    },
    validateUpdate(object, old) {
      const correlated = new Correlated(object, old, schema);
      const errors = [
        ...validateAgainstSchema(schema, object, '', correlated),
        ...validateReplicas(object, scale, 'spec'),
        ...validateReplicas(object, scale, 'status'),
        ...validateEmbedded(schema, object),
        ...(validateListTypes(schema, old).length ? [] : validateListTypes(schema, object)),
      ];
      return withRules(errors, object, old, correlated);
    },
    validateStatusUpdate(object, old) {
      const correlated = new Correlated(object, old, schema);
      const errors: FieldError[] = [];
      if (statusSchema && object.status !== undefined)
        errors.push(...validateAgainstSchema(statusSchema, object.status, 'status', correlated.field('status')));
      errors.push(...validateReplicas(object, scale, 'status'));
      if (!validateListTypes(schema, old).length) errors.push(...validateListTypes(schema, object));
      return withRules(errors, object, old, correlated);
    },
    warnings(object, old) {
      const before: string[] = old?.metadata.finalizers ?? [];
      return ((object.metadata.finalizers ?? []) as string[])
        .filter((f) => !before.includes(f))
        .sort()
        .flatMap(finalizerWarnings);
    },
    ...(fields.length
      ? {
          selectableFields: (object) =>
            Object.fromEntries(
              fields.map(([name, find]) => {
                const [value] = find(object);
                return [name, value === undefined || value === null ? '' : printJsonPathValue(value)];
              }),
            ),
        }
      : {}),
  };
}

const standardFinalizers = new Set(['orphan', 'foregroundDeletion', 'kubernetes']);

function finalizerWarnings(finalizer: string): string[] {
  const warnings = qualifiedNameProblems(finalizer).map((p) => `metadata.finalizers: ${JSON.stringify(finalizer)}: ${p}`);
  if (!finalizer.includes('/') && !standardFinalizers.has(finalizer)) {
    const path = finalizer.includes('.') ? ' including a path (/)' : '';
    warnings.push(
      `metadata.finalizers: ${JSON.stringify(finalizer)}: prefer a domain-qualified finalizer name${path} to avoid accidental conflicts with other finalizer writers`,
    );
  }
  return warnings;
}

/** The member at a simple path such as `.spec.replicas`. */
export function memberAt(object: unknown, path: string): unknown {
  let value = object;
  for (const name of path.replace(/^\./, '').split('.')) {
    if (!isObject(value) || !Object.hasOwn(value, name)) return undefined;
    value = value[name];
  }
  return value;
}

function validateReplicas(object: unknown, scale: CustomResource['scale'], part: 'spec' | 'status'): FieldError[] {
  if (!scale) return [];
  const path = part === 'spec' ? scale.specReplicasPath : scale.statusReplicasPath;
  const errors: FieldError[] = [];
  const wrong = (field: string, bad: unknown, detail: string) => errors.push({ type: 'FieldValueInvalid', field, value: bad, detail });
  const parent = obstacle(object, path);
  if (parent !== undefined) wrong(path, 0, `${path} accessor error: ${goText(parent)} is of the type ${goType(parent)}, expected map[string]interface{}`);
  const value = memberAt(object, path);
  if (value !== undefined) {
    if (typeof value !== 'bigint' && (typeof value !== 'number' || !Number.isInteger(value)))
      wrong(path, 0, `${path} accessor error: ${goText(value)} is of the type ${goType(value)}, expected int64`);
    else if (value < 0) wrong(path, value, 'should be a non-negative integer');
    else if (value > 2_147_483_647) wrong(path, value, 'should be less than or equal to 2147483647');
  }
  if (part === 'status' && scale.labelSelectorPath) {
    const selector = memberAt(object, scale.labelSelectorPath);
    if (selector !== undefined && typeof selector !== 'string')
      wrong(scale.labelSelectorPath, '', `${scale.labelSelectorPath} accessor error: ${goText(selector)} is of the type ${goType(selector)}, expected string`);
  }
  return errors;
}

/** What lies on the way of a simple path and is no object. */
function obstacle(object: unknown, path: string): unknown {
  let value = object;
  for (const name of path.replace(/^\./, '').split('.')) {
    if (value === undefined || value === null) return undefined;
    if (!isObject(value)) return value;
    value = Object.hasOwn(value, name) ? value[name] : undefined;
  }
  return undefined;
}

const goText = (value: unknown): string => (Array.isArray(value) ? `[${value.map(goText).join(' ')}]` : String(value));

const goType = (value: unknown): string => {
  if (value === null) return '<nil>';
  if (Array.isArray(value)) return '[]interface {}';
  if (typeof value === 'object') return 'map[string]interface {}';
  if (typeof value === 'boolean') return 'bool';
  return typeof value === 'bigint' || Number.isInteger(value) ? 'int64' : typeof value === 'number' ? 'float64' : 'string';
};
