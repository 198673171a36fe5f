import { type Expr, hidden, type Issue } from './syntax.ts';

export const literal = (at: number, value: boolean | bigint): Expr => ({ kind: 'literal', at, value });
export const name = (at: number, text: string): Expr => ({ kind: 'ident', at, name: text });
export const call = (at: number, fn: string, ...args: Expr[]): Expr => ({ kind: 'call', at, fn, target: undefined, args });
const member = (at: number, target: Expr, fn: string, ...args: Expr[]): Expr => ({ kind: 'call', at, fn, target, args });
const list = (at: number, ...items: Expr[]): Expr => ({ kind: 'list', at, items, optional: new Set() });
const accumulator = (at: number) => name(at, hidden);

interface Fold {
  init: Expr;
  condition: Expr;
  step: Expr;
  result?: Expr;
}

function fold(at: number, range: Expr, variable: string, second: string | undefined, f: Fold): Expr {
  return { kind: 'comprehension', at, range, variable, second, accumulator: hidden, result: accumulator(at), ...f };
}

/** cel.bind(variable, init, result). */
export const bind = (at: number, variable: string, init: Expr, result: Expr): Expr => ({
  kind: 'comprehension',
  at,
  range: list(at),
  variable: '#unused',
  second: undefined,
  accumulator: variable,
  init,
  condition: literal(at, false),
  step: name(at, variable),
  result,
});

const all = (at: number, test: Expr): Fold => ({
  init: literal(at, true),
  condition: call(at, '@not_strictly_false', accumulator(at)),
  step: call(at, '_&&_', accumulator(at), test),
});
const exists = (at: number, test: Expr): Fold => ({
  init: literal(at, false),
  condition: call(at, '@not_strictly_false', call(at, '!_', accumulator(at))),
  step: call(at, '_||_', accumulator(at), test),
});
const existsOne = (at: number, test: Expr): Fold => ({
  init: literal(at, 0n),
  condition: literal(at, true),
  step: call(at, '_?_:_', test, call(at, '_+_', accumulator(at), literal(at, 1n)), accumulator(at)),
  result: call(at, '_==_', accumulator(at), literal(at, 1n)),
});
const gather = (at: number, test: Expr | undefined, value: Expr): Fold => {
  const add = call(at, '_+_', accumulator(at), list(at, value));
  return { init: list(at), condition: literal(at, true), step: test ? call(at, '_?_:_', test, add, accumulator(at)) : add };
};
const insert = (at: number, test: Expr | undefined, ...entry: Expr[]): Fold => {
  const add = call(at, 'cel.@mapInsert', accumulator(at), ...entry);
  return {
    init: { kind: 'map', at, entries: [] },
    condition: literal(at, true),
    step: test ? call(at, '_?_:_', test, add, accumulator(at)) : add,
  };
};

/** What a call is when it is a macro's; undefined where it is none. An issue where a macro is used wrongly. */
export function expandMacro(fn: string, target: Expr | undefined, args: Expr[], at: number): Expr | Issue | undefined {
  if (!target) {
    if (fn !== 'has' || args.length !== 1) return undefined;
    const [field] = args;
    if (field?.kind !== 'select' || field.test) return { at: args[0]?.at ?? at, message: 'invalid argument to has() macro' };
    return { ...field, at, test: true };
  }
  if (target.kind === 'ident' && target.name === 'cel' && fn === 'bind' && args.length === 3) {
    const variable = variableOf(args[0]);
    if (!variable) return { at: args[0]?.at ?? at, message: 'cel.bind() variable names must be simple identifiers' };
    return bind(at, variable, args[1] as Expr, args[2] as Expr);
  }
  if ((fn === 'optMap' || fn === 'optFlatMap') && args.length === 2) return optionalMap(fn, target, args, at);
  if (fn === 'sortBy' && args.length === 2) return sortBy(target, args, at);
  return oneVariable(fn, target, args, at) ?? twoVariables(fn, target, args, at);
}

const variableOf = (e: Expr | undefined): string | undefined => (e?.kind === 'ident' ? e.name : undefined);

function oneVariable(fn: string, target: Expr, args: Expr[], at: number): Expr | Issue | undefined {
  const [first, second, third] = args;
  const shapes: Record<string, (() => Fold) | undefined> = {
    'all/2': () => all(at, second as Expr),
    'exists/2': () => exists(at, second as Expr),
    'exists_one/2': () => existsOne(at, second as Expr),
    'existsOne/2': () => existsOne(at, second as Expr),
    'map/2': () => gather(at, undefined, second as Expr),
    'map/3': () => gather(at, second, third as Expr),
    'filter/2': () => gather(at, second, first as Expr),
  };
  const make = shapes[`${fn}/${args.length}`];
  if (!make) return undefined;
  const variable = variableOf(first);
  if (!variable) return { at: first?.at ?? at, message: 'argument must be a simple name' };
  if (variable === hidden || variable === '__result__') return { at: first?.at ?? at, message: 'iteration variable overwrites accumulator variable' };
  return fold(at, target, variable, undefined, make());
}

function twoVariables(fn: string, target: Expr, args: Expr[], at: number): Expr | Issue | undefined {
  const [first, second, third, fourth] = args;
  const shapes: Record<string, (() => Fold) | undefined> = {
    'all/3': () => all(at, third as Expr),
    'exists/3': () => exists(at, third as Expr),
    'existsOne/3': () => existsOne(at, third as Expr),
    'transformList/3': () => gather(at, undefined, third as Expr),
    'transformList/4': () => gather(at, third, fourth as Expr),
    'transformMap/3': () => insert(at, undefined, first as Expr, third as Expr),
    'transformMap/4': () => insert(at, third, first as Expr, fourth as Expr),
    'transformMapEntry/3': () => insert(at, undefined, third as Expr),
    'transformMapEntry/4': () => insert(at, third, fourth as Expr),
  };
  const make = shapes[`${fn}/${args.length}`];
  if (!make) return undefined;
  const key = variableOf(first);
  const value = variableOf(second);
  if (!key || !value) return { at: (key ? second : first)?.at ?? at, message: 'argument must be a simple name' };
  if (key === value) return { at: second?.at ?? at, message: `duplicate variable name: ${key}` };
  return fold(at, target, key, value, make());
}

function optionalMap(fn: string, target: Expr, args: Expr[], at: number): Expr | Issue {
  const variable = variableOf(args[0]);
  if (!variable) return { at: args[0]?.at ?? at, message: `${fn}() variable name must be a simple identifier` };
  const mapped = bind(at, variable, member(at, target, 'value'), args[1] as Expr);
  const some = fn === 'optMap' ? member(at, name(at, 'optional'), 'of', mapped) : mapped;
  return call(at, '_?_:_', member(at, target, 'hasValue'), some, member(at, name(at, 'optional'), 'none'));
}

function sortBy(target: Expr, args: Expr[], at: number): Expr | Issue {
  const variable = variableOf(args[0]);
  if (!variable) return { at: args[0]?.at ?? at, message: 'argument must be a simple name' };
  const input = '@__sortBy_input__';
  const keys = fold(at, name(at, input), variable, undefined, gather(at, undefined, args[1] as Expr));
  return bind(at, input, target, member(at, name(at, input), '@sortByAssociatedKeys', keys));
}
