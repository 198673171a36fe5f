import { connect, createServer, type Server, type Socket } from 'node:net';
import { type AgentConfig, type ListenerConfig, type TargetGroupConfig, targetKey } from '../agent-protocol.ts';
import { join } from './pipe.ts';
import { type HealthReport, Target } from './target.ts';
import { listen } from './tunnel.ts';

const CONNECT_TIMEOUT = 3000;

class Group {
  readonly targets = new Map<string, Target>();
  private next = 0;

  /** Targets to try, in turn: the healthy ones; where there is none, all (AWS calls it fail open). */
  order(): Target[] {
    const all = [...this.targets.values()].filter((target) => target.config.address && target.state !== 'draining' && target.state !== 'unused');
    const healthy = all.filter((target) => target.state === 'healthy');
    const candidates = healthy.length ? healthy : all;
    const start = candidates.length ? this.next++ % candidates.length : 0;
    return [...candidates.slice(start), ...candidates.slice(0, start)];
  }
}

/** The TCP load balancers of a VPC: on their addresses in it, and on sockets of the host that were handed over. */
export class Balancer {
  private readonly groups = new Map<string, Group>();
  private readonly servers = new Map<string, Server>();
  private readonly handed = new Map<string, Server>();
  private listeners = new Map<string, ListenerConfig>();
  private readonly report: (groupArn: string, ...args: Parameters<HealthReport>) => void;

  constructor(report: (groupArn: string, ...args: Parameters<HealthReport>) => void) {
    this.report = report;
  }

  async update(config: AgentConfig): Promise<void> {
    this.listeners = new Map(config.listeners.map((listener) => [listener.arn, listener]));
    const wanted = new Map(config.targetGroups.map((group) => [group.arn, group]));
    for (const [arn, group] of this.groups) {
      if (wanted.has(arn)) continue;
      for (const target of group.targets.values()) target.remove();
      this.groups.delete(arn);
    }
    for (const group of wanted.values()) this.updateGroup(group);
    await this.updateServers(config);
  }

  /** Takes a listening socket of the host. */
  takeOver(listenerArn: string, host: string, port: number, server: Server): void {
    server.on('connection', (socket) => this.forward(listenerArn, socket, undefined));
    server.on('error', () => {});
    this.handed.set(`${host}:${port}`, server);
  }

  close(host: string, port: number): void {
    this.handed.get(`${host}:${port}`)?.close();
    this.handed.delete(`${host}:${port}`);
  }

  private updateGroup(config: TargetGroupConfig): void {
    const group = this.groups.get(config.arn) ?? new Group();
    this.groups.set(config.arn, group);
    const wanted = new Map(config.targets.map((target) => [targetKey(target), target]));
    for (const [key, target] of group.targets) if (!wanted.has(key)) target.drain();
    for (const [key, target] of wanted) {
      const known = group.targets.get(key);
      if (known) known.update(target, config);
      else {
        const made: Target = new Target(
          target,
          config,
          () => this.sourceFor(config.arn),
          (...report) => this.report(config.arn, ...report),
          () => group.targets.get(key) === made && group.targets.delete(key),
        );
        group.targets.set(key, made);
      }
    }
  }

  /** Health checks and connections come from an address of a load balancer that uses the group. */
  private sourceFor(groupArn: string): string | undefined {
    for (const listener of this.listeners.values()) {
      if (listener.forward.some((one) => one.targetGroupArn === groupArn)) return listener.addresses[0];
    }
    return undefined;
  }

  private async updateServers(config: AgentConfig): Promise<void> {
    const wanted = new Map<string, { address: string; one: ListenerConfig }>();
    for (const one of config.listeners) for (const address of one.addresses) wanted.set(`${address}:${one.port} ${one.arn}`, { address, one });
    for (const [key, server] of this.servers) {
      if (wanted.has(key)) continue;
      server.close();
      this.servers.delete(key);
    }
    for (const [key, { address, one }] of wanted) {
      if (this.servers.has(key)) continue;
      const server = createServer({ allowHalfOpen: true }, (socket) => this.forward(one.arn, socket, address));
      this.servers.set(key, server);
      await listen(server, address, one.port).catch((error) => {
        this.servers.delete(key);
        throw error;
      });
    }
  }

  private forward(listenerArn: string, client: Socket, address: string | undefined): void {
    client.on('error', () => client.destroy());
    const listener = this.listeners.get(listenerArn);
    const group = listener && this.groups.get(pickGroup(listener));
    if (!group) return void client.resetAndDestroy();
    // A socket that was handed over does not keep its other half open unless told to.
    client.allowHalfOpen = true;
    this.tryTargets(client, group.order(), address ?? listener.addresses[0]);
  }

  /** Connects to the first target that takes the connection; nothing has been read from the client till then. */
  private tryTargets(client: Socket, targets: Target[], localAddress: string | undefined): void {
    const [target, ...others] = targets;
    if (!target) return void client.resetAndDestroy();
    if (client.destroyed) return;
    const upstream = connect({ host: target.config.address, port: target.config.port, localAddress, allowHalfOpen: true, noDelay: true });
    let settled = false;
    const failed = () => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      upstream.destroy();
      this.tryTargets(client, others, localAddress);
    };
    const timer = setTimeout(failed, CONNECT_TIMEOUT);
    upstream.on('error', failed);
    upstream.once('connect', () => {
      if (settled) return;
      settled = true;
      clearTimeout(timer);
      if (client.destroyed) return void upstream.destroy();
      target.add(client, upstream);
      join(client, upstream);
    });
  }
}

function pickGroup(listener: ListenerConfig): string {
  const total = listener.forward.reduce((sum, one) => sum + one.weight, 0);
  let point = Math.random() * total;
  for (const one of listener.forward) {
    point -= one.weight;
    if (point < 0) return one.targetGroupArn;
  }
  return '';
}
