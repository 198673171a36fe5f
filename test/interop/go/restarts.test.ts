import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../../../src/api/generated/resources.ts';
import type { Client } from '../../../src/client/client.ts';
import { ApiServers } from '../../faults/api-servers.ts';
import { type Line, Program } from './program.ts';
import { check, outOfOrder, Writer } from './writer.ts';

const go = await promisify(execFile)('go', ['version']).then(
  () => undefined,
  () => 'no go command',
);
if (go) console.warn(`skipped, client-go and controller-runtime across restarts: ${go}`);

const namespace = 'default';
const rounds = Number(process.env['KUMULUS_FAULT_ROUNDS'] ?? 2);
const shelves = { group: 'library.example.com', version: 'v1', resource: 'shelves', kind: 'Shelf', namespaced: true } as const;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

const crd = {
  apiVersion: 'apiextensions.k8s.io/v1',
  kind: 'CustomResourceDefinition',
  metadata: { name: 'shelves.library.example.com' },
  spec: {
    group: shelves.group,
    scope: 'Namespaced',
    names: { kind: 'Shelf', plural: 'shelves', singular: 'shelf' },
    versions: [
      {
        name: 'v1',
        served: true,
        storage: true,
        subresources: { status: {} },
        schema: {
          openAPIV3Schema: {
            type: 'object',
            properties: {
              spec: { type: 'object', properties: { n: { type: 'string' } } },
              status: { type: 'object', properties: { n: { type: 'string' } } },
            },
          },
        },
      },
    ],
  },
};

