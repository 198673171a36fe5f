import { CompilationError, Environment, type Program } from '../cel/environment.ts';
import { t, type Type } from '../cel/types.ts';
import { admissionVariables } from './environment.ts';

/** Any field, of any type: what apply configurations are written in. */
class AnyFields extends Map<string, Type> {
  override get(): Type {
    return t.dyn;
  }
}

export const objectType: Type = t.object('Object', new AnyFields());
const jsonPatchType = t.object('JSONPatch', { op: t.string, path: t.string, from: t.string, value: t.dyn });
export const jsonPatchesType: Type = t.list(jsonPatchType);

/** Types that expressions of mutations can make: Object and what lies in it, named by its path, and JSONPatch. */
function patchTypes(name: string): Type | undefined {
  if (name === 'JSONPatch') return jsonPatchType;
  return name === 'Object' || name.startsWith('Object.') ? t.object(name, new AnyFields()) : undefined;
}

/** An expression of a policy, or why there is none. */
export interface Compiled {
  program: Program | undefined;
  error: string;
}

export interface PolicyEnvironment {
  environment: Environment;
  /** In the order in which they may refer to each other. */
  variables: { name: string; compiled: Compiled }[];
}

export function compileExpression(environment: Environment, expression: string): Compiled {
  try {
    return { program: environment.compile(expression), error: '' };
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    return { program: undefined, error: `compilation failed: ${error.message}` };
  }
}

/** What the expressions of a policy can refer to: each variable knows those before it. */
export function policyEnvironment(spec: any, mutating: boolean, objectTypes: Record<string, Type> = {}): PolicyEnvironment {
  const declared: Record<string, Type> = {
    ...admissionVariables,
    namespaceObject: t.dyn,
    ...(spec.paramKind ? { params: t.dyn } : {}),
    ...objectTypes,
  };
  const fields = new Map<string, Type>();
  const make = () =>
    new Environment({
      variables: spec.variables?.length ? { ...declared, variables: t.object('kubernetes.variables', new Map(fields)) } : declared,
      ...(mutating ? { structs: patchTypes } : {}),
    });
  const variables: PolicyEnvironment['variables'] = [];
  let environment = make();
  for (const { name, expression } of spec.variables ?? []) {
    const compiled = compileExpression(environment, expression ?? '');
    variables.push({ name, compiled });
    if (expression?.trim()) fields.set(name, compiled.program?.output ?? t.dyn);
    environment = make();
  }
  return { environment, variables };
}
