import { isAlias, isMap, isScalar, isSeq, parseDocument, LineCounter } from 'yaml';
import { badRequest, type StatusError } from './errors.ts';
import { hasLongDigits, parseJson, wholeNumber } from './json.ts';
import { parseQuantity } from './quantity.ts';
import { type Definition, definitionOf, type Shape, typeName } from './schema.ts';

export interface GroupVersionKind {
  group: string;
  version: string;
  kind: string;
}

/** A body parsed, with the paths of fields that were given twice (the last one holds). */
export interface ParsedBody {
  object: unknown;
  duplicates: string[];
  /** Where they stand a second time, from line 1; of YAML. */
  duplicateLines?: number[];
}

const deepest = 1000;
/** A YAML document may grow to this many nodes through its aliases. */
const mostAliases = 100;

/** Parses JSON or YAML. StatusError 400 on syntax errors. Keys such as __proto__ are ordinary keys. */
export function parseBody(text: string | Buffer, contentType: 'application/json' | 'application/yaml'): ParsedBody {
  const source = text.toString();
  if (contentType === 'application/yaml') return parseYaml(source);
  const duplicates: string[] = [];
  checkDepthAndDuplicates(source, duplicates);
  try {
    return { object: parseJson(source), duplicates };
  } catch (error) {
    throw badRequest(`couldn't get version/kind; json parse error: ${goJsonError((error as Error).message)}`);
  }
}

/** V8's message in the words of Go's decoder. */
function goJsonError(message: string): string {
  const token = /^Unexpected token '?(.)'?/su.exec(message)?.[1];
  if (token) return `invalid character '${token}' looking for beginning of value`;
  return `${message.charAt(0).toLowerCase()}${message.slice(1)}`;
}

/**
 * One pass over the text that finds keys given twice and nesting that is too deep, without building anything. Texts that
 * are no JSON end it early: JSON.parse reports them.
 */
function checkDepthAndDuplicates(source: string, duplicates: string[]): void {
  interface Level {
    keys: Set<string> | undefined;
    index: number;
    path: string;
  }
  const levels: Level[] = [];
  let key = '';
  let expectKey = false;
  const pathOf = (level: Level) => (level.keys ? (level.path ? `${level.path}.${key}` : key) : `${level.path}[${level.index}]`);
  for (let i = 0; i < source.length; i++) {
    const c = source.charCodeAt(i);
    const level = levels[levels.length - 1];
    if (c === 0x22) {
      const start = i + 1;
      for (i++; i < source.length && source.charCodeAt(i) !== 0x22; i++) if (source.charCodeAt(i) === 0x5c) i++;
      if (expectKey && level?.keys) {
        const raw = source.slice(start, i);
        key = raw.includes('\\') ? safeString(raw) : raw;
        if (level.keys.has(key)) duplicates.push(level.path ? `${level.path}.${key}` : key);
        level.keys.add(key);
        expectKey = false;
      }
    } else if (c === 0x7b || c === 0x5b) {
      if (levels.length >= deepest) throw badRequest(`json: exceeded max depth (${deepest})`);
      levels.push({ keys: c === 0x7b ? new Set() : undefined, index: 0, path: level ? pathOf(level) : '' });
      expectKey = c === 0x7b;
    } else if (c === 0x7d || c === 0x5d) {
      levels.pop();
      expectKey = false;
    } else if (c === 0x2c && level) {
      if (level.keys) expectKey = true;
      else level.index++;
    }
  }
}

function safeString(raw: string): string {
  try {
    return JSON.parse(`"${raw}"`);
  } catch {
    return raw;
  }
}

function parseYaml(source: string): ParsedBody {
  const lineCounter = new LineCounter();
  // Digits in groups, other than decimal, are found by this too.
  const intAsBigInt = hasLongDigits(source.replace(/[_a-fA-F]/g, '0'));
  const document = parseDocument(source, { version: '1.1', uniqueKeys: false, strict: true, lineCounter, intAsBigInt });
  const first = document.errors[0];
  if (first) throw badRequest(`error converting YAML to JSON: yaml: ${first.message.split('\n')[0]}`);
  const duplicates: string[] = [];
  const duplicateLines: number[] = [];
  let aliases = 0;
  const visit = (node: unknown, path: string, depth: number): void => {
    if (depth > deepest) throw badRequest(`yaml: exceeded max depth (${deepest})`);
    if (isAlias(node) && ++aliases > mostAliases) throw badRequest('yaml: document contains excessive aliasing');
    if (isMap(node)) {
      const seen = new Set<string>();
      for (const pair of node.items) {
        const key = isScalar(pair.key) ? String(pair.key.value) : String(pair.key);
        const at = path ? `${path}.${key}` : key;
        if (seen.has(key)) {
          duplicates.push(at);
          duplicateLines.push(lineCounter.linePos((pair.key as { range?: [number] }).range?.[0] ?? 0).line);
        }
        seen.add(key);
        visit(pair.value, at, depth + 1);
      }
    } else if (isSeq(node)) {
      let index = 0;
      for (const item of node.items) visit(item, `${path}[${index++}]`, depth + 1);
    }
  };
  visit(document.contents, '', 0);
  try {
    const object: unknown = document.toJS({ maxAliasCount: mostAliases }) ?? null;
    return { object: intAsBigInt ? withNumbers(object) : object, duplicates, ...(duplicates.length ? { duplicateLines } : {}) };
  } catch (error) {
    throw badRequest(`error converting YAML to JSON: yaml: ${(error as Error).message}`);
  }
}

