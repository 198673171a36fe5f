import { createdAtColumn, nameColumn } from './kinds/column.ts';
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

/** Of kinds that nobody has made a table for. */
const unknownKind = [nameColumn, createdAtColumn];

/** Objects as meta.k8s.io/v1 Table. */
export function makeTable(resource: ServedResource, objects: KubeObject[], options: TableOptions = {}): Table {
  const columns = resource.strategy.columns ?? unknownKind;
  const { order, beyond } = resource.strategy.rows ?? {};
  const include = options.includeObject ?? 'Metadata';
  return {
    kind: 'Table',
    apiVersion: 'meta.k8s.io/v1',
    metadata: options.metadata ?? {},
    columnDefinitions: options.noHeaders
      ? []
      : columns.map((c) => ({ name: c.name, type: c.type, format: c.format ?? '', description: c.description ?? '', priority: c.priority ?? 0 })),
    rows: (order ? [...objects].sort(order) : objects).map((o) => ({
      cells: [...columns.map((c) => c.cell(o)), ...(beyond?.(o) ?? [])],
      ...(include === 'None'
        ? {}
        : { object: include === 'Object' ? o : { kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: o.metadata } }),
    })),
  };
}
