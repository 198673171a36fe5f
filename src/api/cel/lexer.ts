import { CelSyntaxError } from './syntax.ts';
import { Uint, type Value } from './values.ts';

export interface Token {
  kind: 'literal' | 'ident' | 'symbol' | 'end';
  at: number;
  text: string;
  value?: Value;
}

const symbols = ['==', '!=', '<=', '>=', '&&', '||', '<', '>', '=', '!', '?', ':', '.', ',', '(', ')', '[', ']', '{', '}', '+', '-', '*', '/', '%'];
const number = /(?:0x[0-9a-fA-F]+u?|(?:\d+\.\d+(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)|\d+u?)/iy;
const ident = /[_a-zA-Z][_a-zA-Z0-9]*/y;
const quoted = /`[a-zA-Z0-9_.\-/ ]+`/y;
const space = /(?:[ \t\r\n\f]+|\/\/[^\n]*)+/y;
const text = /([bB][rR]?|[rR][bB]?)?("""|'''|"|')/y;

/** Splits an expression. CelSyntaxError on what is no token. */
export function tokenize(source: string): Token[] {
  const tokens: Token[] = [];
  let at = 0;
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(source);
  };
  while (at < source.length) {
    const blank = match(space);
    if (blank) {
      at += blank[0].length;
      continue;
    }
    const start = at;
    const opening = match(text);
    if (opening) {
      at += opening[0].length;
      tokens.push({ kind: 'literal', at: start, text: '', value: readText(opening[1] ?? '', opening[2] as string) });
      continue;
    }
    const digits = match(number);
    if (digits && (source[at] !== '.' || /\d/.test(source[at + 1] ?? ''))) {
      at += digits[0].length;
      tokens.push({ kind: 'literal', at: start, text: digits[0], value: readNumber(digits[0], start) });
      continue;
    }
    const name = match(ident);
    if (name) {
      at += name[0].length;
      const values: Record<string, Value> = { true: true, false: false, null: null };
      if (Object.hasOwn(values, name[0])) tokens.push({ kind: 'literal', at: start, text: name[0], value: values[name[0]] as Value });
      else tokens.push({ kind: name[0] === 'in' ? 'symbol' : 'ident', at: start, text: name[0] });
      continue;
    }
    const escaped = match(quoted);
    if (escaped) {
      at += escaped[0].length;
      tokens.push({ kind: 'ident', at: start, text: escaped[0].slice(1, -1) });
      continue;
    }
    const symbol = symbols.find((s) => source.startsWith(s, at));
    if (!symbol) throw new CelSyntaxError([{ at, message: `Syntax error: token recognition error at: '${source[at]}'` }]);
    at += symbol.length;
    tokens.push({ kind: 'symbol', at: start, text: symbol });
  }
  tokens.push({ kind: 'end', at: source.length, text: '<EOF>' });
  return tokens;

  function readText(prefix: string, quote: string): Value {
    const raw = /r/i.test(prefix);
    const bytes = /b/i.test(prefix);
    const start = at;
    let end = at;
    for (;;) {
      if (end >= source.length || (quote.length === 1 && source[end] === '\n'))
        throw new CelSyntaxError([{ at: start - quote.length - prefix.length, message: `Syntax error: token recognition error at: '${quote}${source.slice(start, end)}'` }]);
      if (source.startsWith(quote, end)) break;
      end += !raw && source[end] === '\\' ? 2 : 1;
    }
    at = end + quote.length;
    const body = source.slice(start, end);
    if (raw) return bytes ? Buffer.from(body) : body;
    return bytes ? unescapeBytes(body, start) : unescapeText(body, start);
  }
}

const escapes: Record<string, string> = { a: '\x07', b: '\b', f: '\f', n: '\n', r: '\r', t: '\t', v: '\v' };
const escapeSequence = /\\(?:x([0-9a-fA-F]{2})|X([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|([abfnrtv"'`?\\])|([\s\S]))/g;

function unescapeText(body: string, at: number): string {
  return body.replace(escapeSequence, (_, x, X, u, U, octal, simple, bad, offset: number) => {
    if (bad !== undefined) throw new CelSyntaxError([{ at: at + offset, message: `unable to unescape string` }]);
    if (simple !== undefined) return escapes[simple] ?? simple;
    const code = octal !== undefined ? Number.parseInt(octal, 8) : Number.parseInt(x ?? X ?? u ?? U, 16);
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) throw new CelSyntaxError([{ at: at + offset, message: 'unable to unescape string' }]);
    return String.fromCodePoint(code);
  });
}

function unescapeBytes(body: string, at: number): Uint8Array {
  const parts: Buffer[] = [];
  let last = 0;
  for (const match of body.matchAll(escapeSequence)) {
    const [whole, x, X, u, U, octal, simple] = match;
    parts.push(Buffer.from(body.slice(last, match.index)));
    last = match.index + whole.length;
    if (simple !== undefined) parts.push(Buffer.from(escapes[simple] ?? simple));
    else if (u !== undefined || U !== undefined || (x ?? X ?? octal) === undefined)
      throw new CelSyntaxError([{ at: at + match.index, message: 'unable to unescape string' }]);
    else parts.push(Buffer.from([octal === undefined ? Number.parseInt((x ?? X) as string, 16) : Number.parseInt(octal, 8)]));
  }
  parts.push(Buffer.from(body.slice(last)));
  return Buffer.concat(parts);
}

function readNumber(text: string, at: number): Value {
  if (/^0x/i.test(text) || !/[.eE]/.test(text)) {
    const unsigned = /u$/i.test(text);
    const value = BigInt(unsigned ? text.slice(0, -1) : text);
    if (unsigned) {
      if (value > 0xffff_ffff_ffff_ffffn) throw new CelSyntaxError([{ at, message: 'invalid uint literal' }]);
      return new Uint(value);
    }
    // The least int is written with a minus before a number that is no int itself; the parser looks at that.
    if (value > 0x8000_0000_0000_0000n) throw new CelSyntaxError([{ at, message: 'invalid int literal' }]);
    return value;
  }
  return Number(text);
}
