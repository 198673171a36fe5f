import { typeBelow } from './field-set.ts';
import { fieldStep, IdentityError, itemStep, pathText } from './path-element.ts';
import type { FieldType, ScalarType } from './types.ts';

/** What keeps a configuration from being of its type, as structured-merge-diff says it; '' where nothing does. */
export function configurationProblems(type: FieldType, value: unknown): string {
  const problems: string[] = [];
  check(type, value, [], problems);
  return problems.length < 2 ? (problems[0] ?? '') : `errors:\n${problems.map((p) => `  ${p}`).join('\n')}`;
}

function check(type: FieldType, value: any, path: string[], problems: string[]): void {
  const report = (problem: string) => problems.push(path.length > 0 ? `${pathText(path)}: ${problem}` : problem);
  if (value === null || value === undefined) return;
  switch (type.kind) {
    case 'scalar': {
      const problem = scalarProblem(type, value);
      if (problem) report(problem);
      return;
    }
    case 'struct':
    case 'map':
      if (typeof value !== 'object' || Array.isArray(value)) return void report(`expected map, got ${goValue(value)}`);
      for (const name of Object.keys(value)) {
        const step = fieldStep(name);
        const member = typeBelow(type, step);
        if (!member) {
          problems.push(`${pathText([...path, step])}: field not declared in schema`);
          return;
        }
        check(member, value[name], [...path, step], problems);
      }
      return;
    case 'list': {
      if (!Array.isArray(value)) return void report(`expected list, got ${goValue(value)}`);
      const seen = new Set<string>();
      for (let i = 0; i < value.length; i++) {
        let step = `i:${i}`;
        if (type.identity !== 'atomic') {
          try {
            step = itemStep(type, value[i]);
          } catch (error) {
            if (!(error instanceof IdentityError)) throw error;
            return void report(`element ${i}: ${error.message}`);
          }
          if (seen.has(step)) report(`duplicate entries for key ${pathText([step])}`);
          seen.add(step);
        }
        check(type.items, value[i], [...path, step], problems);
      }
    }
  }
}

function scalarProblem(type: ScalarType, value: unknown): string | undefined {
  const actual = typeof value;
  switch (type.of) {
    case 'number':
      return actual === 'number' || actual === 'bigint' ? undefined : `expected numeric (int or float), got ${goTypeName(value)}`;
    case 'string':
      return actual === 'string' ? undefined : `expected string, got ${goSyntax(value)}`;
    case 'boolean':
      return actual === 'boolean' ? undefined : `expected boolean, got ${goValue(value)}`;
    default:
      return actual === 'object' ? `expected any scalar, got ${goValue(value)}` : undefined;
  }
}

const goTypeName = (value: unknown): string =>
  Array.isArray(value)
    ? '[]interface {}'
    : typeof value === 'object'
      ? 'map[string]interface {}'
      : typeof value === 'boolean'
        ? 'bool'
        : typeof value === 'bigint' || Number.isInteger(value)
          ? 'int64'
          : typeof value === 'number'
            ? 'float64'
            : 'string';

const goSyntax = (value: unknown): string => `&value.valueUnstructured{Value:${typeof value === 'string' ? JSON.stringify(value) : goValue(value)}}`;

function goValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(goValue).join(',')}]`;
  if (typeof value === 'object' && value !== null)
    return Object.entries(value)
      .map(([name, inner]) => `${name}=${goValue(inner)}`)
      .join('');
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
