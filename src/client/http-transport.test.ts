import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { connect, createServer as createTcpServer } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { StatusError } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Client } from './client.ts';
import type { ClientConfig } from './config.ts';
import { createHttpClient } from './http.ts';

// What an API server does only on bad days, played by a bare HTTP/2 server.
describe('HTTP client and a server that fails', () => {
  let server: Http2Server;
  let port: number;
  let answer: (stream: ServerHttp2Stream, path: string) => void;
  const sessions = new Set<ServerHttp2Session>();
  const clients: Client[] = [];
  const client = (more: Partial<ClientConfig> = {}) => {
    const made = createHttpClient({ server: `http://127.0.0.1:${port}`, ...more });
    clients.push(made);
    return made;
  };

  beforeEach(async () => {
    answer = (stream) => stream.respond({ ':status': 200 }, { endStream: true });
    server = createServer();
    server.on('session', (session) => {
      sessions.add(session);
      session.on('error', () => {});
      session.on('close', () => sessions.delete(session));
    });
    server.on('stream', (stream, headers) => {
      stream.on('error', () => {});
      answer(stream, String(headers[':path']));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    port = (server.address() as { port: number }).port;
  });
  afterEach(async () => {
    vi.useRealTimers();
    for (const one of clients.splice(0)) one.close();
    for (const session of sessions) session.destroy();
    await new Promise((resolve) => server.close(resolve));
  });
  const say = (stream: ServerHttp2Stream, status: number, text: string) => {
    stream.respond({ ':status': status });
    stream.end(text);
  };
  const list = (one: Client, signal?: AbortSignal) => one.list(resources.pods, signal ? { signal } : {});

  it('passes on errors that are no Status', async () => {
    answer = (stream) => say(stream, 502, '<html>Bad Gateway</html>');
    await expect(list(client())).rejects.toMatchObject({ code: 502, reason: 'Unknown', message: '<html>Bad Gateway</html>' });
    answer = (stream) => say(stream, 503, '');
    await expect(list(client())).rejects.toMatchObject({ code: 503, message: 'the server answered 503' });
    answer = (stream) => say(stream, 429, JSON.stringify({ kind: 'Status', status: 'Failure', reason: 'TooManyRequests', message: 'slow down' }));
    await expect(list(client())).rejects.toMatchObject({ code: 429, reason: 'TooManyRequests', message: 'slow down' });
  });

  it('says so when an answer is cut off', async () => {
    answer = (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('{"kind":"PodList","items":[');
      setImmediate(() => stream.session?.destroy());
    };
    await expect(list(client())).rejects.toThrow('the connection broke in the middle of an answer');
    answer = (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('{"kind":');
      setImmediate(() => stream.destroy(new Error('broken')));
    };
    await expect(list(client())).rejects.toThrow();
    answer = (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('{"kind":');
      setImmediate(() => stream.close(2));
    };
    await expect(list(client())).rejects.toThrow('GET /api/v1/pods: the answer is not whole, or not JSON');
    answer = (stream) => stream.close(7);
    await expect(list(client())).rejects.toThrow(/GET http:\/\/127.0.0.1:\d+\/api\/v1\/pods/);
  });

  it('ends a watch whose last line is half, and delivers the others', async () => {
    const event = (name: string) => JSON.stringify({ type: 'ADDED', object: { kind: 'Pod', metadata: { name, note: 'ü' } } });
    answer = (stream) => {
      stream.respond({ ':status': 200 });
      const bytes = Buffer.from(`${event('a')}\n${event('b')}\n${event('c').slice(0, 20)}`);
      // Cut within a character.
      const cut = bytes.indexOf('ü') + 1;
      stream.write(bytes.subarray(0, cut));
      setTimeout(() => stream.end(bytes.subarray(cut)), 5);
    };
    const heard: unknown[] = [];
    for await (const e of client().watch(resources.pods)) heard.push([(e.object as any).metadata.name, (e.object as any).metadata.note]);
    expect(heard).toEqual([
      ['a', 'ü'],
      ['b', 'ü'],
    ]);
  });

  it('waits no longer than its caller, and tells the server', async () => {
    const closed: number[] = [];
    answer = (stream) => stream.on('close', () => closed.push(stream.rstCode));
    const stop = new AbortController();
    const waiting = list(client(), stop.signal);
    await vi.waitFor(() => expect(sessions.size).toBe(1));
    await new Promise((resolve) => setTimeout(resolve, 20));
    stop.abort(new Error('no longer needed'));
    await expect(waiting).rejects.toThrow('no longer needed');
    await vi.waitFor(() => expect(closed).toEqual([8]));
  });

  it('is aborted in the middle of an answer, too', async () => {
    answer = (stream) => {
      stream.respond({ ':status': 200 });
      stream.write('{');
    };
    const stop = new AbortController();
    const waiting = list(client(), stop.signal);
    setTimeout(() => stop.abort(new Error('no longer needed')), 30);
    await expect(waiting).rejects.toThrow('no longer needed');
  });

  it('asks on a new connection after the server said it goes away, and lets what runs end', async () => {
    let slow: ServerHttp2Stream | undefined;
    answer = (stream, path) => {
      if (path.includes('slow')) slow = stream;
      else say(stream, 200, JSON.stringify({ kind: 'PodList', metadata: {}, items: [] }));
    };
    const one = client();
    const running = one.raw({ method: 'GET', path: '/slow' }).then((r) => r.text());
    await vi.waitFor(() => expect(slow).toBeDefined());
    const before = [...sessions][0]!;
    before.goaway();
    await vi.waitFor(async () => {
      await list(one);
      expect(sessions.size).toBe(2);
    });
    say(slow!, 200, 'done');
    expect(await running).toBe('done');
  });

  it('survives connections that break at any time', async () => {
    answer = (stream) => say(stream, 200, JSON.stringify({ kind: 'PodList', metadata: {}, items: [] }));
    const one = client();
    await list(one);
    for (let i = 0; i < 20; i++) {
      for (const session of sessions) session.destroy();
      await list(one).catch((error) => expect(error).not.toBeInstanceOf(StatusError));
    }
    await vi.waitFor(() => list(one));
  });

  it('gives up a server that is silent, so that watches begin anew', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval', 'clearTimeout', 'clearInterval'] });
    const sockets: import('node:net').Socket[] = [];
    // A way on which nothing comes back after a while.
    const relay = createTcpServer((inward) => {
      const outward = connect(port, '127.0.0.1');
      sockets.push(inward, outward);
      inward.pipe(outward);
      outward.pipe(inward);
      for (const s of [inward, outward]) s.on('error', () => {});
    });
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve));
    try {
      answer = (stream) => {
        stream.respond({ ':status': 200 });
        stream.write('\n');
      };
      const one = client({ server: `http://127.0.0.1:${(relay.address() as { port: number }).port}` });
      const watching = (async () => {
        for await (const _ of one.watch(resources.pods)) throw new Error('nothing comes');
      })().then(
        () => 'ended',
        (error: Error) => error.message,
      );
      await vi.waitFor(() => expect(sessions.size).toBe(1));
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
      for (let i = 0; i < 3; i++) {
        // While the server answers pings, nothing happens.
        await vi.advanceTimersByTimeAsync(15_000);
        await new Promise((resolve) => setImmediate(() => setImmediate(() => setImmediate(resolve))));
      }
      expect(sessions.size).toBe(1);
      for (const s of sockets) s.unpipe();
      await vi.advanceTimersByTimeAsync(15_000);
      await vi.advanceTimersByTimeAsync(10_000);
      expect(await watching).toMatch(/ended|does not answer|closed/);
    } finally {
      for (const s of sockets) s.destroy();
      relay.close();
    }
  });

  it('survives a dialled connection that fails before or within TLS', async () => {
    const secure = { server: 'https://kubernetes', insecureSkipTlsVerify: true };
    await expect(list(client({ ...secure, dial: () => connect(1, '127.0.0.1') }))).rejects.toThrow(
      /connect to kubernetes: .*(ECONNREFUSED|disconnected)/,
    );
    await expect(list(client({ ...secure, dial: () => connect(port, '127.0.0.1') }))).rejects.toThrow(/connect to kubernetes: /);
    await expect(list(client({ ...secure, dial: () => Promise.reject(new Error('no way there')) }))).rejects.toThrow(
      'connect to kubernetes: no way there',
    );
  });

  it('gives up a connection that never comes about', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const waiting = list(client({ dial: () => new Promise<never>(() => {}) }));
    const outcome = waiting.catch((error: Error) => error.message);
    await vi.advanceTimersByTimeAsync(15_000);
    expect(await outcome).toMatch(/no answer in 15 s/);
  });

  it('keeps the path of the server, and sends its own headers', async () => {
    const seen: Record<string, unknown>[] = [];
    server.removeAllListeners('stream');
    server.on('stream', (stream, headers) => {
      seen.push(headers);
      say(stream, 200, '{}');
    });
    await client({
      server: `http://127.0.0.1:${port}/k8s/cluster/`,
      token: 't',
      userAgent: 'test/1',
      headers: { 'impersonate-group': ['a', 'b'] },
    }).get(resources.deployments, {
      namespace: 'n s',
      name: 'x',
    });
    expect(seen[0]).toMatchObject({
      ':path': '/k8s/cluster/apis/apps/v1/namespaces/n%20s/deployments/x',
      authorization: 'Bearer t',
      'user-agent': 'test/1',
      'impersonate-group': 'a, b',
    });
  });
});
