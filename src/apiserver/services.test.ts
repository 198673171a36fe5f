import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { firstAddress, formatIpv4, parseCidr, parseIpv4 } from './services/ipv4.ts';
import { startTestServer, type TestServer } from './testing.ts';

let server: TestServer;
let admin: Client;
const services = resources.services as any;

beforeAll(async () => {
  server = await startTestServer({ serviceCidr: '10.96.0.0/28', nodePortRange: [30000, 30009], advertise: { address: '10.0.0.5', port: 6443 } });
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
});
afterAll(async () => server?.stop());

const service = (name: string, spec: object = {}) => ({ metadata: { namespace: 'default', name }, spec: { ports: [{ port: 80 }], ...spec } }) as any;
const key = (name: string) => ({ namespace: 'default', name });
const message = async (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => 'not refused',
    (e: Error) => e.message,
  );

test('ranges', () => {
  expect(formatIpv4(parseIpv4('10.96.0.17')!)).toBe('10.96.0.17');
  expect(parseIpv4('10.96.0.256')).toBeUndefined();
  expect(parseCidr('10.96.3.7/16')).toEqual({ base: parseIpv4('10.96.0.0'), size: 65536 });
  expect(firstAddress('10.96.0.0/16')).toBe('10.96.0.1');
});

test('default/kubernetes has the first address and this server as its endpoint', async () => {
  const found: any = await admin.get(services, key('kubernetes'));
  expect(found.spec).toMatchObject({ clusterIP: '10.96.0.1', clusterIPs: ['10.96.0.1'], ipFamilies: ['IPv4'], ipFamilyPolicy: 'SingleStack' });
  const endpoints: any = await admin.get(resources.endpoints as any, key('kubernetes'));
  expect(endpoints.subsets).toEqual([{ addresses: [{ ip: '10.0.0.5' }], ports: [{ name: 'https', port: 6443, protocol: 'TCP' }] }]);
  const slice: any = await admin.get(resources.endpointslices as any, key('kubernetes'));
  expect(slice.endpoints[0]).toMatchObject({ addresses: ['10.0.0.5'] });
});

test('a requested address is given once, and only from the range', async () => {
  await admin.create(services, service('fixed', { clusterIP: '10.96.0.2' }));
  expect(await message(admin.create(services, service('again', { clusterIP: '10.96.0.2' })))).toBe(
    'Service "again" is invalid: spec.clusterIPs: Invalid value: ["10.96.0.2"]: failed to allocate IP 10.96.0.2: provided IP is already allocated',
  );
  expect(await message(admin.create(services, service('outside', { clusterIP: '10.97.0.2' })))).toContain(
    'failed to allocate IP 10.97.0.2: the provided network does not match the current range',
  );
});

test('many creations at once get different addresses, until the range is full; deleting frees', async () => {
  const results = await Promise.allSettled(Array.from({ length: 14 }, (_, i) => admin.create(services, service(`s${i}`))));
  const made = results.filter((x) => x.status === 'fulfilled').map((x) => (x as any).value.spec.clusterIP);
  // 16 addresses less network, broadcast, kubernetes and `fixed`.
  expect(made).toHaveLength(12);
  expect(new Set(made).size).toBe(12);
  expect(await message(admin.create(services, service('full')))).toContain('range is full');
  await admin.delete(services, key('fixed'));
  const next: any = await admin.create(services, service('full'));
  expect(next.spec.clusterIP).toBe('10.96.0.2');
  for (const result of results) if (result.status === 'fulfilled') await admin.delete(services, key((result.value as any).metadata.name));
  await admin.delete(services, key('full'));
  await admin.list(services, {});
});

test('an address is an IPAddress object, which goes with its service', async () => {
  const made: any = await admin.create(services, service('addressed'));
  const ip: any = await admin.get(resources.ipaddresses, { name: made.spec.clusterIP });
  expect(ip.metadata.labels).toEqual({ 'ipaddress.kubernetes.io/ip-family': 'IPv4', 'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io' });
  expect(ip.spec).toEqual({ parentRef: { resource: 'services', namespace: 'default', name: 'addressed' } });
  // One that fails after it was given an address has none.
  expect(await message(admin.create(services, service('addressed')))).toContain('already exists');
  expect(await message(admin.create(services, service('bad', { ports: [] })))).toContain('is invalid');
  const owners = async () => (await admin.list(resources.ipaddresses, {})).items.map((i: any) => i.spec.parentRef.name).sort();
  expect(await owners()).toEqual(['addressed', 'kubernetes']);
  await admin.patch(services, key('addressed'), 'merge', {
    spec: { type: 'ExternalName', externalName: 'example.com', clusterIP: null, clusterIPs: null },
  });
  expect(await owners()).toEqual(['kubernetes']);
  await admin.patch(services, key('addressed'), 'merge', { spec: { type: 'ClusterIP', externalName: null } });
  expect(await owners()).toEqual(['addressed', 'kubernetes']);
  await admin.patch(services, key('addressed'), 'merge', { metadata: { finalizers: ['example.com/wait'] } });
  await admin.delete(services, key('addressed'));
  expect(await owners()).toEqual(['addressed', 'kubernetes']);
  await admin.patch(services, key('addressed'), 'merge', { metadata: { finalizers: null } });
  expect(await owners()).toEqual(['kubernetes']);
});

