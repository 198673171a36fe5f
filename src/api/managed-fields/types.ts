import { zeroFieldTable } from '../generated/zero-fields.ts';
import { type Definition, definitionOf, type Field, type Shape } from '../schema.ts';

/**
 * What server-side apply needs to know of a value's type: how it is merged, and what identifies its parts. Derived from the same
 * definitions as validation and patches, of built-in and custom resources alike.
 */
export type FieldType = ScalarType | StructType | MapType | ListType | AnyType;

export interface ScalarType {
  kind: 'scalar';
  /** What it must be; undefined where any scalar goes (IntOrString, Quantity, times). */
  of: 'string' | 'number' | 'boolean' | undefined;
}

export interface StructType {
  kind: 'struct';
  /** Owned and replaced whole. */
  atomic: boolean;
  /** The type of a member; undefined where the schema has none of that name. */
  fieldType(name: string): FieldType | undefined;
  /** Whether a member is declared, rather than any of those that a map or an open object may have. */
  declares(name: string): boolean;
  /**
   * Members that Go's types always have, with what they are when nothing was set: objects of the server's own types are compared as
   * if they were there. Undefined where there are none.
   */
  zeros: ReadonlyMap<string, unknown> | undefined;
}

export interface MapType {
  kind: 'map';
  atomic: boolean;
  values: FieldType;
}

export interface ListType {
  kind: 'list';
  /** Items are told apart by these members; `set` by their value; `atomic` not at all. */
  identity: 'atomic' | 'set' | readonly string[];
  items: FieldType;
  /** Of key members that an item leaves out. */
  keyDefaults: ReadonlyMap<string, unknown>;
}

export interface AnyType {
  kind: 'any';
  /** Objects are owned whole; else each member for itself. Lists are always owned whole. */
  atomic: boolean;
}

export const anyType: AnyType = { kind: 'any', atomic: false };
const atomicAny: AnyType = { kind: 'any', atomic: true };
const string: ScalarType = { kind: 'scalar', of: 'string' };
const number: ScalarType = { kind: 'scalar', of: 'number' };
const boolean: ScalarType = { kind: 'scalar', of: 'boolean' };
const anyScalar: ScalarType = { kind: 'scalar', of: undefined };

const rawExtension = 'io.k8s.apimachinery.pkg.runtime.RawExtension';

/** By whether they are owned whole. */
const types = { true: new WeakMap<Definition, StructType>(), false: new WeakMap<Definition, StructType>() };

/** The type of a kind's objects by its definition's name; undefined where there is no such definition. */
export function fieldTypeOf(definition: string): FieldType | undefined {
  const found = definitionOf(definition);
  return found && structOf(found, found.atomic === true);
}

function structOf(definition: Definition, atomic: boolean): FieldType {
  if (definition.open) return definition.name === rawExtension ? atomicAny : anyType;
  const cache = types[`${atomic}`];
  let type = cache.get(definition);
  if (!type) {
    const fields = new Map<string, FieldType>();
    const unknown = (definition as { preserves?: boolean }).preserves ? anyType : undefined;
    type = {
      kind: 'struct',
      atomic,
      fieldType(name) {
        let known = fields.get(name);
        if (!known) {
          const field = definition.fields.get(name);
          if (!field) return unknown;
          fields.set(name, (known = typeOfField(field)));
        }
        return known;
      },
      declares: (name) => definition.fields.has(name),
      zeros: zerosOf(definition.name),
    };
    cache.set(definition, type);
  }
  return type;
}

function typeOfField(field: Field): FieldType {
  const atomic = field.listType === 'atomic';
  const { shape } = field;
  if (shape.kind === 'array') {
    const items = typeOfShape(shape.items);
    return { kind: 'list', identity: identityOf(field), items, keyDefaults: keyDefaultsOf(field) };
  }
  if (shape.kind === 'map') return { kind: 'map', atomic, values: typeOfShape(shape.items) };
  if (shape.kind === 'object' && shape.definition) {
    // What the field says goes before what its type says.
    const granular = (field.listType as string | undefined) === 'granular';
    return structOf(shape.definition, atomic || (!granular && shape.definition.atomic === true));
  }
  return typeOfShape(shape);
}

/** List types come from x-kubernetes-list-type; where it is missing, the patch strategy says the same. */
function identityOf(field: Field): ListType['identity'] {
  if (field.listType === 'set') return 'set';
  if (field.listType === 'map') return field.listMapKeys;
  if (field.listType === undefined && field.patchStrategy.includes('merge')) return field.patchMergeKey ? [field.patchMergeKey] : 'set';
  return 'atomic';
}

const noDefaults: ReadonlyMap<string, unknown> = new Map();

function keyDefaultsOf(field: Field): ReadonlyMap<string, unknown> {
  const definition = field.shape.items?.definition;
  if (!definition || field.listMapKeys.length === 0) return noDefaults;
  const defaults = new Map<string, unknown>();
  for (const key of field.listMapKeys) {
    const value = definition.fields.get(key)?.defaultValue;
    if (value !== undefined) defaults.set(key, value);
  }
  return defaults;
}

function typeOfShape(shape: Shape | undefined): FieldType {
  if (!shape) return anyType;
  if (shape.special) return anyScalar;
  switch (shape.kind) {
    case 'string':
    case 'bytes':
      return string;
    case 'int32':
    case 'int64':
    case 'number':
      return number;
    case 'boolean':
      return boolean;
    case 'array':
      return { kind: 'list', identity: 'atomic', items: typeOfShape(shape.items), keyDefaults: noDefaults };
    case 'map':
      return { kind: 'map', atomic: false, values: typeOfShape(shape.items) };
    case 'object':
      return shape.definition ? structOf(shape.definition, shape.definition.atomic === true) : anyType;
    default:
      return anyType;
  }
}

let zeroTable: Map<string, string> | undefined;
const zeroValues: Record<string, unknown> = { o: Object.freeze({}), n: null, s: '', i: 0, b: false, q: '0', d: '0s' };

function zerosOf(name: string): ReadonlyMap<string, unknown> | undefined {
  zeroTable ??= new Map(zeroFieldTable.split('\n').map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]));
  const text = zeroTable.get(name);
  if (text === undefined) return undefined;
  return new Map(
    text.split(',').map((part) => {
      const at = part.lastIndexOf(':');
      return [part.slice(0, at), zeroValues[part.slice(at + 1)]];
    }),
  );
}
