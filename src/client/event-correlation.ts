import type { Event } from '../api/generated/types.ts';

/** Keys that are remembered of each sort; the least recently used go first. */
const rememberedKeys = 4096;
/** Distinct messages of otherwise equal events within the interval from which on they are combined. */
const similarEvents = 10;
const similarIntervalMs = 600_000;
/** Events of one source about one object that may come at once, and the time after which one more may. */
const burst = 25;
const refillMs = 300_000;
const combinedPrefix = '(combined from similar events): ';

/** An event as it is going to be sent: everything but what the API server gives. */
export type OutgoingEvent = Omit<Event, 'metadata'> & { metadata: { name: string; namespace: string } };

/** What becomes of one event: created, counted onto one that was sent before, or dropped as spam. */
export type Correlated = { action: 'create' | 'patch'; event: OutgoingEvent; key: string } | { action: 'drop' };

class RecentMap<V> {
  readonly #map = new Map<string, V>();

  get(key: string): V | undefined {
    const value = this.#map.get(key);
    if (value !== undefined) this.set(key, value);
    return value;
  }

  set(key: string, value: V): void {
    this.#map.delete(key);
    this.#map.set(key, value);
    if (this.#map.size > rememberedKeys) this.#map.delete(this.#map.keys().next().value as string);
  }

  delete(key: string): void {
    this.#map.delete(key);
  }
}

/**
 * What client-go's event correlator does, in its order: events that differ in their message alone are combined once there
 * are ten distinct messages in ten minutes; an event equal to one sent before is counted onto it; and a source that
 * says too much about one object (a token bucket of 25, one more every five minutes) is not heard.
 */
export class EventCorrelator {
  readonly #similar = new RecentMap<{ messages: Set<string>; at: number }>();
  readonly #sent = new RecentMap<{ name: string; count: number; firstTimestamp: string }>();
  readonly #buckets = new RecentMap<{ tokens: number; at: number }>();

  /** now in milliseconds since the epoch. Answers create or patch only: the caller says with sent() that it is done. */
  correlate(event: OutgoingEvent, now: number): Correlated {
    const { involvedObject: about, source } = event;
    const object = [source?.component, source?.host, about.kind, about.namespace, about.name, about.uid, about.apiVersion];
    const similar = JSON.stringify([...object, event.type, event.reason, event.reportingComponent, event.reportingInstance]);
    let key = JSON.stringify([similar, about.fieldPath, event.message]);
    let outgoing = event;
    if (this.#isOneOfMany(similar, event.message ?? '', now)) {
      key = similar;
      outgoing = { ...event, message: combinedPrefix + event.message };
    }
    const before = this.#sent.get(key);
    if (!this.#mayPass(JSON.stringify(object), now)) {
      // Counted all the same, so that the next one to pass tells how many there were.
      if (before) this.#sent.set(key, { ...before, count: before.count + 1 });
      return { action: 'drop' };
    }
    if (!before) return { action: 'create', event: outgoing, key };
    const metadata = { name: before.name, namespace: event.metadata.namespace };
    return { action: 'patch', event: { ...outgoing, metadata, count: before.count + 1, firstTimestamp: before.firstTimestamp }, key };
  }

  /** The API server has the event under its name and count. */
  sent(key: string, event: OutgoingEvent): void {
    this.#sent.set(key, { name: event.metadata.name, count: event.count ?? 1, firstTimestamp: event.firstTimestamp ?? '' });
  }

  #isOneOfMany(similar: string, message: string, now: number): boolean {
    let record = this.#similar.get(similar);
    if (!record || now - record.at > similarIntervalMs) record = { messages: new Set(), at: now };
    record.at = now;
    record.messages.add(message);
    this.#similar.set(similar, record);
    if (record.messages.size < similarEvents) return false;
    // Room for the next, so that the set does not grow for ever.
    record.messages.delete(record.messages.values().next().value as string);
    return true;
  }

  #mayPass(object: string, now: number): boolean {
    const bucket = this.#buckets.get(object) ?? { tokens: burst, at: now };
    const tokens = Math.min(burst, bucket.tokens + Math.max(0, now - bucket.at) / refillMs);
    const passes = tokens >= 1;
    this.#buckets.set(object, { tokens: passes ? tokens - 1 : tokens, at: now });
    return passes;
  }
}
