import type { Node } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';

/** Gives every node a range of pod addresses out of clusterCidr, and takes it back with the node. Watches nodes. IPv4. */
export function startNodeIpamController(context: ControllerContext, clusterCidr: string, nodeCidrMaskSize: number): Controller {
  const { client, events, informers } = context;
  const log = context.log.child({ controller: 'node-ipam-controller' });
  const nodes = informers.informer(resources.nodes);
  const ranges = new CidrAllocator(clusterCidr, nodeCidrMaskSize);
  const loop = startReconciler(context, { name: 'node-ipam-controller', workers: 4, waitFor: [nodes], reconcile });
  const occupy = (node: Node) => {
    const cidr = node.spec.podCIDR;
    if (cidr && !ranges.occupy(cidr, node.metadata.name))
      log.warn({ node: node.metadata.name, cidr }, "a node's pod range is another node's, or outside the cluster's");
    if (!cidr && !node.metadata.deletionTimestamp) loop.enqueue(node.metadata.name);
  };
  nodes.addHandlers({
    onAdd: occupy,
    onUpdate: (_, after) => occupy(after),
    onDelete(node) {
      ranges.releaseOf(node.metadata.name);
      // One that was refused may fit now.
      for (const other of nodes.list()) if (!other.spec.podCIDR) loop.enqueue(other.metadata.name);
    },
  });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const node = nodes.get(name);
    if (!node || node.spec.podCIDR || node.metadata.deletionTimestamp) return;
    const cidr = ranges.allocate(name);
    if (!cidr) {
      events.event(node, 'Normal', 'CIDRNotAvailable', `Node ${name} status is now: CIDRNotAvailable`);
      return;
    }
    try {
      const { uid, resourceVersion } = node.metadata;
      await client.patch(resources.nodes, { name }, 'merge', { metadata: { uid, resourceVersion }, spec: { podCIDR: cidr, podCIDRs: [cidr] } });
    } catch (error) {
      // Whether it was written is not known after a lost answer: the server says.
      const live = await client.get(resources.nodes, { name }).catch(() => undefined);
      if (live?.spec.podCIDR !== cidr) ranges.releaseOf(name);
      throw error;
    }
  }
}

/** Ranges of one size out of a larger one; each belongs to one name. */
export class CidrAllocator {
  readonly #base: number;
  readonly #size: number;
  readonly #mask: number;
  readonly #count: number;
  readonly #owners = new Map<number, string>();
  readonly #byOwner = new Map<string, number>();
  #next = 0;

  /** Throws where the ranges make no sense together. */
  constructor(cidr: string, maskSize: number) {
    const [address = '', bits] = cidr.split('/');
    const prefix = Number(bits);
    if (!(prefix >= 0 && prefix <= maskSize && maskSize <= 32)) throw new Error(`no ranges of /${maskSize} in ${cidr}`);
    this.#mask = maskSize;
    this.#size = 2 ** (32 - maskSize);
    this.#count = 2 ** (maskSize - prefix);
    this.#base = toNumber(address) - (toNumber(address) % 2 ** (32 - prefix));
  }

  /** The name's own range, or a free one; undefined where none is left. */
  allocate(owner: string): string | undefined {
    const own = this.#byOwner.get(owner);
    if (own !== undefined) return this.#format(own);
    for (let tried = 0; tried < this.#count; tried++) {
      const index = (this.#next + tried) % this.#count;
      if (this.#owners.has(index)) continue;
      this.#next = (index + 1) % this.#count;
      this.#set(index, owner);
      return this.#format(index);
    }
    return undefined;
  }

  /** Notes that the name has this range; false where it is not ours to give, or another has it. */
  occupy(cidr: string, owner: string): boolean {
    const [address = '', bits] = cidr.split('/');
    const index = (toNumber(address) - this.#base) / this.#size;
    if (Number(bits) !== this.#mask || !Number.isInteger(index) || index < 0 || index >= this.#count) return false;
    const has = this.#owners.get(index);
    if (has !== undefined && has !== owner) return false;
    this.#set(index, owner);
    return true;
  }

  releaseOf(owner: string): void {
    const index = this.#byOwner.get(owner);
    if (index === undefined) return;
    this.#byOwner.delete(owner);
    this.#owners.delete(index);
  }

  #set(index: number, owner: string): void {
    if (this.#byOwner.get(owner) !== index) this.releaseOf(owner);
    this.#owners.set(index, owner);
    this.#byOwner.set(owner, index);
  }

  #format(index: number): string {
    const n = this.#base + index * this.#size;
    return `${[24, 16, 8, 0].map((shift) => Math.floor(n / 2 ** shift) % 256).join('.')}/${this.#mask}`;
  }
}

const toNumber = (address: string): number => address.split('.').reduce((n, part) => n * 256 + Number(part), 0);
