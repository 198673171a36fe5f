import type { Logger } from 'pino';
import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Lease } from '../api/generated/types.ts';
import { microTime } from '../api/time.ts';
import type { Client, ObjectKey } from './client.ts';
import { type Clock, sleep } from './clock.ts';

export interface LeaderElectionOptions {
  client: Client;
  /** The Lease that candidates contend for; made where it is not there. */
  lease: Required<ObjectKey>;
  /** This candidate's name, unlike any other's: as `HOST_UUID`. */
  identity: string;
  clock: Clock;
  log: Logger;
  /** Ends the candidacy, and gives the lease up where it is held. */
  signal: AbortSignal;
  /** How long others wait for a leader that says nothing; 15,000 by default. */
  leaseDurationMs?: number;
  /** How long a leader tries to renew before it gives up; 10,000 by default, and shorter than the lease. */
  renewDeadlineMs?: number;
  /** Between two attempts; 2,000 by default. */
  retryPeriodMs?: number;
  /**
   * The leader's work. Its signal aborts when leadership is lost or the candidacy ends; the lease is given up only when the
   * returned promise has settled, so that two leaders never work side by side.
   */
  onStartedLeading(signal: AbortSignal): void | Promise<void>;
  /** Leadership has ended, by loss or by the signal; a process that cannot stop its work by other means should exit. */
  onStoppedLeading?(): void;
  /** Somebody leads, maybe this candidate. */
  onNewLeader?(identity: string): void;
}

/**
 * Waits until it leads, leads until it is lost or the signal aborts, and resolves to which of these it was. Follows client-go: what
 * counts is when this candidate saw the lease change, by its own clock, so that clocks need not agree.
 */
export function runLeaderElection(options: LeaderElectionOptions): Promise<'lost' | 'cancelled'> {
  return new Candidate(options).run();
}

/** Waiting candidates spread, so that they do not all write at once. */
const jitter = 1.2;

class Candidate {
  readonly #o: LeaderElectionOptions;
  readonly #leaseMs: number;
  readonly #deadlineMs: number;
  readonly #retryMs: number;
  /** The lease as last seen, and when it was first seen so. */
  #observed: Lease | undefined;
  #observedAt = 0;
  #reportedLeader = '';

