import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { run } from './command.ts';
import { namespaceName, namespacePath } from './names.ts';
import { processesInNamespace } from './processes.ts';
import type { Link, VpcPlan } from './vpc-plan.ts';

export interface VpcNetworkOptions {
  vpcId: string;
  clusterId: string;
  /** Where what was applied is written down: dataplane/ of the cluster's state. */
  directory: string;
  log: Logger;
}

/**
 * The namespace of one VPC, kept as its plan says. What was applied is written down before it is applied, so that after a
 * crash the file names at least what is there: deletions of what is not are harmless, and the first apply repeats every addition.
 */
export class VpcNetwork {
  readonly namespace: string;
  private readonly options: VpcNetworkOptions;
  private readonly file: string;
  private readonly filterFile: string;
  private applied: Map<string, string> | undefined;
  private links = new Map<string, Link>();
  private filter = '';
  private queue: Promise<unknown> = Promise.resolve();

  constructor(options: VpcNetworkOptions) {
    this.options = options;
    this.namespace = namespaceName(options.clusterId, options.vpcId);
    this.file = join(options.directory, `${options.vpcId}.json`);
    this.filterFile = join(options.directory, `${options.vpcId}.nft`);
  }

  /** Makes the namespace what the plan says; a plan equal to the last one costs nothing. */
  apply(plan: VpcPlan): Promise<void> {
    return this.serially(() => this.applyNow(plan));
  }

  /** Takes an instance out of the network altogether, as at the end of a boot; the next apply joins it afresh. */
  detach(instanceId: string): Promise<void> {
    return this.serially(async () => {
      const names = [...this.links.values()].filter((link) => link.instanceId === instanceId).map((link) => link.name);
      await this.removeLinks(names);
      await deleteNamespace(namespaceName(this.options.clusterId, instanceId));
    });
  }

  destroy(): Promise<void> {
    return this.serially(async () => {
      await deleteNamespace(this.namespace);
      await rm(this.file, { force: true });
      await rm(this.filterFile, { force: true });
      this.applied = undefined;
    });
  }

  private serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  private async applyNow(plan: VpcPlan): Promise<void> {
    const first = this.applied === undefined;
    if (first) await this.start();
    const applied = this.applied!;
    const wanted = new Map(plan.links.map((link) => [link.name, link]));
    await this.removeLinks([...this.links.keys()].filter((name) => !wanted.has(name)));
    const added = plan.links.filter((link) => !this.links.has(link.name));

    const deletions: string[] = [];
    const additions: string[] = [];
    for (const [key, spec] of applied) if (!plan.entries.has(key)) deletions.push(deletion(key, spec));
    for (const [key, spec] of plan.entries) {
      const before = applied.get(key);
      if (before === spec && !first) continue;
      if (key.startsWith('rule ')) deletions.push(deletion(key, before ?? spec));
      additions.push(addition(key, spec));
    }
    if (added.length + deletions.length + additions.length > 0) {
      await this.writeDown(new Map([...applied, ...plan.entries]));
      await run('sh', ['-es'], { input: this.script(added, deletions, additions) });
      for (const link of plan.links) this.links.set(link.name, link);
      this.applied = new Map(plan.entries);
      await this.writeDown(this.applied);
    }
    for (const link of plan.links) await this.updateLink(link);
    if (plan.filter !== this.filter) {
      await writeFile(this.filterFile, plan.filter, { mode: 0o600 });
      await run('nsenter', [`--net=${namespacePath(this.namespace)}`, 'nft', '-f', this.filterFile]);
      this.filter = plan.filter;
    }
  }

  /** Finds what an earlier process left, or makes the namespace. */
  private async start(): Promise<void> {
    await mkdir(this.options.directory, { recursive: true });
    if (!(await exists(namespacePath(this.namespace)))) {
      await rm(this.file, { force: true });
      const all = '/proc/sys/net/ipv4';
      const settings = [
        `echo 0 > ${all}/conf/all/rp_filter; echo 0 > ${all}/conf/default/rp_filter`,
        `echo 0 > ${all}/conf/all/send_redirects; echo 0 > ${all}/conf/default/send_redirects`,
        `echo 1 > ${all}/conf/default/proxy_arp; echo 1 > ${all}/ip_forward; ip link set lo up`,
      ];
      try {
        await run('sh', ['-es'], {
          input: `ip netns add ${this.namespace}\nnsenter --net=${namespacePath(this.namespace)} sh -es <<'END'\n${settings.join('\n')}\nEND\n`,
        });
      } catch (error) {
        // Half configured, it would be taken for ready the next time.
        await deleteNamespace(this.namespace);
        throw error;
      }
    }
    this.filter = '';
    this.links = new Map();
    for (const link of JSON.parse(await run('ip', ['-n', this.namespace, '-j', 'link', 'show', 'type', 'veth'])) as { ifname: string }[]) {
      this.links.set(link.ifname, { name: link.ifname, instanceId: '', device: '', addresses: [] });
    }
    this.applied = new Map(JSON.parse(await readFile(this.file, 'utf8').catch(() => '[]')));
    this.options.log.debug({ vpc: this.options.vpcId, namespace: this.namespace, links: this.links.size }, 'network namespace ready');
  }

