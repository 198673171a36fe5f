import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requestOverHttp2, startTestServer, type TestAnswer, type TestRequest, type TestServer } from './testing.ts';

let server: TestServer;
const namespace = '/api/v1/namespaces/default';
const configMaps = `${namespace}/configmaps`;
const send = (o: TestRequest): Promise<TestAnswer> => requestOverHttp2(server, { user: server.admin, ...o });
const list = async (query: string) => send({ path: `${configMaps}?${query}` });
const make = async (name: string, data: object = {}) =>
  (
    await send({
      method: 'POST',
      path: configMaps,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ metadata: { name, labels: { of: 'reading' } }, data }),
    })
  ).json;
const events = (answer: TestAnswer) =>
  answer.body
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line));
const names = (answer: TestAnswer) => answer.json.items.map((i: any) => i.metadata.name);

beforeAll(async () => {
  server = await startTestServer();
  for (const name of ['a', 'b', 'c', 'd']) await make(name);
});
afterAll(async () => server?.stop());

describe('pages', () => {
  test('show one revision from the first to the last, and say how much is left', async () => {
    const first = await list('limit=2');
    expect(names(first)).toEqual(['a', 'b']);
    expect(first.json.metadata.remainingItemCount).toBe(2);
    await make('bb');
    await send({ method: 'DELETE', path: `${configMaps}/d` });
    const next = await list(`limit=2&continue=${first.json.metadata.continue}`);
    expect(names(next)).toEqual(['c', 'd']);
    expect(next.json.metadata).toEqual({ resourceVersion: first.json.metadata.resourceVersion });
    await make('d');
  });

  test('with a selector do not say how much is left, nor promise what is not there', async () => {
    const some = await list('limit=1&labelSelector=of%3Dreading');
    expect(some.json.metadata.continue).toBeTruthy();
    expect(some.json.metadata.remainingItemCount).toBeUndefined();
    expect((await list('limit=1&fieldSelector=metadata.name%3Da')).json.metadata.continue).toBeUndefined();
  });

  test('go on inconsistently where their revision is compacted', async () => {
    const first = await list('limit=2');
    await make('e');
    await server.store.compact(server.store.revision());
    const expired = await list(`limit=2&continue=${first.json.metadata.continue}`);
    expect(expired.status).toBe(410);
    expect(expired.json).toMatchObject({ reason: 'Expired', code: 410 });
    const rest = await list(`limit=10&continue=${expired.json.metadata.continue}`);
    expect(rest.status).toBe(200);
    expect(names(rest)).toContain('e');
    expect(names(rest)).not.toContain('a');
  });
});

describe('revisions', () => {
  test('exactly, at least, and any', async () => {
    const before = (await list('')).json.metadata.resourceVersion as string;
    await make('later');
    expect(names(await list(`resourceVersion=${before}&resourceVersionMatch=Exact`))).not.toContain('later');
    expect(names(await list(`resourceVersion=${before}&resourceVersionMatch=NotOlderThan`))).toContain('later');
    expect((await list('resourceVersion=0')).status).toBe(200);
    expect((await list('resourceVersion=1&resourceVersionMatch=Exact')).status).toBe(410);
  });
});

describe('watches', () => {
  test('may begin in the future and then hear nothing of the present', async () => {
    const answer = await list('watch=true&resourceVersion=99999999&timeoutSeconds=1');
    expect(answer.status).toBe(200);
    expect(events(answer)).toEqual([]);
  });

  test('from a revision that is gone end with an event', async () => {
    await make('compacted');
    await server.store.compact(server.store.revision());
    // A server that starts now has no history of its own.
    const other = await startTestServer({ store: server.store });
    try {
      const answer = await requestOverHttp2(other, { user: other.admin, path: `${configMaps}?watch=true&resourceVersion=1&timeoutSeconds=1` });
      expect(answer.status).toBe(200);
      expect(events(answer)).toMatchObject([{ type: 'ERROR', object: { kind: 'Status', reason: 'Expired', code: 410 } }]);
    } finally {
      await other.stop();
    }
  });

  const initial = 'watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1';

  test('stream what there is, then say so', async () => {
    const heard = events(await list(initial));
    const last = heard.at(-1);
    expect(heard.slice(0, 2).map((e) => `${e.type} ${e.object.metadata.name}`)).toEqual(['ADDED a', 'ADDED b']);
    expect(last).toEqual({
      type: 'BOOKMARK',
      object: {
        kind: 'ConfigMap',
        apiVersion: 'v1',
        metadata: { resourceVersion: last.object.metadata.resourceVersion, annotations: { 'k8s.io/initial-events-end': 'true' } },
      },
    });
  });

  test.each(['Table', 'PartialObjectMetadata'])('as %s', async (kind) => {
    const accept = `application/json;as=${kind};g=meta.k8s.io;v=v1`;
    const heard = events(await send({ path: `${configMaps}?${initial}`, headers: { accept } }));
    expect(heard[0]).toMatchObject({ type: 'ADDED', object: { kind, apiVersion: 'meta.k8s.io/v1' } });
    expect(heard.at(-1)).toMatchObject({ type: 'BOOKMARK', object: { kind } });
    if (kind !== 'Table') return;
    // The columns are said once.
    expect(heard[0].object.columnDefinitions.length).toBeGreaterThan(1);
    expect(heard[1].object.columnDefinitions ?? []).toEqual([]);
    expect(heard.at(-1).object.rows[0].object.metadata.annotations).toEqual({ 'k8s.io/initial-events-end': 'true' });
  });

  test('with a selector tell what comes to match and what ceases to', async () => {
    const before = (await list('')).json.metadata.resourceVersion as string;
    const label = (value: string) =>
      send({
        method: 'PATCH',
        path: `${configMaps}/a`,
        headers: { 'content-type': 'application/merge-patch+json' },
        body: JSON.stringify({ metadata: { labels: { shown: value } } }),
      });
    for (const value of ['yes', 'yes', 'no', 'yes']) await label(value);
    await send({ method: 'DELETE', path: `${configMaps}/a` });
    const heard = events(await list(`watch=true&resourceVersion=${before}&labelSelector=shown%3Dyes&timeoutSeconds=1`));
    expect(heard.map((e) => e.type)).toEqual(['ADDED', 'DELETED', 'ADDED', 'DELETED']);
    const revisions = heard.map((e) => Number(e.object.metadata.resourceVersion));
    expect(revisions).toEqual([...revisions].sort((a, b) => a - b));
  });
});
