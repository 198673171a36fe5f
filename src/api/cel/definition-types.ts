import type { Definition, Shape } from '../schema.ts';
import { escapeName } from './schema-types.ts';
import { t, type Type } from './types.ts';

/** Types of definitions, made when first asked for: they refer to each other in circles. */
const made = new Map<Definition, Type>();

/** Fields that are looked up in the definition. */
class DefinitionFields extends Map<string, Type> {
  #shapes = new Map<string, Shape>();
  constructor(definition: Definition) {
    super();
    for (const field of definition.fields.values()) this.#shapes.set(escapeName(field.name) ?? field.name, field.shape);
  }
  override get(name: string): Type | undefined {
    const shape = this.#shapes?.get(name);
    return shape && typeOfShape(shape);
  }
}

/** The type of objects of a built-in kind. */
export function typeOfDefinition(definition: Definition): Type {
  if (definition.open) return t.dyn;
  let type = made.get(definition);
  if (!type) made.set(definition, (type = t.object(definition.name, new DefinitionFields(definition))));
  return type;
}

const scalars: Record<string, Type> = { string: t.string, int32: t.int, int64: t.int, number: t.double, boolean: t.bool, bytes: t.bytes };

function typeOfShape(shape: Shape): Type {
  if (shape.special === 'quantity') return t.string;
  if (shape.special === 'time' || shape.special === 'microTime') return t.timestamp;
  if (shape.special) return t.dyn;
  if (shape.kind === 'array') return t.list(typeOfShape(shape.items as Shape));
  if (shape.kind === 'map') return t.map(t.string, typeOfShape(shape.items as Shape));
  if (shape.kind === 'object' && shape.definition) return typeOfDefinition(shape.definition);
  return scalars[shape.kind] ?? t.dyn;
}
