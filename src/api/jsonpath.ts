/** kubectl's JSONPath, for single expressions such as `.status.conditions[?(@.type=="Ready")].status`. */

type Step =
  | { kind: 'field'; name: string }
  | { kind: 'wildcard' }
  | { kind: 'descend' }
  | { kind: 'slice'; start: number | undefined; end: number | undefined; step: number }
  | { kind: 'index'; index: number }
  | { kind: 'union'; steps: Step[] }
  | { kind: 'filter'; left: Operand; operator: string; right: Operand | undefined };

type Operand = { path: Step[]; root: boolean } | { value: unknown };

export type JsonPath = (root: unknown) => unknown[];

/** Compiles an expression, with or without braces. Missing members yield nothing. Error where it is no JSONPath. */
export function compileJsonPath(text: string): JsonPath {
  let source = text.trim();
  if (source.startsWith('{') && source.endsWith('}')) source = source.slice(1, -1).trim();
  const parser = new Parser(source);
  const steps = parser.path();
  if (!parser.atEnd) throw new Error(`unrecognized character in action: ${JSON.stringify(parser.rest.charAt(0))}`);
  return (root) => walk(steps, [root], root);
}

class Parser {
  #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  get atEnd(): boolean {
    return this.#at >= this.#text.length;
  }
  get rest(): string {
    return this.#text.slice(this.#at);
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    const sticky = new RegExp(pattern.source, 'y');
    sticky.lastIndex = this.#at;
    const found = sticky.exec(this.#text);
    if (!found) return undefined;
    this.#at = sticky.lastIndex;
    return found;
  }

  path(): Step[] {
    const steps: Step[] = [];
    this.#match(/[$@]/);
    for (;;) {
      if (this.#match(/\.\./)) {
        steps.push({ kind: 'descend' });
        const name = this.#name();
        if (name !== undefined) steps.push(name === '*' ? { kind: 'wildcard' } : { kind: 'field', name });
      } else if (this.#match(/\./)) {
        const name = this.#name();
        if (name !== undefined) steps.push(name === '*' ? { kind: 'wildcard' } : { kind: 'field', name });
      } else if (this.#match(/\[/)) steps.push(this.#brackets());
      else return steps;
    }
  }

  #name(): string | undefined {
    const found = this.#match(/(?:\\.|[^\s.[\]{}()=!<>|,'"\\])+/);
    return found?.[0].replace(/\\(.)/g, '$1');
  }

  #brackets(): Step {
    if (this.#match(/\s*\?\(\s*/)) return this.#filter();
    const found = this.#match(/((?:'(?:\\.|[^'])*'|"(?:\\.|[^"])*"|[^\]'"])*)\]/);
    if (!found) throw new Error('unterminated array');
    const parts = (found[1] as string).match(/(?:'(?:\\.|[^'])*'|"(?:\\.|[^"])*"|[^,'"])+/g) ?? [];
    const steps = parts.map((part) => this.#member(part.trim()));
    if (steps.length === 0) throw new Error('invalid array index ');
    return steps.length === 1 ? (steps[0] as Step) : { kind: 'union', steps };
  }

  #member(text: string): Step {
    if (text === '*') return { kind: 'wildcard' };
    const quoted = /^(['"])([\s\S]*)\1$/.exec(text);
    if (quoted) return { kind: 'field', name: (quoted[2] as string).replace(/\\(.)/g, '$1') };
    if (/^-?\d+$/.test(text)) return { kind: 'index', index: Number(text) };
    const slice = /^(-?\d+)?:(-?\d+)?(?::(-?\d+))?$/.exec(text);
    if (!slice) throw new Error(`invalid array index ${text}`);
    const number = (s: string | undefined) => (s === undefined ? undefined : Number(s));
    return { kind: 'slice', start: number(slice[1]), end: number(slice[2]), step: number(slice[3]) ?? 1 };
  }

  #filter(): Step {
    const left = this.#operand();
    const operator = this.#match(/\s*(==|!=|<=|>=|<|>)\s*/)?.[1];
    const right = operator === undefined ? undefined : this.#operand();
    if (!this.#match(/\s*\)\s*\]/)) throw new Error('unterminated filter');
    return { kind: 'filter', left, operator: operator ?? 'exists', right };
  }

  #operand(): Operand {
    const text = this.#match(/'((?:\\.|[^'])*)'|"((?:\\.|[^"])*)"/);
    if (text) return { value: (text[1] ?? text[2] ?? '').replace(/\\(.)/g, '$1') };
    const number = this.#match(/[-+]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?/);
    if (number) return { value: Number(number[0]) };
    const word = this.#match(/true|false/);
    if (word) return { value: word[0] === 'true' };
    const root = this.#text[this.#at] === '$';
    return { path: this.path(), root };
  }
}

function walk(steps: Step[], from: unknown[], root: unknown): unknown[] {
  let current = from;
  for (const step of steps) {
    current = current.flatMap((value) => apply(step, value, root));
    if (current.length === 0) return current;
  }
  return current;
}

function apply(step: Step, value: unknown, root: unknown): unknown[] {
  switch (step.kind) {
    case 'field':
      return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.hasOwn(value, step.name)
        ? [(value as Record<string, unknown>)[step.name]]
        : [];
    case 'wildcard':
      return typeof value === 'object' && value !== null ? Object.values(value) : [];
    case 'descend': {
      const found: unknown[] = [];
      const visit = (inner: unknown) => {
        found.push(inner);
        if (typeof inner === 'object' && inner !== null) for (const member of Object.values(inner)) visit(member);
      };
      visit(value);
      return found;
    }
    case 'index': {
      if (!Array.isArray(value)) return [];
      const at = step.index < 0 ? value.length + step.index : step.index;
      return at >= 0 && at < value.length ? [value[at]] : [];
    }
    case 'slice': {
      if (!Array.isArray(value) || step.step <= 0) return [];
      const bound = (n: number) => Math.min(Math.max(n < 0 ? value.length + n : n, 0), value.length);
      const end = step.end === undefined ? value.length : bound(step.end);
      const found: unknown[] = [];
      for (let i = bound(step.start ?? 0); i < end; i += step.step) found.push(value[i]);
      return found;
    }
    case 'union':
      return step.steps.flatMap((one) => apply(one, value, root));
    case 'filter':
      return Array.isArray(value) ? value.filter((item) => passes(step, item, root)) : [];
  }
}

function passes(step: Extract<Step, { kind: 'filter' }>, item: unknown, root: unknown): boolean {
  const resolve = (operand: Operand): unknown => ('path' in operand ? walk(operand.path, [operand.root ? root : item], root)[0] : operand.value);
  const left = resolve(step.left);
  if (step.operator === 'exists') return left !== undefined;
  const right = step.right && resolve(step.right);
  if (left === undefined || right === undefined) return false;
  switch (step.operator) {
    case '==':
      return left === right;
    case '!=':
      return left !== right;
    case '<':
      return (left as number) < (right as number);
    case '<=':
      return (left as number) <= (right as number);
    case '>':
      return (left as number) > (right as number);
    default:
      return (left as number) >= (right as number);
  }
}

/** A value as kubectl prints it: texts bare, everything else as JSON. */
export const printJsonPathValue = (value: unknown): string =>
  typeof value === 'string' ? value : value === null || value === undefined ? '<nil>' : JSON.stringify(value);
