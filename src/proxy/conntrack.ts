import { execFile } from 'node:child_process';
import type { Logger } from 'pino';
import type { ServicePortInfo } from './endpoints.ts';

/** Runs conntrack (conntrack-tools) in this network namespace; resolves to what it prints, '' where it found nothing. */
export type RunConntrack = (args: string[]) => Promise<string>;

const runConntrack: RunConntrack = (args) =>
  new Promise((resolve, reject) => {
    execFile('conntrack', args, { timeout: 30_000, maxBuffer: 1 << 28 }, (error, stdout, stderr) => {
      // 1 without a complaint: no entry was there.
      if (!error || (error.code === 1 && !/invalid|not permitted|failed/i.test(stderr))) resolve(stdout);
      else reject(new Error(error.code === 'ENOENT' ? 'the program conntrack is missing' : stderr.trim() || error.message));
    });
  });

/** A flow as `conntrack -L` prints it: where its client sent it, and who answers. */
interface Flow {
  destination: string;
  port: string;
  answerer: string;
  answererPort: string;
}

function parseFlow(line: string): Flow | undefined {
  const all = (name: string) => [...line.matchAll(new RegExp(`\\b${name}=(\\S+)`, 'g'))].map((m) => m[1]!);
  const [, answerer] = all('src');
  const [destination] = all('dst');
  const [, answererPort] = all('sport');
  const [port] = all('dport');
  return destination && port && answerer && answererPort ? { destination, port, answerer, answererPort } : undefined;
}

/**
 * Ends flows of UDP services that lead to what is no endpoint of theirs any more, or past the service: the kernel would keep a client that
 * goes on sending from one port on its old way. Of TCP the endpoints themselves end connections.
 */
export class StaleFlows {
  private readonly run: RunConntrack;
  private readonly nodeIps: ReadonlySet<string>;
  private readonly log: Logger;
  private missing = false;

  constructor(o: { nodeIps: string[]; log: Logger; run?: RunConntrack }) {
    this.run = o.run ?? runConntrack;
    this.nodeIps = new Set([...o.nodeIps, '127.0.0.1']);
    this.log = o.log;
  }

  /** ports: those whose endpoints may have changed, as they are now. Never rejects. */
  async clear(ports: ServicePortInfo[]): Promise<void> {
    const wanted = new Map<string, Set<string>>();
    for (const one of ports) {
      if (one.protocol !== 'udp') continue;
      const of = (endpoints: ServicePortInfo['cluster']) => new Set(endpoints.map((e) => `${e.ip} ${e.port}`));
      wanted.set(`${one.clusterIp} ${one.port}`, of(one.cluster));
      for (const ip of one.externalIps) wanted.set(`${ip} ${one.port}`, of(one.external));
      if (one.nodePort) for (const ip of this.nodeIps) wanted.set(`${ip} ${one.nodePort}`, of(one.external));
    }
    if (wanted.size === 0 || this.missing) return;
    try {
      const stale = new Map<string, Flow>();
      for (const line of (await this.run(['-L', '-p', 'udp', '-f', 'ipv4'])).split('\n')) {
        const flow = parseFlow(line);
        const endpoints = flow && wanted.get(`${flow.destination} ${flow.port}`);
        if (flow && endpoints && !endpoints.has(`${flow.answerer} ${flow.answererPort}`)) stale.set(JSON.stringify(flow), flow);
      }
      for (const { destination, port, answerer, answererPort } of stale.values())
        await this.run(['-D', '-p', 'udp', '-f', 'ipv4', '-d', destination, '--dport', port, '-r', answerer, '--reply-port-src', answererPort]);
      if (stale.size) this.log.debug({ flows: stale.size }, 'ended stale UDP flows');
    } catch (error) {
      this.missing = /is missing/.test((error as Error).message);
      this.log.warn({ err: error }, 'cannot end stale UDP flows: clients that go on from one port may reach endpoints that are gone');
    }
  }
}
