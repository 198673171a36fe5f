import type { FieldError } from '../errors.ts';
import type { JsonSchema } from './json-schema.ts';
import type { SchemaContext } from './schema-rules.ts';

export function compileSchemaRules(_schema: JsonSchema, _path: string, _context: SchemaContext): FieldError[] {
  return [];
}
