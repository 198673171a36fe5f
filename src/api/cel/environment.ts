import { check, type Checked, type Declarations } from './checker.ts';
import { compile, type Frame } from './evaluate.ts';
import { estimateCost } from './estimated-cost.ts';
import { functions } from './library/index.ts';
import { parse } from './parser.ts';
import { CelSyntaxError, type Expr, type Issue, showIssues } from './syntax.ts';
import type { Type } from './types.ts';
import type { Value } from './values.ts';

/** The most one evaluation may cost. */
export const perCallLimit = 1_000_000;
/** The most all rules of one object may cost together. */
export const runtimeBudget = 10_000_000;

/** A compiled expression. */
export interface Program {
  source: string;
  output: Type;
  /** Variables that it refers to. */
  variables: ReadonlySet<string>;
  /** The most it can cost, by the sizes that schemas allow. */
  estimate(): number;
  /** CelError where it fails, CostExceededError where it costs too much. `cost` is told in either case. */
  run(variable: (name: string) => Value | undefined, limit?: number): { value: Value; cost: number };
}

/** An expression that does not compile. The message shows where. */
export class CompilationError extends Error {
  readonly issues: Issue[];
  constructor(source: string, issues: Issue[]) {
    super(showIssues(source, issues));
    this.issues = issues;
  }
}

/** What a failed evaluation cost stands on the error. */
export const costOf = (error: unknown): number => (error as { celCost?: number }).celCost ?? 0;

export interface EnvironmentOptions {
  variables: ReadonlyMap<string, Type> | Record<string, Type>;
  structs?: Declarations['structs'];
}

/** What expressions of one place may use. */
export class Environment {
  #declarations: Declarations;

  constructor({ variables, structs }: EnvironmentOptions) {
    this.#declarations = {
      variables: variables instanceof Map ? variables : new Map(Object.entries(variables)),
      functions,
      ...(structs ? { structs } : {}),
    };
  }

  /** With more variables. */
  extend(variables: Record<string, Type>): Environment {
    const { structs } = this.#declarations;
    return new Environment({ variables: new Map([...this.#declarations.variables, ...Object.entries(variables)]), ...(structs ? { structs } : {}) });
  }

  /** CompilationError where the expression is wrong. */
  compile(source: string): Program {
    let root: Expr;
    try {
      root = parse(source);
    } catch (error) {
      if (error instanceof CelSyntaxError) throw new CompilationError(source, error.issues);
      throw error;
    }
    const checked = check(root, this.#declarations);
    if (checked.issues.length) throw new CompilationError(source, checked.issues);
    return program(source, root, checked);
  }
}

function program(source: string, root: Expr, checked: Checked): Program {
  const run = compile(root, checked);
  let estimated: number | undefined;
  return {
    source,
    output: checked.output,
    variables: checked.variables,
    estimate: () => (estimated ??= estimateCost(root, checked)),
    run(variable, limit = perCallLimit) {
      const frame: Frame = { variable, locals: [], cost: 0, limit };
      try {
        return { value: run(frame), cost: frame.cost };
      } catch (error) {
        if (typeof error === 'object' && error !== null) Object.assign(error, { celCost: frame.cost });
        throw error;
      }
    },
  };
}
