import type { FieldError } from '../errors.ts';
import { pathSegmentProblems, validateObjectMeta } from '../validation.ts';
import { child, isEmbedded, isObject, itemsOf, type JsonSchema, propertyOf, valuesOf } from './json-schema.ts';

/** DNS labels that begin with a letter. */
export const dns1035Label = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;

export function dns1035Problems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 63) problems.push('must be no more than 63 characters');
  if (!dns1035Label.test(name))
    problems.push(
      "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    );
  return problems;
}

/** What is wrong with type fields and metadata of resources that are embedded in the object. */
export function validateEmbedded(schema: JsonSchema | undefined, value: unknown, path = ''): FieldError[] {
  if (!schema) return [];
  if (Array.isArray(value)) {
    const items = itemsOf(schema);
    return items ? value.flatMap((item, i) => validateEmbedded(items, item, `${path}[${i}]`)) : [];
  }
  if (!isObject(value)) return [];
  const errors = isEmbedded(schema) ? embeddedErrors(value, path) : [];
  const values = valuesOf(schema);
  for (const key of Object.keys(value)) {
    const property = propertyOf(schema, key);
    if (property) errors.push(...validateEmbedded(property, value[key], child(path, key)));
    else if (values) errors.push(...validateEmbedded(values, value[key], `${path}[${key}]`));
  }
  return errors;
}

function embeddedErrors(value: Record<string, unknown>, path: string): FieldError[] {
  const errors: FieldError[] = [];
  for (const name of ['apiVersion', 'kind']) {
    const text = value[name];
    const field = child(path, name);
    if (text === undefined) errors.push({ type: 'FieldValueRequired', field, detail: '' });
    else if (typeof text !== 'string') errors.push({ type: 'FieldValueInvalid', field, value: text, detail: 'must be a string' });
    else if (text === '') errors.push({ type: 'FieldValueInvalid', field, value: text, detail: 'must not be empty' });
    else if (name === 'apiVersion' && text.split('/').length > 2)
      errors.push({ type: 'FieldValueInvalid', field, value: text, detail: `unexpected GroupVersion string: ${text}` });
    else if (name === 'kind') {
      const problems = dns1035Problems(text.toLowerCase());
      const detail = `may have mixed case, but should otherwise match: ${problems.join(',')}`;
      if (problems.length) errors.push({ type: 'FieldValueInvalid', field, value: text, detail });
    }
  }
  const { metadata } = value;
  if (isObject(metadata)) {
    const named = { ...metadata, name: metadata['name'] || 'fakename' };
    const found = validateObjectMeta(named, {
      namespaced: Boolean(metadata['namespace']),
      strategy: { validateName: pathSegmentProblems },
      custom: {},
    } as never);
    errors.push(...found.map((e) => ({ ...e, field: child(path, e.field) })));
  }
  return errors;
}

