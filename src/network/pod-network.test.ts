import { readFileSync, writeFileSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type Agent, TestNode } from './testing.ts';

// Needs root: nodes, pods and what is outside of them are network namespaces.
describe('pod network', () => {
  let node: TestNode;
  let network: Agent;
  beforeEach(async () => {
    node = new TestNode();
    await node.start();
    network = await node.agent(['198.51.100.0/24', '10.0.0.0/8']);
  });
  afterEach(() => node.end());

  const pod = async (name: string, ports: Parameters<Agent['add']>[2] = []) => network.add(name, await node.namespace(name), ports);
  const links = async () => [...(await node.inside('node', 'ip -o link show')).matchAll(/ (kp\w+)@/g)].map((m) => m[1]);
  const elements = async () => (await node.inside('node', 'nft list table ip kumulus-pods')).match(/10\.244\.\d+\.\d+ \. \d+/g) ?? [];
  const stored = () => JSON.parse(readFileSync(`${node.stateDir}/pod-network.json`, 'utf8')) as { sandboxes: Record<string, { ip: string }> };

  it('joins pods to each other, to the node and to the world', async () => {
    await network.configure('10.244.3.0/24');
    expect(await pod('a')).toEqual({ ip: '10.244.3.2' });
    expect(await pod('b')).toEqual({ ip: '10.244.3.3' });
    await Promise.all([node.listen('a', 80), node.listen('b', 80), node.listen('outside', 80), node.listen('node', 80)]);
    expect(await node.ask('a', '10.244.3.3', 80)).toBe('b sees 10.244.3.2');
    expect(await node.ask('b', '10.244.3.2', 80, 'UDP')).toBe('a sees 10.244.3.3');
    expect(await node.ask('a', '127.0.0.1', 80)).toBe('a sees 127.0.0.1');
    expect(await node.ask('node', '10.244.3.2', 80)).toBe('a sees 10.244.3.1');
    expect(await node.ask('a', '192.0.2.1', 80)).toBe('node sees 10.244.3.2');
    // Others see the node's address, those who know the way back the pod's own.
    expect(await node.ask('a', '192.0.2.2', 80)).toBe('outside sees 192.0.2.1');
    expect(await node.ask('a', '198.51.100.1', 80)).toBe('outside sees 10.244.3.2');
    expect(await node.ask('outside', '10.244.3.3', 80)).toBe('b sees 198.51.100.1');
    expect(await node.inside('a', 'ip -o link show eth0')).toContain('mtu 1400');
  });

  it('leads host ports to pods, from everywhere', async () => {
    await network.configure('10.244.3.0/24');
    await pod('a', [
      { protocol: 'TCP', hostPort: 8080, containerPort: 80 },
      { protocol: 'UDP', hostPort: 5353, containerPort: 80 },
      { protocol: 'TCP', hostPort: 9090, containerPort: 80, hostIp: '192.0.2.1' },
    ]);
    await pod('b', [{ protocol: 'TCP', hostPort: 9090, containerPort: 80, hostIp: '127.0.0.1' }]);
    await node.listen('a', 80);
    await node.listen('b', 80);
    expect(await node.ask('outside', '192.0.2.1', 8080)).toBe('a sees 192.0.2.2');
    expect(await node.ask('outside', '192.0.2.1', 5353, 'UDP')).toBe('a sees 192.0.2.2');
    expect(await node.ask('node', '192.0.2.1', 8080)).toBe('a sees 192.0.2.1');
    expect(await node.ask('node', '127.0.0.1', 8080)).toBe('a sees 10.244.3.1');
    expect(await node.ask('b', '192.0.2.1', 8080)).toBe('a sees 10.244.3.1');
    expect(await node.ask('a', '192.0.2.1', 8080)).toBe('a sees 10.244.3.1');
    expect(await node.ask('outside', '192.0.2.1', 9090)).toBe('a sees 192.0.2.2');
    expect(await node.ask('node', '127.0.0.1', 9090)).toBe('b sees 10.244.3.1');
    await expect(node.ask('outside', '192.0.2.1', 80)).rejects.toThrow('refused');
    await expect(pod('c', [{ protocol: 'TCP', hostPort: 8080, containerPort: 1, hostIp: '192.0.2.1' }])).rejects.toThrow(
      'host port 8080/TCP is already used by sandbox a',
    );
    await expect(pod('c', [{ protocol: 'TCP', hostPort: 7070, containerPort: 1, hostIp: '::1' }])).rejects.toThrow('IPv4');
    // Another protocol's is another port.
    await pod('c', [{ protocol: 'UDP', hostPort: 8080, containerPort: 80 }]);
    await network.remove('a', '');
    await expect(node.ask('outside', '192.0.2.1', 8080)).rejects.toThrow('refused');
  });

  it('reaches a pod by its own host port also where the filter hooks of bridges are on', async () => {
    await network.configure('10.244.3.0/24');
    await node.inside('node', 'f=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $f ] || echo 1 >$f');
    await pod('a', [{ protocol: 'TCP', hostPort: 8080, containerPort: 80 }]);
    await pod('b');
    await node.listen('a', 80);
    expect(await node.ask('a', '192.0.2.1', 8080)).toBe('a sees 10.244.3.1');
    expect(await node.ask('b', '192.0.2.1', 8080)).toMatch(/^a sees/);
    expect(await node.ask('b', '10.244.3.2', 80)).toBe('a sees 10.244.3.3');
  });

  it('lets no pod in to what listens on the loopback interface of the node', async () => {
    await network.configure('10.244.3.0/24');
    await pod('a');
    await node.listen('node', 80);
    await node.inside(
      'a',
      'ip link set lo down; ip address flush dev lo; ip route add 127.0.0.1/32 via 10.244.3.1 src 10.244.3.2; echo 1 >/proc/sys/net/ipv4/conf/eth0/route_localnet',
    );
    expect(await node.ask('a', '10.244.3.1', 80)).toBe('node sees 10.244.3.2');
    await expect(node.ask('a', '127.0.0.1', 80)).rejects.toThrow();
  });

  it('removes everything, and again, and after the namespace is gone', async () => {
    await network.configure('10.244.3.0/24');
    const ports = [{ protocol: 'TCP', hostPort: 8080, containerPort: 80 } as const];
    await pod('a', ports);
    await pod('b', [{ protocol: 'TCP', hostPort: 8081, containerPort: 80, hostIp: '192.0.2.1' }]);
    expect(await links()).toHaveLength(2);
    expect(await elements()).toHaveLength(2);
    await network.remove('a', await node.namespace('a'));
    expect(await node.inside('a', 'ip -o link show')).not.toContain('eth0');
    await network.remove('a', await node.namespace('a'));
    await node.removeNamespace('b');
    await network.remove('b', '/run/netns/gone');
    await network.remove('never-there', '/run/netns/gone');
    expect(await links()).toEqual([]);
    expect(await elements()).toEqual([]);
    expect(stored().sandboxes).toEqual({});
    // An address rests before it is given again.
    expect(await pod('a', ports)).toEqual({ ip: '10.244.3.4' });
  });

  it('gives the same again, without touching what works', async () => {
    await network.configure('10.244.3.0/24');
    await pod('a');
    const before = await node.inside('a', 'ip -o link show eth0');
    expect(await pod('a', [{ protocol: 'TCP', hostPort: 8080, containerPort: 80 }])).toEqual({ ip: '10.244.3.2' });
    expect(await node.inside('a', 'ip -o link show eth0')).toBe(before);
    expect(await elements()).toEqual(['10.244.3.2 . 80']);
    await pod('a', [{ protocol: 'TCP', hostPort: 8081, containerPort: 81 }]);
    expect(await elements()).toEqual(['10.244.3.2 . 81']);
    await node.inside('a', 'ip link delete eth0');
    expect(await pod('a')).toEqual({ ip: '10.244.3.2' });
    expect(await elements()).toEqual([]);
    expect(await node.inside('a', 'ip -o -4 address show eth0')).toContain('10.244.3.2/32');
  });

  it('goes on after a restart', async () => {
    await network.configure('10.244.3.0/24');
    await pod('a', [{ protocol: 'TCP', hostPort: 8080, containerPort: 80 }]);
    await pod('b');
    await network.end();
    network = await node.agent();
    expect(await network.ready()).toBe(false);
    await expect(pod('c')).rejects.toThrow('no pod CIDR yet');
    await expect(network.configure('10.244.4.0/24')).rejects.toThrow('cannot change from 10.244.3.0/24 to 10.244.4.0/24');
    await network.configure('10.244.3.0/24');
    await network.configure('10.244.3.0/24');
    expect(await network.ready()).toBe(true);
    expect(await pod('b')).toEqual({ ip: '10.244.3.3' });
    expect(await pod('c')).toEqual({ ip: '10.244.3.4' });
    await node.listen('a', 80);
    expect(await node.ask('outside', '192.0.2.1', 8080)).toBe('a sees 192.0.2.2');
    await network.retain(['c']);
    expect(Object.keys(stored().sandboxes)).toEqual(['c']);
    expect(await links()).toHaveLength(1);
    expect(await elements()).toEqual([]);
  });

  it('removes links that nobody knows of, and takes another CIDR once no pod is left', async () => {
    await network.configure('10.244.3.0/24');
    await pod('a');
    await pod('b');
    await network.end();
    writeFileSync(`${node.stateDir}/pod-network.json`, JSON.stringify({ version: 1, podCidr: '10.244.3.0/24', sandboxes: {} }));
    network = await node.agent();
    await network.retain([]);
    expect(await links()).toEqual([]);
    await network.configure('10.244.9.0/24');
    await expect(network.configure('10.244.3.0/24')).rejects.toThrow('cannot change from 10.244.9.0/24');
    expect(await pod('a')).toEqual({ ip: '10.244.9.2' });
    expect(await node.inside('node', 'ip -o -4 address show dev kumulus0')).not.toContain('10.244.3.1');
    await node.listen('node', 80);
    expect(await node.ask('a', '10.244.9.1', 80)).toBe('node sees 10.244.9.2');
  });

  it('gives many at once each their own, and says when none is left', async () => {
    await network.configure('10.244.3.0/29');
    const given = await Promise.all(['a', 'b', 'c', 'd', 'e'].map((name) => pod(name)));
    expect(given.map((g) => g.ip).sort()).toEqual([2, 3, 4, 5, 6].map((n) => `10.244.3.${n}`));
    await expect(pod('f')).rejects.toThrow('no address is left in 10.244.3.0/29: 5 are in use');
    await network.remove('c', '');
    expect(await pod('f')).toEqual({ ip: given[2]!.ip });
  });

  it('keeps nothing of a connection that fails', async () => {
    await network.configure('10.244.3.0/24');
    const ports = [{ protocol: 'TCP', hostPort: 8080, containerPort: 80 } as const];
    await expect(network.add('a', '/run/netns/not-there', ports)).rejects.toThrow('cannot connect sandbox a to the pod network');
    const taken = await node.namespace('b');
    await node.inside('b', 'ip link add eth0 type bridge');
    await expect(network.add('b', taken, ports)).rejects.toThrow('File exists');
    expect(await links()).toEqual([]);
    expect(stored().sandboxes).toEqual({});
    await pod('c', ports);
    expect(await elements()).toEqual(['10.244.3.4 . 80']);
  });

  it('refuses what is no IPv4 block, and a damaged file', async () => {
    for (const wrong of ['fd00::/64', '10.244.3.0', '10.244.3.0/30', '10.244.3.300/24', ''])
      await expect(network.configure(wrong)).rejects.toThrow('is not an IPv4 block');
    await network.end();
    writeFileSync(`${node.stateDir}/pod-network.json`, '{"version":1,');
    network = await node.agent();
    await expect(network.configure('10.244.3.0/24')).rejects.toThrow('pod-network.json is damaged');
  });
});
