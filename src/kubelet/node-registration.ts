import type { Logger } from 'pino';
import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Node, NodeStatus, Taint } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';
import { type Clock, sleep } from '../client/clock.ts';
import { comparableStatus } from './node-status.ts';

export interface NodeRegistrationOptions {
  client: Client;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
  nodeName: string;
  labels: Record<string, string>;
  annotations?: Record<string, string>;
  taints: Taint[];
  providerId?: string;
  updateFrequencyMs: number;
  /** Computes the status over what the Node says now. */
  status(node: Node): Promise<NodeStatus>;
}

/** An unchanged status is still written this often, so that its heartbeat shows the node lives. */
const reportEveryMs = 300_000;

/** The Node object of this kubelet: made or adopted, its status kept up to date. */
export class NodeRegistration {
  private readonly o: NodeRegistrationOptions;
  private node: Node | undefined;
  private lastReport = 0;
  private updating: Promise<void> | undefined;
  private again = false;

  constructor(o: NodeRegistrationOptions) {
    this.o = o;
  }

  /** The Node as last seen. */
  get current(): Node | undefined {
    return this.node;
  }
  /** A newer state of the Node, from a watch. */
  observe(node: Node | undefined): void {
    this.node = node;
  }

  /** Tries until the Node exists. */
  async register(): Promise<void> {
    for (let wait = 200; ; wait = Math.min(wait * 2, 7000)) {
      try {
        this.node = await this.registerOnce();
        return;
      } catch (error) {
        this.o.signal.throwIfAborted();
        this.o.log.warn({ err: error }, 'cannot register the node, will retry');
        await sleep(this.o.clock, wait, this.o.signal);
      }
    }
  }

  private async registerOnce(): Promise<Node> {
    const { client, nodeName, labels, taints, providerId, signal } = this.o;
    const annotations = { 'volumes.kubernetes.io/controller-managed-attach-detach': 'true', ...this.o.annotations };
    const draft = {
      metadata: { name: nodeName, labels, annotations },
      spec: { ...(providerId ? { providerID: providerId } : {}), ...(taints.length > 0 ? { taints } : {}) },
    };
    const shell: Node = { apiVersion: 'v1', kind: 'Node', ...draft, metadata: { ...draft.metadata } as never };
    try {
      const status = await this.o.status(shell);
      const made = await client.create(resources.nodes, { ...draft, status }, { signal });
      this.o.log.info({ node: nodeName }, 'registered the node');
      this.lastReport = this.o.clock.now();
      return made;
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
    // One of this name is there already, from before a restart: its labels and provider id are brought up to date; taints are left alone.
    const existing = await this.ownOrThrow(await client.get(resources.nodes, { name: nodeName }, { signal }));
    const patch: Record<string, unknown> = {};
    const missing = Object.entries(draft.metadata.labels).filter(([key, value]) => existing.metadata.labels?.[key] !== value);
    const annotated = Object.entries(annotations).every(([key, value]) => existing.metadata.annotations?.[key] === value);
    if (missing.length > 0 || !annotated)
      patch['metadata'] = {
        ...(missing.length > 0 ? { labels: Object.fromEntries(missing) } : {}),
        ...(annotated ? {} : { annotations: annotations }),
      };
    if (providerId && !existing.spec?.providerID) patch['spec'] = { providerID: providerId };
    return Object.keys(patch).length > 0 ? client.patch(resources.nodes, { name: nodeName }, 'merge', patch, { signal }) : existing;
  }

  /**
   * A Node of this name may be of an instance that is gone, whose address, and so whose name, this one has been given. Its provider id is
   * for life: it is not taken over, but said not to be ready, upon which the cloud controllers find its instance gone and delete it.
   */
  private async ownOrThrow(node: Node): Promise<Node> {
    const { client, nodeName, providerId, signal } = this.o;
    const other = node.spec?.providerID;
    if (!providerId || !other || other === providerId) return node;
    const message = `${nodeName} is ${providerId} now; this Node is of ${other}`;
    if (node.status?.conditions?.some((one) => one.type === 'Ready' && one.status === 'True')) {
      const now = `${new Date(this.o.clock.now()).toISOString().slice(0, 19)}Z`;
      const ready = { type: 'Ready', status: 'False', reason: 'InstanceReplaced', message, lastHeartbeatTime: now, lastTransitionTime: now };
      await client.patch(resources.nodes, { name: nodeName }, 'strategic', { status: { conditions: [ready] } }, { subresource: 'status', signal });
    }
    throw new Error(`${message}, and is waited for to be deleted`);
  }

  /** Writes the status where it has changed or is old. Calls that come while one runs share the next. */
  update(): Promise<void> {
    if (this.updating) {
      this.again = true;
      return this.updating;
    }
    this.updating = (async () => {
      do {
        this.again = false;
        await this.updateOnce();
      } while (this.again && !this.o.signal.aborted);
    })().finally(() => {
      this.updating = undefined;
    });
    return this.updating;
  }

  private async updateOnce(): Promise<void> {
    const { client, nodeName, signal } = this.o;
    const node = this.node ?? (await this.fetchOrRegister());
    const status = await this.o.status(node);
    const fresh = this.o.clock.now() - this.lastReport < reportEveryMs;
    if (fresh && node.status && comparableStatus(status) === comparableStatus(node.status)) return;
    try {
      this.node = await client.patch(resources.nodes, { name: nodeName }, 'strategic', statusPatch(node, status), { subresource: 'status', signal });
      this.lastReport = this.o.clock.now();
    } catch (error) {
      this.node = undefined;
      throw error;
    }
  }

  private async fetchOrRegister(): Promise<Node> {
    const { client, nodeName, signal } = this.o;
    try {
      return (this.node = await this.ownOrThrow(await client.get(resources.nodes, { name: nodeName }, { signal })));
    } catch (error) {
      if (!isNotFound(error)) throw error;
      // Someone deleted it while the kubelet runs.
      return (this.node = await this.registerOnce());
    }
  }

  /** Updates at the node status frequency until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { signal, clock, log } = this.o;
    while (!signal.aborted) {
      await this.update().catch((error) => {
        if (!signal.aborted) log.warn({ err: error }, 'cannot write node status, will retry');
      });
      await sleep(clock, this.o.updateFrequencyMs, signal).catch(() => {});
    }
  }
}

/** Conditions merge by type and addresses by type too, so old addresses are replaced as a whole. */
function statusPatch(node: Node, status: NodeStatus): unknown {
  const same = JSON.stringify(node.status?.addresses) === JSON.stringify(status.addresses);
  const { addresses, volumesAttached: _, ...rest } = status;
  return { status: { ...rest, ...(same ? {} : { addresses: [...(addresses ?? []), { $patch: 'replace' }] }) } };
}
