import type { PropertySchema, ResourceKind } from './resource.ts';
import { type Properties, unknown } from './values.ts';

export interface CheckFailure {
  property: string;
  reason: string;
}

/** The inputs with defaults, and what is wrong with them. Nothing is said of values that are not known yet. */
export function check(kind: ResourceKind, given: Properties): { inputs: Properties; failures: CheckFailure[] } {
  const failures: CheckFailure[] = [];
  const schema: PropertySchema = { type: 'object', description: '', properties: kind.properties };
  const inputs = checked(schema, given, '', (property, reason) => failures.push({ property, reason })) as Properties;
  return { inputs, failures };
}

function checked(schema: PropertySchema, value: unknown, path: string, fail: (path: string, reason: string) => void): unknown {
  if (value === unknown) return value;
  const wrong = (expected: string) => {
    fail(path, `expected ${expected}, got ${value === null ? 'null' : Array.isArray(value) ? 'a list' : typeof value}`);
    return value;
  };
  switch (schema.type) {
    case 'string':
      if (typeof value !== 'string') return wrong('a string');
      if (schema.oneOf && !schema.oneOf.includes(value)) fail(path, `expected one of ${schema.oneOf.join(', ')}, got '${value}'`);
      return value;
    case 'boolean':
      return typeof value === 'boolean' ? value : wrong('a boolean');
    case 'integer':
      return Number.isInteger(value) ? value : wrong('an integer');
    case 'list':
      if (!Array.isArray(value)) return wrong('a list');
      return value.map((one, n) => checked(schema.items as PropertySchema, one, `${path}[${n}]`, fail));
    case 'map':
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong('a map');
      return Object.fromEntries(
        Object.entries(value).map(([key, one]) => [key, checked(schema.items as PropertySchema, one, `${path}[${JSON.stringify(key)}]`, fail)]),
      );
    case 'object': {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) return wrong('an object');
      const given = value as Properties;
      const result: Properties = {};
      const at = (name: string) => (path ? `${path}.${name}` : name);
      for (const name of Object.keys(given)) {
        if (!schema.properties?.[name] && !name.startsWith('__')) fail(at(name), 'no such property');
      }
      for (const [name, property] of Object.entries(schema.properties ?? {})) {
        const one = given[name] ?? property.default;
        if (one !== undefined) result[name] = checked(property, one, at(name), fail);
        else if (property.required) fail(at(name), 'missing');
      }
      return result;
    }
  }
}
