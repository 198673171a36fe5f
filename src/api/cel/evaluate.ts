import { type Checked, typeValues } from './checker.ts';
import { callCost, type CostOptions } from './actual-cost.ts';
import type { Overload } from './library/library.ts';
import { optionalAt } from './library/standard.ts';
import type { Comprehension, Expr } from './syntax.ts';
import type { Type } from './types.ts';
import {
  CelError,
  CostExceededError,
  growingList,
  hasType,
  isList,
  isMap,
  itemsOfList,
  listOf,
  mapOf,
  Optional,
  type Value,
} from './values.ts';

/** One evaluation: where variables come from, and what it has cost so far. */
export interface Frame {
  variable(name: string): Value | undefined;
  /** An accumulator may hold an error, which later items can make good. */
  locals: (Value | CelError)[];
  cost: number;
  limit: number;
}

type Run = (frame: Frame) => Value;

function spend(frame: Frame, cost: number): void {
  frame.cost += cost;
  if (frame.cost > frame.limit) throw new CostExceededError();
}

/** Makes of a checked expression what evaluates it. */
export function compile(root: Expr, checked: Checked, options: CostOptions = {}): Run {
  const scope: string[] = [];
  return build(root);

  function build(e: Expr): Run {
    switch (e.kind) {
      case 'literal': {
        const { value } = e;
        return () => value;
      }
      case 'ident':
        return named(e, e.name);
      case 'select':
        return checked.names.has(e) ? named(e, checked.names.get(e) as string) : select(e);
      case 'list':
        return list(e);
      case 'map':
        return map(e);
      case 'struct':
        return struct(e);
      case 'call':
        return call(e);
      case 'comprehension':
        return comprehension(e);
    }
  }

  function named(e: Expr, name: string): Run {
    const at = scope.lastIndexOf(name);
    if (at >= 0 && !checked.names.has(e)) {
      return (frame) => {
        spend(frame, 1);
        const value = frame.locals[at] as Value | CelError;
        if (value instanceof CelError) throw value;
        return value;
      };
    }
    const type = typeValues[name];
    return (frame) => {
      spend(frame, 1);
      const value = frame.variable(name);
      if (value !== undefined) return value;
      if (type) return type;
      throw new CelError(`no such attribute(s): ${name}`);
    };
  }

  function select(e: Extract<Expr, { kind: 'select' }>): Run {
    const operand = build(e.operand);
    const { field, test } = e;
    return (frame) => {
      const value = operand(frame);
      if (value instanceof Optional) {
        const found = optionalAt(value, field);
        return test ? found.value !== undefined : found;
      }
      if (!isMap(value)) throw new CelError('no such overload');
      if (test) return value.get(field) !== undefined;
      spend(frame, 1);
      const found = value.get(field);
      if (found === undefined) throw new CelError(`no such key: ${field}`);
      return found;
    };
  }

  function list(e: Extract<Expr, { kind: 'list' }>): Run {
    const items = e.items.map(build);
    const { optional } = e;
    return (frame) => {
      const values: Value[] = [];
      items.forEach((item, i) => {
        const value = item(frame);
        if (!optional.has(i)) values.push(value);
        else if (value instanceof Optional) {
          if (value.value !== undefined) values.push(value.value);
        } else throw new CelError('no such overload');
      });
      spend(frame, 10);
      return listOf(values);
    };
  }

  function map(e: Extract<Expr, { kind: 'map' }>): Run {
    const entries = e.entries.map((entry) => ({ key: build(entry.key), value: build(entry.value), optional: entry.optional }));
    return (frame) => {
      const values: [Value, Value][] = [];
      for (const { key, value, optional } of entries) {
        const k = key(frame);
        const v = value(frame);
        if (!optional) values.push([k, v]);
        else if (v instanceof Optional) {
          if (v.value !== undefined) values.push([k, v.value]);
        } else throw new CelError('no such overload');
      }
      spend(frame, 30);
      return mapOf(values);
    };
  }

  function struct(e: Extract<Expr, { kind: 'struct' }>): Run {
    const fields = e.fields.map((field) => ({ name: field.name, value: build(field.value), optional: field.optional }));
    const { name } = e;
    return (frame) => {
      const values: [Value, Value][] = [];
      for (const field of fields) {
        const value = field.value(frame);
        if (!field.optional) values.push([field.name, value]);
        else if (value instanceof Optional && value.value !== undefined) values.push([field.name, value.value]);
      }
      spend(frame, 40);
      const made = mapOf(values);
      return { map: true, size: made.size, typeName: name, get: (key) => made.get(key), keys: () => made.keys() };
    };
  }

  function call(e: Extract<Expr, { kind: 'call' }>): Run {
    const special = controlFlow(e);
    if (special) return special;
    const fn = checked.globals.get(e) ?? e.fn;
    const parts = [...(e.target && !checked.globals.has(e) ? [e.target] : []), ...e.args];
    const args = parts.map(build);
    const overloads = checked.overloads.get(e) ?? [];
    const only = overloads.length === 1 && parts.every((p) => checked.types.get(p)?.kind !== 'dyn') ? overloads[0] : undefined;
    return (frame) => {
      const values = args.map((arg) => arg(frame));
      const overload = only ?? overloads.find((o) => fits(o, values));
      if (!overload) throw new CelError('no such overload');
      const result = overload.run(...values);
      spend(frame, callCost(fn, overload.id, values, result, options));
      return result;
    };
  }

  /** Calls that do not evaluate all their arguments. */
  function controlFlow(e: Extract<Expr, { kind: 'call' }>): Run | undefined {
    switch (e.target ? '' : e.fn) {
      case '_&&_':
        return logical(e, false);
      case '_||_':
        return logical(e, true);
      case '_?_:_': {
        const [condition, yes, no] = e.args.map(build) as [Run, Run, Run];
        return (frame) => {
          const test = condition(frame);
          if (typeof test !== 'boolean') throw new CelError('no such overload');
          return test ? yes(frame) : no(frame);
        };
      }
      case '@not_strictly_false': {
        const inner = build(e.args[0] as Expr);
        return (frame) => {
          try {
            return inner(frame) !== false;
          } catch (error) {
            if (error instanceof CelError) return true;
            throw error;
          }
        };
      }
      case '_?._': {
        const operand = build(e.args[0] as Expr);
        const field = (e.args[1] as { value: string }).value;
        return (frame) => {
          const value = operand(frame);
          spend(frame, 1);
          return optionalAt(value instanceof Optional ? value : new Optional(value), field);
        };
      }
    }
    if (!e.target || e.args.length !== 1 || (e.fn !== 'or' && e.fn !== 'orValue') || checked.globals.has(e)) return undefined;
    const target = build(e.target);
    const other = build(e.args[0] as Expr);
    const whole = e.fn === 'or';
    return (frame) => {
      const value = target(frame);
      if (!(value instanceof Optional)) throw new CelError('no such overload');
      spend(frame, 1);
      if (value.value === undefined) return other(frame);
      return whole ? value : value.value;
    };
  }

  /** One side that decides is enough, also where the other fails. */
  function logical(e: Extract<Expr, { kind: 'call' }>, decisive: boolean): Run {
    const [left, right] = e.args.map(build) as [Run, Run];
    const side = (run: Run, frame: Frame): boolean | CelError => {
      try {
        const value = run(frame);
        return typeof value === 'boolean' ? value : new CelError('no such overload');
      } catch (error) {
        if (error instanceof CelError) return error;
        throw error;
      }
    };
    return (frame) => {
      const a = side(left, frame);
      if (a === decisive) return decisive;
      const b = side(right, frame);
      if (b === decisive) return decisive;
      if (a instanceof CelError) throw a;
      if (b instanceof CelError) throw b;
      return !decisive;
    };
  }

  function comprehension(e: Comprehension): Run {
    const range = build(e.range);
    const init = e.init.kind === 'list' && e.init.items.length === 0 && e.range.kind !== 'list' ? undefined : build(e.init);
    const gathers = e.init.kind === 'list' && e.init.items.length === 0;
    const base = scope.length;
    scope.push(e.accumulator);
    scope.push(e.variable);
    if (e.second !== undefined) scope.push(e.second);
    const condition = build(e.condition);
    const step = build(e.step);
    scope.length = base + 1;
    const result = build(e.result);
    scope.length = base;
    const two = e.second !== undefined;
    const isBind = e.variable === '#unused';
    return (frame) => {
      if (isBind) {
        spend(frame, 10);
        frame.locals[base] = (init ?? (() => listOf([])))(frame);
        return result(frame);
      }
      const over = range(frame);
      const entries = entriesOf(over, two);
      if (gathers) {
        spend(frame, 10);
        frame.locals[base] = growingList();
      } else frame.locals[base] = (init as Run)(frame);
      // Values of enclosing comprehensions lie below, those of inner ones above.
      for (const [key, value] of entries) {
        frame.locals[base + 1] = key;
        if (two) frame.locals[base + 2] = value;
        if (condition(frame) !== true) break;
        try {
          const accumulated = step(frame);
          frame.locals[base] = accumulated;
        } catch (error) {
          if (!(error instanceof CelError)) throw error;
          frame.locals[base] = error;
        }
      }
      const final = result(frame);
      if (gathers && isList(final) && final.push) return listOf([...itemsOfList(final)]);
      return final;
    };
  }
}

function* entriesOf(range: Value, two: boolean): Generator<[Value, Value]> {
  if (isList(range)) {
    for (let i = 0; i < range.length; i++) yield two ? [BigInt(i), range.at(i)] : [range.at(i), null];
  } else if (isMap(range)) {
    for (const key of range.keys()) yield [key, two ? (range.get(key) as Value) : null];
  } else throw new CelError('no such overload');
}

function fits(overload: Overload, values: Value[]): boolean {
  const { target, params } = overload.signature;
  const formal = target ? [target, ...params] : params;
  return formal.length === values.length && formal.every((type, i) => hasType(values[i] as Value, type) && elementsFit(type, values[i] as Value));
}

/** Forms for lists of certain items are told apart by the first item. */
function elementsFit(type: Type, value: Value): boolean {
  if (type.kind !== 'list' || !isList(value) || value.length === 0 || !type.elem) return true;
  return hasType(value.at(0), type.elem);
}
