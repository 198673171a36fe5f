import type { Pod, Service } from '../api/generated/types.ts';
import { podCondition } from './pod-facts.ts';
import { millis, rfc3339 } from './timestamps.ts';

/** When the change happened that endpoints were last written for: from it one can tell how long the network takes to follow. */
export const TRIGGER_TIME = 'endpoints.kubernetes.io/last-change-trigger-time';

interface Seen {
  service: number;
  pods: Map<string, number>;
}

/** Finds the earliest change to a service and its pods since the last look. */
export class TriggerTimes {
  readonly #seen = new Map<string, Seen>();

  /** The annotation's value for a write that comes now; undefined where nothing is known to have changed. */
  since(key: string, service: Service, pods: Pod[]): string | undefined {
    const before = this.#seen.get(key);
    const created = millis(service.metadata.creationTimestamp);
    const seen: Seen = { service: created, pods: new Map() };
    let earliest = Number.POSITIVE_INFINITY;
    for (const pod of pods) {
      const at = millis(podCondition(pod, 'Ready')?.lastTransitionTime);
      if (!at) continue;
      seen.pods.set(pod.metadata.name, at);
      if (at > (before?.pods.get(pod.metadata.name) ?? 0)) earliest = Math.min(earliest, at);
    }
    if (created > (before?.service ?? 0)) earliest = Math.min(earliest, created);
    this.#seen.set(key, seen);
    if (!before) return rfc3339(created);
    return earliest === Number.POSITIVE_INFINITY ? undefined : rfc3339(earliest);
  }

  forget(key: string): void {
    this.#seen.delete(key);
  }
}

/** Annotations with the trigger time, or without where there is none. */
export function withTriggerTime(annotations: Record<string, string> | undefined, time: string | undefined): Record<string, string> {
  const { [TRIGGER_TIME]: _, ...others } = annotations ?? {};
  return time ? { ...others, [TRIGGER_TIME]: time } : others;
}
