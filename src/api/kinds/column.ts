import type { TableColumn } from '../scheme.ts';
import { age } from './age.ts';

type Options = { type?: TableColumn['type']; wide?: boolean };

/** A column of the server-printed table; wide ones show with -o wide only. */
export const column = (name: string, cell: (o: any) => unknown, { type = 'string', wide = false }: Options = {}): TableColumn => ({
  name,
  type,
  priority: wide ? 1 : 0,
  cell,
});

export const nameColumn: TableColumn = { name: 'Name', type: 'string', format: 'name', cell: (o) => o.metadata?.name ?? '' };
export const ageColumn: TableColumn = column('Age', (o) => age(o.metadata?.creationTimestamp));
export const createdAtColumn: TableColumn = column('Created At', (o) => o.metadata?.creationTimestamp ?? '', { type: 'date' });
/** Name, these, Age. */
export const columns = (...middle: TableColumn[]): TableColumn[] => [nameColumn, ...middle, ageColumn];

export const orNone = (text: string | undefined): string => text || '<none>';
export const containerColumns = (pick: (o: any) => any[] | undefined, selector: (o: any) => string): TableColumn[] => [
  column('Containers', (o) => orNone((pick(o) ?? []).map((c) => c.name).join(',')), { wide: true }),
  column('Images', (o) => orNone((pick(o) ?? []).map((c) => c.image).join(',')), { wide: true }),
  column('Selector', selector, { wide: true }),
];
