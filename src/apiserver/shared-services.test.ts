/** What services are given where two API servers share one etcd. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { openEtcdStore } from '../store/etcd.ts';
import { type EtcdCluster, findEtcd, startEtcd } from '../store/etcd/testing.ts';
import type { Store } from '../store/store.ts';
import { placesOf } from './services/range-allocation.ts';
import { startTestServer, type TestServer } from './testing.ts';

const etcdProgram = findEtcd();
if (!etcdProgram) console.log('services of several API servers are not tested: no etcd on this machine (apt-get install etcd-server)');
const services = resources.services as any;
const first = 31000;
const count = 1000;

describe.runIf(etcdProgram)('two API servers on one etcd', { timeout: 120_000 }, () => {
  let etcd: EtcdCluster;
  const stores: Store[] = [];
  let servers: TestServer[] = [];
  let clients: Client[] = [];

  const start = async (i: number) => {
    const store = await openEtcdStore({ endpoints: etcd.endpoints });
    stores.push(store);
    return startTestServer({ store, advertise: { address: `10.0.0.${i}`, port: 6443 }, nodePortRange: [first, first + count - 1] });
  };
  const admin = (server: TestServer) => server.localClient({ name: 'admin', groups: ['system:masters'] });

  beforeAll(async () => {
    etcd = await startEtcd();
    // At once, over an empty store: each makes the default objects.
    servers = await Promise.all([start(1), start(2)]);
    clients = servers.map(admin);
  }, 60_000);
  afterAll(async () => {
    await Promise.all(servers.map((s) => s.stop()));
    await Promise.all(stores.map((s) => s.close()));
    await etcd?.stop();
  });

  const addresses = async () => (await clients[0]!.list(resources.ipaddresses, {})).items.map((i: any) => i.metadata.name as string);
  const storedPorts = async () => {
    const value = await stores[0]!.get('/registry/ranges/servicenodeports');
    const { range, data } = JSON.parse(value!.value.toString());
    expect(range).toBe(`${first}-${first + count - 1}`);
    return [...placesOf(data, count).keys()].filter((place) => placesOf(data, count)[place]).map((place) => first + place);
  };
  const endpoints = async () => {
    const found: any = await clients[0]!.get(resources.endpoints, { namespace: 'default', name: 'kubernetes' });
    const slice: any = await clients[0]!.get(resources.endpointslices, { namespace: 'default', name: 'kubernetes' });
    const listed = (found.subsets ?? []).flatMap((s: any) => s.addresses.map((a: any) => a.ip));
    expect(slice.endpoints.flatMap((e: any) => e.addresses)).toEqual(listed);
    return listed;
  };

  test('services made at once by both are given different addresses and node ports; deleting gives all back', async () => {
    const make = (i: number) =>
      clients[i % 2]!.create(services, {
        metadata: { namespace: 'default', name: `s${i}` },
        spec: { type: 'LoadBalancer', externalTrafficPolicy: i % 10 ? 'Cluster' : 'Local', ports: [{ port: 80 }] },
      } as any) as Promise<any>;
    const made = await Promise.all(Array.from({ length: 300 }, (_, i) => make(i)));
    const ips = made.map((s) => s.spec.clusterIP);
    const ports = made.flatMap((s) => [s.spec.ports[0].nodePort, ...(s.spec.healthCheckNodePort ? [s.spec.healthCheckNodePort] : [])]);
    expect(new Set(ips).size).toBe(300);
    expect(ports).toHaveLength(330);
    expect(new Set(ports).size).toBe(330);
    expect((await addresses()).sort()).toEqual(['10.96.0.1', ...ips].sort());
    expect(await storedPorts()).toEqual(ports.sort());
    // The same address and port, asked of both at the same moment, is one's.
    const wanted = (i: number) =>
      clients[i % 2]!.create(services, {
        metadata: { namespace: 'default', name: `w${i}` },
        spec: { type: 'NodePort', clusterIP: '10.96.0.77', ports: [{ port: 80, nodePort: first + 5 }] },
      } as any);
    for (const s of made.filter(
      (m) => m.spec.clusterIP === '10.96.0.77' || m.spec.ports[0].nodePort === first + 5 || m.spec.healthCheckNodePort === first + 5,
    ))
      await clients[1]!.delete(services, { namespace: 'default', name: s.metadata.name });
    const results = await Promise.allSettled(Array.from({ length: 10 }, (_, i) => wanted(i)));
    expect(results.filter((r) => r.status === 'fulfilled')).toHaveLength(1);
    for (const r of results) if (r.status === 'rejected') expect(r.reason.message).toMatch(/already allocated/);
    await Promise.all(
      (await clients[0]!.list(services, { namespace: 'default' })).items
        .filter((s: any) => s.metadata.name !== 'kubernetes')
        .map((s: any, i) => clients[i % 2]!.delete(services, { namespace: 'default', name: s.metadata.name })),
    );
    expect(await addresses()).toEqual(['10.96.0.1']);
    expect(await storedPorts()).toEqual([]);
  });

  test('each server is an endpoint of default/kubernetes until it stops', async () => {
    await vi.waitFor(async () => expect(await endpoints()).toEqual(['10.0.0.1', '10.0.0.2']), 10_000);
    const third = await start(3);
    await vi.waitFor(async () => expect(await endpoints()).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']), 10_000);
    await third.stop();
    expect(await endpoints()).toEqual(['10.0.0.1', '10.0.0.2']);
    // One that dies renews its lease no more; revoking it is what etcd does then.
    const lease = (await stores[1]!.get('/registry/masterleases/10.0.0.2'))!.lease;
    expect(lease).toBeGreaterThan(0);
    await stores[1]!.revokeLease(lease);
    await vi.waitFor(async () => expect(await endpoints()).toEqual(['10.0.0.1']), 10_000);
    // It lives: it notices and takes another.
    await vi.waitFor(async () => expect(await endpoints()).toEqual(['10.0.0.1', '10.0.0.2']), 20_000);
    // Whatever somebody makes of them is put right.
    const found: any = await clients[0]!.get(resources.endpoints, { namespace: 'default', name: 'kubernetes' });
    await clients[0]!.update(resources.endpoints, { ...found, subsets: [] });
    await vi.waitFor(async () => expect(await endpoints()).toEqual(['10.0.0.1', '10.0.0.2']), 10_000);
  });
});
