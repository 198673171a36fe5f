import { internalTypes } from './generated/internal-types.ts';

/*
 * Messages of upstream's validation show structs as JSON of its internal types, which have no JSON tags: every field under its Go name,
 * in the order of declaration, with null for pointers, lists and maps that are not there.
 *
 * Codes in the table: `s` text, `i` number, `b` boolean, `q` quantity, `o` number or text, `t` time, `d` duration, `y` bytes, `r` raw
 * JSON, `x` a type of the versioned API, shown as it is, `m` metadata, whose fields stand beside their neighbours; `*` a pointer, `[]`
 * a list, `{}` a map of what follows; `@` a type of the table. ` -` at the end: left out when empty.
 */
type Show = (value: any) => unknown;
interface Field {
  name: string;
  json: string;
  show: Show;
  spread: boolean;
  omitted: boolean;
}

const rows = new Map(internalTypes.map((line) => [line.slice(0, line.indexOf('|')), line.slice(line.indexOf('|') + 1)]));
const made = new Map<string, Field[]>();

const zeroes: Record<string, unknown> = { s: '', i: 0, b: false, q: '0', o: 0, t: null, d: '0s', y: null, r: null, x: {}, m: {} };

function showOf(code: string): Show {
  if (code.startsWith('*')) {
    const inner = showOf(code.slice(1));
    return (value) => (value === undefined || value === null ? null : inner(value));
  }
  if (code.startsWith('[]')) {
    const inner = showOf(code.slice(2));
    return (value) => (Array.isArray(value) ? value.map(inner) : null);
  }
  if (code.startsWith('{}')) {
    const inner = showOf(code.slice(2));
    return (value) => (value ? Object.fromEntries(Object.keys(value).sort().map((key) => [key, inner(value[key])])) : null);
  }
  if (code.startsWith('@')) {
    const type = code.slice(1);
    return (value) => internalForm(type, value ?? {});
  }
  const zero = zeroes[code];
  return (value) => value ?? zero;
}

function fieldsOf(type: string): Field[] {
  let fields = made.get(type);
  if (!fields) {
    const row = rows.get(type);
    if (row === undefined) throw new Error(`${type} is no type of the table`);
    fields = row.split(';').map((text): Field => {
      const [names = '', code = '', omitted] = text.split(' ');
      const [name = '', json] = names.split('=');
      return { name, json: json ?? name.charAt(0).toLowerCase() + name.slice(1), show: showOf(code), spread: code === 'm', omitted: omitted === '-' };
    });
    made.set(type, fields);
  }
  return fields;
}

/** Types whose versioned form is a union. */
const unions: Record<string, (value: any) => unknown> = {
  'apiextensions.JSONSchemaPropsOrArray': (value) => (Array.isArray(value) ? { jSONSchemas: value } : { schema: value }),
  'apiextensions.JSONSchemaPropsOrBool': (value) => (typeof value === 'boolean' ? { allows: value } : { allows: true, schema: value }),
  'apiextensions.JSONSchemaPropsOrStringArray': (value) => (Array.isArray(value) ? { property: value } : { schema: value }),
};

/** A value, as the versioned API has it, in the form in which upstream's messages show it. `type` is such as `core.PodSpec`. */
export function internalForm(type: string, value: any): unknown {
  const from = unions[type]?.(value) ?? value ?? {};
  const result: Record<string, unknown> = {};
  for (const { name, json, show, spread, omitted } of fieldsOf(type)) {
    if (spread) Object.assign(result, from[json]);
    else {
      const inner = json === '.' ? from : from[json];
      if (omitted && (inner === undefined || inner === null || inner === '' || inner === 0 || inner === false)) continue;
      result[name] = show(inner);
    }
  }
  return result;
}

/** A list of such values; null where there is none. */
export const internalList = (type: string, values: any[] | undefined): unknown => (values ? values.map((v) => internalForm(type, v)) : null);
