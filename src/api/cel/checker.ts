import type { Library, Overload } from './library/library.ts';
import { parseDuration, parseTimestamp } from './library/time.ts';
import { compileRegex } from './library/regex.ts';
import { qualified } from './parser.ts';
import type { Comprehension, Expr, Issue } from './syntax.ts';
import { t, type Type, typeText } from './types.ts';
import { Substitutions } from './unify.ts';
import { Duration, Timestamp, TypeValue, Uint, type Value } from './values.ts';

/** What an expression may refer to. */
export interface Declarations {
  variables: ReadonlyMap<string, Type>;
  functions: Library;
  /** Types whose values can be made: Name{field: value}. */
  structs?: (name: string) => Type | undefined;
}

/** What the checker found out. */
export interface Checked {
  types: Map<Expr, Type>;
  /** Of calls: the forms that may be meant. */
  overloads: Map<Expr, Overload[]>;
  /** Identifiers and selections that name a variable, or a type, with dots or without. */
  names: Map<Expr, string>;
  /** Calls whose target is but the first part of the function's name. */
  globals: Map<Expr, string>;
  variables: Set<string>;
  output: Type;
  issues: Issue[];
}

export const typeValues: Record<string, TypeValue> = Object.fromEntries(
  ['bool', 'int', 'uint', 'double', 'string', 'bytes', 'list', 'map', 'null_type', 'type', 'dyn', 'optional_type'].map((name) => [name, new TypeValue(name)]),
);
typeValues['google.protobuf.Timestamp'] = new TypeValue('google.protobuf.Timestamp');
typeValues['google.protobuf.Duration'] = new TypeValue('google.protobuf.Duration');
for (const name of ['net.IP', 'net.CIDR', 'kubernetes.URL', 'kubernetes.Quantity', 'kubernetes.Semver']) typeValues[name] = new TypeValue(name);

