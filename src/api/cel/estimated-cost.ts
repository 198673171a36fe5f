import type { Checked } from './checker.ts';
import type { Comprehension, Expr } from './syntax.ts';
import type { Type } from './types.ts';
import { runeCount } from './values.ts';

/** Numbers of uint64 beyond which kube-apiserver does not count. */
const most = 2 ** 64;

interface Range {
  min: number;
  max: number;
}
interface Entry {
  list: boolean;
  key: Range;
  value: Range;
}

const capped = (n: number): number => (n >= most || Number.isNaN(n) ? most : n);
const fixed = (n: number): Range => ({ min: n, max: n });
const zero = fixed(0);
const unknown: Range = { min: 0, max: most };
const add = (a: Range, b: Range): Range => ({ min: capped(a.min + b.min), max: capped(a.max + b.max) });
const times = (a: Range, b: Range): Range => ({ min: capped(a.min * b.min), max: capped(a.max * b.max) });
const scaled = (a: Range, factor: number): Range => ({ min: capped(Math.ceil(a.min * factor)), max: capped(Math.ceil(a.max * factor)) });
const union = (a: Range, b: Range): Range => ({ min: Math.min(a.min, b.min), max: Math.max(a.max, b.max) });

const byText = 0.1;
const byPattern = 0.25;
const scalars = new Set(['bool', 'double', 'duration', 'int', 'timestamp', 'uint']);
const isScalar = (type: Type | undefined): boolean =>
  type !== undefined && (scalars.has(type.kind) || (type.kind === 'optional' && isScalar(type.elem)));

interface Local {
  name: string;
  declared: Type | undefined;
  size: Range | undefined;
  entry: Entry | undefined;
}

interface CallEstimate {
  cost: Range;
  size?: Range;
  /** The costs of the arguments are in it already. */
  whole?: boolean;
}

/**
 * The most that an expression can cost, as kube-apiserver estimates it before it takes a rule: by the sizes that the schema allows,
 * which variables' types carry.
 */