describe.skipIf(go)('Go clients across restarts of the API server on the embedded store', { timeout: 240_000 + rounds * 90_000 }, () => {
  const servers = new ApiServers();
  const bin = mkdtempSync(join(tmpdir(), 'kumulus-interop-go-'));
  const programs: Program[] = [];
  let client: Client;

  beforeAll(async () => {
    // At low priority: a first build compiles all of client-go, for minutes.
    const env = { ...process.env, CGO_ENABLED: '0', GOFLAGS: '-mod=mod -buildvcs=false' };
    const build = promisify(execFile)('nice', ['-n', '10', 'go', 'build', '-o', `${bin}/`, './informers', './reconciler'], { cwd: import.meta.dirname, env });
    await Promise.all([build, servers.start(0)]);
    client = servers.client(0);
    await client.create(resources.customresourcedefinitions, crd as never);
  }, 900_000);
  afterAll(async () => {
    await Promise.all(programs.map((p) => p.end('SIGKILL')));
    await servers.stop();
    rmSync(bin, { recursive: true, force: true });
  });

  const start = (name: string, ...args: string[]) => {
    const program = new Program(join(bin, name), [join(servers.folder, 'kubeconfig'), namespace, ...args]);
    programs.push(program);
    return program;
  };
  /**
   * Restarts while writers write, in turn by SIGTERM and by SIGKILL, each when the programs' watches are there again. Reflectors
   * list again, by design, after a watch of less than a second that brought nothing: these last longer.
   */
  const restarts = async (watches: number, ...watching: Program[]) => {
    for (let round = 0; round < rounds; round++) {
      await pause(1200 + Math.random() * 500);
      const before = watching.map((program) => program.lines.length);
      await servers.kill(0, round % 2 ? 'SIGKILL' : 'SIGTERM');
      await servers.start(0);
      for (const [i, program] of watching.entries()) {
        const resumed = new Set<string>();
        await program.until(`watches after restart ${round + 1}`, (l) => {
          if (program.lines.indexOf(l) >= (before[i] as number) && l.what === 'request' && l.status === 200) resumed.add(l.kind as string);
          return resumed.size === watches;
        });
      }
    }
    await pause(500);
  };
  const requests = (lines: Line[], verb: string) => lines.filter((l) => l.what === 'request' && l.verb === verb && l.status === 200);

  test(`informers of client-go see every event once and in order across ${rounds} restarts, and list once`, async () => {
    const informers = start('informers');
    await informers.until('synced', (l) => l.what === 'synced');
    const writers = [resources.configmaps, resources.secrets, resources.services].map((type) => new Writer(client, type, namespace));
    for (const writer of writers) writer.start();
    await restarts(3, informers);
    await Promise.all(writers.map((writer) => writer.finish()));
    let told = 0;
    for (const writer of writers) {
      await informers.until(`the last ${writer.kind}`, (l) => l.kind === writer.kind && l.name === writer.last);
      const events = informers.lines.filter((l) => l.kind === writer.kind && l.name?.startsWith(writer.prefix));
      expect(check(writer.changes, events)).toEqual([]);
      told += events.length;
    }
    console.log(`client-go: ${told} events of ${writers.reduce((sum, w) => sum + w.changes.length, 0)} changes over ${rounds} restarts, ${requests(informers.lines, 'watch').length} watches resumed`);
    // One list by watch per kind, at the start; afterwards every watch goes on where it was.
    expect(requests(informers.lines, 'watchlist')).toHaveLength(3);
    expect(requests(informers.lines, 'list')).toEqual([]);
    expect(requests(informers.lines, 'watch').length).toBeGreaterThanOrEqual(3 * rounds);
    const types = new Set(informers.lines.filter((l) => l.what === 'request' && l.status === 200).map((l) => l.type));
    expect([...types]).toEqual(['application/vnd.kubernetes.protobuf;stream=watch']);
    expect(await informers.end('SIGTERM')).toBe(0);
  });

  test(`a reconciler of controller-runtime, of two replicas, across ${rounds} restarts`, async () => {
    const first = start('reconciler', 'first');
    await first.until('elected', (l) => l.what === 'elected');
    const second = start('reconciler', 'second');
    await second.until('synced', (l) => l.what === 'synced');
    const writer = new Writer(client, shelves, namespace);
    writer.start(100);
    await restarts(2, first, second);
    expect(second.lines.some((l) => l.what === 'elected')).toBe(false);
    // The leader goes, and its lease is the other's at once.
    expect(await first.end('SIGTERM')).toBe(0);
    await second.until('elected', (l) => l.what === 'elected');
    await pause(500);
    await writer.finish();
    const rest = writer.live;
    expect(rest.size).toBeGreaterThan(0);
    const settled = async () => {
      const list = async (type: any) => (await client.list<any>(type, { namespace })).items.filter((o: any) => o.metadata.name.startsWith(writer.prefix));
      const [there, books] = [await list(shelves), await list(resources.configmaps)];
      const wrong: string[] = [];
      if (there.length !== rest.size) wrong.push(`${there.length} shelves of ${rest.size}`);
      // One that was made of an old copy after its shelf had gone is the garbage collector's, which is not at work here.
      for (const { metadata } of books) if (!rest.has(metadata.name) && !metadata.ownerReferences?.length) wrong.push(`${metadata.name} left without an owner`);
      for (const shelf of there) {
        const n = rest.get(shelf.metadata.name);
        const book = books.find((b: any) => b.metadata.name === shelf.metadata.name);
        if (shelf.spec.n !== n || shelf.status?.n !== n || book?.data?.n !== n) wrong.push(`${shelf.metadata.name}: ${shelf.status?.n} and ${book?.data?.n}, not ${n}`);
        if (book && book.metadata.ownerReferences?.[0]?.uid !== shelf.metadata.uid) wrong.push(`${shelf.metadata.name} owned by another`);
      }
      return wrong;
    };
    await second.until('the last Shelf', (l) => l.kind === 'Shelf' && l.name === writer.last);
    let wrong = await settled();
    for (let i = 0; wrong.length && i < 120; i++) {
      await pause(500);
      wrong = await settled();
    }
    expect(wrong.slice(0, 10)).toEqual([]);
    // Both replicas saw the same, in order, and all that was written.
    for (const kind of ['Shelf', 'ConfigMap']) {
      const [a, b] = [first, second].map((p) => p.lines.filter((l) => l.kind === kind && l.name?.startsWith(writer.prefix))) as [Line[], Line[]];
      for (const events of [a, b]) expect(outOfOrder(events)).toEqual([]);
      const text = (l: Line) => `${l.what} ${l.name} ${l.rv}`;
      expect(a.length).toBeGreaterThan(0);
      expect(b.slice(0, a.length).map(text)).toEqual(a.map(text));
    }
    const seen = new Map(second.lines.filter((l) => l.kind === 'Shelf').map((l) => [l.rv, l.n]));
    expect(writer.changes.filter((c) => c.rv && seen.get(c.rv) !== c.n)).toEqual([]);
    for (const program of [first, second]) expect(requests(program.lines, 'list')).toEqual([]);
    expect(requests(second.lines, 'watchlist')).toHaveLength(2);
    console.log(`controller-runtime: ${writer.changes.length} changes of ${writer.kind}, ${second.lines.filter((l) => l.rv).length} events over ${rounds} restarts`);
  });
});
