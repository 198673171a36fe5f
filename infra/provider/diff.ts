import type { PropertySchema, ResourceKind } from './resource.ts';
import { type Properties, unknown } from './values.ts';

export type Change = 'add' | 'delete' | 'update';

export interface PropertyChange {
  /** As Pulumi writes paths: `ingress[0].cidrIp`, `tags["a.b"]`. */
  path: string;
  change: Change;
  replaces: boolean;
}

/** What has to change for old to become new, place by place. An unknown value counts as a change. */
export function changesOf(kind: ResourceKind, olds: Properties, news: Properties): PropertyChange[] {
  const found: PropertyChange[] = [];
  for (const [name, schema] of Object.entries(kind.properties)) {
    compare(name, olds[name], news[name], (path, change) => found.push({ path, change, replaces: replaces(schema, olds[name]) }));
  }
  return found;
}

/** Whose a resource is cannot be told of every import; what is not known is no reason to make it anew. */
const replaces = (schema: PropertySchema, old: unknown): boolean => schema.replaces === true || (schema.replaces === 'when known' && old !== undefined && old !== '');

function compare(path: string, a: unknown, b: unknown, report: (path: string, change: Change) => void): void {
  if (a === unknown || b === unknown) return report(path, 'update');
  if (isEmpty(a) && isEmpty(b)) return;
  if (a === undefined || a === null) return report(path, 'add');
  if (b === undefined || b === null) return report(path, 'delete');
  if (Array.isArray(a) && Array.isArray(b)) {
    for (let i = 0; i < Math.max(a.length, b.length); i++) compare(`${path}[${i}]`, a[i], b[i], report);
  } else if (typeof a === 'object' && typeof b === 'object' && !Array.isArray(a) && !Array.isArray(b)) {
    for (const key of new Set([...Object.keys(a), ...Object.keys(b)]))
      compare(join(path, key), (a as Properties)[key], (b as Properties)[key], report);
  } else if (a !== b) report(path, 'update');
}

const isEmpty = (value: unknown): boolean => value === undefined || value === null || (typeof value === 'object' && Object.keys(value).length === 0);

const join = (path: string, key: string) => (/^[A-Za-z_]\w*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key)}]`);