export function estimateCost(root: Expr, checked: Checked): number {
  const sizes = new Map<Expr, Range>();
  const entries = new Map<Expr, Entry>();
  /** The schema's type of what an expression reaches by a path from a variable. */
  const declared = new Map<Expr, Type>();
  const locals: Local[] = [];
  const local = (e: Expr): Local | undefined => (e.kind === 'ident' && !checked.names.has(e) ? locals.findLast((l) => l.name === e.name) : undefined);

  const sizeOf = (e: Expr): Range | undefined => {
    const known = sizes.get(e);
    if (known) return known;
    if (e.kind === 'literal') {
      if (typeof e.value === 'string') return fixed(runeCount(e.value));
      return fixed(e.value instanceof Uint8Array ? e.value.length : 1);
    }
    if (e.kind === 'list') return fixed(e.items.length);
    if (e.kind === 'map') return fixed(e.entries.length);
    const type = declared.get(e);
    if (type) return { min: 0, max: type.max ?? 0 };
    if (isScalar(checked.types.get(e))) return fixed(1);
    return local(e)?.size;
  };
  const sizeOrUnknown = (e: Expr | undefined): Range => (e && sizeOf(e)) ?? unknown;
  const entryOf = (e: Expr): Entry | undefined => entries.get(e) ?? local(e)?.entry;

  const cost = (e: Expr): Range => {
    switch (e.kind) {
      case 'literal':
        return zero;
      case 'ident': {
        const type = local(e) ? local(e)?.declared : variableType(e);
        if (type) declared.set(e, type);
        return fixed(1);
      }
      case 'select':
        return select(e);
      case 'call':
        return call(e);
      case 'list': {
        const sum = e.items.reduce((total, item) => add(total, cost(item)), fixed(10));
        const value = e.items.reduce((all, item) => union(all, sizeOrUnknown(item)), { min: e.items.length ? most : 0, max: 0 });
        entries.set(e, { list: true, key: fixed(1), value });
        return sum;
      }
      case 'map': {
        let sum = fixed(30);
        const start = { min: e.entries.length ? most : 0, max: 0 };
        let [key, value] = [start, start];
        for (const entry of e.entries) {
          sum = add(add(sum, cost(entry.key)), cost(entry.value));
          key = union(key, sizeOrUnknown(entry.key));
          value = union(value, sizeOrUnknown(entry.value));
        }
        entries.set(e, { list: false, key, value });
        return sum;
      }
      case 'struct':
        return e.fields.reduce((total, field) => add(total, cost(field.value)), fixed(40));
      case 'comprehension':
        return e.variable === '#unused' ? bind(e) : comprehension(e);
    }
  };

  const variableType = (e: Expr): Type | undefined => {
    const type = checked.types.get(e);
    return type?.kind === 'optional' ? type.elem : type;
  };

  const select = (e: Extract<Expr, { kind: 'select' }>): Range => {
    if (checked.names.has(e)) return fixed(1);
    const sum = cost(e.operand);
    if (e.test) return sum;
    const type = fieldOf(declared.get(e.operand), e.field);
    if (type) declared.set(e, type);
    const kind = checked.types.get(e.operand)?.kind;
    return kind === 'map' || kind === 'object' ? add(sum, fixed(1)) : sum;
  };

  const fieldOf = (type: Type | undefined, field: string): Type | undefined => (type?.kind === 'map' ? type.elem : type?.fields?.get(field));

  const pushLocal = (name: string, from: Expr) => locals.push({ name, declared: declared.get(from), size: sizeOf(from), entry: entryOf(from) });

  const pushIterated = (e: Comprehension): number => {
    const entry = entryOf(e.range);
    const list = entry ? entry.list : checked.types.get(e.range)?.kind === 'list';
    const type = declared.get(e.range);
    const value = { declared: type?.elem, size: entry?.value, entry: undefined };
    const key = { declared: list ? undefined : type?.key, size: entry?.key, entry: undefined };
    if (e.second !== undefined) {
      locals.push({ name: e.variable, ...key }, { name: e.second, ...value });
      return 2;
    }
    locals.push({ name: e.variable, ...(list ? value : key) });
    return 1;
  };

  const comprehension = (e: Comprehension): Range => {
    let sum = add(cost(e.range), cost(e.init));
    pushLocal(e.accumulator, e.init);
    const pushed = pushIterated(e);
    const loop = cost(e.condition);
    const step = cost(e.step);
    locals.length -= pushed;
    sum = add(sum, cost(e.result));
    locals.pop();
    const count = sizeOrUnknown(e.range);
    sum = add(sum, times(count, add(step, loop)));
    if (e.init.kind === 'literal') sizes.set(e, sizeOf(e.init) ?? fixed(1));
    else if (e.init.kind === 'list' || e.init.kind === 'map') {
      sizes.set(e, count);
      const entry = entryOf(e.step);
      if (entry) entries.set(e, entry);
    }
    return sum;
  };

  const bind = (e: Comprehension): Range => {
    let sum = add(cost(e.range), cost(e.init));
    pushLocal(e.accumulator, e.init);
    sum = add(sum, cost(e.result));
    locals.pop();
    const size = sizeOf(e.result);
    const entry = entryOf(e.result);
    if (size) sizes.set(e, size);
    if (entry) entries.set(e, entry);
    return sum;
  };

  const call = (e: Extract<Expr, { kind: 'call' }>): Range => {
    const fn = checked.globals.get(e) ?? e.fn;
    const target = e.target && !checked.globals.has(e) ? e.target : undefined;
    const argCosts = e.args.map(cost);
    if (fn === 'dyn') {
      const [arg] = e.args;
      const size = arg && sizeOf(arg);
      if (size) sizes.set(e, size);
      return add(fixed(1), argCosts[0] ?? zero);
    }
    const sum = target ? cost(target) : zero;
    const argSum = argCosts.reduce(add, zero);
    const ids = checked.overloads.get(e)?.map((o) => o.id) ?? [fn];
    let total: Range = { min: most, max: 0 };
    let size: Range | undefined;
    for (const id of ids) {
      const made = estimateCall(e, fn, id, target, argCosts);
      total = union(total, made.whole ? made.cost : add(made.cost, argSum));
      if (made.size) size = size ? union(size, made.size) : made.size;
      const [container] = e.args;
      if ((id === 'index_list' || id === 'index_map') && container) {
        size = entryOf(container)?.value;
        const elem = declared.get(container)?.elem;
        if (elem) declared.set(e, elem);
      }
      size ??= sizeOf(e);
    }
    if (size) sizes.set(e, size);
    return add(sum, total);
  };

  const estimateCall = (e: Extract<Expr, { kind: 'call' }>, fn: string, id: string, target: Expr | undefined, argCosts: Range[]): CallEstimate => {
    const own = ofLibrary(fn, id, target, e.args);
    if (own) return own;
    const { args } = e;
    const size = (i: number) => sizeOrUnknown(args[i]);
    switch (id) {
      case 'string_format':
        return { cost: scaled(sizeOrUnknown(target), byText) };
      case 'string_to_bytes':
        return { cost: scaled(size(0), byText), size: { min: size(0).min, max: capped(size(0).max * 4) } };
      case 'bytes_to_string':
        return { cost: scaled(size(0), byText), size: { min: Math.floor(size(0).min / 4), max: size(0).max } };
      case 'strings_quote':
        return { cost: scaled(size(0), byText), size: { min: capped(size(0).min + 2), max: capped(size(0).max * 2 + 2) } };
      case 'starts_with_string':
      case 'ends_with_string':
        return { cost: scaled(size(0), byText) };
      case 'in_list':
        return { cost: size(1) };
      case 'matches':
      case 'matches_string': {
        const [text, pattern] = target ? [target, args[0]] : args;
        return { cost: times(scaled(add(sizeOrUnknown(text), fixed(1)), byText), scaled(sizeOrUnknown(pattern), byPattern)) };
      }
      case 'contains_string':
        return { cost: times(scaled(sizeOrUnknown(target), byText), scaled(size(0), byText)) };
      case '_&&_':
      case '_||_': {
        const [left, right] = argCosts as [Range, Range];
        return { cost: { min: left.min, max: capped(left.max + right.max) }, whole: true };
      }
      case '_?:_':
      case '_?_:_': {
        const [condition, yes, no] = argCosts as [Range, Range, Range];
        const a = args[1] && entryOf(args[1]);
        const b = args[2] && entryOf(args[2]);
        if (a || b) entries.set(e, joined(a, b) as Entry);
        return { cost: add(condition, union(yes, no)), size: union(size(1), size(2)), whole: true };
      }
      case 'add_string':
      case 'add_bytes':
      case 'add_list': {
        const both = add(size(0), size(1));
        const entry = joined(args[0] && entryOf(args[0]), args[1] && entryOf(args[1]));
        if (entry) entries.set(e, entry);
        return { cost: id === 'add_list' ? fixed(1) : scaled(both, byText), size: both };
      }
    }
    if (id === 'equals' || id === 'not_equals' || /^(less|greater)(_equals)?_(string|bytes)$/.test(id)) {
      const max = Math.min(size(0).max, size(1).max);
      return { cost: scaled({ min: max > 0 ? 1 : 0, max }, byText) };
    }
    return { cost: fixed(1) };
  };

  const joined = (a: Entry | undefined, b: Entry | undefined): Entry | undefined => {
    if (!a || !b) return a ?? b;
    return { list: a.list, key: union(a.key, b.key), value: union(a.value, b.value) };
  };

  /** Functions of Kubernetes' own libraries. */
  const ofLibrary = (fn: string, id: string, target: Expr | undefined, args: Expr[]): CallEstimate | undefined => {
    const first = () => sizeOrUnknown(args[0]);
    if (fn === 'check') return { cost: fixed(350_000) };
    if (unit.has(fn)) return { cost: fixed(1) };
    if (ofList.has(fn) && target) {
      const elem = checked.types.get(target)?.elem;
      const list = sizeOrUnknown(target);
      if (checked.types.get(target)?.kind !== 'list') return { cost: scaled(list, byText) };
      const isText = elem?.kind === 'string' || elem?.kind === 'bytes';
      const elemSize = declared.get(target)?.elem ? { min: 0, max: declared.get(target)?.elem?.max ?? 0 } : (entryOf(target)?.value ?? unknown);
      return { cost: times(list, isText ? add(fixed(1), scaled(elemSize, byText)) : fixed(1)) };
    }
    if (ofArgument.has(fn)) return { cost: scaled(first(), byText), ...(fn === 'url' || fn === 'jsonpatch.escapeKey' ? { size: first() } : {}) };
    if (ofTarget.has(fn) && target) return { cost: scaled(sizeOrUnknown(target), byText), size: sizeOrUnknown(target) };
    switch (fn) {
      case 'fieldSelector':
      case 'labelSelector':
        return { cost: add(add(fixed(10), scaled(first(), byText)), scaled(scaled(first(), 0.5), 50)) };
      case 'replace':
        return target && { cost: scaled(sizeOrUnknown(target), 2 * byText), size: replaced(sizeOrUnknown(target), first(), sizeOrUnknown(args[1])) };
      case 'split': {
        if (!target) return undefined;
        const size = sizeOrUnknown(target);
        const [, limit] = args;
        const max = limit?.kind === 'literal' && typeof limit.value === 'bigint' && limit.value >= 0n ? Number(limit.value) : size.max;
        return { cost: scaled(size, 2 * byText), size: { min: 0, max } };
      }
      case 'join': {
        if (!target) return undefined;
        const list = sizeOrUnknown(target);
        const elem = declared.get(target)?.elem ? { min: 0, max: declared.get(target)?.elem?.max ?? 0 } : (entryOf(target)?.value ?? unknown);
        let size = times(list, elem);
        if (args[0]) size = add(size, times(first(), { min: Math.max(0, list.min - 1), max: Math.max(0, list.max - 1) }));
        return { cost: scaled(size, byText), size };
      }
      case 'find':
      case 'findAll':
        if (!target) return undefined;
        return {
          cost: times(scaled(add(sizeOrUnknown(target), fixed(1)), byText), scaled(first(), byPattern)),
          size: { min: 0, max: sizeOrUnknown(target).max },
        };
      case 'ip':
        return { cost: id === 'cidr_ip' ? fixed(1) : scaled(first(), byText) };
      case 'ip.isCanonical':
        return { cost: scaled(first(), 2 * byText) };
      case 'containsIP':
      case 'containsCIDR': {
        const address = { min: 4, max: 16 };
        let cost_ = scaled(add(address, address), byText);
        if (fn === 'containsCIDR') cost_ = add(add(cost_, scaled(address, byText)), fixed(1));
        return { cost: id.endsWith('_string') ? add(cost_, scaled(first(), byText)) : cost_ };
      }
      case 'validate':
        return { cost: scaled(scaled(first(), byText), 128 * byPattern) };
      case '_==_': {
        const [left, right] = args.map((a) => checked.types.get(a));
        if (left?.kind === 'opaque' && right?.kind === 'opaque' && left.name === right.name) return { cost: fixed(1) };
        return undefined;
      }
    }
    return undefined;
  };

  return cost(root).max;
}

