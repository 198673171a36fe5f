import { schemaTable } from './generated/schemas.ts';
import { shapeTable } from './generated/shapes.ts';

/** What one value may be. */
export interface Shape {
  kind: 'string' | 'int32' | 'int64' | 'number' | 'boolean' | 'bytes' | 'any' | 'object' | 'array' | 'map';
  /** Of arrays and maps. */
  items?: Shape;
  /** Of objects. */
  definition?: Definition;
  /** Values with a form of their own. */
  special?: 'quantity' | 'intOrString' | 'time' | 'microTime';
}

export interface Field {
  name: string;
  shape: Shape;
  required: boolean;
  /** Its place among the fields of the Go struct. */
  position: number;
  listType: 'atomic' | 'set' | 'map' | undefined;
  listMapKeys: string[];
  patchMergeKey: string | undefined;
  patchStrategy: string[];
  /** As upstream's defaulting tables give it; zero values ("" 0 {} false) are no defaults of users' fields. */
  defaultValue: unknown;
  /** What is kept where there is no value: nothing, null, an empty object or a zero value. The kind's Go declaration decides that. */
  absent?: { value: unknown } | undefined;
  /** A zero value (empty text, 0, false) is as good as none, and not kept. */
  omitZero?: boolean;
  /** Of scalars, or the items of a list, with a named type, as `v1.Protocol`: it stands in decoding errors. */
  goType?: string | undefined;
  /** Of lists and maps with a named type, as `v1.ResourceList`. */
  goList?: string | undefined;
  /** The Go struct that brings this field into its owner, where it is not the owner's own. */
  embedded?: string | undefined;
}

export interface Definition {
  name: string;
  /** group/version/kind where it is one. */
  gvk: string;
  fields: Map<string, Field>;
  /** Any value is taken as it is (RawExtension, JSON). */
  open: boolean;
  /** Fields that are not listed are kept as they are (x-kubernetes-preserve-unknown-fields). */
  preserves?: boolean;
  /** Of a custom resource: what decoding does in place of the rules for built-in types. */
  custom?: CustomType;
  /** Server-side apply owns objects of this type whole. */
  atomic?: boolean;
}

/** How objects of a custom type are decoded. All work in place. */
export interface CustomType {
  /** StatusError 400 where metadata or type fields have types of their own; the rest is left to validation. */
  checkTypes(object: unknown, gvk: { group: string; version: string; kind: string }): void;
  /** Removes fields that the schema does not know and answers their paths. */
  prune(object: unknown): string[];
  /** Brings metadata into canonical form and fills in the schema's defaults. */
  complete(object: unknown): void;
}

const special: Record<string, Shape> = {
  'io.k8s.apimachinery.pkg.api.resource.Quantity': { kind: 'any', special: 'quantity' },
  'io.k8s.apimachinery.pkg.util.intstr.IntOrString': { kind: 'any', special: 'intOrString' },
  'io.k8s.apimachinery.pkg.apis.meta.v1.Time': { kind: 'string', special: 'time' },
  'io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime': { kind: 'string', special: 'microTime' },
};

const names = schemaTable.map((line) => line.slice(0, line.indexOf('|')));
const indexOf = new Map(names.map((name, i) => [name, i]));
const shapes = new Map(shapeTable.map((line) => [line.slice(0, line.indexOf('|')), line.slice(line.indexOf('|') + 1)]));
const zeroes: Partial<Record<Shape['kind'], unknown>> = { string: '', int32: 0, int64: 0, number: 0, boolean: false, bytes: null };

/** Reads what shapes.ts says of a definition's fields into them. */
function addShapes(definition: Definition): void {
  for (const [position, text] of shapes.get(definition.name)?.split(';').entries() ?? []) {
    const [name = '', code = '', ...more] = text.split(' ');
    const field = definition.fields.get(name);
    if (!field) continue;
    field.position = position;
    field.goType = more.find((m) => /^\w/.test(m));
    field.goList = more.find((m) => m.startsWith('='))?.slice(1);
    field.embedded = more.filter((m) => m.startsWith('^')).map((m) => m.slice(1)).reverse().join('.') || undefined;
    field.omitZero = code === '-0' || code === '-s';
    if (code === 'n') field.absent = { value: null };
    else if (code === 's') field.absent = { value: {} };
    else if (code.startsWith('z=')) field.absent = { value: JSON.parse(code.slice(2)) };
    else if (code === 'z') field.absent = { value: zeroes[field.shape.kind] ?? null };
  }
}

