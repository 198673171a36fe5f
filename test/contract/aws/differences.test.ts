import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { checks } from './contract.ts';
import { differences } from './differences.ts';

test('the table in the documentation is that of the tests, and names checks that there are', () => {
  const text = readFileSync(join(import.meta.dirname, '../../../docs/aws-differences.md'), 'utf8');
  const rows = text
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .slice(1);
  const wanted = checks.map(({ name }) => {
    const of = differences[name] ?? {};
    return `| ${name} | ${of.embedded ?? 'yes'} | ${of.localstack ?? 'yes'} | ${of.moto ?? 'yes'} |`;
  });
  expect(rows).toEqual(wanted);
  expect(Object.keys(differences).filter((name) => !checks.some((check) => check.name === name))).toEqual([]);
});
