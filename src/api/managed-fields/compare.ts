import { sameJson } from '../equality.ts';
import { FieldSet } from './field-set.ts';
import { fieldStep, itemStep } from './path-element.ts';
import type { FieldType, ListType, StructType } from './types.ts';

/** What the second of two values has, lacks, or has otherwise. No path is in more than one of them. */
export interface Comparison {
  added: FieldSet;
  modified: FieldSet;
  removed: FieldSet;
}

type Json = any;
const isMap = (value: Json): value is Record<string, Json> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Compares two objects of one type. Throws IdentityError where a list's items cannot be told apart. */
export function compareValues(type: FieldType, before: Json, after: Json): Comparison {
  const result: Comparison = { added: new FieldSet(), modified: new FieldSet(), removed: new FieldSet() };
  compareAt(type, before, after, '', result);
  return result;
}

/** Every leaf and item that a configuration mentions. */
export function fieldsOf(type: FieldType, value: Json): FieldSet {
  const set = new FieldSet();
  mention(type, value, set);
  return set;
}

type Container = 'map' | 'list' | 'leaf';

/** How a value of the type is walked: what any value is shows itself. */
function containerOf(type: FieldType, value: Json): Container {
  switch (type.kind) {
    case 'scalar':
      return 'leaf';
    case 'struct':
    case 'map':
      return type.atomic ? 'leaf' : 'map';
    case 'list':
      return type.identity === 'atomic' ? 'leaf' : 'list';
    default:
      return !type.atomic && isMap(value) ? 'map' : 'leaf';
  }
}

const emptyMap = (value: Json) => !isMap(value) || Object.keys(value).length === 0;
const emptyList = (value: Json) => !Array.isArray(value) || value.length === 0;

/** A struct's members as Go's encoder would show them. */
function withZeros(type: FieldType, value: Json): Json {
  if (type.kind !== 'struct' || !type.zeros || !isMap(value)) return value;
  let copy: Record<string, Json> | undefined;
  for (const [name, zero] of type.zeros) {
    if (value[name] !== undefined) continue;
    copy ??= { ...value };
    copy[name] = zero;
  }
  return copy ?? value;
}

/** The whole value as Go's encoder would show it, parts that are owned whole included. */
export function expanded(type: FieldType, value: Json): Json {
  if (Array.isArray(value)) return type.kind === 'list' ? value.map((item) => expanded(type.items, item)) : value;
  if (!isMap(value) || type.kind === 'any' || type.kind === 'scalar') return value;
  const result: Record<string, Json> = {};
  const shown = withZeros(type, value);
  for (const name of Object.keys(shown)) {
    const inner = expanded(typeOfMember(type, name), shown[name]);
    if (name === '__proto__') Object.defineProperty(result, name, { value: inner, enumerable: true, configurable: true, writable: true });
    else result[name] = inner;
  }
  return result;
}

const typeOfMember = (type: FieldType, name: string): FieldType =>
  (type.kind === 'struct' ? type.fieldType(name) : type.kind === 'map' ? type.values : type) ?? { kind: 'any', atomic: false };

/** `step` leads from the sets' level to the values; '' for the whole object. */
function compareAt(type: FieldType, lhs: Json, rhs: Json, step: string, out: Comparison): void {
  if (lhs === undefined) return everything(type, rhs, step, out.added);
  if (rhs === undefined) return everything(type, lhs, step, out.removed);
  if (lhs === rhs) return;
  const container = containerOf(type, rhs);
  const left = containerOf(type, lhs);
  if (container !== left && type.kind === 'any') {
    // A value that changed its nature: the one is taken away, the other put in its place.
    if (left === 'map' && !emptyMap(lhs)) {
      const gone = new FieldSet();
      members(type, lhs, gone);
      out.removed.addBelow(step, gone);
    } else if (container === 'map' && !emptyMap(rhs)) {
      const fresh = new FieldSet();
      members(type, rhs, fresh);
      out.added.addBelow(step, fresh);
    }
    out.modified.add(step);
    return;
  }
  // What is owned whole is compared as it stands.
  const before = container === 'leaf' ? lhs : withZeros(type, lhs);
  const after = container === 'leaf' ? rhs : withZeros(type, rhs);
  const leaf =
    container === 'leaf' ||
    (container === 'map' && emptyMap(before) && emptyMap(after)) ||
    (container === 'list' && emptyList(before) && emptyList(after));
  if (leaf) {
    if (step !== '' && !sameJson(before, after)) out.modified.add(step);
    return;
  }
  const inner: Comparison = step === '' ? out : { added: new FieldSet(), modified: new FieldSet(), removed: new FieldSet() };
  if (container === 'map') compareMembers(type, before, after, inner);
  else compareItems(type as ListType, Array.isArray(before) ? before : [], Array.isArray(after) ? after : [], inner);
  if (step === '') return;
  out.added.addBelow(step, inner.added);
  out.modified.addBelow(step, inner.modified);
  out.removed.addBelow(step, inner.removed);
}