const unit = new Set(
  `serviceAccount path group resource subresource namespace name allowed reason error errored masked prefixLength family isUnspecified isLoopback
isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast format.named sign asInteger isInteger asApproximateFloat isGreaterThan isLessThan compareTo add sub
major minor patch getScheme getHostname getHost getPort getEscapedPath getQuery`.split(/\s+/),
);
const ofList = new Set(['isSorted', 'sum', 'max', 'min', 'indexOf', 'lastIndexOf', 'includes']);
const ofArgument = new Set(['url', 'jsonpatch.escapeKey', 'cidr', 'isIP', 'isCIDR', 'quantity', 'isQuantity', 'semver', 'isSemver']);
const ofTarget = new Set(['lowerAscii', 'upperAscii', 'substring', 'trim']);

/** How long a text can be after replacements. */
function replaced(text: Range, before: Range, after: Range): Range {
  let count: Range;
  let kept: Range;
  if (before.min === 0) {
    count = { min: 0, max: capped(text.max + 1) };
    kept = { min: 0, max: text.max };
  } else {
    count = { min: 0, max: after.max <= before.min ? 0 : Math.ceil(text.max / before.min) };
    kept = { min: 0, max: after.max <= before.min ? text.max : 0 };
  }
  return add(times(count, after), kept);
}
