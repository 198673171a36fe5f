import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Block, formatAddress, hardwareAddress, parseAddress, parseBlock } from './addresses.ts';
import { type Allocation, Allocations, type HostPort, isAny } from './allocations.ts';
import type { PodNetwork } from './network.ts';
import { closePorts, openPorts, podRules } from './pod-rules.ts';
import { input, shell } from './shell.ts';

/** The bridge of a node's pods. */
export const bridgeName = 'kumulus0';

export interface PodNetworkOptions {
  /** Where addresses are remembered; must outlive restarts of this process. */
  stateDir: string;
  /** Destinations that see a pod's own address; all others see the node's. The pod CIDR itself always belongs to them. */
  nonMasqueradeCidrs: string[];
  log: Logger;
}

/**
 * The pod network of one node, in the network namespace of this process (needs root): a bridge with the first address of the
 * pod CIDR, and a veth pair a pod. Pods have their address with a prefix of 32 bits and reach everything, their neighbours too,
 * by way of the node: so the rules for services hold between two pods of one node without the bridge's own filter hooks.
 */
export function createPodNetwork(options: PodNetworkOptions): PodNetwork {
  return new BridgeNetwork(options);
}

interface Gateway {
  block: Block;
  address: string;
  mtu: number;
}

class BridgeNetwork implements PodNetwork {
  readonly #options: PodNetworkOptions;
  readonly #nonMasqueradeCidrs: string[];
  #opening: Promise<Allocations> | undefined;
  #gateway: Gateway | undefined;
  /** The end of the last piece of work on each sandbox; '' is the node's own. */
  readonly #turns = new Map<string, Promise<unknown>>();