function compareMembers(type: FieldType, lhs: Json, rhs: Json, out: Comparison): void {
  const before = isMap(lhs) ? lhs : {};
  const after = isMap(rhs) ? rhs : {};
  for (const name in after) {
    const value = after[name];
    if (value === undefined) continue;
    const old = Object.hasOwn(before, name) ? before[name] : undefined;
    if (old !== value) compareAt(typeOfMember(type, name), old, value, fieldStep(name), out);
  }
  for (const name in before) {
    if (before[name] === undefined || (Object.hasOwn(after, name) && after[name] !== undefined)) continue;
    everything(typeOfMember(type, name), before[name], fieldStep(name), out.removed);
  }
}

/** Items by what identifies them; where several are the same, all of them together. */
function itemsByStep(type: ListType, items: Json[]): Map<string, Json[]> {
  const found = new Map<string, Json[]>();
  for (const item of items) {
    const step = itemStep(type, item);
    const same = found.get(step);
    if (same) same.push(item);
    else found.set(step, [item]);
  }
  return found;
}

function compareItems(type: ListType, lhs: Json[], rhs: Json[], out: Comparison): void {
  const before = itemsByStep(type, lhs);
  const after = itemsByStep(type, rhs);
  for (const [step, right] of after) {
    const left = before.get(step) ?? [];
    if (right.length === 1) {
      compareAt(type.items, left.length === 1 ? left[0] : undefined, right[0], step, out);
      if (left.length > 1) out.removed.add(step);
    } else if (left.length > 1) {
      if (!sameJson(left, right)) out.modified.add(step);
    } else {
      if (left.length === 1) everything(type.items, left[0], step, out.removed);
      out.added.add(step);
    }
  }
  for (const [step, left] of before) {
    if (after.has(step)) continue;
    if (left.length === 1) everything(type.items, left[0], step, out.removed);
    else out.removed.add(step);
  }
}

/** The value and all its parts, into one set: what is there on one side only. */
function everything(type: FieldType, value: Json, step: string, out: FieldSet): void {
  if (step === '') return members(type, value, out);
  out.add(step);
  const container = containerOf(type, value);
  if (container === 'leaf') return;
  const inner = new FieldSet();
  if (container === 'map') members(type, value, inner);
  else if (Array.isArray(value)) items(type as ListType, value, inner);
  out.addBelow(step, inner);
}

function members(type: FieldType, value: Json, out: FieldSet): void {
  if (!isMap(value)) return;
  for (const name in value) if (value[name] !== undefined) everything(typeOfMember(type, name), value[name], fieldStep(name), out);
  const zeros = (type as StructType).zeros;
  if (zeros) for (const [name, zero] of zeros) if (value[name] === undefined) everything(typeOfMember(type, name), zero, fieldStep(name), out);
}

function items(type: ListType, value: Json[], out: FieldSet): void {
  for (const [step, same] of itemsByStep(type, value)) {
    if (same.length > 1) out.add(step);
    else everything(type.items, same[0], step, out);
  }
}

/** As everything, for a configuration: what it does not say is not there, and objects on the way are no members of their own. */
function mention(type: FieldType, value: Json, out: FieldSet): void {
  if (Array.isArray(value) && type.kind === 'list') {
    for (const [step, same] of itemsByStep(type, value)) {
      if (same.length === 1) mentionAt(type.items, same[0], step, out);
      out.add(step);
    }
    return;
  }
  if (!isMap(value)) return;
  for (const name in value) {
    const member = value[name];
    if (member === undefined) continue;
    const step = fieldStep(name);
    mentionAt(typeOfMember(type, name), member, step, out);
    if (member === null || (isMap(member) && Object.keys(member).length === 0)) out.add(step);
    else if (type.kind !== 'struct' || !type.declares(name)) out.add(step);
  }
}

function mentionAt(type: FieldType, value: Json, step: string, out: FieldSet): void {
  if (containerOf(type, value) === 'leaf') return out.add(step);
  const inner = new FieldSet();
  mention(type, value, inner);
  out.addBelow(step, inner);
}
