/** Services made through two API servers on one etcd while each is killed: what they are given stays theirs alone. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { isAlreadyExists } from '../../src/api/errors.ts';
import { resources } from '../../src/api/generated/resources.ts';
import { openEtcdStore } from '../../src/store/etcd.ts';
import { type EtcdCluster, findEtcd, startEtcd } from '../../src/store/etcd/testing.ts';
import { placesOf } from '../../src/apiserver/services/range-allocation.ts';
import { ApiServers } from './api-servers.ts';

const etcdProgram = findEtcd();
if (!etcdProgram) console.log('services of servers that die are not tested: no etcd on this machine (apt-get install etcd-server)');
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.runIf(etcdProgram)('services through two API servers', { timeout: 240_000 }, () => {
  let etcd: EtcdCluster;
  let servers: ApiServers;
  beforeAll(async () => {
    etcd = await startEtcd();
    servers = new ApiServers((i) => ['--etcd-servers', etcd.endpoints.join(','), '--advertise-address', `10.0.0.${i + 1}`]);
    await servers.start(0);
    await servers.start(1);
  }, 120_000);
  afterAll(async () => {
    await servers?.stop();
    await etcd?.stop();
  });

  const endpoints = async (i: number): Promise<string[]> => {
    const found = await servers.client(i).get(resources.endpoints, { namespace: 'default', name: 'kubernetes' });
    return (found.subsets ?? []).flatMap((s) => (s.addresses ?? []).map((a) => a.ip));
  };

  it('SIGKILL of each gives nothing twice, and every service has what it says', async () => {
    let made = 0;
    let ended = false;
    const writer = async (side: number, worker: number) => {
      const client = servers.client(side);
      for (let i = 0; !ended; i++) {
        const name = `s${side}-${worker}-${i}`;
        const service = { metadata: { namespace: 'default', name }, spec: { type: 'NodePort' as const, ports: [{ port: 80 }] } };
        try {
          await client.create(resources.services, service);
          made++;
          if (i % 3 === 0) await client.delete(resources.services, service.metadata);
        } catch (error) {
          if (isAlreadyExists(error)) throw error;
          await sleep(100);
        }
      }
    };
    const writers = [0, 1].flatMap((side) => [0, 1, 2].map((worker) => writer(side, worker)));
    for (const server of [0, 1]) {
      await sleep(700);
      await servers.kill(server);
      await sleep(700);
      await servers.start(server);
    }
    await sleep(700);
    ended = true;
    await Promise.all(writers);
    expect(made).toBeGreaterThan(50);
    const { items } = await servers.client(0).list(resources.services, {});
    const ips = items.map((s) => s.spec!.clusterIP!);
    const ports = items.flatMap((s) => (s.spec!.ports ?? []).flatMap((p) => p.nodePort ?? []));
    expect(new Set(ips).size).toBe(ips.length);
    expect(new Set(ports).size).toBe(ports.length);
    const owners = new Map(
      (await servers.client(1).list(resources.ipaddresses, {})).items.map((ip) => [ip.metadata.name, ip.spec!.parentRef!.name]),
    );
    for (const s of items) expect(owners.get(s.spec!.clusterIP!)).toBe(s.metadata.name);
    const store = await openEtcdStore({ endpoints: etcd.endpoints });
    const value = JSON.parse((await store.get('/registry/ranges/servicenodeports'))!.value.toString());
    await store.close();
    const taken = placesOf(value.data, 2768);
    for (const port of ports) expect(taken[port - 30000], `node port ${port}`).toBe(1);
  });

  it('a server that ends leaves the endpoints of default/kubernetes, one that is killed when its lease ends', async () => {
    await vi.waitFor(async () => expect(await endpoints(0)).toEqual(['10.0.0.1', '10.0.0.2']), 30_000);
    await servers.kill(1, 'SIGTERM');
    expect(await endpoints(0)).toEqual(['10.0.0.1']);
    await servers.start(1);
    await vi.waitFor(async () => expect(await endpoints(0)).toEqual(['10.0.0.1', '10.0.0.2']), 30_000);
    await servers.kill(1);
    await vi.waitFor(async () => expect(await endpoints(0)).toEqual(['10.0.0.1']), 60_000);
  });
});
