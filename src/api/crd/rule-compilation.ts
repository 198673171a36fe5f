import { maxRequestBytes, typeOfSchema } from '../cel/schema-types.ts';
import { type FieldError, ShownValue } from '../errors.ts';
import { isEmbedded, itemsOf, type JsonSchema, type ValidationRule, valuesOf } from './json-schema.ts';
import { compileRulesAt } from './rules.ts';
import type { SchemaContext } from './schema-rules.ts';

/** The most one rule may cost by estimate, and all of a schema together. */
const ruleLimit = 10_000_000;
const schemaLimit = 100_000_000;

interface Place {
  isResource: boolean;
  /** How many values the place can have; undefined where the schema sets no bound. */
  cardinality: number | undefined;
  /** Where the old value cannot be told any more, from this path on. */
  uncorrelatable: string | undefined;
}

interface Costs {
  total: number;
  worst: { path: string; cost: number }[];
}

/** What is wrong with the rules of a schema: types, results, costs. */
export function compileSchemaRules(schema: JsonSchema, path: string, context: SchemaContext): FieldError[] {
  const errors: FieldError[] = [];
  const costs: Costs = { total: 0, worst: [] };
  visit(schema, path, { isResource: true, cardinality: 1, uncorrelatable: undefined }, context, costs, errors);
  if (costs.total > schemaLimit) {
    for (const { path: at } of costs.worst)
      errors.push({ type: 'FieldValueForbidden', field: at, detail: 'contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema' });
    const detail = overBudget('x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema', costs.total, schemaLimit);
    errors.push({ type: 'FieldValueForbidden', field: path, detail });
  }
  return errors;
}

function visit(schema: JsonSchema, path: string, place: Place, context: SchemaContext, costs: Costs, errors: FieldError[]): void {
  rulesAt(schema, path, place, context, costs, errors);
  const times = (most: number | undefined) => (place.cardinality === undefined || most === undefined ? undefined : place.cardinality * most);
  for (const [name, property] of Object.entries(schema.properties ?? {})) {
    visit(
      property,
      `${path}.properties[${name}]`,
      {
        isResource: isEmbedded(property),
        cardinality: place.cardinality,
        uncorrelatable: place.uncorrelatable ?? (schema['x-kubernetes-map-type'] === 'atomic' ? path : undefined),
      },
      context,
      costs,
      errors,
    );
  }
  const values = valuesOf(schema);
  if (values) {
    const inner = { isResource: isEmbedded(values), cardinality: times(schema.maxProperties), uncorrelatable: place.uncorrelatable };
    visit(values, `${path}.additionalProperties`, inner, context, costs, errors);
  }
  const items = itemsOf(schema);
  if (items) {
    const uncorrelatable = place.uncorrelatable ?? (schema['x-kubernetes-list-type'] === 'map' ? undefined : path);
    visit(items, `${path}.items`, { isResource: isEmbedded(items), cardinality: times(schema.maxItems), uncorrelatable }, context, costs, errors);
  }
}

function rulesAt(schema: JsonSchema, path: string, place: Place, context: SchemaContext, costs: Costs, errors: FieldError[]): void {
  const rules = (schema['x-kubernetes-validations'] ?? []).filter((r) => r.rule?.trim());
  if (rules.length === 0) return;
  const at = `${path}.x-kubernetes-validations`;
  const type = typeOfSchema(schema, place.isResource);
  if (!type) {
    const detail = 'internal error: failed to retrieve type information for x-kubernetes-validations';
    errors.push({ type: 'InternalError', field: at, detail });
    return;
  }
  const unbounded = Math.floor(maxRequestBytes / ((type.least ?? 0) + 1));
  compileRulesAt(schema, type, rules).forEach((compiled, i) => {
    const { rule, program, message } = compiled;
    const field = `${at}[${i}]`;
    const judge = (name: string, part: string, cost: number) => {
      if (!context.unchanged && cost > ruleLimit)
        errors.push({ type: 'FieldValueForbidden', field: `${field}.${part}`, detail: overBudget(name, cost, ruleLimit) });
      costs.total += cost;
      // What is less than a hundredth of the limit is not worth a mention.
      if (cost < schemaLimit / 100) return;
      costs.worst = [...costs.worst, { path: `${field}.${part}`, cost }].sort((a, b) => b.cost - a.cost).slice(0, 4);
    };
    if (program) judge('estimated rule cost', 'rule', program.estimate() * (place.cardinality ?? unbounded));
    if (compiled.error) errors.push({ type: 'FieldValueInvalid', field: `${field}.rule`, value: shownRule(rule), detail: compiled.error });
    if (compiled.messageError)
      errors.push({ type: 'FieldValueInvalid', field: `${field}.messageExpression`, value: shownRule(rule), detail: compiled.messageError });
    else if (message) judge('estimated messageExpression cost', 'messageExpression', message.estimate());
    if (compiled.usesOldSelf) {
      if (place.uncorrelatable !== undefined) {
        const detail = `oldSelf cannot be used on the uncorrelatable portion of the schema within ${place.uncorrelatable}`;
        errors.push({ type: 'FieldValueInvalid', field: `${field}.rule`, value: rule.rule, detail });
      }
    } else if (rule.optionalOldSelf !== undefined && program)
      errors.push({ type: 'FieldValueInvalid', field: `${field}.optionalOldSelf`, value: rule.optionalOldSelf, detail: 'may not be set if oldSelf is not used in rule' });
  });
}

/** The rule as it stands in messages: with the names of its internal form. */
function shownRule(rule: ValidationRule): ShownValue {
  const q = (text: string | undefined) => JSON.stringify(text ?? '');
  return new ShownValue(
    `{"Rule":${q(rule.rule)},"Message":${q(rule.message)},"MessageExpression":${q(rule.messageExpression)},"Reason":${rule.reason ? q(rule.reason) : 'null'},"FieldPath":${q(rule.fieldPath)},"OptionalOldSelf":${rule.optionalOldSelf ?? 'null'}}`,
  );
}

function overBudget(name: string, cost: number, limit: number): string {
  const factor = cost / limit;
  const text = factor > 100 ? 'more than 100x' : factor < 1.5 ? `${factor.toFixed(6)}x` : `${factor.toFixed(1)}x`;
  return `${name} exceeds budget by factor of ${text} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)`;
}
