import { execFileSync, spawn } from 'node:child_process';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { EndpointSlice, Service } from '../api/generated/types.ts';
import { StaleFlows } from './conntrack.ts';
import { servicePorts } from './endpoints.ts';
import { baseRules, difference, renderServicePort } from './rules.ts';

const service = (spec: object): Service => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'default' } as never,
  spec: { clusterIP: '10.96.1.1', ports: [{ port: 80, protocol: 'TCP' }], ...spec } as never,
});
const slice = (...endpoints: { ip: string; ready?: boolean; serving?: boolean; terminating?: boolean; node?: string }[]): EndpointSlice => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-1', namespace: 'default' } as never,
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080, protocol: 'TCP' }],
  endpoints: endpoints.map((e) => ({
    addresses: [e.ip],
    nodeName: e.node ?? 'a',
    conditions: { ready: e.ready ?? true, serving: e.serving ?? true, terminating: e.terminating ?? false },
  })),
});

describe('endpoints of a service port', () => {
  it('prefers ready ones and falls back to those that terminate and still serve', () => {
    const both = slice({ ip: '10.244.0.1' }, { ip: '10.244.0.2', ready: false, terminating: true });
    expect(servicePorts(service({}), [both], 'a')[0]?.cluster.map((e) => e.ip)).toEqual(['10.244.0.1']);
    const only = slice({ ip: '10.244.0.1', ready: false, serving: false }, { ip: '10.244.0.2', ready: false, terminating: true });
    expect(servicePorts(service({}), [only], 'a')[0]?.cluster.map((e) => e.ip)).toEqual(['10.244.0.2']);
    // Load balancers are to send nothing new there.
    expect(servicePorts(service({}), [only], 'a')[0]?.localReady).toBe(0);
  });
  it('keeps to this node with policy Local', () => {
    const two = slice({ ip: '10.244.0.1', node: 'a' }, { ip: '10.244.1.1', node: 'b' });
    const [port] = servicePorts(
      service({ type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 30123, ports: [{ port: 80, nodePort: 30080 }] }),
      [two],
      'a',
    );
    expect(port?.external.map((e) => e.ip)).toEqual(['10.244.0.1']);
    expect(port?.cluster).toHaveLength(2);
    expect(port?.healthCheckNodePort).toBe(30123);
    expect(port?.localReady).toBe(1);
  });
  it('leaves services of another proxy and headless ones alone', () => {
    const other = service({});
    other.metadata.labels = { 'service.kubernetes.io/service-proxy-name': 'x' };
    expect(servicePorts(other, [], 'a')).toEqual([]);
    expect(servicePorts(service({ clusterIP: 'None' }), [], 'a')).toEqual([]);
  });
});

describe('stale flows of UDP services', () => {
  const flow = (dst: string, dport: number, answerer: string, answererPort: number) =>
    `udp      17 119 src=10.244.0.9 dst=${dst} sport=40000 dport=${dport} src=${answerer} dst=10.244.0.9 sport=${answererPort} dport=40000 [ASSURED] mark=0 use=1`;
  it('ends those to endpoints that are gone or past the service, once for each, and no others', async () => {
    const table = [
      flow('10.96.1.1', 53, '10.244.0.1', 8053),
      flow('10.96.1.1', 53, '10.244.0.2', 8053),
      flow('10.96.1.1', 53, '10.244.0.2', 8053),
      flow('10.96.1.1', 53, '10.96.1.1', 53),
      flow('10.96.1.2', 53, '10.244.0.2', 8053),
      flow('10.0.0.9', 30053, '10.244.0.7', 8053),
      flow('10.0.0.8', 30053, '10.244.0.7', 8053),
    ];
    const calls: string[] = [];
    const flows = new StaleFlows({
      nodeIps: ['10.0.0.9'],
      log: pino({ level: 'silent' }),
      run: async (args) => {
        calls.push(args.join(' '));
        return args[0] === '-L' ? `${table.join('\n')}\n` : '';
      },
    });
    const udp = { port: 53, protocol: 'UDP', nodePort: 30053 };
    const endpoints: EndpointSlice = { ...slice({ ip: '10.244.0.1' }), ports: [{ name: '', port: 8053, protocol: 'UDP' }] };
    await flows.clear(servicePorts(service({ type: 'NodePort', ports: [udp] }), [endpoints], 'a'));
    expect(calls.slice(1)).toEqual(
      [
        '-d 10.96.1.1 --dport 53 -r 10.244.0.2 --reply-port-src 8053',
        '-d 10.96.1.1 --dport 53 -r 10.96.1.1 --reply-port-src 53',
        '-d 10.0.0.9 --dport 30053 -r 10.244.0.7 --reply-port-src 8053',
      ].map((rest) => `-D -p udp -f ipv4 ${rest}`),
    );
    calls.length = 0;
    await flows.clear(servicePorts(service({}), [slice({ ip: '10.244.0.1' })], 'a'));
    expect(calls).toEqual([]);
  });
});

