import { afterEach, describe, expect, test } from 'vitest';
import type { Pod } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startEndpointsController } from './endpoints.ts';
import { startEndpointSliceController } from './endpointslice.ts';
import { eventually, setStatus, settle, type TestContext, testContext } from './testing.ts';

let context: TestContext;
afterEach(() => context?.stop());

const service = (spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', namespace: 'default', labels: { tier: 'front' } },
  spec: {
    selector: { app: 'web' },
    clusterIP: '10.96.0.7',
    ipFamilies: ['IPv4'],
    ports: [{ name: 'http', port: 80, targetPort: 'http', protocol: 'TCP' }],
    ...spec,
  },
});
const pod = (
  name: string,
  ip: string,
  { ready = true, port = 8080, ...spec }: { ready?: boolean; port?: number } & Record<string, unknown> = {},
) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default', labels: { app: 'web' }, uid: `uid-${name}` },
  spec: { nodeName: 'n1', containers: [{ name: 'c', ports: [{ name: 'http', containerPort: port }] }], ...spec },
  status: { phase: 'Running', podIP: ip, podIPs: [{ ip }], conditions: [{ type: 'Ready', status: ready ? 'True' : 'False' }] },
});
const node = { apiVersion: 'v1', kind: 'Node', metadata: { name: 'n1', labels: { 'topology.kubernetes.io/zone': 'z1' } }, spec: {} };

const slices = () => context.client.objects(resources.endpointslices);
const all = () => slices().flatMap((s) => s.endpoints ?? []);

describe('EndpointSlices', () => {
  test('hold what proxies need to know of each pod', async () => {
    context = testContext([service(), node, pod('a', '10.0.0.1'), pod('b', '10.0.0.2', { ready: false })]);
    startEndpointSliceController(context);
    await eventually('two endpoints', () => all().length === 2);
    const [slice] = slices();
    expect(slice!.metadata.name).toMatch(/^web-/);
    expect(slice!.metadata.labels).toEqual({
      tier: 'front',
      'kubernetes.io/service-name': 'web',
      'endpointslice.kubernetes.io/managed-by': 'endpointslice-controller.k8s.io',
    });
    expect(slice!.metadata.ownerReferences).toMatchObject([{ kind: 'Service', name: 'web', controller: true }]);
    expect(slice).toMatchObject({ addressType: 'IPv4', ports: [{ name: 'http', port: 8080, protocol: 'TCP' }] });
    expect(slice!.endpoints!.find((e) => e.addresses[0] === '10.0.0.1')).toEqual({
      addresses: ['10.0.0.1'],
      conditions: { ready: true, serving: true, terminating: false },
      nodeName: 'n1',
      zone: 'z1',
      targetRef: { kind: 'Pod', namespace: 'default', name: 'a', uid: 'uid-a' },
    });
    expect(slice!.endpoints!.find((e) => e.addresses[0] === '10.0.0.2')!.conditions).toEqual({ ready: false, serving: false, terminating: false });
  });

  test('a pod on its way out serves on, but is not ready', async () => {
    context = testContext([service(), node, pod('a', '10.0.0.1')]);
    startEndpointSliceController(context);
    await eventually('the endpoint', () => all().length === 1);
    await context.client.delete(resources.pods, { namespace: 'default', name: 'a' }, { gracePeriodSeconds: 30 });
    await eventually('terminating', () => all()[0]?.conditions?.terminating);
    expect(all()[0]!.conditions).toEqual({ ready: false, serving: true, terminating: true });
    await context.client.delete(resources.pods, { namespace: 'default', name: 'a' }, { gracePeriodSeconds: 0 });
    await eventually('no endpoint', () => all().length === 0);
    expect(slices()).toHaveLength(1);
  });

  test('resolves named ports by pod', async () => {
    context = testContext([service(), node, pod('a', '10.0.0.1'), pod('b', '10.0.0.2', { port: 9090 })]);
    startEndpointSliceController(context);
    await eventually('two slices', () => slices().length === 2 && all().length === 2);
    expect(
      slices()
        .map((s) => s.ports![0]!.port)
        .sort(),
    ).toEqual([8080, 9090]);
  });

  test('a hundred in a slice, and one change writes one slice', async () => {
    const pods = Array.from({ length: 250 }, (_, i) => pod(`p${i}`, `10.0.${i >> 7}.${i & 127}`));
    context = testContext([service(), node, ...pods]);
    startEndpointSliceController(context);
    await eventually('all endpoints', () => all().length === 250);
    expect(
      slices()
        .map((s) => s.endpoints!.length)
        .sort(),
    ).toEqual([100, 100, 50]);
    await settle();
    context.client.writes.length = 0;
    await setStatus(context.client, resources.pods, context.client.objects(resources.pods)[3] as Pod, {
      conditions: [{ type: 'Ready', status: 'False' }],
    });
    await eventually('the change', () => all().some((e) => !e.conditions!.ready));
    await settle();
    expect(context.client.writes.filter((w) => w.resource.startsWith('endpointslices'))).toHaveLength(1);
  });

  test('a headless service without ports, with hostnames; a service without selector is left alone', async () => {
    const headless = service({ clusterIP: 'None', ports: undefined });
    const other = { ...service({ selector: undefined }), metadata: { name: 'external', namespace: 'default' } };
    context = testContext([headless, other, node, pod('a', '10.0.0.1', { hostname: 'a', subdomain: 'web' })]);
    startEndpointSliceController(context);
    await eventually('the endpoint', () => all().length === 1);
    expect(all()[0]!.hostname).toBe('a');
    expect(slices()[0]!.metadata.labels).toHaveProperty(['service.kubernetes.io/headless'], '');
    await settle();
    expect(slices()).toHaveLength(1);
  });
});

describe('Endpoints', () => {
  test('ready and not ready addresses under one set of ports', async () => {
    context = testContext([service(), pod('a', '10.0.0.1'), pod('b', '10.0.0.2', { ready: false })]);
    startEndpointsController(context);
    const get = () => context.client.objects(resources.endpoints)[0];
    const found = await eventually('endpoints', get);
    expect(found.metadata).toMatchObject({ name: 'web', labels: { tier: 'front', 'endpoints.kubernetes.io/managed-by': 'endpoint-controller' } });
    expect(found.subsets).toMatchObject([
      { addresses: [{ ip: '10.0.0.1', nodeName: 'n1' }], notReadyAddresses: [{ ip: '10.0.0.2' }], ports: [{ name: 'http', port: 8080 }] },
    ]);
    await context.client.delete(resources.services, { namespace: 'default', name: 'web' });
    await eventually('the removal', () => !get());
  });
});