/** Integers as numbers wherever they fit, in place. Aliases make parts that stand in several places. */
function withNumbers(value: unknown, seen = new Set<object>()): unknown {
  if (typeof value === 'bigint') return wholeNumber(value);
  if (typeof value !== 'object' || value === null || seen.has(value)) return value;
  seen.add(value);
  for (const [key, inner] of Object.entries(value)) if (typeof inner === 'bigint') (value as Record<string, unknown>)[key] = wholeNumber(inner);
  else withNumbers(inner, seen);
  return value;
}

const isNumber = (value: unknown): value is number | bigint => typeof value === 'number' || typeof value === 'bigint';
const goKind = (value: unknown): string =>
  Array.isArray(value) ? 'array' : value === null ? 'null' : typeof value === 'boolean' ? 'bool' : isNumber(value) ? 'number' : typeof value;
const isInt32 = (value: number | bigint): boolean => Number.isInteger(value) && value <= 2_147_483_647 && value >= -2_147_483_648;
/** What a number of the text lost is beyond 64 bits; a whole number may come from a caller within the process. */
const isInt64 = (value: number | bigint): boolean => typeof value === 'bigint' || (Number.isInteger(value) && value < 2 ** 63 && value >= -(2 ** 63));
/** As it stood in the body, where it can be told. */
const digitsOf = (value: number | bigint): string => (Number.isInteger(value) ? BigInt(value).toString() : String(value));
const goType: Partial<Record<Shape['kind'], string>> = { string: 'string', int32: 'int32', int64: 'int64', number: 'float64', boolean: 'bool', bytes: '[]uint8' };
/** `v1.Container`, of objects. */
const qualifiedType = (shape: Shape | undefined): string | undefined =>
  shape?.definition && `${shape.definition.name.split('.').slice(-2, -1)}.${typeName(shape.definition)}`;
const timeLayouts = { time: '2006-01-02T15:04:05Z07:00', microTime: '2006-01-02T15:04:05.000000Z07:00' };

/** Whether a value is a scalar that its shape allows, without a closer look. */
function isPlainly(value: unknown, shape: Shape): boolean {
  if (value === null || value === undefined) return true;
  if (shape.special) return false;
  switch (shape.kind) {
    case 'string':
      return typeof value === 'string';
    case 'boolean':
      return typeof value === 'boolean';
    case 'int32':
    case 'int64':
      return typeof value === 'number' && (value | 0) === value;
    default:
      return false;
  }
}

