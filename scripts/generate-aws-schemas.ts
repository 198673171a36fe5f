/**
 * Makes src/localaws/api/generated/: which of the AWS SDK's schemas the embedded AWS speaks by, named one by one so that a bundle has
 * no others (EC2's alone are a megabyte), and the names of the operations that AWS has beside them.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { services } from '../src/localaws/api/services.ts';

const folder = join(import.meta.dirname, '../src/localaws/api/generated');
const clients: Record<string, string> = {
  ec2: 'client-ec2',
  elasticloadbalancing: 'client-elastic-load-balancing-v2',
  sts: 'client-sts',
  iam: 'client-iam',
  ssm: 'client-ssm',
  ecr: 'client-ecr',
};

mkdirSync(folder, { recursive: true });
for (const { name, operations } of services) {
  const client = clients[name];
  const sdk: Record<string, unknown> = await import(`@aws-sdk/${client}`);
  const all = Object.keys(sdk)
    .filter((key) => key.endsWith('$') && Array.isArray(sdk[key]) && sdk[key][0] === 9)
    .map((key) => key.slice(0, -1))
    .sort();
  const known = all.filter((operation) => operation in operations);
  const others = all.filter((operation) => !(operation in operations));
  const file = [
    '// Made by scripts/generate-aws-schemas.ts.',
    `export { ${known.map((operation) => `${operation}$`).join(', ')} } from '@aws-sdk/${client}';`,
    `export const others = '${others.join(' ')}';`,
    '',
  ];
  writeFileSync(join(folder, `${name}.ts`), file.join('\n'));
}
