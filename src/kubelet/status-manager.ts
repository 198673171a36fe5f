import type { Logger } from 'pino';
import type { Client } from '../client/client.ts';
import { type Clock, sleep } from '../client/clock.ts';
import { isNotFound, StatusError } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Pod, PodStatus } from '../api/generated/types.ts';

interface Entry {
  pod: Pod;
  wanted: PodStatus;
  /** What the API server is known to have. */
  sent: string | undefined;
  sending: Promise<void> | undefined;
}

/**
 * Brings pod statuses to the API server: only what changed, one write at a time a pod, the newest state wins, retried until it is accepted
 * or the pod is gone.
 */
export class StatusManager {
  private readonly client: Client;
  private readonly log: Logger;
  private readonly clock: Clock;
  private readonly signal: AbortSignal;
  private readonly entries = new Map<string, Entry>();

  constructor(o: { client: Client; log: Logger; clock: Clock; signal: AbortSignal }) {
    this.client = o.client;
    this.log = o.log;
    this.clock = o.clock;
    this.signal = o.signal;
  }

  /** The newest status the kubelet has computed, which may be ahead of the API server's. */
  get(uid: string): PodStatus | undefined {
    return this.entries.get(uid)?.wanted;
  }

  set(pod: Pod, status: PodStatus): void {
    const uid = pod.metadata.uid;
    const entry: Entry = this.entries.get(uid) ?? { pod, wanted: status, sent: undefined, sending: undefined };
    entry.pod = pod;
    entry.wanted = status;
    this.entries.set(uid, entry);
    if (!entry.sending)
      entry.sending = this.send(entry).finally(() => {
        entry.sending = undefined;
      });
  }

  /** Resolves when everything set so far for this pod has reached the API server (or the pod is gone). */
  async flush(uid: string): Promise<void> {
    await this.entries.get(uid)?.sending;
  }

  forget(uid: string): void {
    this.entries.delete(uid);
  }

  private async send(entry: Entry): Promise<void> {
    const { uid, name, namespace } = entry.pod.metadata;
    for (let delay = 250; this.entries.get(uid) === entry && !this.signal.aborted; ) {
      const status = entry.wanted;
      const text = comparable(status);
      if (entry.sent === text || (entry.sent === undefined && entry.pod.status && comparable(entry.pod.status) === text)) return;
      try {
        await this.client.patch(resources.pods, { namespace, name }, 'strategic', statusPatch(uid, entry.pod.status, status, passingOf(entry)), {
          subresource: 'status',
          signal: this.signal,
        });
        entry.sent = text;
        delay = 250;
      } catch (error) {
        if (this.signal.aborted) return;
        // Gone, or another pod of that name by now (the patch names the uid): nothing to say to it.
        if (isNotFound(error) || (error instanceof StatusError && error.code === 409 && /uid/i.test(error.message))) return;
        this.log.warn({ err: error, pod: `${namespace}/${name}` }, 'cannot write pod status, will retry');
        await sleep(this.clock, delay, this.signal).catch(() => {});
        delay = Math.min(delay * 2, 10_000);
      }
    }
  }
}

/** A form in which equal statuses are equal texts: without order of keys, null and undefined members. */
function comparable(status: PodStatus): string {
  const sort = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(sort);
    if (value === null || typeof value !== 'object') return value;
    const entries = Object.entries(value).filter(([, v]) => v !== undefined && v !== null);
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([k, v]) => [k, sort(v)]));
  };
  const conditions = [...(status.conditions ?? [])].sort((a, b) => (a.type < b.type ? -1 : 1));
  return JSON.stringify(sort({ ...status, conditions }));
}

/** Types of the conditions that are the kubelet's. */
export const ownConditions: ReadonlySet<string> = new Set([
  'PodScheduled',
  'PodResizePending',
  'PodResizeInProgress',
  'PodReadyToStartContainers',
  'Initialized',
  'Ready',
  'ContainersReady',
]);
/** What a status update carries: its own, and why it ended a pod, which others say too. */
const sentConditions: ReadonlySet<string> = new Set([...ownConditions, 'DisruptionTarget']);

/** The conditions of ours that go again. */
const passing = ['PodResizePending', 'PodResizeInProgress'];
const passingOf = ({ pod, sent }: Entry): string[] =>
  passing.filter((type) => (sent === undefined ? pod.status?.conditions?.some((c) => c.type === type) : sent.includes(`"${type}"`)));

/**
 * A strategic merge patch that brings the status over. Conditions merge by type, so those of others stay; lists of addresses merge by ip,
 * so old addresses are deleted by name. passed: conditions that may go and that the server has.
 */
export function statusPatch(uid: string, before: PodStatus | undefined, status: PodStatus, passed: string[] = []): unknown {
  const dropIps = (old: { ip: string }[] | undefined, now: { ip: string }[] | undefined) =>
    (old ?? []).filter((o) => !(now ?? []).some((n) => n.ip === o.ip)).map((o) => ({ ip: o.ip, $patch: 'delete' }));
  // A merge keeps what is not named: why a condition was false must not stay when it is true.
  const conditions: unknown[] = (status.conditions ?? [])
    .filter((c) => sentConditions.has(c.type))
    .map((c) => ({ ...c, ...(c.reason ? {} : { reason: null }), ...(c.message ? {} : { message: null }) }));
  for (const type of passed) if (!status.conditions?.some((c) => c.type === type)) conditions.push({ type, $patch: 'delete' });
  return {
    metadata: { uid },
    status: {
      ...status,
      conditions,
      ...(status.reason === undefined && before?.reason ? { reason: null } : {}),
      ...(status.message === undefined && before?.message ? { message: null } : {}),
      ...(status.podIPs || before?.podIPs ? { podIPs: [...(status.podIPs ?? []), ...dropIps(before?.podIPs, status.podIPs)] } : {}),
      ...(status.hostIPs || before?.hostIPs ? { hostIPs: [...(status.hostIPs ?? []), ...dropIps(before?.hostIPs, status.hostIPs)] } : {}),
    },
  };
}
