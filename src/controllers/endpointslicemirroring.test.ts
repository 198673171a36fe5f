import { afterEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { startEndpointsController } from './endpoints.ts';
import { startEndpointSliceMirroringController } from './endpointslicemirroring.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const service = (spec: object = {}) => ({ metadata: { name: 'db' }, spec: { ports: [{ port: 5432 }], ...spec } });
const subset = (ips: string[], port = 5432, notReady: string[] = []) => ({
  ...(ips.length ? { addresses: ips.map((ip) => ({ ip })) } : {}),
  ...(notReady.length ? { notReadyAddresses: notReady.map((ip) => ({ ip })) } : {}),
  ports: [{ name: 'sql', port, protocol: 'TCP' }],
});
const endpoints = (subsets: object[], metadata: object = {}) => ({ metadata: { name: 'db', ...metadata }, subsets });

describe.each(backends)('mirroring of Endpoints on $name', ({ open }) => {
  async function start() {
    bench = await open();
    startEndpointSliceMirroringController(bench.as('endpointslicemirroring-controller'));
    // Leaves Endpoints of services without a selector alone.
    startEndpointsController(bench.as('endpoint-controller'));
  }
  const slices = async () => (await bench.all(resources.endpointslices)).filter((s) => s.metadata.labels?.['kubernetes.io/service-name'] === 'db');
  const addresses = async () => (await slices()).flatMap((s) => (s.endpoints ?? []).map((e) => e.addresses[0])).sort();

  test('follows creation, changes and deletion', async () => {
    await start();
    await bench.create(resources.services, service());
    await bench.create(resources.endpoints, endpoints([subset(['10.1.2.3'], 5432, ['10.1.2.4'])], { labels: { a: 'b' }, annotations: { n: 'x' } }));
    const [slice] = await eventually('a slice', async () => ((await slices()).length === 1 ? slices() : undefined));
    expect(slice).toMatchObject({
      addressType: 'IPv4',
      ports: [{ name: 'sql', port: 5432, protocol: 'TCP' }],
      metadata: {
        labels: { a: 'b', 'endpointslice.kubernetes.io/managed-by': 'endpointslicemirroring-controller.k8s.io' },
        annotations: { n: 'x' },
        ownerReferences: [{ kind: 'Endpoints', name: 'db', controller: true }],
      },
    });
    expect(slice!.endpoints!.map((e) => [e.addresses[0], e.conditions!.ready])).toEqual([
      ['10.1.2.3', true],
      ['10.1.2.4', false],
    ]);
    await bench.patch(resources.endpoints, 'db', { subsets: [subset(['10.1.2.5'], 9090)] });
    await eventually('the change', async () => (await addresses()).join() === '10.1.2.5');
    expect((await slices()).map((s) => [s.metadata.name, s.ports![0]!.port])).toEqual([[slice!.metadata.name, 9090]]);
    await bench.remove(resources.endpoints, 'db');
    await eventually('no slices', async () => (await slices()).length === 0);
  });

  test('one slice per address family and set of ports; bad addresses are left out', async () => {
    await start();
    await bench.create(resources.services, service());
    await bench.create(resources.endpoints, endpoints([subset(['10.1.2.3', '2001:db8::1']), subset(['10.1.2.4'], 5433)]));
    await eventually('three slices', async () => (await slices()).length === 3);
    expect((await slices()).map((s) => `${s.addressType} ${s.ports![0]!.port}`).sort()).toEqual(['IPv4 5432', 'IPv4 5433', 'IPv6 5432']);
    await bench.patch(resources.endpoints, 'db', { subsets: [subset(['10.1.2.3'])] });
    await eventually('one slice', async () => (await slices()).length === 1);
  });

  test('not where the service has a selector, is missing, or the label says so', async () => {
    await start();
    await bench.create(resources.endpoints, endpoints([subset(['10.1.2.3'])]));
    await settle();
    expect(await slices()).toEqual([]);
    await bench.create(resources.services, service());
    await eventually('a slice', async () => (await slices()).length === 1);
    await bench.patch(resources.endpoints, 'db', { metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': 'true' } } });
    await eventually('no slice', async () => (await slices()).length === 0);
    await bench.patch(resources.endpoints, 'db', { metadata: { labels: { 'endpointslice.kubernetes.io/skip-mirror': null } } });
    await eventually('a slice', async () => (await slices()).length === 1);
    await bench.remove(resources.services, 'db');
    await eventually('no slice', async () => (await slices()).length === 0);
  });
});
