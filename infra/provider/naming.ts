import type { Properties } from './values.ts';

/** AWS writes CidrBlock, Pulumi programs write cidrBlock; lists and objects are gone through, their texts left as they are. */
export const toPulumi = (value: unknown): unknown => rename(value, (key) => key.charAt(0).toLowerCase() + key.slice(1));
export const toAws = (value: unknown): unknown => rename(value, (key) => key.charAt(0).toUpperCase() + key.slice(1));

function rename(value: unknown, change: (key: string) => string): unknown {
  if (Array.isArray(value)) return value.map((one) => rename(one, change));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value as Properties).map(([key, one]) => [change(key), rename(one, change)]));
}
