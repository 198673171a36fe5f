import { StatusError } from '../errors.ts';
import { identityOf, type Manager } from './managers.ts';
import { pathText } from './path-element.ts';

export interface Conflict {
  manager: Manager;
  path: string[];
}

/** Fields that an apply would change while others own them. */
export class ApplyConflict extends Error {
  readonly conflicts: Conflict[];

  constructor(conflicts: Conflict[]) {
    super('conflicts');
    this.conflicts = [...conflicts].sort((a, b) => {
      const [x, y] = [sortKey(a.manager), sortKey(b.manager)];
      return x < y ? -1 : x > y ? 1 : 0;
    });
  }

  /** The 409 that clients see, with a cause for each field. */
  toStatus(): StatusError {
    const { conflicts } = this;
    const causes = conflicts.map(({ manager, path }) => ({
      reason: 'FieldManagerConflict',
      message: `conflict with ${shown(manager)}`,
      field: pathText(path),
    }));
    return new StatusError(409, 'Conflict', messageOf(conflicts), { causes });
  }
}

/** As upstream sorts: by name, then what else tells managers apart. */
const sortKey = (m: Manager) => JSON.stringify({ manager: m.name, operation: m.operation, apiVersion: m.apiVersion, subresource: m.subresource });

function messageOf(conflicts: Conflict[]): string {
  const [first] = conflicts;
  if (conflicts.length === 1 && first) return `Apply failed with 1 conflict: conflict with ${shown(first.manager)}: ${pathText(first.path)}`;
  const lines: string[] = [];
  let current = '';
  for (const { manager, path } of conflicts) {
    const id = identityOf(manager);
    if (id !== current) lines.push(`conflicts with ${shown(manager)}:`);
    current = id;
    lines.push(`- ${pathText(path)}`);
  }
  return `Apply failed with ${conflicts.length} conflicts: ${lines.join('\n')}`;
}

function shown(manager: Manager): string {
  const name = `${JSON.stringify(manager.name)}${manager.subresource ? ` with subresource ${JSON.stringify(manager.subresource)}` : ''}`;
  return manager.operation === 'Update' ? `${name} using ${manager.apiVersion}` : name;
}
