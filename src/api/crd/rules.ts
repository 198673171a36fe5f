import { adapt } from '../cel/adapt.ts';
import { CompilationError, costOf, Environment, perCallLimit, type Program, runtimeBudget } from '../cel/environment.ts';
import { typeOfSchema } from '../cel/schema-types.ts';
import { t, type Type } from '../cel/types.ts';
import { CelError, CostExceededError, Optional, type Value } from '../cel/values.ts';
import { type FieldError, ShownValue } from '../errors.ts';
import type { Correlated } from './correlation.ts';
import { isEmbedded, isObject, itemsOf, type JsonSchema, type ValidationRule, valuesOf } from './json-schema.ts';
import type { SchemaRules } from './strategy.ts';

/** One rule as compiled; `error` says why it could not be. */
export interface CompiledRule {
  rule: ValidationRule;
  program?: Program;
  error?: string;
  message?: Program;
  messageError?: string;
  usesOldSelf: boolean;
}

/** Compiles the rules of one place in a schema. */
export function compileRulesAt(schema: JsonSchema, type: Type, rules: ValidationRule[] = schema['x-kubernetes-validations'] ?? []): CompiledRule[] {
  const plain = new Environment({ variables: { self: type, oldSelf: type } });
  const optional = rules.some((r) => r.optionalOldSelf) ? new Environment({ variables: { self: type, oldSelf: t.optional(type) } }) : plain;
  return rules.map((rule): CompiledRule => {
    const environment = rule.optionalOldSelf ? optional : plain;
    let program: Program;
    try {
      program = environment.compile(rule.rule);
    } catch (error) {
      if (!(error instanceof CompilationError)) throw error;
      return { rule, error: `compilation failed: ${error.message}`, usesOldSelf: false };
    }
    const usesOldSelf = program.variables.has('oldSelf');
    if (program.output.kind !== 'bool') return { rule, error: 'cel expression must evaluate to a bool', usesOldSelf };
    if (!rule.messageExpression) return { rule, program, usesOldSelf };
    try {
      const message = environment.compile(rule.messageExpression);
      if (message.output.kind !== 'string') return { rule, program, usesOldSelf, messageError: 'messageExpression must evaluate to a string' };
      return { rule, program, usesOldSelf, message };
    } catch (error) {
      if (!(error instanceof CompilationError)) throw error;
      return { rule, program, usesOldSelf, messageError: `messageExpression compilation failed: ${error.message}` };
    }
  });
}

/** The rules at one place of a schema, and those below it. */
interface Node {
  schema: JsonSchema;
  isResource: boolean;
  rules: CompiledRule[];
  items: Node | undefined;
  values: Node | undefined;
  properties: Map<string, Node>;
  allOf: Node[];
}

function nodeOf(rulesOf: JsonSchema, schema: JsonSchema, isResource: boolean): Node | undefined {
  const own = rulesOf['x-kubernetes-validations'] ?? [];
  const type = own.length ? typeOfSchema(schema, isResource) : undefined;
  const rules = type ? compileRulesAt(schema, type, own) : [];
  const inner = (ruleSchema: JsonSchema | undefined, of: JsonSchema | undefined) => (ruleSchema && of ? nodeOf(ruleSchema, of, isEmbedded(of)) : undefined);
  const items = inner(itemsOf(rulesOf), itemsOf(schema));
  const values = inner(valuesOf(rulesOf), valuesOf(schema));
  const properties = new Map<string, Node>();
  for (const [name, property] of Object.entries(rulesOf.properties ?? {})) {
    const node = inner(property, schema.properties && Object.hasOwn(schema.properties, name) ? schema.properties[name] : undefined);
    if (node) properties.set(name, node);
  }
  const allOf = (rulesOf.allOf ?? []).map((one) => nodeOf(one, schema, isResource)).filter((n) => n !== undefined);
  if (!rules.length && !items && !values && !properties.size && !allOf.length) return undefined;
  return { schema, isResource, rules, items, values, properties, allOf };
}

/** All rules of a version's schema; undefined where there are none. */
export function compileRules(schema: JsonSchema): SchemaRules | undefined {
  const root = nodeOf(schema, schema, true);
  if (!root) return undefined;
  return {
    validate(object, old, correlated) {
      const run = new Run();
      run.visit(root, object, old, '', { current: correlated, parent: undefined });
      return run.errors;
    },
  };
}

/** What an error is measured against: errors of what an update leaves unchanged are none. */
interface Ratchet {
  current: Correlated | undefined;
  parent: Correlated | undefined;
}

const ratchetAt = (r: Ratchet, at: (c: Correlated) => Correlated | undefined): Ratchet => (r.current ? { current: at(r.current), parent: r.current } : r);
const unchanged = (r: Ratchet): boolean => (r.current ?? r.parent)?.unchanged ?? false;
const textOf = (rule: ValidationRule): string => (rule.message || rule.rule).trim();

/** One object's way through all rules, within one budget. */
class Run {
  readonly errors: FieldError[] = [];
  #budget = runtimeBudget;