  private async writeDown(entries: Map<string, string>): Promise<void> {
    await writeFile(this.file, JSON.stringify([...entries]), { mode: 0o600 });
  }

  private async removeLinks(names: string[]): Promise<void> {
    if (names.length === 0) return;
    await run('ip', ['-n', this.namespace, '-force', '-batch', '-'], { input: names.map((name) => `link del ${name}`).join('\n') + '\n' }).catch(
      () => {},
    );
    for (const name of names) {
      this.links.delete(name);
      // The kernel dropped what went through it; a later link of that name needs its entries again.
      for (const [key, spec] of this.applied ?? [])
        if (`${key} ${spec} `.includes(` ${name} `) && !key.startsWith('rule ')) this.applied!.delete(key);
    }
  }

  /** Secondary addresses come and go while an instance runs. */
  private async updateLink(link: Link): Promise<void> {
    const before = this.links.get(link.name);
    this.links.set(link.name, link);
    if (!before || before.instanceId === '' || before.addresses.join() === link.addresses.join()) return;
    const lines = [
      ...before.addresses.filter((one) => !link.addresses.includes(one)).map((one) => `addr del ${one} dev ${link.device}`),
      ...link.addresses.filter((one) => !before.addresses.includes(one)).map((one) => `addr replace ${one} dev ${link.device}`),
    ];
    await run('ip', ['-n', namespaceName(this.options.clusterId, link.instanceId), '-batch', '-'], { input: lines.join('\n') + '\n' });
  }

  private script(added: Link[], deletions: string[], additions: string[]): string {
    const lines: string[] = [];
    const batch = (namespace: string, options: string, commands: string[], suffix = '') => {
      if (commands.length) lines.push(`ip -n ${namespace} ${options} -batch - <<'END'${suffix}`, ...commands, 'END');
    };
    for (const link of added) {
      const inside = namespaceName(this.options.clusterId, link.instanceId);
      lines.push(`[ -e ${namespacePath(inside)} ] || ip netns add ${inside}`);
      const mac = link.mac ? ` address ${link.mac}` : '';
      batch(inside, '', [
        'link set lo up',
        `link add ${link.device} mtu 9001${mac} type veth peer name ${link.name} mtu 9001 netns ${this.namespace}`,
        ...link.addresses.map((address) => `addr add ${address} dev ${link.device}`),
        `link set ${link.device} up`,
        ...(link.gateway ? [`route add default via ${link.gateway} dev ${link.device}`] : []),
      ]);
    }
    batch(
      this.namespace,
      '',
      added.map((link) => `link set ${link.name} up`),
    );
    if (added.length) {
      // An answer to ARP on behalf of another would be held back up to 0.8 s.
      const settings = added.map((link) => `echo 0 > /proc/sys/net/ipv4/neigh/${link.name}/proxy_delay`);
      lines.push(`nsenter --net=${namespacePath(this.namespace)} sh -es <<'END'`, ...settings, 'END');
    }
    // What is to be deleted may be gone already.
    batch(this.namespace, '-force', deletions, ' 2>/dev/null || true');
    batch(this.namespace, '', additions);
    return lines.join('\n') + '\n';
  }
}

function addition(key: string, spec: string): string {
  const space = key.indexOf(' ');
  const kind = key.slice(0, space);
  const rest = key.slice(space + 1);
  if (kind === 'rule') return `rule add ${rest} ${spec}`;
  const type = kind === 'route' && /^(throw|blackhole|unreachable)$/.test(spec);
  return type ? `route replace ${spec} ${rest}` : `${kind} replace ${rest} ${spec}`;
}

function deletion(key: string, spec: string): string {
  const space = key.indexOf(' ');
  const kind = key.slice(0, space);
  return kind === 'rule' ? `rule del ${key.slice(space + 1)} ${spec}` : `${kind} del ${key.slice(space + 1)}`;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** Ends what runs in a named network namespace and removes it; nothing where there is none. */
export async function deleteNamespace(name: string): Promise<boolean> {
  const path = namespacePath(name);
  if (!(await exists(path))) return false;
  for (const pid of await processesInNamespace(path)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It ended meanwhile.
    }
  }
  await run('ip', ['netns', 'del', name]);
  return true;
}
