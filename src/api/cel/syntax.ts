import type { Value } from './values.ts';

/** A parsed expression. `at` is the offset of what an error about it points to. */
export type Expr =
  | { kind: 'literal'; at: number; value: Value }
  | { kind: 'ident'; at: number; name: string }
  | { kind: 'select'; at: number; operand: Expr; field: string; test: boolean }
  | { kind: 'call'; at: number; fn: string; target: Expr | undefined; args: Expr[] }
  | { kind: 'list'; at: number; items: Expr[]; optional: Set<number> }
  | { kind: 'map'; at: number; entries: { key: Expr; value: Expr; optional: boolean }[] }
  | { kind: 'struct'; at: number; name: string; fields: { name: string; value: Expr; optional: boolean; at: number }[] }
  | Comprehension;

/** What all macros that visit lists and maps become. */
export interface Comprehension {
  kind: 'comprehension';
  at: number;
  range: Expr;
  variable: string;
  /** The value's, where variable is the key's. */
  second: string | undefined;
  accumulator: string;
  init: Expr;
  condition: Expr;
  step: Expr;
  result: Expr;
}

/** The hidden variable in which macros gather their result. */
export const hidden = '@result';

/** What is wrong with an expression, and where. */
export interface Issue {
  at: number;
  message: string;
}

export class CelSyntaxError extends Error {
  readonly issues: Issue[];
  constructor(issues: Issue[]) {
    super(issues[0]?.message ?? 'syntax error');
    this.issues = issues;
  }
}

/** Issues as cel-go shows them: with the line and a mark below it. */
export function showIssues(source: string, issues: Issue[]): string {
  return issues
    .map(({ at, message }) => {
      const before = source.slice(0, at);
      const line = before.split('\n').length;
      const start = before.lastIndexOf('\n') + 1;
      const column = [...source.slice(start, at)].length;
      const text = (source.slice(start).split('\n')[0] ?? '').replaceAll('\t', ' ');
      const dots = [...text].slice(0, column).map((c) => (Buffer.byteLength(c) > 1 ? '\uff0e' : '.'));
      const head = `ERROR: <input>:${line}:${source === '' ? 0 : column + 1}: ${message}`;
      return source === '' ? head : `${head}\n | ${text}\n | ${dots.join('')}^`;
    })
    .join('\n');
}
