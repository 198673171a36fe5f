import { age } from '../kinds/age.ts';
import { ageColumn, nameColumn } from '../kinds/column.ts';
import { compileJsonPath, printJsonPathValue } from '../jsonpath.ts';
import type { TableColumn } from '../scheme.ts';

/** One of additionalPrinterColumns. */
export interface PrinterColumn {
  name: string;
  type: string;
  format?: string;
  description?: string;
  priority?: number;
  jsonPath: string;
}

function cellOf(type: string, value: unknown): unknown {
  if (value === null || value === undefined) return null;
  switch (type) {
    case 'integer':
      return typeof value === 'bigint' ? value : typeof value === 'number' ? Math.trunc(value) : null;
    case 'number':
      return typeof value === 'number' || typeof value === 'bigint' ? value : null;
    case 'boolean':
      return typeof value === 'boolean' ? value : null;
    case 'date':
      if (typeof value !== 'string') return null;
      return Number.isNaN(Date.parse(value)) ? '<invalid>' : age(value);
    default:
      return printJsonPathValue(value);
  }
}

/** The columns of a custom resource: Name, then its own; Name and Age where it has none. */
export function printerColumns(columns: PrinterColumn[] | undefined): TableColumn[] {
  if (!columns?.length) return [nameColumn, { ...ageColumn, type: 'date' }];
  return [
    nameColumn,
    ...columns.map((column): TableColumn => {
      let find: (object: unknown) => unknown[];
      try {
        find = compileJsonPath(column.jsonPath);
      } catch {
        find = () => [];
      }
      return {
        name: column.name,
        type: column.type as TableColumn['type'],
        format: column.format ?? '',
        description: column.description || `Custom resource definition column (in JSONPath format): ${column.jsonPath}`,
        priority: column.priority ?? 0,
        cell: (object) => {
          const [found] = find(object);
          if (found === undefined) return null;
          return cellOf(column.type, found);
        },
      };
    }),
  ];
}
