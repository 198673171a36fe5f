/**
 * Writes src/api/generated/openapi-facts.ts: the values that fields are limited to, and the unions, as kube-apiserver 1.37 publishes
 * them in its OpenAPI document. Facts only: none of its sentences.
 *
 *   node scripts/generate-openapi-facts.ts FILE   FILE: what a kube-apiserver of the release answers to /openapi/v2
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';

const [file] = process.argv.slice(2);
if (!file) throw new Error('usage: node scripts/generate-openapi-facts.ts FILE');
const { definitions } = JSON.parse(readFileSync(file, 'utf8'));

const enums: Record<string, number> = {};
const lists: string[] = [];
const unions: Record<string, unknown> = {};
for (const [name, definition] of Object.entries<any>(definitions)) {
  if (definition['x-kubernetes-unions']) unions[name] = definition['x-kubernetes-unions'];
  for (const [field, schema] of Object.entries<any>(definition.properties ?? {})) {
    const values = schema.enum ?? schema.items?.enum ?? schema.additionalProperties?.enum;
    if (!values) continue;
    const list = JSON.stringify(values);
    if (!lists.includes(list)) lists.push(list);
    enums[`${name}.${field}`] = lists.indexOf(list);
  }
}

const lines = [
  '// Made by scripts/generate-openapi-facts.ts from the OpenAPI document of kube-apiserver 1.37.',
  '',
  '/** Lists of the values that a field may have. */',
  'export const enumLists: string[][] = [',
  ...lists.map((list) => `  ${list},`),
  '];',
  '',
  '/** Which of the lists is that of a field, by DEFINITION.FIELD; of the items, where the field is a list or a map. */',
  'export const enumOfField: Record<string, number> = {',
  ...Object.entries(enums).map(([name, index]) => `  ${JSON.stringify(name)}: ${index},`),
  '};',
  '',
  '/** x-kubernetes-unions, by definition. */',
  'export const unionsOf: Record<string, unknown[]> = {',
  ...Object.entries(unions).map(([name, value]) => `  ${JSON.stringify(name)}: ${JSON.stringify(value)},`),
  '};',
  '',
  '/** GROUP/VERSION of all that DeleteOptions and WatchEvent are kinds of. */',
  'export const groupVersionsOfOptions: string[] = [',
  ...definitions['io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions']['x-kubernetes-group-version-kind'].map(
    ({ group, version }: { group: string; version: string }) => `  ${JSON.stringify(`${group}/${version}`)},`,
  ),
  '];',
];
writeFileSync(resolve(import.meta.dirname, '../src/api/generated/openapi-facts.ts'), `${lines.join('\n')}\n`);
