import { setImmediate as turn } from 'node:timers/promises';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { serviceUnavailable } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import { createFakeClient, type FakeClient } from './fake.ts';
import { FakeClock } from './fake-clock.ts';
import { type LeaderElectionOptions, runLeaderElection } from './leader-election.ts';

const lease = { namespace: 'kube-system', name: 'kube-scheduler' };

describe('leader election', () => {
  let clock: FakeClock;
  let client: FakeClient;
  let heard: string[];
  const candidates: { stop: AbortController; result: Promise<string> }[] = [];

  beforeEach(() => {
    clock = new FakeClock();
    client = createFakeClient([], { clock });
    heard = [];
  });
  afterEach(async () => {
    for (const { stop } of candidates) stop.abort();
    await settle();
    for (let i = 0; i < 20 && clock.advanceToNext(); i++) await settle();
    await Promise.all(candidates.splice(0).map((c) => c.result));
  });

  function stand(identity: string, more: Partial<LeaderElectionOptions> = {}) {
    const stop = new AbortController();
    const result = runLeaderElection({
      client,
      lease,
      identity,
      clock,
      log: pino({ level: 'silent' }),
      signal: stop.signal,
      onStartedLeading: (signal) => {
        heard.push(`${identity} leads`);
        signal.addEventListener('abort', () => heard.push(`${identity} ends: ${signal.reason.message}`));
      },
      onStoppedLeading: () => heard.push(`${identity} stopped`),
      ...more,
    });
    const candidate = { stop, result };
    candidates.push(candidate);
    return candidate;
  }
  /** Lets everything happen that waits for no clock. */
  const settle = async () => {
    for (let i = 0; i < 12; i++) await turn();
  };
  const pass = async (seconds: number) => {
    await settle();
    for (let i = 0; i < seconds * 4; i++) {
      clock.advance(250);
      await settle();
    }
  };
  const stored = () => client.objects(resources.leases)[0]?.spec;
  const leads = () => heard.filter((h) => h.endsWith('leads'));

  it('makes the lease, and renews it every two seconds', async () => {
    stand('a');
    await settle();
    expect(stored()).toEqual({
      holderIdentity: 'a',
      leaseDurationSeconds: 15,
      acquireTime: '2026-01-01T00:00:00.000000Z',
      renewTime: '2026-01-01T00:00:00.000000Z',
      leaseTransitions: 0,
    });
    await pass(4);
    expect(stored()).toMatchObject({ acquireTime: '2026-01-01T00:00:00.000000Z', renewTime: '2026-01-01T00:00:04.000000Z', leaseTransitions: 0 });
    expect(client.writes.map((w) => w.verb)).toEqual(['create', 'update', 'update']);
    expect(heard).toEqual(['a leads']);
  });

  it('has one leader, and the other as soon as the first gives up', async () => {
    const a = stand('a');
    await settle();
    const leaders: string[] = [];
    stand('b', { onNewLeader: (name) => leaders.push(name) });
    await pass(60);
    expect(leads()).toEqual(['a leads']);
    expect(leaders).toEqual(['a']);
    a.stop.abort(new Error('enough'));
    expect(await a.result).toBe('cancelled');
    expect(stored()).toMatchObject({ holderIdentity: '', leaseDurationSeconds: 1 });
    expect(heard).toEqual(['a leads', 'a ends: enough', 'a stopped']);
    // Two seconds, and a random share of 2.4 more.
    await pass(5);
    expect(leads()).toEqual(['a leads', 'b leads']);
    expect(leaders).toEqual(['a', 'b']);
    expect(stored()).toMatchObject({ holderIdentity: 'b', leaseDurationSeconds: 15, leaseTransitions: 1 });
  });

  it('takes over from a leader that died, no sooner than its lease ends', async () => {
    await client.create(resources.leases, {
      metadata: lease,
      // A clock that is an hour fast makes no difference.
      spec: { holderIdentity: 'dead', leaseDurationSeconds: 15, renewTime: '2026-01-01T01:00:00.000000Z', leaseTransitions: 3 },
    });
    stand('b');
    await pass(14.5);
    expect(leads()).toEqual([]);
    await pass(5.5);
    expect(leads()).toEqual(['b leads']);
    expect(stored()).toMatchObject({ holderIdentity: 'b', leaseTransitions: 4 });
    expect(stored()!.acquireTime).toMatch(/^2026-01-01T00:00:(1[5-9]|20)/);
  });

  it('is lost when the server is away for ten seconds, before another can lead', async () => {
    const a = stand('a');
    await settle();
    const remove = client.intercept((action) => {
      if (!(action.body as { spec: { holderIdentity: string } })?.spec || (action.body as any).spec.holderIdentity === 'a')
        throw serviceUnavailable('away');
    });
    await pass(9.5);
    expect(heard).toEqual(['a leads']);
    await pass(1);
    expect(await a.result).toBe('lost');
    expect(heard).toEqual(['a leads', 'a ends: the lease kube-system/kube-scheduler could not be renewed', 'a stopped']);
    remove();
    // It holds its lease still: nothing is given up that somebody else may have by now.
    expect(stored()).toMatchObject({ holderIdentity: 'a' });
    stand('b');
    await pass(20);
    expect(leads()).toEqual(['a leads', 'b leads']);
  });

  it('is lost when the server does not answer at all', async () => {
    const a = stand('a');
    await settle();
    client.intercept(() => new Promise(() => {}));
    await pass(10.5);
    expect(await a.result).toBe('lost');
  });

  it('goes on when single attempts fail', async () => {
    stand('a');
    await settle();
    let requests = 0;
    client.intercept(() => {
      // Each attempt is an update, and a look when that fails.
      if (requests++ % 8 < 6) throw serviceUnavailable('away');
    });
    await pass(60);
    expect(heard).toEqual(['a leads']);
    expect(requests).toBeGreaterThan(30);
  });

  it('is lost at once when another took the lease', async () => {
    const a = stand('a');
    await settle();
    await client.patch(resources.leases, lease, 'merge', { spec: { holderIdentity: 'thief' } });
    await pass(2.5);
    expect(await a.result).toBe('lost');
    expect(stored()!.holderIdentity).toBe('thief');
  });

  it('renews though others write to the lease', async () => {
    stand('a');
    await settle();
    await client.patch(resources.leases, lease, 'merge', { metadata: { labels: { seen: 'yes' } } });
    await pass(2.5);
    expect(heard).toEqual(['a leads']);
    expect(client.objects(resources.leases)[0]!.metadata.labels).toEqual({ seen: 'yes' });
    expect(stored()!.renewTime).toBe('2026-01-01T00:00:02.000000Z');
  });

  it('gives the lease up only when the work has ended', async () => {
    let finish = () => {};
    const a = stand('a', { onStartedLeading: () => new Promise<void>((resolve) => (finish = resolve)) });
    await settle();
    a.stop.abort();
    await settle();
    expect(stored()!.holderIdentity).toBe('a');
    finish();
    expect(await a.result).toBe('cancelled');
    expect(stored()!.holderIdentity).toBe('');
  });

  it('keeps nobody waiting for work that does not end', async () => {
    const a = stand('a', { onStartedLeading: () => new Promise<void>(() => {}) });
    await settle();
    a.stop.abort();
    await pass(15.5);
    expect(await a.result).toBe('cancelled');
  });

  it('survives work and callbacks that throw', async () => {
    stand('a', {
      onStartedLeading: async () => {
        throw new Error('work');
      },
      onNewLeader: () => {
        throw new Error('callback');
      },
    });
    await pass(5);
    expect(stored()!.renewTime).toBe('2026-01-01T00:00:04.000000Z');
  });

  it('ends a candidacy that never led', async () => {
    await client.create(resources.leases, { metadata: lease, spec: { holderIdentity: 'other', leaseDurationSeconds: 3600 } });
    const b = stand('b');
    await pass(5);
    b.stop.abort();
    expect(await b.result).toBe('cancelled');
    expect(heard).toEqual([]);
    expect(stored()!.holderIdentity).toBe('other');
  });

  it('has one winner of many that start at once', async () => {
    for (const name of ['a', 'b', 'c', 'd']) stand(name);
    await pass(30);
    expect(leads()).toHaveLength(1);
    expect(stored()!.leaseTransitions).toBe(0);
  });

  it('refuses times that cannot work', () => {
    expect(() => stand('')).toThrow('identity');
    expect(() => stand('a', { leaseDurationMs: 10_000 })).toThrow('longer than the renew deadline');
    expect(() => stand('a', { retryPeriodMs: 9_000 })).toThrow('longer than the retry period');
  });
});
