import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import { isAlreadyExists, isConflict, isNotFound } from '../../api/errors.ts';
import { resources } from '../../api/generated/resources.ts';
import type { Lease, Node } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import type { InformerFactory } from '../../client/informer.ts';
import { registerCsiDrivers, type CsiNodeDriver } from '../csi-node.ts';
import { formatMicroTime, formatTime } from '../pods.ts';
import type { BehaviourRule } from './behaviour.ts';
import { Limiter } from './limiter.ts';
import { PodSimulator } from './pods.ts';
import { SimulatedKubeletApi, type SimulatedKubeletKeys } from './server.ts';
import { type SimulatedNode, simulatedNodeObject } from './status.ts';

export interface SimulatedNodesOptions {
  client: Client;
  informers: InformerFactory;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
  /** What pods do; the first that fits decides, and without one they run and are ready at once. */
  rules?: readonly BehaviourRule[];
  /** For the kubelet API of the nodes (logs, exec); without keys there is none. */
  keys?: SimulatedKubeletKeys;
  /** Life of the nodes' leases, renewed four times within: 40 s. */
  leaseDurationSeconds?: number;
}

interface Running extends SimulatedNode {
  csi: CsiNodeDriver[];
  up: boolean;
  /** The Node exists, and is this one. */
  registered: Node | undefined;
  lease: Lease | undefined;
  cancel: (() => void) | undefined;
  podCidr: string | undefined;
}

/** A status that does not change is still reported this often, as kubelets do. */
const statusPeriodMs = 300_000;

/**
 * Any number of nodes that run nothing, in this process: they register, keep their leases, and report their pods as behaviour rules
 * have it (behaviour.ts). One watch of pods and one of nodes serve all of them.
 */
export class SimulatedNodes {
  private readonly o: SimulatedNodesOptions;
  private readonly nodes = new Map<string, Running>();
  private readonly byAddress = new Map<string, Running>();
  private readonly pods: PodSimulator;
  private readonly api: SimulatedKubeletApi | undefined;
  private readonly calls = new Limiter(32);

  constructor(o: SimulatedNodesOptions) {
    this.o = o;
    this.pods = new PodSimulator({
      client: o.client,
      clock: o.clock,
      log: o.log,
      signal: o.signal,
      rules: o.rules ?? [],
      hostIpOf: (name) => {
        const node = this.nodes.get(name);
        return node?.up ? node.address : undefined;
      },
    });
    if (o.keys) this.api = new SimulatedKubeletApi(o.keys, (node, namespace, name) => this.pods.find(namespace, name, node), o.signal);
    const mine = (node: string | undefined) => node !== undefined && this.nodes.has(node);
    o.informers.informer(resources.pods).addHandlers({
      onAdd: (pod) => mine(pod.spec.nodeName) && this.pods.observe(pod),
      onUpdate: (_, pod) => mine(pod.spec.nodeName) && this.pods.observe(pod),
      onDelete: (pod) => this.pods.forget(pod),
    });
    o.informers.informer(resources.nodes).addHandlers({
      onAdd: (node) => this.seen(node),
      onUpdate: (_, node) => this.seen(node),
      onDelete: (node) => this.unregistered(node),
    });
  }

  /** Names of those that were added and not removed. */
  get names(): string[] {
    return [...this.nodes.keys()];
  }

  /** Starts a node's kubelet; it registers as soon as it can. Nothing happens where it runs already. */
  add(node: SimulatedNode, csi: CsiNodeDriver[] = []): void {
    if (this.nodes.has(node.name)) return;
    const running: Running = { ...node, csi, up: true, registered: undefined, lease: undefined, cancel: undefined, podCidr: undefined };
    this.nodes.set(node.name, running);
    this.byAddress.set(node.address, running);
    void this.work(running);
    // Pods of a node that was there before.
    const podsHere = this.o.informers.informer(resources.pods).list();
    if (podsHere.length) for (const pod of podsHere) if (pod.spec.nodeName === node.name) this.pods.observe(pod);
  }

  /** Ends a node's kubelet as the loss of its machine does: the Node stays and falls silent. */
  remove(name: string): void {
    const node = this.nodes.get(name);
    if (!node) return;
    node.up = false;
    node.cancel?.();
    this.nodes.delete(name);
    this.byAddress.delete(node.address);
    this.api?.drop(name);
  }

  /** Stops or starts a node's kubelet (or its network: nothing is reported and nothing answers). False where there is no such node. */
  setUp(name: string, up: boolean): boolean {
    const node = this.nodes.get(name);
    if (!node) return false;
    if (node.up === up) return true;
    node.up = up;
    node.cancel?.();
    if (up) {
      void this.work(node);
      this.pods.nodeChanged(name, node.podCidr);
    }
    return true;
  }

  /** Whether this address is one of a simulated node's. */
  has(address: string): boolean {
    return this.byAddress.has(address);
  }