/** Finds the types of an expression and all its parts, and what is wrong with it. */
export function check(root: Expr, declarations: Declarations): Checked {
  const subs = new Substitutions();
  const locals: { name: string; type: Type }[] = [];
  const checked: Checked = {
    types: new Map(),
    overloads: new Map(),
    names: new Map(),
    globals: new Map(),
    variables: new Set(),
    output: t.dyn,
    issues: [],
  };
  const issue = (at: number, message: string): Type => {
    checked.issues.push({ at, message });
    return t.dyn;
  };
  const show = (type: Type) => typeText(subs.resolve(type));

  const visit = (e: Expr): Type => {
    const type = typeOf(e);
    checked.types.set(e, type);
    return type;
  };

  const variableType = (e: Expr, name: string): Type | undefined => {
    for (let i = locals.length - 1; i >= 0; i--) if (locals[i]?.name === name) return locals[i]?.type;
    const declared = declarations.variables.get(name);
    if (declared) {
      checked.names.set(e, name);
      checked.variables.add(name);
      return declared;
    }
    if (Object.hasOwn(typeValues, name)) {
      checked.names.set(e, name);
      return t.type;
    }
    return undefined;
  };

  const typeOf = (e: Expr): Type => {
    switch (e.kind) {
      case 'literal':
        return literalType(e.value);
      case 'ident':
        return variableType(e, e.name) ?? issue(e.at, `undeclared reference to '${e.name}' (in container '')`);
      case 'select':
        return selectType(e);
      case 'call':
        return callType(e);
      case 'list': {
        let elem: Type | undefined;
        e.items.forEach((item, i) => {
          let type = visit(item);
          if (e.optional.has(i)) type = unwrapped(type);
          if (!elem) elem = type;
          else if (!subs.tentatively(() => subs.assignable(type, elem as Type))) issue(item.at, `expected type '${show(elem)}' but found '${show(type)}'`);
        });
        return t.list(elem ?? subs.fresh());
      }
      case 'map':
        return mapType(e);
      case 'struct':
        return structType(e);
      case 'comprehension':
        return comprehensionType(e);
    }
  };

  const unwrapped = (type: Type): Type => {
    const known = subs.shallow(type);
    return known.kind === 'optional' ? (known.elem as Type) : t.dyn;
  };

  const mapType = (e: Extract<Expr, { kind: 'map' }>): Type => {
    let key: Type | undefined;
    let elem: Type | undefined;
    for (const entry of e.entries) {
      const keyType = visit(entry.key);
      const given = visit(entry.value);
      const valueType = entry.optional ? unwrapped(given) : given;
      if (!key || !elem) [key, elem] = [keyType, valueType];
      else {
        if (!subs.tentatively(() => subs.assignable(keyType, key as Type))) issue(entry.key.at, `expected type '${show(key)}' but found '${show(keyType)}'`);
        if (!subs.tentatively(() => subs.assignable(valueType, elem as Type)))
          issue(entry.value.at, `expected type '${show(elem)}' but found '${show(valueType)}'`);
      }
    }
    return t.map(key ?? subs.fresh(), elem ?? subs.fresh());
  };

  const structType = (e: Extract<Expr, { kind: 'struct' }>): Type => {
    const type = declarations.structs?.(e.name);
    for (const field of e.fields) {
      const given = visit(field.value);
      const declared = type?.fields?.get(field.name);
      if (!type) continue;
      if (!declared) issue(field.at, `expected type of field '${field.name}' is '' but provided type is '${show(given)}'`);
      else {
        const actual = field.optional ? unwrapped(given) : given;
        if (!subs.tentatively(() => subs.assignable(actual, declared)))
          issue(field.at, `expected type of field '${field.name}' is '${typeText(declared)}' but provided type is '${show(actual)}'`);
      }
    }
    return type ?? issue(e.at, `undeclared reference to '${e.name}' (in container '')`);
  };

  const selectType = (e: Extract<Expr, { kind: 'select' }>): Type => {
    const name = e.test ? undefined : qualified(e);
    if (name && !locals.some((l) => l.name === name.slice(0, name.indexOf('.')))) {
      const known = variableType(e, name);
      if (known) return known;
    }
    const operand = subs.shallow(visit(e.operand));
    const optional = operand.kind === 'optional';
    const found = fieldType(optional ? subs.shallow(operand.elem as Type) : operand, e.field, e.at);
    if (e.test) return t.bool;
    return optional ? t.optional(found) : found;
  };

  const fieldType = (type: Type, field: string, at: number): Type => {
    switch (type.kind) {
      case 'dyn':
      case 'param':
        return t.dyn;
      case 'map':
        return type.elem as Type;
      case 'object':
        return type.fields?.get(field) ?? issue(at, `undefined field '${field}'`);
      default:
        return issue(at, `type '${show(type)}' does not support field selection`);
    }
  };

  const callType = (e: Extract<Expr, { kind: 'call' }>): Type => {
    const prefix = e.target && qualified(e.target);
    const globalName = prefix !== undefined ? `${prefix}.${e.fn}` : undefined;
    if (globalName && declarations.functions.has(globalName)) {
      checked.globals.set(e, globalName);
      return resolveCall(e, globalName, undefined, e.args.map(visit));
    }
    switch (e.fn) {
      case '_&&_':
      case '_||_': {
        const types = e.args.map(visit);
        if (types.every((type) => subs.tentatively(() => subs.assignable(type, t.bool)))) return t.bool;
        return noOverload(e, e.fn, undefined, types);
      }
      case '@not_strictly_false':
        e.args.forEach(visit);
        return t.bool;
      case '_?_:_': {
        const [condition, yes, no] = e.args.map(visit) as [Type, Type, Type];
        if (!subs.tentatively(() => subs.assignable(condition, t.bool) && joins(yes, no))) return noOverload(e, e.fn, undefined, [condition, yes, no]);
        return isDyn(yes) || isDyn(no) ? t.dyn : subs.shallow(yes).kind === 'null' ? no : yes;
      }
      case '_?._': {
        const operand = subs.shallow(visit(e.args[0] as Expr));
        const field = (e.args[1] as { value: string }).value;
        checked.types.set(e.args[1] as Expr, t.string);
        const inner = operand.kind === 'optional' ? subs.shallow(operand.elem as Type) : operand;
        return t.optional(fieldType(inner, field, e.at));
      }
    }
    const target = e.target && visit(e.target);
    if (target && (e.fn === 'or' || e.fn === 'orValue') && e.args.length === 1) {
      const arg = visit(e.args[0] as Expr);
      const optional = subs.shallow(target);
      const wanted = e.fn === 'or' ? target : optional.kind === 'optional' ? (optional.elem as Type) : t.dyn;
      if ((optional.kind === 'optional' || isDyn(optional)) && subs.tentatively(() => joins(arg, wanted))) return isDyn(wanted) ? arg : wanted;
      return noOverload(e, e.fn, target, [arg]);
    }
    return resolveCall(e, e.fn, target, e.args.map(visit));
  };

  const isDyn = (type: Type) => subs.shallow(type).kind === 'dyn';
  const joins = (a: Type, b: Type) => subs.assignable(a, b) || subs.assignable(b, a);

  const noOverload = (e: Expr, fn: string, target: Type | undefined, args: Type[]): Type =>
    issue(e.at, `found no matching overload for '${fn}' applied to '${target ? `${show(target)}.` : ''}(${args.map(show).join(', ')})'`);

  const resolveCall = (e: Extract<Expr, { kind: 'call' }>, fn: string, target: Type | undefined, args: Type[]): Type => {
    const all = declarations.functions.get(fn);
    if (!all) return issue(e.at, `undeclared reference to '${fn}' (in container '')`);
    const fitting: Overload[] = [];
    let result: Type | undefined;
    for (const overload of all) {
      const { signature } = overload;
      if ((signature.target === undefined) !== (target === undefined) || signature.params.length !== args.length) continue;
      const names = new Map<string, Type>();
      const formal = [...(signature.target ? [signature.target] : []), ...signature.params].map((p) => subs.instance(p, names));
      const actual = [...(target ? [target] : []), ...args];
      if (!subs.tentatively(() => formal.every((p, i) => subs.assignable(actual[i] as Type, p)))) continue;
      fitting.push(overload);
      const type = subs.instance(signature.result, names);
      if (!result) result = type;
      else if (typeText(subs.resolve(result)) !== typeText(subs.resolve(type))) result = t.dyn;
    }
    if (!result) return noOverload(e, fn, target, args);
    checked.overloads.set(e, fitting);
    checkLiteral(e, fn);
    return result;
  };

  /** Texts that a function would fail on every time. */
  const checkLiteral = (e: Extract<Expr, { kind: 'call' }>, fn: string): void => {
    const arg = fn === 'matches' ? e.args.at(-1) : e.args[0];
    if (arg?.kind !== 'literal' || typeof arg.value !== 'string') return;
    if (fn === 'duration' && !parseDuration(arg.value)) issue(arg.at, 'invalid duration argument');
    else if (fn === 'timestamp' && !parseTimestamp(arg.value)) issue(arg.at, 'invalid timestamp argument');
    else if (fn === 'matches') {
      try {
        compileRegex(arg.value);
      } catch {
        issue(arg.at, 'invalid matches argument');
      }
    }
  };

  const comprehensionType = (e: Comprehension): Type => {
    const range = subs.shallow(visit(e.range));
    const accumulator = visit(e.init);
    let first: Type = t.dyn;
    let second: Type = t.dyn;
    if (range.kind === 'list') {
      first = e.second === undefined ? (range.elem as Type) : t.int;
      second = range.elem as Type;
    } else if (range.kind === 'map') {
      first = range.key as Type;
      second = range.elem as Type;
    } else if (range.kind !== 'dyn' && range.kind !== 'param')
      issue(e.range.at, `expression of type '${show(range)}' cannot be range of a comprehension (must be list, map, or dynamic)`);
    locals.push({ name: e.accumulator, type: accumulator });
    const outer = locals.length;
    locals.push({ name: e.variable, type: first });
    if (e.second !== undefined) locals.push({ name: e.second, type: second });
    const condition = visit(e.condition);
    if (!subs.tentatively(() => subs.assignable(condition, t.bool))) issue(e.condition.at, `expected type 'bool' but found '${show(condition)}'`);
    const step = visit(e.step);
    if (!subs.tentatively(() => subs.assignable(step, accumulator))) issue(e.step.at, `expected type '${show(accumulator)}' but found '${show(step)}'`);
    locals.length = outer;
    const result = visit(e.result);
    locals.pop();
    return result;
  };

  checked.output = visit(root);
  for (const [e, type] of checked.types) checked.types.set(e, subs.resolve(type));
  checked.output = subs.resolve(checked.output);
  return checked;
}

function literalType(value: Value): Type {
  switch (typeof value) {
    case 'boolean':
      return t.bool;
    case 'bigint':
      return t.int;
    case 'number':
      return t.double;
    case 'string':
      return t.string;
  }
  if (value === null) return t.null;
  if (value instanceof Uint) return t.uint;
  if (value instanceof Timestamp) return t.timestamp;
  if (value instanceof Duration) return t.duration;
  return t.bytes;
}