  visit(node: Node, value: unknown, old: unknown, path: string, ratchet: Ratchet): void {
    if (this.#budget < 0 || value === null || value === undefined) return;
    this.#evaluate(node, value, old, path, ratchet);
    for (const one of node.allOf) this.visit(one, value, old, path, { current: undefined, parent: ratchet.parent });
    if (this.#budget < 0) return;
    const correlatable = node.schema['x-kubernetes-map-type'] !== 'atomic';
    if (Array.isArray(value)) {
      if (node.items) this.#items(node, node.items, value, old, path, ratchet);
    } else if (isObject(value)) {
      for (const key of Object.keys(value)) {
        const inner = node.properties.get(key) ?? node.values;
        if (!inner) continue;
        const before = correlatable && isObject(old) && Object.hasOwn(old, key) ? old[key] : undefined;
        const typeField = path === '' && (key === 'apiVersion' || key === 'kind');
        const next = typeField ? { current: undefined, parent: undefined } : ratchetAt(ratchet, (c) => c.field(key));
        this.visit(inner, value[key], before, node.properties.has(key) ? (path ? `${path}.${key}` : key) : `${path}[${key}]`, next);
      }
    }
  }

  #items(node: Node, inner: Node, value: unknown[], old: unknown, path: string, ratchet: Ratchet): void {
    const keys = node.schema['x-kubernetes-list-type'] === 'map' ? (node.schema['x-kubernetes-list-map-keys'] ?? []) : undefined;
    const idOf = (item: unknown) => (isObject(item) ? JSON.stringify(keys?.map((k) => item[k] ?? null)) : undefined);
    const before = new Map<string | undefined, unknown>();
    if (keys && Array.isArray(old)) for (const item of old) before.set(idOf(item), item);
    value.forEach((item, i) => {
      this.visit(inner, item, keys ? before.get(idOf(item)) : undefined, `${path}[${i}]`, ratchetAt(ratchet, (c) => c.item(i)));
    });
  }

  #fail(field: string, type: string | undefined, detail: string): void {
    this.errors.push({ type: 'FieldValueInvalid', field: field || '<nil>', value: type ?? '', detail });
  }

  #evaluate(node: Node, value: unknown, old: unknown, path: string, ratchet: Ratchet): void {
    if (node.rules.length === 0) return;
    const { type } = node.schema;
    if (this.#budget <= 0) return this.#exhausted(path, type);
    const hasOld = old !== undefined && old !== null;
    let self: Value | undefined;
    let oldSelf: Value | undefined;
    for (const compiled of node.rules) {
      const { rule, program } = compiled;
      if (!program) {
        this.#fail(path, type, `rule compile error: ${compiled.error}`);
        continue;
      }
      if (compiled.usesOldSelf && !hasOld && !rule.optionalOldSelf) continue;
      const variables = (name: string): Value | undefined => {
        if (name === 'self') return (self ??= adapt(value, node.schema, node.isResource));
        if (name !== 'oldSelf') return undefined;
        if (hasOld) oldSelf ??= adapt(old, node.schema, node.isResource);
        return rule.optionalOldSelf ? (oldSelf === undefined ? Optional.none : new Optional(oldSelf)) : oldSelf;
      };
      let holds: Value;
      try {
        const result = program.run(variables, perCallLimit);
        if (result.cost > this.#budget) return this.#exhausted(path, type);
        this.#budget -= result.cost;
        holds = result.value;
      } catch (error) {
        if (!this.#report(error, rule, path, type)) return;
        continue;
      }
      if (holds === true) continue;
      if (!this.#violated(node, compiled, variables, value, path, ratchet)) return;
    }
  }

  #exhausted(path: string, type: string | undefined): void {
    this.#fail(path, type, 'validation failed due to running out of cost budget, no further validation rules will be run');
    this.#budget = -1;
  }

  /** A rule that could not be evaluated; false where no others are to be. */
  #report(error: unknown, rule: ValidationRule, path: string, type: string | undefined): boolean {
    if (error instanceof CostExceededError) {
      this.#fail(path, type, `'${error.message}': no further validation rules will be run due to call cost exceeds limit for rule: ${textOf(rule)}`);
      this.#budget = -1;
      return false;
    }
    if (!(error instanceof CelError)) throw error;
    this.#budget -= costOf(error);
    if (error.message.startsWith('no such overload'))
      this.#fail(path, type, `'${error.message}': call arguments did not match a supported operator, function or macro signature for rule: ${textOf(rule)}`);
    else this.#fail(path, type, `${error.message} evaluating rule: ${textOf(rule)}`);
    return true;
  }

  #violated(node: Node, compiled: CompiledRule, variables: (name: string) => Value | undefined, value: unknown, path: string, ratchet: Ratchet): boolean {
    const { rule } = compiled;
    const fieldPath = rule.fieldPath ?? '';
    const field = (path ? `${path}${fieldPath}` : fieldPath.replace(/^\./, '')) || '<nil>';
    let detail: string | undefined;
    if (compiled.message) {
      try {
        const result = compiled.message.run(variables, perCallLimit);
        if (result.cost > this.#budget) {
          this.#fail(field, node.schema.type, 'messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run');
          this.#budget = -1;
          return false;
        }
        this.#budget -= result.cost;
        const text = String(result.value).trim();
        if (text && text.length <= 5 * 1024 && !text.includes('\n')) detail = text;
      } catch (error) {
        if (error instanceof CostExceededError) {
          const shown = JSON.stringify(rule.messageExpression);
          this.#fail(field, node.schema.type, `no further validation rules will be run due to call cost exceeds limit for messageExpression: ${shown}`);
          this.#budget = -1;
          return false;
        }
        if (!(error instanceof CelError)) throw error;
      }
    }
    if (!compiled.usesOldSelf && unchanged(ratchet)) return true;
    detail ??= rule.message ? rule.message.trim() : `failed rule: ${textOf(rule)}`;
    const bad = node.schema.type === 'object' || node.schema.type === 'array' ? new ShownValue(null) : value;
    this.errors.push({ type: rule.reason ?? 'FieldValueInvalid', field, value: bad, detail: rule.reason === 'FieldValueDuplicate' ? '' : detail });
    return true;
  }
}
