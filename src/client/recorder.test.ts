import { pino } from 'pino';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { alreadyExists, forbidden, tooManyRequests } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { KubeObject } from '../api/object.ts';
import { createFakeClient, type FakeClient } from './fake.ts';
import { FakeClock } from './fake-clock.ts';
import { createEventRecorder, type RunningEventRecorder } from './recorder.ts';

const about = (name: string, namespace: string | undefined = 'shop'): KubeObject => ({
  apiVersion: namespace ? 'v1' : 'storage.k8s.io/v1',
  kind: namespace ? 'Pod' : 'StorageClass',
  metadata: { name, ...(namespace ? { namespace } : {}), uid: `uid-of-${name}`, resourceVersion: '7' } as KubeObject['metadata'],
});

describe('event recorder', () => {
  let clock: FakeClock;
  let client: FakeClient;
  let recorder: RunningEventRecorder;
  beforeEach(() => {
    clock = new FakeClock();
    client = createFakeClient([], { clock });
    recorder = createEventRecorder(client, { component: 'tester', host: 'node-1', clock, log: pino({ level: 'silent' }) });
  });
  const events = () => client.objects(resources.events);

  it('posts a whole core/v1 Event', async () => {
    recorder.event(about('web'), 'Warning', 'BackOff', 'it waits');
    await recorder.flush();
    expect(events()).toHaveLength(1);
    expect(events()[0]).toMatchObject({
      metadata: { namespace: 'shop', name: expect.stringMatching(/^web\.[0-9a-f]{16}$/) },
      involvedObject: { apiVersion: 'v1', kind: 'Pod', namespace: 'shop', name: 'web', uid: 'uid-of-web', resourceVersion: '7' },
      type: 'Warning',
      reason: 'BackOff',
      message: 'it waits',
      count: 1,
      firstTimestamp: '2026-01-01T00:00:00Z',
      lastTimestamp: '2026-01-01T00:00:00Z',
      source: { component: 'tester', host: 'node-1' },
      reportingComponent: 'tester',
      reportingInstance: 'node-1',
    });
  });

  it('names events by the time in nanoseconds', async () => {
    recorder.event(about('web'), 'Normal', 'Seen', 'x');
    await recorder.flush();
    const nanoseconds = BigInt(`0x${events()[0]!.metadata.name.split('.')[1]}`);
    expect(nanoseconds / 1_000_000n).toBe(BigInt(clock.now()));
  });

  it('does not lose events of namesakes that two components record in the same millisecond', async () => {
    const other = createEventRecorder(client, { component: 'other', clock, log: pino({ level: 'silent' }) });
    for (let i = 0; i < 20; i++) {
      recorder.event(about(`web-${i}`), 'Normal', 'Seen', 'x');
      other.event({ ...about(`web-${i}`), kind: 'Service' }, 'Normal', 'Seen', 'x');
    }
    await Promise.all([recorder.flush(), other.flush()]);
    expect(events()).toHaveLength(40);
  });

  it('keeps events about cluster-scoped objects in the namespace default', async () => {
    recorder.event(about('fast', ''), 'Normal', 'Seen', 'x');
    await recorder.flush();
    expect(events()[0]).toMatchObject({ metadata: { namespace: 'default' }, involvedObject: { kind: 'StorageClass' } });
    expect(events()[0]!.involvedObject).not.toHaveProperty('namespace');
  });

  it('counts what repeats by patching the same event', async () => {
    for (let i = 0; i < 3; i++) {
      recorder.event(about('web'), 'Normal', 'Pulled', 'same');
      await recorder.flush();
      clock.advance(1000);
    }
    expect(events()).toHaveLength(1);
    expect(events()[0]).toMatchObject({ count: 3, firstTimestamp: '2026-01-01T00:00:00Z', lastTimestamp: '2026-01-01T00:00:02Z' });
    expect(client.writes.map((w) => w.verb)).toEqual(['create', 'patch', 'patch']);
    expect(client.writes[2]!.body).toEqual({ count: 3, lastTimestamp: '2026-01-01T00:00:02Z', message: 'same' });
  });

  it('tells apart by object, reason, type and message', async () => {
    recorder.event(about('a'), 'Normal', 'R', 'm');
    recorder.event(about('b'), 'Normal', 'R', 'm');
    recorder.event(about('a'), 'Warning', 'R', 'm');
    recorder.event(about('a'), 'Normal', 'S', 'm');
    recorder.event(about('a'), 'Normal', 'R', 'n');
    await recorder.flush();
    expect(events().map((e) => e.count)).toEqual([1, 1, 1, 1, 1]);
    expect(new Set(events().map((e) => e.metadata.name)).size).toBe(5);
  });

  it('combines from the tenth distinct message within ten minutes on', async () => {
    for (let i = 1; i <= 12; i++) recorder.event(about('web'), 'Warning', 'Failed', `attempt ${i}`);
    await recorder.flush();
    expect(events()).toHaveLength(10);
    expect(events()[8]!.message).toBe('attempt 9');
    expect(events()[9]).toMatchObject({ message: '(combined from similar events): attempt 12', count: 3 });
  });

  it('combines no more after ten minutes without a similar event', async () => {
    for (let i = 1; i <= 10; i++) recorder.event(about('web'), 'Warning', 'Failed', `attempt ${i}`);
    await recorder.flush();
    clock.advance(601_000);
    recorder.event(about('web'), 'Warning', 'Failed', 'attempt 11');
    await recorder.flush();
    expect(events().at(-1)).toMatchObject({ message: 'attempt 11', count: 1 });
  });

  it('drops more than 25 about one object, and lets one through every five minutes', async () => {
    for (let i = 0; i < 30; i++) recorder.event(about('noisy'), 'Normal', 'Same', 'x');
    recorder.event(about('quiet'), 'Normal', 'Same', 'x');
    await recorder.flush();
    expect(client.writes).toHaveLength(26);
    expect(events().map((e) => [e.involvedObject.name, e.count])).toEqual([
      ['noisy', 25],
      ['quiet', 1],
    ]);
    clock.advance(299_000);
    recorder.event(about('noisy'), 'Normal', 'Same', 'x');
    await recorder.flush();
    expect(client.writes).toHaveLength(26);
    clock.advance(1000);
    recorder.event(about('noisy'), 'Normal', 'Same', 'x');
    await recorder.flush();
    // Those that were dropped are counted all the same.
    expect(events()[0]!.count).toBe(32);
  });

  it('creates again, with the count so far, when the event has expired', async () => {
    recorder.event(about('web'), 'Normal', 'R', 'm');
    await recorder.flush();
    await client.delete(resources.events, { namespace: 'shop', name: events()[0]!.metadata.name });
    clock.advance(5000);
    recorder.event(about('web'), 'Normal', 'R', 'm');
    recorder.event(about('web'), 'Normal', 'R', 'm');
    await recorder.flush();
    expect(events()).toHaveLength(1);
    expect(events()[0]).toMatchObject({ count: 3, firstTimestamp: '2026-01-01T00:00:00Z' });
  });

  it('tries again when the connection fails or the server is busy, in order', async () => {
    const failures = [new Error('no connection'), tooManyRequests('busy')];
    client.intercept(() => {
      const failure = failures.shift();
      if (failure) throw failure;
    });
    recorder.event(about('web'), 'Normal', 'First', 'm');
    recorder.event(about('web'), 'Normal', 'Second', 'm');
    const flushed = recorder.flush();
    for (let i = 0; i < 2; i++) {
      await vi.waitFor(() => expect(failures).toHaveLength(1 - i));
      await vi.waitFor(() => expect(clock.pending).toBe(1));
      clock.advanceToNext();
    }
    await flushed;
    expect(events().map((e) => e.reason)).toEqual(['First', 'Second']);
  });

  it('takes an attempt whose answer was lost for done', async () => {
    let first = true;
    client.intercept((a) => {
      if (a.verb !== 'create') return;
      if (!first) throw alreadyExists({ group: '', resource: 'events' }, a.name!);
      first = false;
      throw new Error('the connection closed before an answer');
    });
    recorder.event(about('web'), 'Normal', 'R', 'm');
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    clock.advanceToNext();
    await recorder.flush();
    expect(first).toBe(false);
    recorder.event(about('web'), 'Normal', 'R', 'm');
    await recorder.flush();
    // The name is known, so the repeat is first tried as a patch; here it finds nothing and is created anew.
    expect(client.writes).toEqual([]);
  });

  it('gives up on refusals at once and on a silent server after a few attempts, without hurting what follows', async () => {
    let tries = 0;
    const remove = client.intercept((a) => {
      tries++;
      if (a.name?.startsWith('refused')) throw forbidden({ group: '', resource: 'events' }, '', 'no');
      if (a.name?.startsWith('away')) throw new Error('no connection');
    });
    recorder.event(about('refused'), 'Normal', 'R', 'm');
    recorder.event(about('away'), 'Normal', 'R', 'm');
    recorder.event(about('fine'), 'Normal', 'R', 'm');
    for (let i = 0; i < 3; i++) {
      await vi.waitFor(() => expect(clock.pending).toBe(1));
      clock.advanceToNext();
    }
    await recorder.flush();
    remove();
    expect(tries).toBe(1 + 4 + 1);
    expect(events().map((e) => e.involvedObject.name)).toEqual(['fine']);
  });

  it('never throws into the caller, and does nothing on its turn', () => {
    expect(() => recorder.event(undefined as never, 'Normal', 'R', 'm')).not.toThrow();
    recorder.event(about('web'), 'Normal', 'R', 'm');
    expect(events()).toEqual([]);
  });

  it('cuts a message to what the API takes, and a name to what it takes', async () => {
    recorder.event(about('x'.repeat(253)), 'Normal', 'R', 'ü'.repeat(2000));
    await recorder.flush();
    const [event] = events();
    expect(Buffer.byteLength(event!.message!)).toBeLessThanOrEqual(1024);
    expect(event!.message).toMatch(/^ü+\.\.\.$/);
    expect(event!.metadata.name).toHaveLength(253);
  });

  it('bounds what waits', async () => {
    for (let i = 0; i < 1100; i++) recorder.event(about(`pod-${i}`), 'Normal', 'R', 'm');
    await recorder.flush();
    expect(events()).toHaveLength(1000);
  });

  it('ends at once when closed, and records nothing more', async () => {
    client.intercept(() => new Promise(() => {}));
    recorder.event(about('a'), 'Normal', 'R', 'm');
    recorder.event(about('b'), 'Normal', 'R', 'm');
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    await recorder.close();
    recorder.event(about('c'), 'Normal', 'R', 'm');
    await recorder.flush();
    expect(clock.pending).toBe(0);
    expect(client.writes).toEqual([]);
  });

  it('gives up on a server that never answers', async () => {
    let asked = 0;
    client.intercept(() => new Promise(() => asked++));
    recorder.event(about('a'), 'Normal', 'R', 'm');
    const flushed = recorder.flush();
    for (let i = 1; i <= 7; i++) {
      await vi.waitFor(() => expect([asked, clock.pending]).toEqual([Math.ceil(i / 2), 1]));
      clock.advanceToNext();
    }
    await flushed;
    expect(asked).toBe(4);
  });

  it('stops waiting for the next attempt when closed', async () => {
    client.intercept(() => {
      throw new Error('no connection');
    });
    recorder.event(about('a'), 'Normal', 'R', 'm');
    await vi.waitFor(() => expect(clock.pending).toBe(1));
    await recorder.close();
    expect(clock.pending).toBe(0);
    expect(events()).toEqual([]);
  });
});
