import { randomInt } from 'node:crypto';
import type { Logger } from 'pino';
import { isAlreadyExists, isNotFound, StatusError } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { KubeObject } from '../api/object.ts';
import { rfc3339 } from '../api/time.ts';
import type { Client } from './client.ts';
import { type Clock, sleep } from './clock.ts';
import { EventCorrelator, type OutgoingEvent } from './event-correlation.ts';
import type { EventRecorder } from './events.ts';

export interface EventRecorderOptions {
  /** Who records, as `default-scheduler` or `kubelet`. */
  component: string;
  /** The node it speaks for, where it speaks for one. */
  host?: string;
  clock: Clock;
  log: Logger;
}

/** A recorder that can be brought to an end. */
export interface RunningEventRecorder extends EventRecorder {
  /** Resolves when every event recorded so far has been sent or dropped. */
  flush(): Promise<void>;
  /** Drops what waits, ends what is being sent, and records nothing more. */
  close(): Promise<void>;
}

/** Events that may wait for the API server; more are dropped, so that a server that is away costs no memory. */
const longestQueue = 1000;
const attempts = 4;
const firstRetryMs = 500;
/** For one attempt: a server that hangs must not hold up the events behind for ever. */
const attemptTimeoutMs = 30_000;
/** The API's limit for an event's text. */
const longestMessage = 1024;
const longestName = 253;

/**
 * Sends core/v1 Events one after the other, in the order in which they were recorded, correlated as client-go does.
 * Events are a help, never a need: what cannot be sent in a few attempts is dropped with a debug message.
 */
export function createEventRecorder(client: Client, options: EventRecorderOptions): RunningEventRecorder {
  return new QueuedRecorder(client, options);
}

class QueuedRecorder implements RunningEventRecorder {
  readonly #client: Client;
  readonly #options: EventRecorderOptions;
  readonly #correlator = new EventCorrelator();
  readonly #stop = new AbortController();
  #queue: OutgoingEvent[] = [];
  #working: Promise<void> | undefined;
  #lastName = 0n;

  constructor(client: Client, options: EventRecorderOptions) {
    this.#client = client;
    this.#options = options;
  }

  event(about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const { log } = this.#options;
    try {
      if (this.#stop.signal.aborted) return;
      if (this.#queue.length >= longestQueue) {
        log.debug({ reason, message }, 'too many events wait, dropping one');
        return;
      }
      this.#queue.push(this.#make(about, type, reason, message));
      this.#working ??= this.#work();
    } catch (error) {
      log.debug({ err: error, reason, message }, 'cannot record an event');
    }
  }

  async flush(): Promise<void> {
    while (this.#working) await this.#working;
  }

  async close(): Promise<void> {
    this.#stop.abort(new Error('the event recorder has been closed'));
    this.#queue = [];
    await this.flush();
  }

  #make(about: KubeObject, type: string, reason: string, message: string): OutgoingEvent {
    const { component, host, clock } = this.#options;
    const { name, namespace, uid, resourceVersion } = about.metadata;
    const now = rfc3339(new Date(clock.now()));
    return {
      apiVersion: 'v1',
      kind: 'Event',
      metadata: { name: this.#name(name), namespace: namespace || 'default' },
      involvedObject: {
        kind: about.kind,
        ...(namespace ? { namespace } : {}),
        name,
        uid,
        apiVersion: about.apiVersion,
        ...(resourceVersion ? { resourceVersion } : {}),
      },
      reason,
      message: cut(message),
      source: host ? { component, host } : { component },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
      type,
      reportingComponent: component,
      reportingInstance: host ?? '',
    };
  }

  /**
   * The object's name and the time in nanoseconds, as kubectl users know it; never the same twice. The clock has milliseconds: chance
   * fills in the rest, or two components that speak of namesakes in the same one would lose an event.
   */
  #name(object: string): string {
    const now = BigInt(this.#options.clock.now()) * 1_000_000n + BigInt(randomInt(1_000_000));
    this.#lastName = now > this.#lastName ? now : this.#lastName + 1n;
    const suffix = `.${this.#lastName.toString(16)}`;
    return object.slice(0, longestName - suffix.length) + suffix;
  }

  async #work(): Promise<void> {
    // Off the caller's turn: nothing of what follows may slow it down.
    await Promise.resolve();
    for (let event = this.#queue.shift(); event; event = this.#queue.shift()) {
      try {
        await this.#record(event);
      } catch (error) {
        this.#options.log.debug({ err: error, reason: event.reason, message: event.message }, 'an event is dropped');
      }
    }
    this.#working = undefined;
  }

  async #record(event: OutgoingEvent): Promise<void> {
    const correlated = this.#correlator.correlate(event, this.#options.clock.now());
    if (correlated.action === 'drop') return this.#options.log.debug({ reason: event.reason }, 'too many events about one object, dropping one');
    let { action } = correlated;
    const { key } = correlated;
    let outgoing = correlated.event;
    for (let attempt = 1; ; attempt++) {
      try {
        await this.#send(action, outgoing);
        return this.#correlator.sent(key, outgoing);
      } catch (error) {
        // An attempt before took effect, and only its answer was lost.
        if (attempt > 1 && isAlreadyExists(error)) return this.#correlator.sent(key, outgoing);
        if (action === 'patch' && isNotFound(error)) {
          // It has expired meanwhile: the count goes on, under a name of its own.
          action = 'create';
          outgoing = { ...outgoing, metadata: event.metadata };
          attempt--;
          continue;
        }
        if (attempt >= attempts || this.#stop.signal.aborted || !isWorthRetrying(error)) throw error;
        await sleep(this.#options.clock, firstRetryMs * 2 ** (attempt - 1) * (1 + Math.random()), this.#stop.signal);
      }
    }
  }

  async #send(action: 'create' | 'patch', event: OutgoingEvent): Promise<void> {
    const timeout = new AbortController();
    const cancel = this.#options.clock.after(attemptTimeoutMs, () => timeout.abort(new Error('the API server did not answer')));
    const signal = AbortSignal.any([this.#stop.signal, timeout.signal]);
    const { count, lastTimestamp, message } = event;
    try {
      const sent =
        action === 'create'
          ? this.#client.create(resources.events, event, { signal })
          : this.#client.patch(resources.events, event.metadata, 'strategic', { count, lastTimestamp, message }, { signal });
      await Promise.race([sent, aborted(signal)]);
    } finally {
      cancel();
    }
  }
}

const aborted = (signal: AbortSignal): Promise<never> =>
  new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason);
    else signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });

/** What the server has refused it will refuse again, unless it was only busy. */
function isWorthRetrying(error: unknown): boolean {
  return !(error instanceof StatusError) || error.code === 429 || error.code >= 500;
}

function cut(message: string): string {
  if (Buffer.byteLength(message) <= longestMessage) return message;
  let text = message.slice(0, longestMessage - 3);
  while (Buffer.byteLength(text) > longestMessage - 3) text = text.slice(0, -1);
  return `${text}...`;
}
