import { t, type Type } from './types.ts';

/** What type parameters of calls have turned out to be. */
export class Substitutions {
  #bound = new Map<string, Type>();
  #count = 0;

  fresh(): Type {
    return t.param(`%${++this.#count}`);
  }

  /** A type with its own parameters, apart from those of other calls. */
  instance(type: Type, names: Map<string, Type>): Type {
    switch (type.kind) {
      case 'param': {
        let known = names.get(type.name as string);
        if (!known) names.set(type.name as string, (known = this.fresh()));
        return known;
      }
      case 'list':
        return t.list(this.instance(type.elem as Type, names));
      case 'optional':
        return t.optional(this.instance(type.elem as Type, names));
      case 'map':
        return t.map(this.instance(type.key as Type, names), this.instance(type.elem as Type, names));
      default:
        return type;
    }
  }

  shallow(type: Type): Type {
    let current = type;
    while (current.kind === 'param') {
      const next = this.#bound.get(current.name as string);
      if (!next) return current;
      current = next;
    }
    return current;
  }

  /** With all parameters replaced; those that nothing was learned about are dyn. */
  resolve(type: Type): Type {
    const known = this.shallow(type);
    switch (known.kind) {
      case 'param':
        return t.dyn;
      case 'list':
      case 'optional': {
        const elem = this.resolve(known.elem as Type);
        return elem === known.elem ? known : { ...known, elem };
      }
      case 'map': {
        const key = this.resolve(known.key as Type);
        const elem = this.resolve(known.elem as Type);
        return key === known.key && elem === known.elem ? known : { ...known, key, elem };
      }
      default:
        return known;
    }
  }

  /** Whether a value of one type can stand where another is asked for; learns what parameters are. */
  assignable(from: Type, to: Type): boolean {
    const a = this.shallow(from);
    const b = this.shallow(to);
    if (a === b) return true;
    if (b.kind === 'param') {
      this.#bound.set(b.name as string, a);
      return true;
    }
    if (a.kind === 'param') {
      this.#bound.set(a.name as string, b);
      return true;
    }
    if (a.kind === 'dyn' || b.kind === 'dyn') return true;
    if (a.kind === 'null') return ['null', 'object', 'opaque', 'optional', 'timestamp', 'duration'].includes(b.kind);
    if (a.kind !== b.kind) return false;
    switch (a.kind) {
      case 'list':
      case 'optional':
        return this.assignable(a.elem as Type, b.elem as Type);
      case 'map':
        return this.assignable(a.key as Type, b.key as Type) && this.assignable(a.elem as Type, b.elem as Type);
      case 'object':
      case 'opaque':
        return a.name === b.name;
      default:
        return true;
    }
  }

  /** Takes back what was learned while `attempt` runs, where it answers false. */
  tentatively(attempt: () => boolean): boolean {
    const before = new Map(this.#bound);
    if (attempt()) return true;
    this.#bound = before;
    return false;
  }
}
