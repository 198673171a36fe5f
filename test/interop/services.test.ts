/** Upstream's API server and ours on one etcd: what services are given, and who is an endpoint of default/kubernetes. */
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { openEtcdStore } from '../../src/store/etcd.ts';
import type { Store } from '../../src/store/store.ts';
import { Connection } from './connection.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, services beside upstream's API server: ${missing}`);
const services = '/api/v1/namespaces/default/services';
const addresses = '/apis/networking.k8s.io/v1/ipaddresses';

describe.skipIf(missing)("services beside upstream's API server", { timeout: 120_000 }, () => {
  let peer: Peer;
  let store: Store;
  let server: TestServer;
  let sides: Connection[];

  beforeAll(async () => {
    peer = await startPeer(['--endpoint-reconciler-type=lease', '--advertise-address=10.0.0.8']);
    store = await openEtcdStore({ endpoints: [peer.etcd] });
    server = await startTestServer({ store, advertise: { address: '10.0.0.9', port: Number(new URL(peer.connection.address).port) } });
    sides = [peer.connection, new Connection(server.address, { ca: server.ca, ...server.admin })];
  }, 120_000);
  afterAll(async () => {
    sides?.[1]?.close();
    await server?.stop();
    await store?.close();
    await peer?.stop();
  });

  const create = (i: number, name: string, spec: object) =>
    sides[i % 2]!.send({ method: 'POST', path: services, body: { metadata: { name }, spec: { type: 'NodePort', ports: [{ port: 80 }], ...spec } } });
  const remove = (i: number, name: string) => sides[i % 2]!.send({ method: 'DELETE', path: `${services}/${name}` });
  const owned = async (side: Connection) => {
    const { json } = await side.send({ method: 'GET', path: addresses });
    return Object.fromEntries(json.items.map((ip: any) => [ip.metadata.name, `${ip.spec.parentRef.namespace}/${ip.spec.parentRef.name}`]));
  };

  test('services made at once by both are given different addresses and node ports', async () => {
    const made = await Promise.all(Array.from({ length: 100 }, (_, i) => create(i, `s${i}`, {})));
    expect(made.map((a) => a.status)).toEqual(made.map(() => 201));
    const given = made.map((a) => a.json.spec);
    expect(new Set(given.map((s) => s.clusterIP)).size).toBe(100);
    expect(new Set(given.map((s) => s.ports[0].nodePort)).size).toBe(100);
    const expected = Object.fromEntries(given.map((s, i) => [s.clusterIP, `default/s${i}`]));
    expect(await owned(sides[0]!)).toEqual({ '10.96.0.1': 'default/kubernetes', ...expected });
    expect(await owned(sides[1]!)).toEqual({ '10.96.0.1': 'default/kubernetes', ...expected });
  });

  test('each refuses what the other has given, in the same words', async () => {
    for (const i of [0, 1]) {
      const { json } = await sides[i]!.send({ method: 'GET', path: `${services}/s${i}` });
      const address = await create(i + 1, 'taken', { clusterIP: json.spec.clusterIP });
      expect(address.json.message).toBe(
        `Service "taken" is invalid: spec.clusterIPs: Invalid value: ["${json.spec.clusterIP}"]: failed to allocate IP ${json.spec.clusterIP}: provided IP is already allocated`,
      );
      const { nodePort } = json.spec.ports[0];
      // Of another protocol too.
      const port = await create(i + 1, 'taken', { ports: [{ port: 80, protocol: 'UDP', nodePort }] });
      expect(port.json.message).toBe(`Service "taken" is invalid: spec.ports[0].nodePort: Invalid value: ${nodePort}: provided port is already allocated`);
    }
    const refusals = [
      { clusterIP: '10.97.0.1' },
      { clusterIP: '10.96.0.0' },
      { clusterIP: '10.96.255.255' },
      { ports: [{ port: 80, nodePort: 80 }] },
      { type: 'LoadBalancer', externalTrafficPolicy: 'Local', healthCheckNodePort: 80 },
    ];
    for (const spec of refusals) {
      const [theirs, ours] = [await create(0, 'refused', spec), await create(1, 'refused', spec)];
      expect([ours.status, ours.json.message]).toEqual([theirs.status, theirs.json.message]);
      expect(ours.status).toBeGreaterThanOrEqual(400);
    }
    // Dry runs take nothing, and say the same.
    for (const spec of [{}, { type: 'LoadBalancer', externalTrafficPolicy: 'Local' }, { clusterIP: '10.96.7.7', ports: [{ port: 80, nodePort: 30777 }] }]) {
      const dry = { method: 'POST', path: `${services}?dryRun=All`, body: { metadata: { name: 'dry' }, spec: { type: 'NodePort', ports: [{ port: 80 }], ...spec } } };
      const [theirs, ours] = [await sides[0]!.send(dry), await sides[1]!.send(dry)];
      expect(ours.json.spec).toEqual(theirs.json.spec);
    }
  });

  test('what one gave the other gives back', async () => {
    const { json } = await sides[0]!.send({ method: 'GET', path: `${services}/s0` });
    const { clusterIP } = json.spec;
    const { nodePort } = json.spec.ports[0];
    expect((await remove(1, 's0')).status).toBe(200);
    const again = await create(0, 'again', { clusterIP, ports: [{ port: 80, nodePort }] });
    expect([again.status, again.json.message]).toEqual([201, undefined]);
    expect((await remove(0, 'again')).status).toBe(200);
    const ours = await create(1, 'again', { clusterIP, ports: [{ port: 80, nodePort }] });
    expect([ours.status, ours.json.message]).toEqual([201, undefined]);
    await Promise.all(['again', ...Array.from({ length: 99 }, (_, i) => `s${i + 1}`)].map((name, i) => remove(i, name)));
    for (const side of sides) expect(await owned(side)).toEqual({ '10.96.0.1': 'default/kubernetes' });
  });

  test('both are endpoints of default/kubernetes; a ServiceCIDR of one gives addresses at the other', async () => {
    const endpoints = async (side: Connection) => {
      const { json } = await side.send({ method: 'GET', path: '/api/v1/namespaces/default/endpoints/kubernetes' });
      return json.subsets.flatMap((s: any) => s.addresses.map((a: any) => a.ip));
    };
    for (const side of sides) await vi.waitFor(async () => expect(await endpoints(side)).toEqual(['10.0.0.8', '10.0.0.9']), 30_000);
    for (const i of [0, 1]) {
      const path = '/apis/networking.k8s.io/v1/servicecidrs';
      await sides[i]!.send({ method: 'POST', path, body: { metadata: { name: `more${i}` }, spec: { cidrs: [`10.98.${i}.0/24`] } } });
      await vi.waitFor(async () => expect((await create(i + 1, `more${i}`, { clusterIP: `10.98.${i}.7` })).status).toBe(201), 10_000);
    }
    await server.stop();
    await vi.waitFor(async () => expect(await endpoints(sides[0]!)).toEqual(['10.0.0.8']), 30_000);
  });
});
