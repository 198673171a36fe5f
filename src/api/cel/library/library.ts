import { parseSignature, type Signature } from '../types.ts';
import type { Value } from '../values.ts';

/** One form of a function: what it takes, and what it does. CelError where it cannot. */
export interface Overload {
  id: string;
  fn: string;
  signature: Signature;
  run: (...args: any[]) => Value;
}

/** Overloads by function; global functions may have dots in their names. */
export type Library = Map<string, Overload[]>;

type Row = [id: string, signature: string, run: (...args: any[]) => Value];

export function library(functions: Record<string, Row[]>): Library {
  const made: Library = new Map();
  for (const [fn, rows] of Object.entries(functions))
    made.set(
      fn,
      rows.map(([id, signature, run]) => ({ id, fn, signature: parseSignature(signature), run })),
    );
  return made;
}

export function joined(...libraries: Library[]): Library {
  const all: Library = new Map();
  for (const one of libraries) for (const [fn, overloads] of one) all.set(fn, [...(all.get(fn) ?? []), ...overloads]);
  return all;
}