/** StatusError 400 where a value's type is not the definition's, in the words of Go's decoder. `known` names members that are. */
export function checkTypes(definition: string, object: unknown, gvk: GroupVersionKind, known?: ReadonlySet<string>): void {
  const root = definitionOf(definition);
  if (!root) return;
  if (root.custom) return root.custom.checkTypes(object, gvk);
  const fail = (what: string) => {
    throw badRequest(`${gvk.kind} in version "${gvk.version}" cannot be handled as a ${gvk.kind}: ${what}`);
  };
  const mismatch = (value: unknown, owner: Definition, path: string, type: string) => {
    const shown = isNumber(value) ? `number ${digitsOf(value)}` : goKind(value);
    return fail(
      `json: cannot unmarshal ${goKind(value) === 'number' && /^(int|float|\[\]?u?int)/.test(type) ? shown : goKind(value)} into Go struct field ${typeName(owner)}.${path} of type ${type}`,
    );
  };
  const check = (value: unknown, shape: Shape, owner: Definition, path: string, named?: string, list?: string): unknown => {
    if (value === null || value === undefined) return;
    switch (shape.special) {
      case 'quantity':
        try {
          // Anything but text and numbers is no quantity, and its text is none either.
          parseQuantity(typeof value === 'string' || isNumber(value) ? value : '');
        } catch (error) {
          fail((error as Error).message);
        }
        return;
      case 'intOrString':
        if (typeof value !== 'string' && !isNumber(value)) mismatch(value, owner, path, 'int32');
        else if (isNumber(value) && !isInt32(value)) fail(`json: cannot unmarshal number ${digitsOf(value)} into Go value of type int32`);
        return;
      case 'time':
      case 'microTime':
        if (typeof value !== 'string') mismatch(value, owner, path, 'string');
        else if (value !== '' && Number.isNaN(Date.parse(value)))
          fail(`parsing time ${JSON.stringify(value)} as "${timeLayouts[shape.special]}": cannot parse ${JSON.stringify(value)} as "2006"`);
        return;
    }
    switch (shape.kind) {
      case 'any':
        return;
      case 'object': {
        if (shape.definition?.open) {
          if (typeName(shape.definition) === 'JSONSchemaPropsOrBool' && (typeof value === 'object' ? Array.isArray(value) : typeof value !== 'boolean'))
            fail('boolean or JSON schema expected');
          return;
        }
        if (typeof value !== 'object' || Array.isArray(value))
          mismatch(value, owner, path, qualifiedType(shape) as string);
        return walk(value as Record<string, unknown>, shape.definition as Definition, path);
      }
      case 'array':
        if (!Array.isArray(value))
          return mismatch(
            value,
            owner,
            path,
            list ?? `[]${named ?? qualifiedType(shape.items) ?? goType[shape.items?.kind ?? 'string'] ?? 'string'}`,
          );
        for (const item of value) check(item, shape.items as Shape, owner, path, named);
        return;
      case 'map':
        if (typeof value !== 'object' || Array.isArray(value))
          return mismatch(value, owner, path, list ?? `map[string]${qualifiedType(shape.items) ?? goType[shape.items?.kind ?? 'string'] ?? 'string'}`);
        for (const item of Object.values(value)) check(item, shape.items as Shape, owner, path, undefined, /\](\w+\.\w+)$/.exec(list ?? '')?.[1]);
        return;
      case 'bytes':
        if (Array.isArray(value) && value.every((byte) => Number.isInteger(byte) && byte >= 0 && byte < 256)) return;
        if (typeof value !== 'string') mismatch(value, owner, path, '[]uint8');
        else if (!/^[A-Za-z0-9+/\r\n]*={0,2}$/.test(value) || value.replace(/[\r\n]/g, '').length % 4 !== 0)
          fail(`illegal base64 data at input byte ${Math.max(0, value.search(/[^A-Za-z0-9+/]/))}`);
        return;
      case 'string':
        if (typeof value !== 'string') mismatch(value, owner, path, named ?? 'string');
        return;
      case 'boolean':
        if (typeof value !== 'boolean') mismatch(value, owner, path, 'bool');
        return;
      case 'number':
        if (!isNumber(value)) mismatch(value, owner, path, 'float64');
        return;
      default:
        if (!isNumber(value) || !(shape.kind === 'int32' ? isInt32(value) : isInt64(value)))
          mismatch(value, owner, path, goType[shape.kind] as string);
    }
  };
  const walk = (object: Record<string, unknown>, def: Definition, path: string): void => {
    for (const key of Object.keys(object)) {
      if (path === '' && known?.has(key)) continue;
      const field = def.fields.get(key);
      // Where a value stands is worked out only where that may have to be told.
      if (!field || isPlainly(object[key], field.shape)) continue;
      const embedded = path && def.gvk && (key === 'apiVersion' || key === 'kind') ? 'TypeMeta' : field.embedded;
      const at = `${path && `${path}.`}${embedded ? `${embedded}.` : ''}${key}`;
      check(object[key], field.shape, def, at, field.goType, field.goList);
    }
  };
  if (typeof object !== 'object' || object === null || Array.isArray(object))
    fail(`json: cannot unmarshal ${goKind(object)} into Go value of type ${versionOf(root)}.${typeName(root)}`);
  walk(object as Record<string, unknown>, root, '');
}

const versionOf = (definition: Definition) => definition.name.split('.').at(-2);

/** Removes fields that the definition does not know from the object and returns their paths. `known` names members that have none. */
export function unknownFields(definition: string, object: unknown, known?: ReadonlySet<string>): string[] {
  const found: string[] = [];
  const visit = (value: any, shape: Shape, path: string): void => {
    if (typeof value !== 'object' || value === null) return;
    if (shape.kind === 'array' && Array.isArray(value)) {
      for (let i = 0; i < value.length; i++) visit(value[i], shape.items as Shape, `${path}[${i}]`);
    } else if (shape.kind === 'map') {
      for (const key of Object.keys(value)) visit(value[key], shape.items as Shape, `${path}.${key}`);
    } else if (shape.kind === 'object' && !shape.definition?.open && !Array.isArray(value)) walk(value, shape.definition as Definition, path);
  };
  const walk = (value: any, def: Definition, path: string): void => {
    for (const key of Object.keys(value)) {
      if (path === '' && known?.has(key)) continue;
      const field = def.fields.get(key);
      const at = path ? `${path}.${key}` : key;
      if (field) visit(value[key], field.shape, at);
      else {
        found.push(at);
        delete value[key];
      }
    }
  };
  const root = definitionOf(definition);
  if (root?.custom) return root.custom.prune(object);
  if (root && !root.open && typeof object === 'object' && object !== null) walk(object, root, '');
  return found;
}

/** The 400 of fieldValidation=Strict. */
export function strictDecodingError(gvk: GroupVersionKind, unknown: string[], duplicates: string[]): StatusError {
  const problems = [...unknown.map((f) => `unknown field "${f}"`), ...duplicates.map((f) => `duplicate field "${f}"`)];
  return badRequest(`${gvk.kind} in version "${gvk.version}" cannot be handled as a ${gvk.kind}: strict decoding error: ${problems.join(', ')}`);
}
