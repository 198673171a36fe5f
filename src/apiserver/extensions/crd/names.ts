import type { CustomResourceDefinition, CustomResourceDefinitionCondition, CustomResourceDefinitionNames } from '../../../api/generated/types.ts';

type Condition = CustomResourceDefinitionCondition;

export const conditionOf = (crd: CustomResourceDefinition, type: string): Condition | undefined =>
  crd.status?.conditions?.find((c) => c.type === type);
export const isTrue = (crd: CustomResourceDefinition, type: string): boolean => conditionOf(crd, type)?.status === 'True';

/** Sets a condition; its time moves only with its status. */
export function setCondition(crd: CustomResourceDefinition, next: Omit<Condition, 'lastTransitionTime'>, now: string): void {
  crd.status ??= {};
  const conditions = (crd.status.conditions ??= []);
  const known = conditions.find((c) => c.type === next.type);
  if (!known) conditions.push({ ...next, lastTransitionTime: now });
  else Object.assign(known, next, { lastTransitionTime: known.status === next.status ? (known.lastTransitionTime ?? now) : now });
}

export interface Naming {
  names: CustomResourceDefinitionNames;
  accepted: Omit<Condition, 'lastTransitionTime'>;
}

/** Which names a definition gets, where others of its group have taken theirs. */
export function acceptNames(crd: CustomResourceDefinition, others: CustomResourceDefinition[]): Naming {
  const resources = new Set<string>();
  const kinds = new Set<string>();
  for (const { status } of others) {
    const taken = status?.acceptedNames;
    if (!taken) continue;
    for (const name of [taken.plural, taken.singular, ...(taken.shortNames ?? [])]) if (name) resources.add(name);
    for (const name of [taken.kind, taken.listKind]) if (name) kinds.add(name);
  }
  const wanted = crd.spec.names;
  const before = crd.status?.acceptedNames ?? ({ plural: '', kind: '' } as CustomResourceDefinitionNames);
  const names: CustomResourceDefinitionNames = { ...before };
  let accepted: Naming['accepted'] = { type: 'NamesAccepted', status: 'True', reason: 'NoConflicts', message: 'no conflicts found' };
  const refuse = (reason: string, message: string) => {
    accepted = { type: 'NamesAccepted', status: 'False', reason, message };
  };
  const take = (field: 'plural' | 'singular' | 'kind' | 'listKind', used: Set<string>, reason: string) => {
    const name = wanted[field] ?? '';
    if (name !== (before[field] ?? '') && used.has(name)) refuse(reason, `${JSON.stringify(name)} is already in use`);
    else if (name) names[field] = name;
  };
  take('plural', resources, 'PluralConflict');
  take('singular', resources, 'SingularConflict');
  const clashes = (wanted.shortNames ?? []).filter((n) => !before.shortNames?.includes(n) && resources.has(n));
  if (clashes.length) {
    const texts = clashes.map((n) => `${JSON.stringify(n)} is already in use`);
    refuse('ShortNamesConflict', texts.length === 1 ? (texts[0] as string) : `[${texts.join(', ')}]`);
  } else if (wanted.shortNames) names.shortNames = wanted.shortNames;
  else delete names.shortNames;
  take('kind', kinds, 'KindConflict');
  take('listKind', kinds, 'ListKindConflict');
  if (wanted.categories) names.categories = wanted.categories;
  else delete names.categories;
  return { names, accepted };
}
