import { mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Duplex } from 'node:stream';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { isConflict, isForbidden, isGone, isNotFound, StatusError } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { ConfigMap } from '../api/generated/types.ts';
import { startTestServer, type TestServer } from '../apiserver/testing.ts';
import type { Client, WatchEvent } from './client.ts';
import { systemClock } from './clock.ts';
import type { ClientConfig } from './config.ts';
import { createHttpClient } from './http.ts';
import { openMemoryStore } from '../store/memory.ts';
import { createInformerFactory } from './informers.ts';
import { loadKubeconfig } from './kubeconfig.ts';

const maps = resources.configmaps;
const namespace = 'default';
const key = (name: string) => ({ namespace, name });

describe('HTTP client against the API server', () => {
  let server: TestServer;
  let client: Client;
  const clients: Client[] = [];
  const connectAs = (more: Partial<ClientConfig> = {}): Client => {
    const made = createHttpClient({ server: server.address, ca: server.ca, ...server.admin, ...more });
    clients.push(made);
    return made;
  };
  beforeAll(async () => {
    server = await startTestServer();
  });
  afterAll(() => server?.stop());
  beforeEach(() => {
    client = connectAs();
  });
  afterEach(async () => {
    await client.deleteCollection(maps, { namespace, labelSelector: 'test' });
    for (const one of clients.splice(0)) one.close();
  });
  const make = (name: string, data: Record<string, string> = {}, labels: Record<string, string> = {}) =>
    client.create(maps, { metadata: { name, namespace, labels: { test: 'yes', ...labels } }, data });

  it('creates, reads, changes and deletes', async () => {
    const made = await make('one', { a: 'ü' });
    expect(made).toMatchObject({ apiVersion: 'v1', kind: 'ConfigMap', data: { a: 'ü' } });
    expect(Object.isFrozen(made.metadata)).toBe(true);
    expect(await client.get(maps, key('one'))).toEqual(made);
    const updated = await client.update(maps, { ...made, data: { a: 'b' } });
    await expect(client.update(maps, { ...made, data: { a: 'c' } })).rejects.toSatisfy(isConflict);
    const merged = await client.patch(maps, key('one'), 'merge', { data: { c: 'd' } });
    expect(merged.data).toEqual({ a: 'b', c: 'd' });
    expect((await client.patch(maps, key('one'), 'json', [{ op: 'remove', path: '/data/a' }])).data).toEqual({ c: 'd' });
    expect((await client.patch(maps, key('one'), 'strategic', { data: { c: null, e: 'f' } })).data).toEqual({ e: 'f' });
    expect(updated.metadata.uid).toBe(made.metadata.uid);
    const precondition = { preconditions: { uid: 'another' } };
    await expect(client.delete(maps, key('one'), precondition)).rejects.toSatisfy(isConflict);
    expect(await client.delete(maps, key('one'))).toMatchObject({ kind: 'Status', status: 'Success' });
    await expect(client.get(maps, key('one'))).rejects.toSatisfy(isNotFound);
  });

  it('changes nothing in a dry run', async () => {
    await client.create(maps, { metadata: { name: 'dry', namespace } }, { dryRun: true });
    await expect(client.get(maps, key('dry'))).rejects.toSatisfy(isNotFound);
  });

  it('gives errors as the server says them', async () => {
    const error = await client.get(maps, key('missing')).catch((e) => e);
    expect(error).toBeInstanceOf(StatusError);
    expect(error).toMatchObject({
      code: 404,
      reason: 'NotFound',
      message: 'configmaps "missing" not found',
      status: { details: { name: 'missing' } },
    });
    await expect(client.create(maps, { metadata: { name: 'Not Valid', namespace } })).rejects.toMatchObject({ code: 422, reason: 'Invalid' });
    const nobody = connectAs({ cert: undefined, key: undefined } as never);
    await expect(nobody.list(maps)).rejects.toSatisfy(isForbidden);
    const wrong = connectAs({ cert: undefined, key: undefined, token: 'wrong' } as never);
    await expect(wrong.list(maps)).rejects.toMatchObject({ code: 401, reason: 'Unauthorized' });
  });

  it('lists by selectors and in pages, with kinds', async () => {
    for (const name of ['a', 'b', 'c']) await make(name, {}, { odd: name === 'b' ? 'no' : 'yes' });
    const odd = await client.list(maps, { namespace, labelSelector: 'odd=yes' });
    expect(odd.items.map((m) => [m.apiVersion, m.kind, m.metadata.name])).toEqual([
      ['v1', 'ConfigMap', 'a'],
      ['v1', 'ConfigMap', 'c'],
    ]);
    expect((await client.list(maps, { fieldSelector: 'metadata.name=b' })).items).toHaveLength(1);
    const first = await client.list(maps, { namespace, labelSelector: 'test', limit: 2 });
    expect(first.items).toHaveLength(2);
    const rest = await client.list(maps, { namespace, labelSelector: 'test', limit: 2, continue: first.metadata.continue! });
    expect(rest.items.map((m) => m.metadata.name)).toEqual(['c']);
    expect(rest.metadata.continue).toBeFalsy();
  });

  it('reaches other paths, and says what they answer', async () => {
    const version = await client.raw({ method: 'GET', path: '/version' });
    expect(version.status).toBe(200);
    expect(JSON.parse(await version.text()).major).toBe('1');
    const missing = await client.raw({ method: 'GET', path: '/nowhere' });
    expect(missing.status).toBe(404);
    let bytes = 0;
    for await (const chunk of (await client.raw({ method: 'GET', path: '/healthz' })).body) bytes += chunk.length;
    expect(bytes).toBe(2);
  });

  it('calls subresources', async () => {
    const account = await client.createSubresource<{ status: { token: string } }>(
      resources.serviceaccounts,
      key((await client.create(resources.serviceaccounts, { metadata: { name: 'robot', namespace } })).metadata.name),
      'token',
      { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: [], expirationSeconds: 600 } },
    );
    const robot = connectAs({ cert: undefined, key: undefined, token: account.status.token } as never);
    await expect(robot.list(maps)).rejects.toThrow('User "system:serviceaccount:default:robot" cannot list resource "configmaps"');
  });

  describe('watch', () => {
    const collect = (events: AsyncIterable<WatchEvent<ConfigMap>>, heard: string[]) =>
      (async () => {
        for await (const e of events) heard.push(e.type === 'ERROR' ? `ERROR ${e.object.code}` : `${e.type} ${e.object.metadata.name}`);
      })();

    it('tells what happens from a version on, until it is aborted', async () => {
      const { metadata } = await client.list(maps, { namespace });
      await make('early');
      const stop = new AbortController();
      const heard: string[] = [];
      const done = collect(client.watch(maps, { namespace, resourceVersion: metadata.resourceVersion, signal: stop.signal }), heard);
      await vi.waitFor(() => expect(heard).toEqual(['ADDED early']));
      await client.patch(maps, key('early'), 'merge', { data: { x: 'y'.repeat(200_000) } });
      await client.delete(maps, key('early'));
      await vi.waitFor(() => expect(heard).toEqual(['ADDED early', 'MODIFIED early', 'DELETED early']));
      stop.abort(new Error('enough'));
      await expect(done).rejects.toThrow('enough');
    });

    it('ends by the time asked for', async () => {
      const heard: string[] = [];
      await collect(client.watch(maps, { namespace, timeoutSeconds: 1 }), heard);
    });

    it('stops when nobody reads on', async () => {
      await make('one');
      for await (const event of client.watch(maps, { namespace, sendInitialEvents: true, allowWatchBookmarks: true })) {
        expect(event.type).toBe('ADDED');
        break;
      }
      expect((await client.list(maps, { namespace })).items.length).toBeGreaterThan(0);
    });

    it('many share the connection with requests', async () => {
      let connections = 0;
      const one = connectAs({
        dial: () => {
          connections++;
          return connect(server.port, '127.0.0.1');
        },
      });
      const stop = new AbortController();
      const heard: string[] = [];
      const { metadata } = await one.list(maps, { namespace });
      const watches = Array.from({ length: 150 }, () =>
        collect(one.watch(maps, { namespace, resourceVersion: metadata.resourceVersion, signal: stop.signal }), heard).catch(() => {}),
      );
      await one.create(maps, { metadata: { name: 'shared', namespace, labels: { test: 'yes' } } });
      await vi.waitFor(() => expect(heard).toHaveLength(150), { timeout: 10_000 });
      stop.abort();
      await Promise.all(watches);
      expect(connections).toBe(1);
    });
  });

  describe('when the connection breaks', () => {
    /** Sockets that the test can break. */
    const breakable = () => {
      const sockets = new Set<Duplex>();
      let refuse = false;
      return {
        dial: () => {
          if (refuse) throw new Error('no way there');
          const socket = connect(server.port, '127.0.0.1');
          sockets.add(socket);
          return socket;
        },
        get count() {
          return sockets.size;
        },
        set refuse(value: boolean) {
          refuse = value;
        },
        breakAll: () => sockets.forEach((s) => s.destroy()),
      };
    };

    it('what is under way fails with an ordinary error, and the next request connects anew', async () => {
      const way = breakable();
      const one = connectAs({ dial: way.dial });
      await one.list(maps);
      const watching = (async () => {
        for await (const _ of one.watch(maps, { namespace })) way.breakAll();
      })();
      await make('wakes');
      const outcome = await watching.then(
        () => 'ended',
        (error) => error,
      );
      if (outcome !== 'ended') expect(outcome).not.toBeInstanceOf(StatusError);
      expect((await one.list(maps, { namespace })).items.length).toBeGreaterThan(0);
      expect(way.count).toBe(2);
    });

    it('what cannot connect says where to and why', async () => {
      const way = breakable();
      way.refuse = true;
      await expect(connectAs({ dial: way.dial }).list(maps)).rejects.toThrow(`connect to 127.0.0.1:${server.port}: no way there`);
      await expect(connectAs({ server: 'https://127.0.0.1:1' }).list(maps)).rejects.toThrow(/connect to 127.0.0.1:1: .*ECONNREFUSED/);
      await expect(connectAs({ ca: undefined } as never).list(maps)).rejects.toThrow(/self.signed|unable to verify|unable to get/);
      await expect(connectAs({ serverName: 'other.example' }).list(maps)).rejects.toThrow(/altnames|Hostname/);
      expect((await connectAs({ ca: undefined, insecureSkipTlsVerify: true } as never).list(maps)).kind).toBe('ConfigMapList');
      expect((await connectAs({ serverName: 'kubernetes' }).list(maps)).kind).toBe('ConfigMapList');
    });

    it('informers go on where they were', async () => {
      const way = breakable();
      const one = connectAs({ dial: way.dial });
      const stop = new AbortController();
      const informers = createInformerFactory(one, { log: pino({ level: 'silent' }), clock: systemClock, signal: stop.signal });
      const informer = informers.informer(maps, { namespace });
      const heard: string[] = [];
      informer.addHandlers({
        onAdd: (m) => m.metadata.labels?.['test'] && heard.push(`add ${m.metadata.name}`),
        onDelete: (m) => heard.push(`delete ${m.metadata.name}`),
      });
      await informer.synced();
      await make('first');
      await vi.waitFor(() => expect(heard).toEqual(['add first']));
      way.refuse = true;
      way.breakAll();
      await client.delete(maps, key('first'));
      await make('second');
      way.refuse = false;
      await vi.waitFor(() => expect(heard).toEqual(['add first', 'delete first', 'add second']), { timeout: 10_000 });
      stop.abort();
    });

    it('requests wait for no connection that cannot come about when they are aborted', async () => {
      const never = connectAs({ dial: () => new Promise<Duplex>(() => {}) });
      await expect(never.list(maps, { signal: AbortSignal.timeout(20) })).rejects.toThrow(/timeout/);
      await expect(never.list(maps, { signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow('before');
    });

    it('a closed client refuses', async () => {
      const one = connectAs();
      await one.list(maps);
      one.close();
      await expect(one.list(maps)).rejects.toThrow('the client is closed');
    });
  });

  it('answers 410 for versions that are no more, and informers list anew', async () => {
    const store = openMemoryStore();
    const first = await startTestServer({ store });
    let second: TestServer | undefined;
    let there: TestServer | undefined = first;
    const sockets: Duplex[] = [];
    const stop = new AbortController();
    // One client for both servers, as if one had started again.
    const one = createHttpClient({
      server: 'https://kubernetes',
      insecureSkipTlsVerify: true,
      credentials: () => (there ?? first).admin,
      dial: () => {
        if (!there) throw new Error('no way there');
        const socket = connect(there.port, '127.0.0.1');
        sockets.push(socket);
        return socket;
      },
    });
    try {
      const { metadata } = await one.list(maps, { namespace });
      const informer = createInformerFactory(one, { log: pino({ level: 'silent' }), clock: systemClock, signal: stop.signal }).informer(maps, {
        namespace,
      });
      const heard: string[] = [];
      informer.addHandlers({ onDelete: (m) => heard.push(m.metadata.name) });
      await one.create(maps, { metadata: { name: 'old', namespace } });
      await informer.synced();
      await vi.waitFor(() => expect(informer.get('default/old')).toBeDefined());
      there = undefined;
      for (const socket of sockets) socket.destroy();
      const local = first.localClient({ name: 'admin', groups: ['system:masters'] });
      await local.delete(maps, key('old'));
      for (let i = 0; i < 3; i++) await local.create(maps, { metadata: { name: `m-${i}`, namespace } });
      await first.stop();
      // A server that starts again answers from the store's history as far as that goes.
      await store.compact(store.revision());
      second = await startTestServer({ store });
      there = second;
      const watching = (async () => {
        for await (const event of one.watch(maps, { namespace, resourceVersion: metadata.resourceVersion }))
          return event.type === 'ERROR' ? StatusError.fromStatus(event.object) : event;
      })();
      expect(await watching.catch((error) => error)).toSatisfy(isGone);
      await vi.waitFor(() => expect(informer.list().filter((m) => m.metadata.name.startsWith('m-'))).toHaveLength(3), { timeout: 10_000 });
      expect(heard).toEqual(['old']);
    } finally {
      stop.abort();
      one.close();
      await second?.stop();
      if (!second) await first.stop();
      await store.close();
    }
  });

  describe('credentials', () => {
    let directory: string;
    beforeEach(() => {
      directory = mkdtempSync('/tmp/kumulus-client-');
    });
    afterEach(() => {
      vi.restoreAllMocks();
      rmSync(directory, { recursive: true, force: true });
    });
    const token = async (name: string) => {
      await client.create(resources.serviceaccounts, { metadata: { name, namespace } }).catch(() => {});
      const request = { apiVersion: 'authentication.k8s.io/v1', kind: 'TokenRequest', spec: { audiences: [], expirationSeconds: 600 } };
      return (await client.createSubresource<{ status: { token: string } }>(resources.serviceaccounts, key(name), 'token', request)).status.token;
    };
    /** Whom the server takes the client for. */
    const whoAmI = async (one: Client) => {
      const answer = await one.raw({
        method: 'POST',
        path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ apiVersion: 'authentication.k8s.io/v1', kind: 'SelfSubjectReview' }),
      });
      const body = JSON.parse(await answer.text());
      return answer.status < 300 ? body.status.userInfo.username : answer.status;
    };
    const bare = { cert: undefined, key: undefined } as never as Partial<ClientConfig>;

    it('come from a file, read again when it is a minute old or refused', async () => {
      const path = join(directory, 'token');
      const put = (text: string, at: number) => {
        writeFileSync(path, `${text}\n`);
        utimesSync(path, at, at);
      };
      put(await token('one'), 1);
      const one = connectAs({ ...bare, tokenFile: path });
      expect(await whoAmI(one)).toBe('system:serviceaccount:default:one');
      put(await token('two'), 2);
      expect(await whoAmI(one)).toBe('system:serviceaccount:default:one');
      const real = Date.now();
      vi.spyOn(Date, 'now').mockImplementation(() => real + 61_000);
      expect(await whoAmI(one)).toBe('system:serviceaccount:default:two');
      put('refused', 3);
      vi.spyOn(Date, 'now').mockImplementation(() => real + 122_000);
      expect(await whoAmI(one)).toBe(401);
      put(await token('one'), 4);
      expect(await whoAmI(one)).toBe('system:serviceaccount:default:one');
      rmSync(path);
      vi.spyOn(Date, 'now').mockImplementation(() => real + 190_000);
      expect(await whoAmI(one)).toBe('system:serviceaccount:default:one');
      await expect(whoAmI(connectAs({ ...bare, tokenFile: path }))).rejects.toThrow('ENOENT');
    });

    it('come from elsewhere, and are asked for again when they are refused', async () => {
      const good = await token('one');
      const asked: unknown[] = [];
      const one = connectAs({
        ...bare,
        authenticate: async (refused) => {
          asked.push(refused);
          return refused ? { token: good } : { token: 'expired' };
        },
      });
      expect(await whoAmI(one)).toBe('system:serviceaccount:default:one');
      expect(asked).toEqual([undefined, { token: 'expired' }]);
      const stubborn = connectAs({ ...bare, authenticate: async () => ({ token: 'expired' }) });
      expect(await whoAmI(stubborn)).toBe(401);
      await expect(connectAs({ ...bare, authenticate: () => Promise.reject(new Error('log in first')) }).list(maps)).rejects.toThrow('log in first');
    });

    it('rotate by certificate, without breaking what is under way', async () => {
      let current = await server.authority.issue({ commonName: 'first', organizations: ['system:masters'] });
      const one = connectAs({ ...bare, credentials: () => current });
      expect(await whoAmI(one)).toBe('first');
      const stop = new AbortController();
      const heard: string[] = [];
      const { metadata } = await one.list(maps, { namespace });
      const watching = (async () => {
        for await (const e of one.watch(maps, { namespace, resourceVersion: metadata.resourceVersion, signal: stop.signal }))
          heard.push((e.object as ConfigMap).metadata.name);
      })().catch(() => {});
      await one.list(maps);
      current = await server.authority.issue({ commonName: 'second', organizations: ['system:masters'] });
      expect(await whoAmI(one)).toBe('second');
      await make('after');
      await vi.waitFor(() => expect(heard).toEqual(['after']));
      stop.abort();
      await watching;
    });

    it('come from a kubeconfig, and may stand for others', async () => {
      const path = join(directory, 'config');
      writeFileSync(path, server.kubeconfig(server.admin));
      const { config } = loadKubeconfig({ path });
      expect(await whoAmI(connectAs({ ...bare, ...config }))).toBe('kubernetes-admin');
      const text = JSON.parse(server.kubeconfig(server.admin));
      Object.assign(text.users[0].user, { as: 'jane', 'as-groups': ['a', 'b'] });
      writeFileSync(path, JSON.stringify(text));
      expect(await whoAmI(connectAs({ ...bare, ...loadKubeconfig({ path }).config }))).toBe('jane');
    });
  });
});
