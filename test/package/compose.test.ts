/** The compose file of LocalStack, as far as can be told without Docker: what it mounts is there, and holds what its settings name. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';

const folder = join(import.meta.dirname, '../../localstack');
const { localstack } = parse(readFileSync(join(folder, 'docker-compose.yml'), 'utf8')).services;

test('the plugin is mounted where its Python looks, and has the providers that are turned on', () => {
  const mounts: string[][] = localstack.volumes.map((one: string) => one.split(':'));
  for (const [source = ''] of mounts) expect(existsSync(join(folder, source)), source).toBe(true);
  const plugin = mounts.find(([, target]) => target === localstack.environment.PYTHONPATH)?.[0] as string;
  const points = readFileSync(join(folder, plugin, 'kumulus_localstack-0.1.0.dist-info/entry_points.txt'), 'utf8');
  for (const [, module = '', name] of points.matchAll(/= ([\w.]+):(\w+)$/gm))
    expect(readFileSync(join(folder, plugin, `${module.replaceAll('.', '/')}.py`), 'utf8')).toMatch(new RegExp(`^def ${name}\\(`, 'm'));
  expect(points).toContain(`iam:${localstack.environment.PROVIDER_OVERRIDE_IAM} = `);
});

test('it listens on loopback alone, and its image is a version that the page names', () => {
  expect(localstack.ports).toEqual(['127.0.0.1:4566:4566']);
  const [, version = ''] = /:-([\d.]+)\}$/.exec(localstack.image) ?? [];
  expect(readFileSync(join(folder, '../docs/localstack.md'), 'utf8')).toContain(version);
});