  constructor(options: PodNetworkOptions) {
    this.#options = options;
    this.#nonMasqueradeCidrs = options.nonMasqueradeCidrs.map((cidr) => {
      const block = parseBlock(cidr);
      if (!block) throw new Error(`${cidr} is not an IPv4 block: pods have IPv4 addresses only`);
      return block.cidr;
    });
  }

  get ready(): boolean {
    return this.#gateway !== undefined;
  }

  configure(podCidr: string): Promise<void> {
    return this.#inTurn('', async () => {
      const block = parseBlock(podCidr);
      if (!block || block.prefix < 8 || block.prefix > 29)
        throw new Error(`the pod CIDR ${podCidr} is not an IPv4 block with a prefix length between 8 and 29`);
      const allocations = await this.#allocations();
      const before = this.#gateway?.block ?? (allocations.ids.length ? allocations.block : undefined);
      if (before && before.cidr !== block.cidr) {
        throw new Error(
          `the pod CIDR of this node cannot change from ${before.cidr} to ${block.cidr} while it runs pods; drain the node, and start it anew`,
        );
      }
      if (this.#gateway) return;
      await allocations.setBlock(block);
      const address = formatAddress(block.base + 1);
      const mtu = await this.#makeBridge(block, address);
      const held = allocations.ids.map((id) => allocations.get(id) as Allocation);
      const rules = podRules({ bridge: bridgeName, podCidr: block.cidr, nonMasqueradeCidrs: this.#nonMasqueradeCidrs, allocations: held });
      await this.#run('make the rules of the pod network', `nft -f - ${input(rules)}`);
      this.#gateway = { block, address, mtu };
      this.#options.log.info({ podCidr: block.cidr, mtu, sandboxes: held.length }, 'the pod network is ready');
    });
  }

  add(sandboxId: string, netnsPath: string, ports: HostPort[]): Promise<{ ip: string }> {
    return this.#inTurn(sandboxId, async () => {
      const gateway = this.#gateway;
      if (!gateway) throw new Error('the pod network is not ready: this node has no pod CIDR yet');
      const allocations = await this.#allocations();
      const wanted = unique(ports);
      for (const port of wanted) {
        const holder = allocations.holderOf(port, sandboxId);
        if (holder) throw new Error(`host port ${port.hostPort}/${port.protocol} is already used by sandbox ${holder}`);
      }
      const known = allocations.get(sandboxId);
      const { ip, ports: before } = known ?? allocations.take(sandboxId);
      const opened = wanted.filter((p) => !before.some((b) => same(b, p)));
      const closed = before.filter((b) => !wanted.some((p) => same(b, p)));
      // Taken before anything waits: two pods that ask at the same time must see each other's.
      (allocations.get(sandboxId) as Allocation).ports = wanted;
      const rules = [...closePorts(ip, closed), ...openPorts(ip, opened)];
      const connect =
        known && (await this.#isConnected(sandboxId, netnsPath, ip)) ? '' : this.#connecting(sandboxId, ip, gateway, known !== undefined);
      const script = `${connect}${rules.length ? `nft -f - ${input(rules)}` : ''}`;
      try {
        const saved = allocations.save();
        await Promise.all([saved, script ? this.#run(`connect sandbox ${sandboxId} to the pod network`, script, [netnsPath]) : undefined]);
      } catch (error) {
        if (known) known.ports = before;
        else await this.#undo(sandboxId, ip, wanted, allocations);
        throw error;
      }
      return { ip };
    });
  }

  remove(sandboxId: string, _netnsPath: string): Promise<void> {
    return this.#inTurn(sandboxId, async () => {
      const allocations = await this.#allocations();
      const { ip, ports } = allocations.get(sandboxId) ?? { ip: '', ports: [] };
      await this.#run(
        `disconnect sandbox ${sandboxId} from the pod network`,
        this.#disconnecting([sandboxId], this.ready ? closePorts(ip, ports) : []),
      );
      if (!ip) return;
      // Only now may another have it.
      allocations.free(sandboxId);
      await allocations.save();
    });
  }

  async retain(sandboxIds: string[]): Promise<void> {
    const allocations = await this.#allocations();
    const kept = new Set(sandboxIds);
    const gone = allocations.ids.filter((id) => !kept.has(id) && !this.#turns.has(id));
    if (gone.length) {
      const rules = this.ready ? gone.map((id) => allocations.get(id) as Allocation).flatMap(({ ip, ports }) => closePorts(ip, ports)) : [];
      await this.#run('disconnect sandboxes that are no more', this.#disconnecting(gone, rules));
      for (const id of gone) allocations.free(id);
      await allocations.save();
      this.#options.log.info({ sandboxes: gone.length }, 'freed the addresses of sandboxes that are no more');
    }
    const names = new Set([...allocations.ids, ...this.#turns.keys()].map(linkName));
    const lines = await shell(`ip -o link show master ${bridgeName} 2>/dev/null || true`);
    const strays = [...lines.matchAll(/^\d+: (kp[0-9a-f]{12})[@:]/gm)].map((m) => m[1] as string).filter((name) => !names.has(name));
    if (strays.length)
      await this.#run('remove links of sandboxes that are no more', `ip -force -batch - ${input(strays.map((s) => `link delete ${s}`))}`);
  }

  /** Bridge, its address, and the settings of the kernel that it needs. Its MTU is that of the way out. */
  async #makeBridge(block: Block, address: string): Promise<number> {
    const what = `make the bridge ${bridgeName}`;
    const found = await this.#run(
      what,
      `ip -o route show default; echo; ip -o link show; echo; ip -o -4 address show dev ${bridgeName} 2>/dev/null || true`,
    );
    const [routes, links, addresses] = found.split('\n\n') as [string, string | undefined, string | undefined];
    const out = / dev (\S+)/.exec(routes)?.[1];
    const mtuOf = (name: string) => Number(new RegExp(`^\\d+: ${name.replaceAll('.', '\\.')}[@:].* mtu (\\d+)`, 'm').exec(links ?? '')?.[1]);
    const mtu = (out && mtuOf(out)) || 1500;
    const own = `${address}/${block.prefix}`;
    const stale = [...(addresses ?? '').matchAll(/ inet (\S+)/g)].map((m) => m[1]).filter((a) => a !== own);
    await this.#run(
      what,
      `ip -batch - ${input([
        ...(mtuOf(bridgeName) ? [] : [`link add ${bridgeName} type bridge stp_state 0 forward_delay 0`]),
        // A bridge without an address of its own would change it with every pod.
        `link set ${bridgeName} address ${hardwareAddress(address)} mtu ${mtu} addrgenmode none`,
        `link set ${bridgeName} up`,
        ...stale.map((a) => `address delete ${a} dev ${bridgeName}`),
        `address replace ${own} dev ${bridgeName}`,
      ])}`,
    );
    const ipv4 = '/proc/sys/net/ipv4';
    await setting(`${ipv4}/ip_forward`, '1');
    // Pods answer to what came by way of any interface, and 127.0.0.1's host ports lead to them.
    await setting(`${ipv4}/conf/${bridgeName}/rp_filter`, '0');
    await setting(`${ipv4}/conf/${bridgeName}/route_localnet`, '1');
    // Neighbours on one link that go by way of the node are meant to: it need not tell them of a shorter one.
    for (const where of ['all', bridgeName]) await setting(`${ipv4}/conf/${where}/send_redirects`, '0');
    // What passes the bridge is routed, and so meets the rules anyway; passing them twice only takes time.
    const hooks = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    await setting(hooks, '0').catch((error) => this.#options.log.debug({ err: error }, 'the filter hooks of bridges stay as they are'));
    return mtu;
  }

  /** Script; $1 is the path of the sandbox's network namespace. */
  #connecting(sandboxId: string, ip: string, { address, mtu }: Gateway, anew: boolean): string {
    const link = linkName(sandboxId);
    const outside = [
      `link add ${link} mtu ${mtu} type veth peer name eth0 mtu ${mtu} address ${hardwareAddress(ip)} netns /proc/self/fd/9`,
      `link set ${link} addrgenmode none`,
      `link set ${link} master ${bridgeName} up`,
      // For a pod that reaches itself by a service, where the bridge's own filter hooks are on.
      `link set ${link} type bridge_slave hairpin on`,
    ];
    const inside = [
      'link set lo up',
      'link set eth0 addrgenmode none',
      `address add ${ip}/32 dev eth0`,
      'link set eth0 up',
      `route add ${address} dev eth0 scope link`,
      `route add default via ${address} dev eth0`,
    ];
    return [
      anew ? `ip link delete ${link} 2>/dev/null || true\n` : '',
      // Held open, so that both commands mean the same namespace, however its path is written.
      'exec 9<"$1"\n',
      `ip -batch - ${input(outside)}`,
      `nsenter --net=/proc/self/fd/9 ip -batch - ${input(inside)}`,
    ].join('');
  }

  /** Script; nothing in it minds what is gone already. */
  #disconnecting(sandboxIds: string[], rules: string[]): string {
    const links = sandboxIds.map((id) => `link delete ${linkName(id)}`);
    const missing = `grep -v -e '^$' -e 'Cannot find device' -e 'Command failed' >&2`;
    return `${rules.length ? `nft -f - ${input(rules)}` : ''}failed=$(ip -force -batch - 2>&1 ${input(links)}) || true\nif echo "$failed" | ${missing}; then exit 1; fi\n`;
  }

  async #isConnected(sandboxId: string, netnsPath: string, ip: string): Promise<boolean> {
    const script = `ip -o link show dev ${linkName(sandboxId)}; nsenter --net="$1" ip -o -4 address show dev eth0 up; nsenter --net="$1" ip -o route show default`;
    const found = await shell(script, [netnsPath]).catch(() => '');
    return found.includes(` inet ${ip}/32 `) && found.includes('default via ');
  }

  async #undo(sandboxId: string, ip: string, ports: HostPort[], allocations: Allocations): Promise<void> {
    try {
      await shell(this.#disconnecting([sandboxId], closePorts(ip, ports)));
    } catch (error) {
      this.#options.log.warn({ err: error, sandboxId }, 'cannot take back a connection to the pod network that failed');
    }
    allocations.free(sandboxId);
    await allocations.save().catch((error) => this.#options.log.warn({ err: error }, 'cannot keep pod addresses'));
  }

  async #run(what: string, script: string, words: string[] = []): Promise<string> {
    try {
      return await shell(script, words);
    } catch (error) {
      throw new Error(`cannot ${what}: ${(error as Error).message}`, { cause: error });
    }
  }

  #allocations(): Promise<Allocations> {
    this.#opening ??= Allocations.open(join(this.#options.stateDir, 'pod-network.json')).catch((error) => {
      this.#opening = undefined;
      throw error;
    });
    return this.#opening;
  }

  /** One thing after the other per sandbox; different ones at the same time. */
  async #inTurn<T>(key: string, work: () => Promise<T>): Promise<T> {
    const turn = (this.#turns.get(key) ?? Promise.resolve()).then(work, work);
    this.#turns.set(key, turn);
    try {
      return await turn;
    } finally {
      if (this.#turns.get(key) === turn) this.#turns.delete(key);
    }
  }
}

