import type { FieldError } from './errors.ts';
import type { ServedResource } from './scheme.ts';

/** Checks metadata: name, namespace, labels, annotations, finalizers, owner references. */
export function validateObjectMeta(meta: any, resource: ServedResource): FieldError[] {
  void meta;
  void resource;
  return [];
}

/** Checks what of metadata may not change. */
export function validateObjectMetaUpdate(meta: any, old: any): FieldError[] {
  void meta;
  void old;
  return [];
}

/** Checks that required fields are there. */
export function validateSchema(definition: string, object: unknown): FieldError[] {
  void definition;
  void object;
  return [];
}