describe('rules in a network namespace (needs root)', () => {
  const ns = `kumulus-test-proxy-${process.pid}`;
  const run = (program: string, ...args: string[]) => execFileSync('nsenter', [`--net=/run/netns/${ns}`, program, ...args], { encoding: 'utf8' });
  const nft = (text: string) => execFileSync('nsenter', [`--net=/run/netns/${ns}`, 'nft', '-f', '-'], { input: text });
  beforeAll(() => {
    execFileSync('ip', ['netns', 'add', ns]);
    run('ip', 'link', 'set', 'lo', 'up');
    run('ip', 'addr', 'add', '10.244.0.1/32', 'dev', 'lo');
    run('ip', 'addr', 'add', '10.244.0.2/32', 'dev', 'lo');
    run('ip', 'route', 'add', '10.96.0.0/16', 'dev', 'lo');
  });
  afterAll(() => {
    execFileSync('ip', ['netns', 'del', ns]);
  });
  const fetchFrom = (port: number, host = '10.96.1.1') => {
    const script = `const s=require('net').connect(${port},'${host}');s.setTimeout(3000,()=>{console.log('timeout');process.exit()});s.on('error',e=>console.log(e.code));s.on('data',d=>process.stdout.write(d));`;
    return run(process.execPath, '-e', script).trim();
  };

  it('reaches endpoints, follows their changes, refuses where there is none, and leaves no chain behind', async () => {
    const server = `for (const ip of ['10.244.0.1','10.244.0.2']) require('net').createServer(s=>s.end(ip)).listen(8080, ip, () => console.log('up'))`;
    const child = spawn('nsenter', [`--net=/run/netns/${ns}`, process.execPath, '-e', server], { stdio: ['ignore', 'pipe', 'inherit'] });
    try {
      let up = 0;
      await new Promise<void>((resolve) => child.stdout.on('data', (d) => (up += String(d).split('up').length - 1) >= 2 && resolve()));
      nft(baseRules('10.244.0.0/16', ['10.0.0.9']));
      const render = (...ips: string[]) =>
        renderServicePort(
          servicePorts(service({ type: 'NodePort', ports: [{ port: 80, nodePort: 30080 }] }), [slice(...ips.map((ip) => ({ ip })))], 'a')[0] as never,
        );
      const two = render('10.244.0.1', '10.244.0.2');
      const apply = (before: Parameters<typeof difference>[0], after: Parameters<typeof difference>[1]) => {
        const d = difference(before, after);
        nft([...d.changes, ...d.removals, ''].join('\n'));
      };
      apply(undefined, two);
      const answers = new Set(Array.from({ length: 12 }, () => fetchFrom(80)));
      expect([...answers].sort()).toEqual(['10.244.0.1', '10.244.0.2']);
      const one = render('10.244.0.2');
      apply(two, one);
      expect(new Set(Array.from({ length: 4 }, () => fetchFrom(80)))).toEqual(new Set(['10.244.0.2']));
      const none = render();
      apply(one, none);
      expect(fetchFrom(80)).toBe('ECONNREFUSED');
      apply(none, undefined);
      const left = run('nft', 'list', 'table', 'ip', 'kumulus-proxy');
      expect(left).not.toMatch(/chain (service|external|endpoint)-/);
      expect(left).not.toContain('10.96.1.1');
    } finally {
      child.kill('SIGKILL');
    }
  });
});
