import { writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differences } from './compare.ts';
import { collectionPath, namespace, type Sample, samples } from './corpus.ts';
import { knownDifferences } from './known-differences.ts';
import { metadataMutations, mutationsOf } from './mutations.ts';
import { missingPeers } from './peer.ts';
import { type Case, Sides } from './sides.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing && !process.env['KUMULUS_PEER_ANSWERS']) console.warn(`skipped, the comparison with upstream's API server: ${missing}`);

/** The same creations and updates on both servers, good and bad: their answers must be the same, but for what is chance. */
describe.skipIf(missing && !process.env['KUMULUS_PEER_ANSWERS'])('writes answer as upstream', () => {
  let sides: Sides;
  const report: Record<string, { cases: number; different: number }> = {};
  const details: string[] = [];

  beforeAll(async () => {
    sides = await Sides.start();
    await sides.both({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name: namespace } } });
    for (const name of ['default'])
      await sides.both({ method: 'POST', path: `/api/v1/namespaces/${namespace}/serviceaccounts`, body: { metadata: { name } } });
  });
  afterAll(async () => {
    await sides?.stop();
    const total = Object.values(report).reduce((n, r) => n + r.cases, 0);
    const different = Object.values(report).reduce((n, r) => n + r.different, 0);
    const file = process.env['KUMULUS_INTEROP_REPORT'];
    if (file) writeFileSync(file, `${details.join('\n')}\n${JSON.stringify(report, null, 1)}\n`);
    console.log(`${total} writes compared, ${different} answered differently`);
  });

  const only = process.env['KUMULUS_INTEROP_ONLY'];
  const chosen = samples().filter((s) => !only || new RegExp(only).test(s.title));

  test.each(chosen.map((s) => [s.title, s] as const))('%s', async (title, sample) => {
    const results = [...(await sides.compare(creations(sample))), ...(await updates(sides, sample))];
    const different = results.map((r) => ({ id: r.id, found: differences(r.ours, r.theirs) })).filter((r) => r.found.length);
    report[title] = { cases: results.length, different: different.length };
    for (const d of different) details.push(`${d.id}\n    ${d.found.join('\n    ')}`);
    const texts = different.slice(0, 20).map((d) => `${d.id}\n    ${d.found.join('\n    ')}`);
    const allowed = knownDifferences[title] ?? 0;
    if (different.length > allowed) expect.fail(`${different.length} of ${results.length} answers differ, ${allowed} are known:\n${texts.join('\n')}`);
  }, 300_000);
});

function creations({ title, resource, object }: Sample): Case[] {
  const path = collectionPath(resource);
  const post = (label: string, body: unknown, query = ''): Case => ({
    id: `${title}: create ${label}`,
    exchange: { method: 'POST', path: `${path}?dryRun=All${query}`, body },
  });
  const unknown = { ...object, nobodyKnows: 1, metadata: { ...object.metadata, nobodyKnows: 2 } };
  const twice = JSON.stringify(object).replace('"metadata":{', '"metadata":{"name":"first",');
  return [
    post('as it is', object),
    ...['Strict', 'Warn', 'Ignore', 'Bogus'].map((v) => post(`unknown fields ${v}`, unknown, `&fieldValidation=${v}`)),
    ...['Strict', 'Warn', 'Ignore'].map((v) => post(`duplicate fields ${v}`, twice, `&fieldValidation=${v}`)),
    post('of another kind', { ...object, kind: 'Bogus' }),
    post('of another version', { ...object, apiVersion: 'example.com/v1' }),
    post('without kind', { ...object, kind: undefined }),
    post('without apiVersion', { ...object, apiVersion: undefined }),
    post('without both', { ...object, kind: undefined, apiVersion: undefined }),
    ...metadataMutations(object).map((m) => post(m.label, m.object)),
    ...mutationsOf(object, resource.definition, resource.kind).map((m) => post(m.label, m.object)),
  ];
}

async function updates(sides: Sides, { title, resource, object }: Sample) {
  const collection = collectionPath(resource);
  const path = `${collection}/${object.metadata.name}`;
  await sides.both({ method: 'POST', path: collection, body: object });
  const versioned = (o: any) => ({ ...o, metadata: { ...o.metadata, resourceVersion: '$RV' } });
  const put = (label: string, body: any, query = ''): Case => ({
    id: `${title}: update ${label}`,
    exchange: { method: 'PUT', path: `${path}?dryRun=All${query}`, body: versioned(body) },
    of: path,
  });
  const patch = (type: string, label: string, body: unknown, query = ''): Case => ({
    id: `${title}: ${type} ${label}`,
    exchange: { method: 'PATCH', path: `${path}?dryRun=All${query}`, body, headers: { 'content-type': `application/${type}-patch+json` } },
  });
  const results = await sides.compare([
    put('as it is', object),
    { id: `${title}: update without version`, exchange: { method: 'PUT', path: `${path}?dryRun=All`, body: object } },
    put('of another name', { ...object, metadata: { ...object.metadata, name: 'another' } }),
    put('unknown fields', { ...object, nobodyKnows: 1 }, '&fieldValidation=Strict'),
    ...mutationsOf(object, resource.definition, resource.kind).map((m) => put(m.label, m.object)),
    patch('merge', 'label', { metadata: { labels: { new: 'label' } } }),
    patch('merge', 'bad label', { metadata: { labels: { new: 'bad label' } } }),
    patch('merge', 'unknown', { nobodyKnows: 1 }, '&fieldValidation=Strict'),
    patch('merge', 'unknown warn', { nobodyKnows: 1 }),
    patch('merge', 'list', []),
    patch('merge', 'kind', { kind: 'Bogus' }),
    patch('merge', 'uid', { metadata: { uid: 'x' } }),
    patch('merge', 'name', { metadata: { name: 'x' } }),
    patch('merge', 'version', { metadata: { resourceVersion: '1' } }),
    patch('strategic-merge', 'label', { metadata: { labels: { new: 'label' } } }),
    patch('strategic-merge', 'spec', { spec: null }),
    patch('strategic-merge', 'wrong type', { metadata: { labels: 'x' } }),
    patch('json', 'label', [{ op: 'add', path: '/metadata/annotations', value: { a: 'b' } }]),
    patch('json', 'missing path', [{ op: 'replace', path: '/spec/not/there', value: 1 }]),
    patch('json', 'remove missing', [{ op: 'remove', path: '/nobody' }]),
    patch('json', 'test fails', [{ op: 'test', path: '/metadata/name', value: 'no' }]),
    patch('json', 'bad operation', [{ op: 'bogus', path: '/metadata/name' }]),
    patch('json', 'no list', { op: 'add' }),
    patch('bogus', 'type', {}),
    { id: `${title}: get`, exchange: { method: 'GET', path } },
    { id: `${title}: delete for show`, exchange: { method: 'DELETE', path: `${path}?dryRun=All` } },
    {
      id: `${title}: delete with another uid`,
      exchange: { method: 'DELETE', path, body: { kind: 'DeleteOptions', apiVersion: 'v1', preconditions: { uid: 'x' } } },
    },
    { id: `${title}: delete with a bad policy`, exchange: { method: 'DELETE', path: `${path}?propagationPolicy=Bogus` } },
  ]);
  results.push(
    ...(await sides.compare([
      { id: `${title}: delete`, exchange: { method: 'DELETE', path } },
    ])),
    ...(await sides.compare([{ id: `${title}: get what is gone`, exchange: { method: 'GET', path } }])),
  );
  await sides.both({ method: 'PATCH', path, body: { metadata: { finalizers: null } }, headers: { 'content-type': 'application/merge-patch+json' } });
  await sides.both({ method: 'DELETE', path: `${path}?gracePeriodSeconds=0` });
  return results;
}