/** Types without fields that are more than empty objects. */
const anyValue = /\.(JSON|JSONSchemaPropsOr\w+|FieldsV1|Patch|RawExtension|Quantity|IntOrString|Time|MicroTime)$/;

const parsed: (Definition | undefined)[] = new Array(schemaTable.length);

function at(index: number): Definition {
  const known = parsed[index];
  if (known) return known;
  const [name = '', gvk = '', mapType = '', ...rest] = (schemaTable[index] as string).split('|');
  const definition: Definition = { name, gvk, fields: new Map(), open: false, atomic: mapType === 'atomic' };
  parsed[index] = definition;
  const body = rest.join('|');
  definition.open = body === '' && anyValue.test(name);
  for (const text of splitFields(body)) {
    const [head = '', code = '', ...options] = text.split(' ');
    const option = (letter: string) => options.find((o) => o.startsWith(`${letter}=`))?.slice(2);
    const required = head.endsWith('!');
    const fieldName = required ? head.slice(0, -1) : head;
    const defaultText = / d=(.*)$/.exec(text)?.[1];
    definition.fields.set(fieldName, {
      name: fieldName,
      shape: shapeOf(code),
      required,
      position: 0,
      listType: option('t') as Field['listType'],
      listMapKeys: option('k')?.split(',') ?? [],
      patchMergeKey: option('m'),
      patchStrategy: option('p')?.split(',') ?? [],
      defaultValue: defaultText === undefined ? undefined : JSON.parse(defaultText),
    });
  }
  addShapes(definition);
  return definition;
}

/** Fields are separated by semicolons; defaults are JSON, which may hold some of their own. */
function splitFields(body: string): string[] {
  if (!body) return [];
  const fields: string[] = [];
  let quoted = false;
  let start = 0;
  for (let i = 0; i < body.length; i++) {
    if (body[i] === '"' && body[i - 1] !== '\\') quoted = !quoted;
    else if (body[i] === ';' && !quoted) {
      fields.push(body.slice(start, i));
      start = i + 1;
    }
  }
  fields.push(body.slice(start));
  return fields;
}

const scalars: Record<string, Shape['kind']> = { s: 'string', i: 'int32', l: 'int64', n: 'number', b: 'boolean', y: 'bytes' };

function shapeOf(code: string): Shape {
  if (code.startsWith('[]')) return { kind: 'array', items: shapeOf(code.slice(2)) };
  if (code.startsWith('{}')) return { kind: 'map', items: shapeOf(code.slice(2)) };
  if (code.startsWith('@')) {
    const index = Number(code.slice(1));
    const name = names[index] as string;
    if (special[name]) return special[name];
    const shape: Shape = { kind: 'object' };
    // Definitions refer to each other in circles, so this one is looked up when first used.
    Object.defineProperty(shape, 'definition', { get: () => at(index), enumerable: true });
    return shape;
  }
  return { kind: scalars[code[0] ?? ''] ?? 'any' };
}

/** Definitions of custom resources, which come and go. */
const added = new Map<string, Definition>();

/** Makes a custom resource's definition known under its name. */
export function addDefinition(definition: Definition): void {
  added.set(definition.name, definition);
}

export function removeDefinition(name: string): void {
  added.delete(name);
}

/** The definition by its OpenAPI name, parsed when first asked for. */
export function definitionOf(name: string): Definition | undefined {
  const custom = added.get(name);
  if (custom) return custom;
  const index = indexOf.get(name);
  return index === undefined ? undefined : at(index);
}

/** Names of all definitions. */
export const definitionNames: readonly string[] = names;

/** The last part of a definition's name: the Go type's name in messages. */
export const typeName = (definition: Definition): string => definition.name.slice(definition.name.lastIndexOf('.') + 1);