  constructor(options: LeaderElectionOptions) {
    this.#o = options;
    this.#leaseMs = options.leaseDurationMs ?? 15_000;
    this.#deadlineMs = options.renewDeadlineMs ?? 10_000;
    this.#retryMs = options.retryPeriodMs ?? 2_000;
    if (!options.identity) throw new Error('a leader election needs an identity');
    if (this.#leaseMs <= this.#deadlineMs) throw new Error('the lease duration must be longer than the renew deadline');
    if (this.#deadlineMs <= this.#retryMs * jitter) throw new Error('the renew deadline must be longer than the retry period by a fifth');
  }

  async run(): Promise<'lost' | 'cancelled'> {
    const { signal, log, lease, identity } = this.#o;
    const name = `${lease.namespace}/${lease.name}`;
    if (!(await this.#acquire())) return 'cancelled';
    log.info({ lease: name, identity }, 'became the leader');
    const leading = new AbortController();
    const work = (async () => this.#o.onStartedLeading(leading.signal))().catch((error) => {
      if (!leading.signal.aborted) log.error({ err: error }, "the leader's work failed");
    });
    await this.#renew();
    const cancelled = signal.aborted;
    log[cancelled ? 'info' : 'error']({ lease: name, identity }, cancelled ? 'gives up its leadership' : 'lost its leadership');
    leading.abort(cancelled ? signal.reason : new Error(`the lease ${name} could not be renewed`));
    this.#call(() => this.#o.onStoppedLeading?.());
    if (cancelled) {
      // Longer than the lease nobody waits for us anyway.
      await this.#within(this.#leaseMs, () => work).catch(() => log.warn({ lease: name }, "the leader's work did not end before its lease"));
      await this.#release();
    }
    return cancelled ? 'cancelled' : 'lost';
  }

  async #acquire(): Promise<boolean> {
    while (!this.#o.signal.aborted) {
      if (await this.#attempt(this.#deadlineMs)) return true;
      await sleep(this.#o.clock, this.#retryMs * (1 + Math.random() * jitter), this.#o.signal).catch(() => {});
    }
    return false;
  }

  /** Resolves when leadership is over. */
  async #renew(): Promise<void> {
    const { clock, signal } = this.#o;
    for (let renewedAt = clock.now(); ; ) {
      // Counted from the last success: an attempt that hangs must not outlast the lease.
      const left = () => renewedAt + this.#deadlineMs - clock.now();
      await sleep(clock, Math.min(this.#retryMs, left()), signal).catch(() => {});
      if (signal.aborted || left() <= 0) return;
      const startedAt = clock.now();
      if (await this.#attempt(left())) renewedAt = startedAt;
      else if (!this.#leads()) return;
    }
  }

  #leads(): boolean {
    return this.#observed?.spec.holderIdentity === this.#o.identity;
  }

  /** Takes or renews the lease where that may be; false where not, or where it failed. */
  async #attempt(timeoutMs: number): Promise<boolean> {
    const { client, lease, log, signal } = this.#o;
    try {
      return await this.#within(timeoutMs, async (until) => {
        if (this.#leads() && this.#isValid()) {
          // The usual case takes one request; what was seen last is most probably still so.
          const next = this.#claim(this.#observed as Lease);
          try {
            this.#observe(await client.update(resources.leases, next, { signal: until }));
            return true;
          } catch (error) {
            if (until.aborted) throw error;
            log.debug({ err: error, lease }, 'the lease is not as it was last seen');
          }
        }
        let current: Lease;
        try {
          current = await client.get(resources.leases, lease, { signal: until });
        } catch (error) {
          if (!isNotFound(error)) throw error;
          this.#observe(await client.create(resources.leases, this.#claim(undefined), { signal: until }));
          return true;
        }
        this.#observe(current);
        if (current.spec.holderIdentity && !this.#leads() && this.#isValid()) return false;
        this.#observe(await client.update(resources.leases, this.#claim(current), { signal: until }));
        return true;
      });
    } catch (error) {
      if (!signal.aborted) log.info({ err: error, lease }, 'could not take or renew the lease');
      return false;
    }
  }

  #claim(current: Lease | undefined): Lease {
    const { identity, lease, clock } = this.#o;
    const now = microTime(new Date(clock.now()));
    const mine = current?.spec.holderIdentity === identity;
    const transitions = current?.spec.leaseTransitions ?? 0;
    return {
      ...(current ?? ({ apiVersion: 'coordination.k8s.io/v1', kind: 'Lease', metadata: { ...lease } } as unknown as Lease)),
      spec: {
        ...current?.spec,
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(this.#leaseMs / 1000),
        acquireTime: (mine && current?.spec.acquireTime) || now,
        renewTime: now,
        leaseTransitions: current && !mine ? transitions + 1 : transitions,
      },
    };
  }

  /** Leaves the lease to whoever asks next. */
  async #release(): Promise<void> {
    if (!this.#leads()) return;
    const { client, clock, log, lease } = this.#o;
    const now = microTime(new Date(clock.now()));
    const current = this.#observed as Lease;
    const spec = { ...current.spec, holderIdentity: '', leaseDurationSeconds: 1, acquireTime: now, renewTime: now };
    try {
      await this.#within(this.#deadlineMs, (until) => client.update(resources.leases, { ...current, spec }, { signal: until }), false);
    } catch (error) {
      log.warn({ err: error, lease }, 'could not give up the lease; others wait until it ends');
    }
  }

  #observe(lease: Lease): void {
    if (JSON.stringify(this.#observed?.spec) !== JSON.stringify(lease.spec)) this.#observedAt = this.#o.clock.now();
    this.#observed = lease;
    const leader = lease.spec.holderIdentity ?? '';
    if (leader && leader !== this.#reportedLeader) this.#call(() => this.#o.onNewLeader?.(leader));
    this.#reportedLeader = leader;
  }

  #isValid(): boolean {
    const seconds = this.#observed?.spec.leaseDurationSeconds ?? 0;
    return this.#observedAt + seconds * 1000 > this.#o.clock.now();
  }

  /** Runs work; rejects after ms milliseconds, and when the candidacy ends unless told otherwise. */
  async #within<T>(ms: number, work: (until: AbortSignal) => Promise<T>, endsWithCandidacy = true): Promise<T> {
    const limit = new AbortController();
    const cancel = this.#o.clock.after(ms, () => limit.abort(new Error(`no answer in ${ms / 1000} s`)));
    const until = endsWithCandidacy && !this.#o.signal.aborted ? AbortSignal.any([limit.signal, this.#o.signal]) : limit.signal;
    let onAbort: (() => void) | undefined;
    try {
      const over = new Promise<never>((_, reject) => {
        onAbort = () => reject(until.reason);
        until.addEventListener('abort', onAbort, { once: true });
      });
      return await Promise.race([work(until), over]);
    } finally {
      cancel();
      if (onAbort) until.removeEventListener('abort', onAbort);
    }
  }

  #call(callback: () => void): void {
    try {
      callback();
    } catch (error) {
      this.#o.log.error({ err: error }, 'a callback of the leader election failed');
    }
  }
}
