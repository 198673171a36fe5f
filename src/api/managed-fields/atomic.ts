import type { FieldType } from './types.ts';

/** Paths of what a value has that is replaced whole, as `.spec.list[0].args`: merging it would take away what others put there. */
export function atomicPaths(type: FieldType | undefined, value: unknown, path = ''): string[] {
  if (!type || type.kind === 'scalar' || typeof value !== 'object' || value === null) return [];
  if (Array.isArray(value)) {
    if (type.kind !== 'list') return type.kind === 'any' ? [path] : [];
    const own = type.identity === 'atomic' ? [path] : [];
    return [...own, ...value.flatMap((item, i) => atomicPaths(type.items, item, `${path}[${i}]`))];
  }
  if (type.kind === 'list') return [];
  const memberType = (name: string) => (type.kind === 'struct' ? type.fieldType(name) : type.kind === 'map' ? type.values : type);
  const members = Object.entries(value).flatMap(([name, member]) => atomicPaths(memberType(name), member, `${path}.${name}`));
  return type.atomic ? [path, ...members] : members;
}
