import { canonicalize, complete } from './canonical.ts';
import { type Definition, definitionOf, type Shape } from './schema.ts';
import type { ServedResource } from './scheme.ts';

/** "" 0 false {} [] in the table are Go's zero values, which a user's object need not carry. */
const isReal = (value: unknown): boolean =>
  value !== undefined &&
  value !== '' &&
  value !== 0 &&
  value !== false &&
  value !== null &&
  !(typeof value === 'object' && Object.keys(value as object).length === 0);

interface Plan {
  values: [string, unknown][];
  children: [string, Shape][];
}
const plans = new Map<Definition, Plan>();
/** Definitions below which a default lies: the others are not visited. */
const reaches = new Map<Definition, boolean>();

function reachesDefault(shape: Shape, seen = new Set<Definition>()): boolean {
  if (shape.kind === 'array' || shape.kind === 'map') return reachesDefault(shape.items as Shape, seen);
  const definition = shape.definition;
  if (!definition || definition.open || seen.has(definition)) return false;
  const known = reaches.get(definition);
  if (known !== undefined) return known;
  seen.add(definition);
  let found = false;
  for (const field of definition.fields.values()) found ||= isReal(field.defaultValue) || reachesDefault(field.shape, seen);
  if (seen.size === 1 || found) reaches.set(definition, found);
  return found;
}

function planOf(definition: Definition): Plan {
  let plan = plans.get(definition);
  if (!plan) {
    plan = { values: [], children: [] };
    for (const field of definition.fields.values()) {
      if (isReal(field.defaultValue)) plan.values.push([field.name, field.defaultValue]);
      if (reachesDefault(field.shape)) plan.children.push([field.name, field.shape]);
    }
    plans.set(definition, plan);
  }
  return plan;
}

function visit(value: any, shape: Shape): void {
  if (typeof value !== 'object' || value === null) return;
  if (shape.kind === 'array') {
    if (Array.isArray(value)) for (const item of value) visit(item, shape.items as Shape);
  } else if (shape.kind === 'map') for (const item of Object.values(value)) visit(item, shape.items as Shape);
  else if (shape.definition) fill(value, shape.definition);
}

function fill(object: any, definition: Definition, done?: ReadonlySet<string>): void {
  const plan = planOf(definition);
  for (const [name, value] of plan.values)
    if (object[name] === undefined || object[name] === null || (object[name] === '' && typeof value === 'string'))
      object[name] = typeof value === 'object' ? structuredClone(value) : value;
  for (const [name, shape] of plan.children) if (!done?.has(name)) visit(object[name], shape);
}

/**
 * Completes an object in place: its canonical form, the schema's defaults, then the kind's own, and what is never left out.
 * `done` names members that are complete, and in canonical form.
 */
export function applyDefaults(resource: ServedResource, object: any, done?: ReadonlySet<string>): void {
  const definition = definitionOf(resource.definition);
  if (definition?.custom) return definition.custom.complete(object);
  canonicalize(resource.definition, object, done);
  if (definition && !definition.open) fill(object, definition, done);
  resource.strategy.default?.(object);
  complete(resource.definition, object);
}
