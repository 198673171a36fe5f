import { type Token, tokenize } from './lexer.ts';
import { call, expandMacro } from './macros.ts';
import { CelSyntaxError, type Expr } from './syntax.ts';

const reserved = new Set(
  'as break const continue else for function if import let loop package namespace return var void while'.split(' '),
);
const relations = new Set(['<', '<=', '>', '>=', '==', '!=', 'in']);
const deepest = 250;

/** Parses an expression, with its macros expanded. CelSyntaxError with what is wrong. */
export function parse(source: string): Expr {
  const tokens = tokenize(source);
  let at = 0;
  let depth = 0;
  const peek = (): Token => tokens[at] as Token;
  const next = (): Token => tokens[at++] as Token;
  const is = (symbol: string): boolean => peek().kind === 'symbol' && peek().text === symbol;
  const fail = (token: Token, expected?: string): never => {
    const shown = token.kind === 'end' ? '<EOF>' : source.slice(token.at, tokens[tokens.indexOf(token) + 1]?.at).trim() || token.text;
    const message = expected ? `mismatched input '${shown}' expecting ${expected}` : `mismatched input '${shown}' expecting {'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}`;
    throw new CelSyntaxError([{ at: token.at, message: `Syntax error: ${message}` }]);
  };
  const expect = (symbol: string): Token => (is(symbol) ? next() : fail(peek(), `'${symbol}'`));

  const expression = (): Expr => {
    if (++depth > deepest) throw new CelSyntaxError([{ at: peek().at, message: `max recursion depth exceeded` }]);
    const condition = or();
    let result = condition;
    if (is('?')) {
      const mark = next().at;
      const yes = or();
      expect(':');
      result = call(mark, '_?_:_', condition, yes, expression());
    }
    depth--;
    return result;
  };
  const chain = (symbol: string, fn: string, inner: () => Expr) => (): Expr => {
    let left = inner();
    while (is(symbol)) {
      const mark = next().at;
      left = call(mark, fn, left, inner());
    }
    return left;
  };
  const relation = (): Expr => {
    let left = sum();
    while (peek().kind === 'symbol' && relations.has(peek().text)) {
      const { at: mark, text } = next();
      left = call(mark, text === 'in' ? '@in' : `_${text}_`, left, sum());
    }
    return left;
  };
  const sum = (): Expr => {
    let left = product();
    while (is('+') || is('-')) {
      const { at: mark, text } = next();
      left = call(mark, `_${text}_`, left, product());
    }
    return left;
  };
  const product = (): Expr => {
    let left = unary();
    while (is('*') || is('/') || is('%')) {
      const { at: mark, text } = next();
      left = call(mark, `_${text}_`, left, unary());
    }
    return left;
  };
  const and = chain('&&', '_&&_', relation);
  const or = chain('||', '_||_', and);

  const unary = (): Expr => {
    if (is('!') || is('-')) {
      const { at: mark, text } = next();
      if (++depth > deepest) throw new CelSyntaxError([{ at: mark, message: `max recursion depth exceeded` }]);
      const token = peek();
      if (text === '-' && token.kind === 'literal' && (typeof token.value === 'bigint' || typeof token.value === 'number') && token.text) {
        next();
        depth--;
        return members({ kind: 'literal', at: mark, value: -token.value });
      }
      const operand = unary();
      depth--;
      return call(mark, text === '!' ? '!_' : '-_', operand);
    }
    return members(primary());
  };

  const args = (): Expr[] => {
    const found: Expr[] = [];
    while (!is(')')) {
      found.push(expression());
      if (!is(',')) break;
      next();
    }
    expect(')');
    return found;
  };

  const called = (fn: string, target: Expr | undefined, mark: number): Expr => {
    const given = args();
    const macro = expandMacro(fn, target, given, mark);
    if (macro && 'message' in macro) throw new CelSyntaxError([macro]);
    return macro ?? { kind: 'call', at: mark, fn, target, args: given };
  };

  const members = (start: Expr): Expr => {
    let left = start;
    for (;;) {
      if (is('.')) {
        const mark = next().at;
        const optional = is('?');
        if (optional) next();
        const field = next();
        if (field.kind !== 'ident') return fail(field, 'IDENTIFIER');
        if (optional) left = call(mark, '_?._', left, { kind: 'literal', at: field.at, value: field.text });
        else if (is('(')) left = called(field.text, left, next().at);
        else left = { kind: 'select', at: mark, operand: left, field: field.text, test: false };
      } else if (is('[')) {
        const mark = next().at;
        const optional = is('?');
        if (optional) next();
        const index = expression();
        expect(']');
        left = call(mark, optional ? '_[?_]' : '_[_]', left, index);
      } else if (is('{') && qualified(left)) left = struct(qualified(left) as string);
      else return left;
    }
  };

  const struct = (name: string): Expr => {
    const mark = next().at;
    const fields: Extract<Expr, { kind: 'struct' }>['fields'] = [];
    while (!is('}')) {
      const optional = is('?');
      if (optional) next();
      const field = next();
      if (field.kind !== 'ident') return fail(field, 'IDENTIFIER');
      const { at: colon } = expect(':');
      fields.push({ name: field.text, value: expression(), optional, at: colon });
      if (!is(',')) break;
      next();
    }
    expect('}');
    return { kind: 'struct', at: mark, name, fields };
  };

  const primary = (): Expr => {
    const token = next();
    if (token.kind === 'literal') {
      if (token.value === 0x8000_0000_0000_0000n) throw new CelSyntaxError([{ at: token.at, message: 'invalid int literal' }]);
      return { kind: 'literal', at: token.at, value: token.value as never };
    }
    if (token.kind === 'ident') {
      if (is('(')) return called(token.text, undefined, next().at);
      if (reserved.has(token.text)) throw new CelSyntaxError([{ at: token.at, message: `reserved identifier: ${token.text}` }]);
      return { kind: 'ident', at: token.at, name: token.text };
    }
    switch (token.kind === 'symbol' ? token.text : '') {
      case '(': {
        const inner = expression();
        expect(')');
        return inner;
      }
      case '.': {
        const name = next();
        if (name.kind !== 'ident') return fail(name, 'IDENTIFIER');
        return { kind: 'ident', at: name.at, name: name.text };
      }
      case '[': {
        const items: Expr[] = [];
        const optional = new Set<number>();
        while (!is(']')) {
          if (is('?')) {
            next();
            optional.add(items.length);
          }
          items.push(expression());
          if (!is(',')) break;
          next();
        }
        expect(']');
        return { kind: 'list', at: token.at, items, optional };
      }
      case '{': {
        const entries: Extract<Expr, { kind: 'map' }>['entries'] = [];
        while (!is('}')) {
          const optional = is('?');
          if (optional) next();
          const key = expression();
          expect(':');
          entries.push({ key, value: expression(), optional });
          if (!is(',')) break;
          next();
        }
        expect('}');
        return { kind: 'map', at: token.at, entries };
      }
      default:
        return fail(token);
    }
  };

  const result = expression();
  if (peek().kind !== 'end') {
    // As ANTLR has it: one token too many is extraneous, more are a mismatch.
    const word = tokens[at + 1]?.kind === 'end' ? 'extraneous' : 'mismatched';
    throw new CelSyntaxError([{ at: peek().at, message: `Syntax error: ${word} input '${peek().text || source.slice(peek().at, tokens[at + 1]?.at).trim()}' expecting <EOF>` }]);
  }
  return result;
}

/** a.b.c as a name; undefined where the expression is none. */
export function qualified(expr: Expr): string | undefined {
  if (expr.kind === 'ident') return expr.name;
  if (expr.kind !== 'select' || expr.test) return undefined;
  const before = qualified(expr.operand);
  return before === undefined ? undefined : `${before}.${expr.field}`;
}
