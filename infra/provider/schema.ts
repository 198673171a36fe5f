import { configuration } from './provider.ts';
import type { PropertySchema, ResourceKind } from './resource.ts';

/** The package in Pulumi's schema language, for `pulumi package get-schema` and for programs in other languages. */
export function packageSchema(kinds: ResourceKind[], version: string): object {
  return {
    name: 'kumulus',
    version,
    description: 'AWS resources of Kumulus clusters',
    license: 'Apache-2.0',
    config: { variables: Object.fromEntries(Object.entries(configuration).map(([name, c]) => [name, { type: 'string', ...c }])) },
    provider: { inputProperties: Object.fromEntries(Object.entries(configuration).map(([name, c]) => [name, { type: 'string', ...c }])) },
    resources: Object.fromEntries(
      kinds.map((kind) => {
        const inputs = Object.fromEntries(Object.entries(kind.properties).map(([name, schema]) => [name, typeOf(schema)]));
        const attributes = Object.fromEntries(
          Object.entries(kind.attributes).map(([name, a]) => [name, { type: 'string', description: a.description, ...(a.secret ? { secret: true } : {}) }]),
        );
        const required = Object.keys(kind.properties).filter((name) => kind.properties[name]?.required);
        return [
          kind.token,
          {
            description: kind.description,
            inputProperties: inputs,
            requiredInputs: required,
            properties: { ...inputs, ...attributes },
            required: [...required, ...Object.keys(attributes)],
          },
        ];
      }),
    ),
  };
}

function typeOf(schema: PropertySchema): object {
  const common = {
    description: schema.description,
    ...(schema.secret ? { secret: true } : {}),
    ...(schema.replaces === true ? { replaceOnChanges: true } : {}),
    ...(schema.default === undefined ? {} : { default: schema.default }),
  };
  switch (schema.type) {
    case 'list':
      return { ...common, type: 'array', items: typeOf(schema.items as PropertySchema) };
    case 'map':
      return { ...common, type: 'object', additionalProperties: typeOf(schema.items as PropertySchema) };
    case 'object':
      // An object of its own in every place: a map to whatever in this schema, told in words.
      return { ...common, type: 'object', additionalProperties: { $ref: 'pulumi.json#/Any' } };
    default:
      return { ...common, type: schema.type };
  }
}