test('other ServiceCIDRs give addresses too, but not while they are going', async () => {
  const cidr = (name: string, block: string) => ({ metadata: { name }, spec: { cidrs: [block] } }) as any;
  await admin.create(resources.servicecidrs, { ...cidr('more', '10.98.0.0/29'), metadata: { name: 'more', finalizers: ['example.com/wait'] } });
  const made: any = await admin.create(services, service('more', { clusterIP: '10.98.0.3' }));
  expect(made.spec.clusterIP).toBe('10.98.0.3');
  await admin.delete(resources.servicecidrs, { name: 'more' });
  await admin.list(resources.servicecidrs, {});
  expect(await message(admin.create(services, service('late', { clusterIP: '10.98.0.4' })))).toContain('does not match the current range');
  await admin.delete(services, key('more'));
  expect((await admin.list(resources.ipaddresses, {})).items.map((i: any) => i.metadata.name)).toEqual(['10.96.0.1']);
  await admin.patch(resources.servicecidrs, { name: 'more' }, 'merge', { metadata: { finalizers: null } });
});

test('what services and addresses lack of each other is repaired', async () => {
  const made: any = await admin.create(services, service('kept'));
  const address = { name: made.spec.clusterIP };
  const { uid } = ((await admin.get(resources.ipaddresses, address)) as any).metadata;
  await admin.delete(resources.ipaddresses, address);
  await vi.waitFor(async () => expect(((await admin.get(resources.ipaddresses, address)) as any).metadata.uid).not.toBe(uid), 10_000);
  // A service of the same name never had this one.
  const free = made.spec.clusterIP === '10.96.0.13' ? '10.96.0.14' : '10.96.0.13';
  const stray = { ...((await admin.get(resources.ipaddresses, address)) as any), metadata: { name: free } };
  stray.metadata.labels = { 'ipaddress.kubernetes.io/ip-family': 'IPv4', 'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io' };
  await admin.create(resources.ipaddresses, stray);
  await vi.waitFor(async () => expect(await message(admin.get(resources.ipaddresses, { name: free }))).toContain('not found'), 15_000);
  await admin.delete(services, key('kept'));
}, 30_000);

test('headless services and external names have no address', async () => {
  const headless: any = await admin.create(services, service('headless', { clusterIP: 'None' }));
  expect(headless.spec).toMatchObject({ clusterIP: 'None', clusterIPs: ['None'] });
  const external: any = await admin.create(services, {
    metadata: { namespace: 'default', name: 'external' },
    spec: { type: 'ExternalName', externalName: 'example.com' },
  } as any);
  expect(external.spec.clusterIP).toBeUndefined();
});

test('node ports come and go with the type', async () => {
  const plain: any = await admin.create(services, service('typed', { type: 'ClusterIP' }));
  expect(plain.spec.ports[0].nodePort).toBeUndefined();
  const exposed: any = await admin.patch(services, key('typed'), 'merge', { spec: { type: 'NodePort' } });
  const { nodePort } = exposed.spec.ports[0];
  expect(nodePort).toBeGreaterThanOrEqual(30000);
  expect(exposed.spec.clusterIP).toBe(plain.spec.clusterIP);
  expect(await message(admin.create(services, service('taken', { type: 'NodePort', ports: [{ port: 80, nodePort }] })))).toBe(
    `Service "taken" is invalid: spec.ports[0].nodePort: Invalid value: ${nodePort}: provided port is already allocated`,
  );
  expect(await message(admin.create(services, service('far', { type: 'NodePort', ports: [{ port: 80, nodePort: 20000 }] })))).toContain(
    'The range of valid ports is 30000-30009',
  );
  // A client that does not know them keeps address and node port.
  const { clusterIP: _a, clusterIPs: _b, ...spec } = exposed.spec;
  const updated: any = await admin.update(services, { ...exposed, spec: { ...spec, ports: [{ port: 80, protocol: 'TCP', targetPort: 8080 }] } });
  expect(updated.spec).toMatchObject({ clusterIP: plain.spec.clusterIP, ports: [{ nodePort, targetPort: 8080 }] });
  const closed: any = await admin.update(services, { ...updated, spec: { ...updated.spec, type: 'ClusterIP' } });
  expect(closed.spec.ports[0].nodePort).toBeUndefined();
  await admin.create(services, service('freed', { type: 'NodePort', ports: [{ port: 80, nodePort }] }));
});

test('a load balancer with local traffic has a health check port; a dry run takes nothing', async () => {
  const balanced: any = await admin.create(services, service('balanced', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' }));
  expect(balanced.spec.healthCheckNodePort).toBeGreaterThanOrEqual(30000);
  const before = (await admin.list(resources.ipaddresses, {})).items.length;
  const dry: any = await admin.create(services, service('dry', { type: 'NodePort' }), { dryRun: true });
  // What upstream answers: an address and a port that no service ever has.
  expect(dry.spec).toMatchObject({ clusterIP: '10.96.0.0', ports: [{ nodePort: 32769 }] });
  expect((await admin.list(resources.ipaddresses, {})).items).toHaveLength(before);
});