/** The node's end of a sandbox's veth pair. */
const linkName = (sandboxId: string): string => `kp${createHash('sha256').update(sandboxId).digest('hex').slice(0, 12)}`;

const same = (a: HostPort, b: HostPort): boolean =>
  a.protocol === b.protocol && a.containerPort === b.containerPort && a.hostPort === b.hostPort && (a.hostIp ?? '') === (b.hostIp ?? '');

/** Each host port once, and only such as can be opened. */
function unique(ports: HostPort[]): HostPort[] {
  const found = new Map<string, HostPort>();
  for (const port of ports) {
    if (!isAny(port.hostIp) && parseAddress(port.hostIp as string) === undefined)
      throw new Error(`host port ${port.hostPort} on ${port.hostIp}: host ports have IPv4 addresses only`);
    const { protocol, containerPort, hostPort, hostIp } = port;
    found.set(`${hostIp ?? ''} ${protocol} ${hostPort}`, {
      protocol,
      containerPort,
      hostPort,
      ...(isAny(hostIp) ? {} : { hostIp: hostIp as string }),
    });
  }
  return [...found.values()];
}

/** Sets what the kernel does in this network namespace; left alone where it is so already, since it may not be writable. */
async function setting(path: string, value: string): Promise<void> {
  if ((await readFile(path, 'utf8')).trim() === value) return;
  await writeFile(path, value).catch((error) => {
    throw new Error(`the pod network needs ${path} to be ${value}: ${(error as Error).message}`);
  });
}
