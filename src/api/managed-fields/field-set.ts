import { compareSteps, fieldName, fieldStep, isField, parseStep } from './path-element.ts';
import type { FieldType } from './types.ts';

interface Node {
  /** The path to here is in the set. */
  member: boolean;
  /** What of the set lies below. */
  children: FieldSet | undefined;
}

/** FieldsV1 as it stands in an object. */
export type FieldsV1 = { [step: string]: FieldsV1 };

/** A set of paths. Sets that others may hold are not changed: operations make new ones and share what is below. */
export class FieldSet {
  readonly nodes = new Map<string, Node>();

  static of(...paths: string[][]): FieldSet {
    const set = new FieldSet();
    for (const path of paths) set.insert(path.map(fieldStep));
    return set;
  }

  get empty(): boolean {
    for (const node of this.nodes.values()) if (node.member || (node.children && !node.children.empty)) return false;
    return true;
  }

  /** Makes the path a member; only while the set is being built. */
  insert(path: readonly string[]): void {
    let set: FieldSet = this;
    for (let i = 0; i < path.length; i++) {
      const node = set.#node(path[i] as string);
      if (i === path.length - 1) node.member = true;
      else set = node.children ??= new FieldSet();
    }
  }

  /** One step made a member; only while the set is being built. */
  add(step: string): void {
    this.#node(step).member = true;
  }

  /** Puts a set below a step, where it holds anything; only while the set is being built. */
  addBelow(step: string, children: FieldSet): void {
    if (children.nodes.size > 0) this.#node(step).children = children;
  }

  #node(step: string): Node {
    let node = this.nodes.get(step);
    if (!node) this.nodes.set(step, (node = { member: false, children: undefined }));
    return node;
  }

  has(path: readonly string[]): boolean {
    let set: FieldSet | undefined = this;
    for (let i = 0; set && i < path.length; i++) {
      const node: Node | undefined = set.nodes.get(path[i] as string);
      if (i === path.length - 1) return node?.member === true;
      set = node?.children;
    }
    return false;
  }

  below(step: string): FieldSet | undefined {
    return this.nodes.get(step)?.children;
  }

  union(other: FieldSet): FieldSet {
    if (other.nodes.size === 0) return this;
    if (this.nodes.size === 0) return other;
    const result = new FieldSet();
    for (const [step, node] of this.nodes) result.nodes.set(step, node);
    for (const [step, node] of other.nodes) {
      const own = result.nodes.get(step);
      if (!own) result.nodes.set(step, node);
      else {
        const children = own.children && node.children ? own.children.union(node.children) : (own.children ?? node.children);
        result.nodes.set(step, { member: own.member || node.member, children });
      }
    }
    return result;
  }

  intersection(other: FieldSet): FieldSet {
    const result = new FieldSet();
    for (const [step, node] of this.nodes) {
      const theirs = other.nodes.get(step);
      if (!theirs) continue;
      const children = node.children && theirs.children ? node.children.intersection(theirs.children) : undefined;
      result.#keep(step, node.member && theirs.member, children);
    }
    return result;
  }

  /** What is here and not there; a member below a member of the other stays. */
  difference(other: FieldSet): FieldSet {
    if (other.nodes.size === 0) return this;
    const result = new FieldSet();
    for (const [step, node] of this.nodes) {
      const theirs = other.nodes.get(step);
      if (!theirs) result.nodes.set(step, node);
      else
        result.#keep(
          step,
          node.member && !theirs.member,
          theirs.children && node.children ? node.children.difference(theirs.children) : node.children,
        );
    }
    return result;
  }

  /** What is here and neither there nor below what is there. */
  without(other: FieldSet): FieldSet {
    const result = new FieldSet();
    for (const [step, node] of this.nodes) {
      const theirs = other.nodes.get(step);
      if (!theirs) result.nodes.set(step, node);
      else if (!theirs.member)
        result.#keep(step, node.member, theirs.children && node.children ? node.children.without(theirs.children) : node.children);
    }
    return result;
  }

  #keep(step: string, member: boolean, children: FieldSet | undefined): void {
    const inner = children && !children.empty ? children : undefined;
    if (member || inner) this.nodes.set(step, { member, children: inner });
  }

  equals(other: FieldSet): boolean {
    if (this.nodes.size !== other.nodes.size) return false;
    for (const [step, node] of this.nodes) {
      const theirs = other.nodes.get(step);
      if (!theirs || theirs.member !== node.member || (node.children === undefined) !== (theirs.children === undefined)) return false;
      if (node.children && !node.children.equals(theirs.children as FieldSet)) return false;
    }
    return true;
  }

  /** Members in order: those of a level, then what lies below. */
  *paths(prefix: readonly string[] = []): Generator<string[]> {
    const steps = [...this.nodes.keys()].sort(compareSteps);
    for (const step of steps) if (this.nodes.get(step)?.member) yield [...prefix, step];
    for (const step of steps) {
      const children = this.nodes.get(step)?.children;
      if (children) yield* children.paths([...prefix, step]);
    }
  }

  /** With every declared field that lies on the way to a member. */
  withNamedFields(type: FieldType | undefined): FieldSet {
    const result = new FieldSet();
    for (const [step, node] of this.nodes) {
      const field = isField(step) && type?.kind === 'struct' && type.declares(fieldName(step));
      result.nodes.set(step, {
        member: node.member || (node.children !== undefined && field === true),
        children: node.children?.withNamedFields(typeBelow(type, step)),
      });
    }
    return result;
  }

  toJson(): FieldsV1 {
    const json: FieldsV1 = {};
    this.#write(json);
    fromJsonCache.set(json, this);
    return json;
  }

  #write(json: FieldsV1): void {
    const steps = this.nodes.size > 1 ? [...this.nodes.keys()].sort(compareSteps) : this.nodes.keys();
    for (const step of steps) {
      const { member, children } = this.nodes.get(step) as Node;
      const inner: FieldsV1 = {};
      if (children) {
        if (member) inner['.'] = {};
        children.#write(inner);
      }
      json[step] = inner;
    }
  }

  /** Throws on what is no set of fields. Steps of kinds that are not known are left out. */
  static fromJson(json: unknown): FieldSet {
    if (typeof json !== 'object' || json === null || Array.isArray(json)) throw new Error('fields must be an object');
    if (!Object.isFrozen(json)) return read(json as FieldsV1);
    let set = fromJsonCache.get(json);
    if (!set) fromJsonCache.set(json, (set = read(json as FieldsV1)));
    return set;
  }
}

/** Sets of objects that do not change any more. */
const fromJsonCache = new WeakMap<object, FieldSet>();

function read(json: FieldsV1): FieldSet {
  const set = new FieldSet();
  for (const key in json) {
    if (key === '.') continue;
    const step = parseStep(key);
    if (step === undefined) continue;
    const value = json[key];
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error(`expected an object below ${key}`);
    const children = read(value);
    const hasChildren = children.nodes.size > 0;
    set.nodes.set(step, { member: !hasChildren || Object.hasOwn(value, '.'), children: hasChildren ? children : undefined });
  }
  return set;
}

/** The type of what a step leads to. */
export function typeBelow(type: FieldType | undefined, step: string): FieldType | undefined {
  switch (type?.kind) {
    case 'struct':
      return isField(step) ? type.fieldType(fieldName(step)) : undefined;
    case 'map':
      return type.values;
    case 'list':
      return type.items;
    case 'any':
      return type;
    default:
      return undefined;
  }
}
