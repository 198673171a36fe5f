import { afterAll, beforeAll, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { firstAddress, formatIpv4, parseCidr, parseIpv4 } from './services/allocators.ts';
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
    'is not in the valid range. The range of valid IPs is 10.96.0.0/28',
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
  await admin.list(services, {});
  const next: any = await admin.create(services, service('full'));
  expect(next.spec.clusterIP).toBe('10.96.0.2');
  for (const result of results) if (result.status === 'fulfilled') await admin.delete(services, key((result.value as any).metadata.name));
  await admin.delete(services, key('full'));
  await admin.list(services, {});
});

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
  await admin.list(services, {});
  await admin.create(services, service('freed', { type: 'NodePort', ports: [{ port: 80, nodePort }] }));
});

test('a load balancer with local traffic has a health check port; a dry run takes nothing', async () => {
  const balanced: any = await admin.create(services, service('balanced', { type: 'LoadBalancer', externalTrafficPolicy: 'Local' }));
  expect(balanced.spec.healthCheckNodePort).toBeGreaterThanOrEqual(30000);
  const dry: any = await admin.create(services, service('dry'), { dryRun: true });
  await admin.create(services, service('real', { clusterIP: dry.spec.clusterIP }));
});
