import type { KubeObject } from './object.ts';
import type { ServedResource } from './scheme.ts';

export interface TableOptions {
  includeObject?: 'None' | 'Metadata' | 'Object';
  /** Metadata of the list, or of the single object: resourceVersion, continue, remainingItemCount. */
  metadata?: { resourceVersion?: string; continue?: string; remainingItemCount?: number };
  /** Without column definitions, as in all but the first event of a watch. */
  noHeaders?: boolean;
}

export interface Table {
  kind: 'Table';
  apiVersion: 'meta.k8s.io/v1';
  metadata: NonNullable<TableOptions['metadata']>;
  columnDefinitions: { name: string; type: string; format: string; description: string; priority: number }[];
  rows: { cells: unknown[]; object?: unknown }[];
}

/** Objects as meta.k8s.io/v1 Table. */
export function makeTable(resource: ServedResource, objects: KubeObject[], options: TableOptions = {}): Table {
  void resource;
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: options.metadata ?? {},
    columnDefinitions: [{ name: 'Name', type: 'string', format: 'name', description: '', priority: 0 }],
    rows: objects.map((o) => ({ cells: [o.metadata.name] })),
  };
}
