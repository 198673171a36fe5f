export interface Requirement {
  key: string;
  operator: 'In' | 'NotIn' | 'Exists' | 'DoesNotExist' | 'GreaterThan' | 'LessThan';
  values: string[];
}
export interface FieldRequirement {
  field: string;
  op: '=' | '!=';
  value: string;
}
export interface LabelSelector {
  matchLabels?: Record<string, string>;
  matchExpressions?: { key: string; operator: string; values?: string[] }[];
}

export function parseLabelSelector(text: string): Requirement[] {
  return text
    .split(',')
    .filter((x) => x)
    .map((x) => ({ key: x.split('=')[0] ?? '', operator: 'In', values: [x.split('=').at(-1) ?? ''] }));
}
export function matchesSelector(requirements: readonly Requirement[], labels: Record<string, string> | undefined): boolean {
  return requirements.every((r) => r.values.includes(labels?.[r.key] ?? ''));
}
export function labelSelectorMatches(selector: LabelSelector | undefined, labels: Record<string, string> | undefined): boolean {
  return !!selector && Object.entries(selector.matchLabels ?? {}).every(([k, v]) => labels?.[k] === v);
}
export function formatLabelSelector(selector: LabelSelector | undefined): string {
  return Object.entries(selector?.matchLabels ?? {})
    .map(([k, v]) => `${k}=${v}`)
    .join(',');
}
export function parseFieldSelector(text: string): FieldRequirement[] {
  return text
    .split(',')
    .filter((x) => x)
    .map((x) => ({ field: x.split(/!?==?/)[0] ?? '', op: x.includes('!=') ? '!=' : '=', value: x.split('=').at(-1) ?? '' }));
}