  /** A connection to a node's kubelet API, as TCP would give it. Undefined where nothing listens there. */
  connect(address: string, port: number): Promise<Duplex> | undefined {
    const node = this.byAddress.get(address);
    return node?.up && port === 10250 ? this.api?.connect(node) : undefined;
  }

  private seen(object: Node): void {
    const node = this.nodes.get(object.metadata.name);
    if (!node) return;
    node.registered = object;
    const cidr = object.spec.podCIDR;
    if (!cidr || cidr === node.podCidr) return;
    node.podCidr = cidr;
    this.pods.nodeChanged(node.name, cidr);
  }

  private unregistered(object: Node): void {
    this.pods.nodeGone(object.metadata.name);
    const node = this.nodes.get(object.metadata.name);
    if (!node) return;
    node.registered = undefined;
    node.lease = undefined;
    node.podCidr = undefined;
    node.cancel?.();
    // Whoever deletes the Node of a machine that goes on sees it register again.
    if (node.up) node.cancel = this.o.clock.after(1000, () => void this.work(node));
  }

  /** Registers, then renews the lease until the node is down. Never rejects. */
  private async work(node: Running): Promise<void> {
    node.cancel?.();
    node.cancel = undefined;
    const interval = ((this.o.leaseDurationSeconds ?? 40) * 1000) / 4;
    let next = interval * (1 + Math.random() * 0.04);
    try {
      await this.calls.run(async () => {
        if (!node.up || this.o.signal.aborted) return;
        if (!node.registered) {
          await this.register(node);
          // Many that come at once are spread over the interval.
          next = interval * (0.2 + 0.8 * Math.random());
        }
        await this.renew(node);
        await this.report(node);
      });
    } catch (error) {
      if (this.o.signal.aborted) return;
      if (isNotFound(error) || isConflict(error)) node.lease = undefined;
      else this.o.log.warn({ err: error, node: node.name }, 'a simulated node cannot report, will retry');
      next = 1000;
    }
    if (node.up && !this.o.signal.aborted) node.cancel = this.o.clock.after(next, () => void this.work(node));
  }

  private async register(node: Running): Promise<void> {
    const { client, clock, signal } = this.o;
    try {
      node.registered = await client.create(resources.nodes, simulatedNodeObject(node, clock.now()), { signal });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const existing = await client.get(resources.nodes, { name: node.name }, { signal });
      if (node.providerId && existing.spec.providerID && existing.spec.providerID !== node.providerId) {
        // Of an instance that is gone, whose address this one has been given. A Node's provider id is for life.
        const { uid, deletionTimestamp } = existing.metadata;
        if (deletionTimestamp) throw new Error(`the Node of ${existing.spec.providerID} is waited for to be deleted`);
        await client.delete(resources.nodes, { name: node.name }, { preconditions: { uid }, signal }).catch((gone) => {
          if (!isNotFound(gone)) throw gone;
        });
        return this.register(node);
      }
      node.registered = existing;
    }
    const cidr = node.registered.spec.podCIDR;
    if (cidr) this.seen(node.registered);
    await registerCsiDrivers(client, node.registered, node.csi, signal);
  }

  private async renew(node: Running): Promise<void> {
    const { client, clock, signal } = this.o;
    const key = { name: node.name, namespace: 'kube-node-lease' };
    const leaseDurationSeconds = this.o.leaseDurationSeconds ?? 40;
    const spec = { holderIdentity: node.name, leaseDurationSeconds, renewTime: formatMicroTime(clock.now()) };
    if (!node.lease) {
      const owner = node.registered ? [{ apiVersion: 'v1', kind: 'Node', name: node.name, uid: node.registered.metadata.uid }] : [];
      try {
        node.lease = await client.create(resources.leases, { metadata: { ...key, ownerReferences: owner }, spec }, { signal });
        return;
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
        node.lease = await client.get(resources.leases, key, { signal });
      }
    }
    node.lease = await client.update(resources.leases, { ...node.lease, spec: { ...node.lease.spec, ...spec } }, { signal });
  }

  /** Takes back what the node controller wrote while the node was silent, and shows that it lives. */
  private async report(node: Running): Promise<void> {
    const { client, clock, signal } = this.o;
    const ready = node.registered?.status?.conditions?.find((c) => c.type === 'Ready');
    const now = clock.now();
    if (ready?.status === 'True' && now - Date.parse((ready.lastHeartbeatTime as string) ?? 0) < statusPeriodMs) return;
    const { conditions } = simulatedNodeObject(node, now).status as { conditions: { type: string; status: string; lastTransitionTime: string }[] };
    const before = new Map((node.registered?.status?.conditions ?? []).map((c) => [c.type, c]));
    const kept = conditions.map((c) => {
      const old = before.get(c.type);
      return { ...c, lastTransitionTime: old?.status === c.status && old.lastTransitionTime ? old.lastTransitionTime : formatTime(now) };
    });
    const patch = { status: { conditions: kept } };
    node.registered = await client.patch(resources.nodes, { name: node.name }, 'strategic', patch, { subresource: 'status', signal });
  }
}
