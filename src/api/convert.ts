import type { GroupVersionKind } from './decode.ts';

/** The object in another version; the same object where the versions do not differ but in apiVersion. */
export function convert(object: any, from: GroupVersionKind, to: GroupVersionKind): any {
  if (from.group === to.group && from.version === to.version) return object;
  return { ...object, apiVersion: to.group ? `${to.group}/${to.version}` : to.version, kind: to.kind };
}
