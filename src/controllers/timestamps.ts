import type { Clock } from '../client/clock.ts';

/** The clock's time as metav1.Time writes it: RFC 3339, whole seconds, UTC. */
export const timestamp = (clock: Clock): string => rfc3339(clock.now());

/** Milliseconds since the epoch as RFC 3339 with whole seconds. */
export const rfc3339 = (ms: number): string => `${new Date(ms).toISOString().slice(0, 19)}Z`;

/** Milliseconds since the epoch of an API timestamp; 0 where it is missing. */
export const millis = (time: string | undefined): number => (time ? Date.parse(time) : 0);
