import { afterEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Pod, ResourceV1ResourceClaim as ResourceClaim } from '../api/generated/types.ts';
import { eventually, type TestContext, testContext } from '../controllers/testing.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { startDeviceTaintEvictionController } from '../controllers/devicetainteviction.ts';
import { startResourceClaimController } from '../controllers/resourceclaim.ts';
import { startScheduler } from './index.ts';

let context: TestContext;
afterEach(() => context?.stop());

const driver = 'gpu.example.com';
const node = (name: string, labels: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name, ...labels } },
  spec: {},
  status: { allocatable: { cpu: '2', memory: '4Gi', pods: '110' } },
});
const deviceClass = (name = 'gpu', spec: object = { selectors: [{ cel: { expression: `device.driver == "${driver}"` } }] }) => ({
  apiVersion: 'resource.k8s.io/v1',
  kind: 'DeviceClass',
  metadata: { name },
  spec,
});
const slice = (nodeName: string, devices: object[], more: object = {}) => ({
  apiVersion: 'resource.k8s.io/v1',
  kind: 'ResourceSlice',
  metadata: { name: `slice-${nodeName}` },
  spec: { driver, nodeName, pool: { name: nodeName, generation: 1, resourceSliceCount: 1 }, devices, ...more },
});
const gpu = (name: string, model = 'a', memory = '8Gi', more: object = {}) => ({
  name,
  attributes: { model: { string: model }, cores: { int: 16 }, [`${driver}/version`]: { version: '1.2.3' } },
  capacity: { memory: { value: memory } },
  ...more,
});
const ask = (exactly: object = {}, name = 'r') => ({ name, exactly: { deviceClassName: 'gpu', allocationMode: 'ExactCount', count: 1, ...exactly } });
const select = (expression: string) => ({ selectors: [{ cel: { expression } }] });
const claim = (name: string, requests: object[], more: object = {}) => ({
  apiVersion: 'resource.k8s.io/v1',
  kind: 'ResourceClaim',
  metadata: { name, namespace: 'default' },
  spec: { devices: { requests, ...more } },
});
const pod = (name: string, claimName: string, spec: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Pod',
  metadata: { name, namespace: 'default' },
  spec: {
    schedulerName: 'default-scheduler',
    containers: [{ name: 'c', image: 'i', resources: { claims: [{ name: 'gpu' }] } }],
    resourceClaims: [{ name: 'gpu', resourceClaimName: claimName }],
    ...spec,
  },
});

const get = (name: string) => context.client.objects(resources.pods).find((p) => p.metadata.name === name) as Pod;
const claimNamed = (name: string) => context.client.objects(resources.resourceclaims).find((c) => c.metadata.name === name) as ResourceClaim;
const placed = (name: string) => eventually(`${name} to be placed`, () => get(name)?.spec.nodeName);
const refused = (name: string) =>
  eventually(`${name} to be refused`, () => get(name)?.status?.conditions?.find((c) => c.type === 'PodScheduled' && c.status === 'False')?.message);
const devicesOf = (name: string) => (claimNamed(name).status?.allocation?.devices?.results ?? []).map((r) => `${r.request}=${r.pool}/${r.device}`);

function start(...objects: unknown[]) {
  context = testContext(objects);
  startScheduler(context, { random: () => 0 });
}

describe('claims', () => {
  test('get a device of the only node that has one, for the pod alone, with the configuration of class and claim', async () => {
    const parameters = { apiVersion: 'v1', kind: 'X' };
    const config = [{ opaque: { driver, parameters } }];
    const c = claim('one', [ask()], { config: [{ requests: ['r'], ...config[0] }] });
    start(node('a'), node('b'), deviceClass('gpu', { ...deviceClass().spec, config }), slice('b', [gpu('g0')]), c, pod('p', 'one'));
    expect(await placed('p')).toBe('b');
    const { metadata, status } = claimNamed('one');
    expect(metadata.finalizers).toEqual(['resource.kubernetes.io/delete-protection']);
    expect(status?.reservedFor).toEqual([{ resource: 'pods', name: 'p', uid: get('p').metadata.uid }]);
    expect(status?.allocation).toEqual({
      devices: {
        results: [{ request: 'r', driver, pool: 'b', device: 'g0' }],
        config: [
          { source: 'FromClass', requests: ['r'], opaque: { driver, parameters } },
          { source: 'FromClaim', requests: ['r'], opaque: { driver, parameters } },
        ],
      },
      nodeSelector: { nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['b'] }] }] },
    });
  });

  test('no device is given twice; what another claim gives back is given again', async () => {
    start(node('a'), deviceClass(), slice('a', [gpu('g0')]), claim('one', [ask()]), claim('two', [ask()]), pod('p', 'one'));
    await placed('p');
    await context.client.create(resources.pods, pod('q', 'two') as never);
    expect(await refused('q')).toContain('0/1 nodes are available: 1 cannot allocate all claims.');
    const { allocation: _, reservedFor: __, ...status } = claimNamed('one').status!;
    await context.client.update(resources.resourceclaims, { ...claimNamed('one'), status }, { subresource: 'status' });
    expect(await placed('q')).toBe('a');
    expect(devicesOf('two')).toEqual(['r=a/g0']);
  });

  test('a claim that two pods share keeps the second where the first is', async () => {
    start(node('a'), node('b'), deviceClass(), slice('a', [gpu('g0')]), slice('b', [gpu('g0')]), claim('shared', [ask()]), pod('p', 'shared'));
    const where = await placed('p');
    await context.client.create(resources.pods, pod('q', 'shared') as never);
    expect(await placed('q')).toBe(where);
    expect(claimNamed('shared').status?.reservedFor?.map((r) => r.name)).toEqual(['p', 'q']);
  });

  test('a pod waits for its claim without a word; a class that is missing is named, and its coming helps', async () => {
    start(node('a'), slice('a', [gpu('g0')]), pod('p', 'late'));
    await context.client.create(resources.pods, pod('other', 'none', { resourceClaims: [] }) as never);
    await placed('other');
    expect(get('p').status?.conditions).toBeUndefined();
    await context.client.create(resources.resourceclaims, claim('late', [ask()]) as never);
    await eventually('the class to be missed', () =>
      get('p').status?.conditions?.some((c) => c.message?.includes('request r: device class gpu does not exist')),
    );
    await context.client.create(resources.deviceclasses, deviceClass() as never);
    expect(await placed('p')).toBe('a');
  });
});

describe('devices', () => {
  test('are chosen by expressions over attributes and capacity', async () => {
    const expression = `device.attributes["${driver}"].model == "b" && device.attributes["${driver}"].version.isGreaterThan(semver("1.0.0")) && device.capacity["${driver}"].memory.compareTo(quantity("10Gi")) >= 0 && !("x" in device.attributes["other.example.com"])`;
    const devices = [gpu('g0'), gpu('g1', 'b'), gpu('g2', 'b', '16Gi')];
    start(node('a'), deviceClass(), slice('a', devices), claim('one', [ask(select(expression))]), pod('p', 'one'));
    await placed('p');
    expect(devicesOf('one')).toEqual(['r=a/g2']);
  });

  test('a wrong expression is told, with its place', async () => {
    start(
      node('a'),
      deviceClass(),
      slice('a', [gpu('g0')]),
      claim('one', [ask(select('device.attributes["gpu.example.com"].nothing == 1'))]),
      pod('p', 'one'),
    );
    expect(await refused('p')).toMatch(/claim default\/one, request r: selector #0: CEL runtime error: .*no such key: nothing/);
  });

  test('a later request or constraint that fails makes an earlier one choose again', async () => {
    const requests = [ask({}, 'any'), ask(select(`device.attributes["${driver}"].model == "a"`), 'a')];
    start(node('a'), deviceClass(), slice('a', [gpu('g0', 'a'), gpu('g1', 'b')]), claim('one', requests), pod('p', 'one'));
    await placed('p');
    expect(devicesOf('one')).toEqual(['any=a/g1', 'a=a/g0']);
  });

  test('match and distinct constraints hold', async () => {
    const devices = [gpu('g0', 'a'), gpu('g1', 'b'), gpu('g2', 'b'), gpu('g3', 'c')];
    const same = claim('same', [ask({ count: 2 })], { constraints: [{ matchAttribute: `${driver}/model` }] });
    const differ = claim('differ', [ask({ count: 2 })], { constraints: [{ distinctAttribute: `${driver}/model` }] });
    start(node('a'), deviceClass(), slice('a', devices), same, differ, pod('p', 'same'));
    await placed('p');
    expect(devicesOf('same')).toEqual(['r=a/g1', 'r=a/g2']);
    await context.client.create(resources.pods, pod('q', 'differ') as never);
    await placed('q');
    expect(devicesOf('differ')).toEqual(['r=a/g0', 'r=a/g3']);
  });

  test('alternatives are taken in their order, all devices only where none is in use, and admins get what others have', async () => {
    const first = {
      name: 'r',
      firstAvailable: [
        { ...ask({ count: 3 }).exactly, name: 'three' },
        { ...ask().exactly, name: 'one' },
      ],
    };
    const objects = [
      claim('first', [first]),
      claim('all', [ask({ allocationMode: 'All', count: undefined })]),
      claim('admin', [ask({ adminAccess: true })]),
    ];
    start(node('a'), deviceClass(), slice('a', [gpu('g0'), gpu('g1')]), ...objects, pod('p', 'first'));
    await placed('p');
    expect(devicesOf('first')).toEqual(['r/one=a/g0']);
    await context.client.create(resources.pods, pod('q', 'all') as never);
    expect(await refused('q')).toContain('cannot allocate all claims');
    await context.client.create(resources.pods, pod('r', 'admin') as never);
    await placed('r');
    expect(devicesOf('admin')).toEqual(['r=a/g0']);
  });

  test('of an old generation, of a pool that is not complete, or tainted, are not given', async () => {
    const old = slice('a', [gpu('g0')]);
    const pool = { name: 'a', generation: 2, resourceSliceCount: 2 };
    const half = { ...slice('a', [gpu('g1'), gpu('g2')], { pool }), metadata: { name: 'half' } };
    start(
      node('a'),
      deviceClass(),
      old,
      half,
      claim('one', [ask()]),
      claim('two', [ask({ tolerations: [{ key: 'broken', operator: 'Exists' }] })]),
      pod('p', 'one'),
    );
    expect(await refused('p')).toContain('cannot allocate all claims');
    const taints = [{ key: 'broken', effect: 'NoSchedule' }];
    await context.client.create(resources.devicetaintrules, {
      metadata: { name: 'rule' },
      spec: { deviceSelector: { driver, pool: 'a', device: 'g2' }, taint: taints[0] },
    } as never);
    await context.client.create(resources.resourceslices, {
      ...slice('a', [gpu('g3', 'a', '8Gi', { taints })], { pool }),
      metadata: { name: 'rest' },
    } as never);
    await placed('p');
    expect(devicesOf('one')).toEqual(['r=a/g1']);
    await context.client.create(resources.pods, pod('q', 'two') as never);
    await placed('q');
    expect(devicesOf('two')).toEqual(['r=a/g2']);
  });

  test('parts share the counters of their pool, and shared ones their capacity', async () => {
    const part = (name: string, share: string) =>
      gpu(name, 'part', share, { consumesCounters: [{ counterSet: 'whole', counters: { memory: { value: share } } }] });
    const parts = slice('a', [part('p0', '6Gi'), part('p1', '6Gi'), part('p2', '2Gi')], {
      sharedCounters: [{ name: 'whole', counters: { memory: { value: '8Gi' } } }],
    });
    const shared = {
      ...slice('a', [gpu('s0', 'shared', '8Gi', { allowMultipleAllocations: true })], {
        pool: { name: 'shared', generation: 1, resourceSliceCount: 1 },
      }),
      metadata: { name: 'shared' },
    };
    const ofModel = (model: string, more: object = {}) => ask({ ...select(`device.attributes["${driver}"].model == "${model}"`), ...more });
    const wants = (memory: string) => ofModel('shared', { capacity: { requests: { memory } } });
    const claims = [
      claim('parts', [ofModel('part', { count: 2 })]),
      claim('s5', [wants('5Gi')]),
      claim('s4', [wants('4Gi')]),
      claim('s3', [wants('3Gi')]),
    ];
    start(node('a'), deviceClass(), parts, shared, ...claims, pod('p', 'parts'), pod('p5', 's5'));
    await placed('p');
    expect(devicesOf('parts')).toEqual(['r=a/p0', 'r=a/p2']);
    await placed('p5');
    expect(claimNamed('s5').status?.allocation?.devices?.results?.[0]).toMatchObject({
      device: 's0',
      consumedCapacity: { memory: '5Gi' },
      shareID: expect.any(String),
    });
    await context.client.create(resources.pods, pod('p4', 's4') as never);
    expect(await refused('p4')).toContain('cannot allocate all claims');
    await context.client.create(resources.pods, pod('p3', 's3') as never);
    expect(await placed('p3')).toBe('a');
  });
});

describe('claims from templates', () => {
  test('are made for the pod, allocated, and taken back when it ends', async () => {
    const template = {
      apiVersion: 'resource.k8s.io/v1',
      kind: 'ResourceClaimTemplate',
      metadata: { name: 't', namespace: 'default' },
      spec: { metadata: { labels: { from: 't' } }, spec: claim('x', [ask()]).spec },
    };
    const p = pod('p', '', { resourceClaims: [{ name: 'gpu', resourceClaimTemplateName: 't' }] });
    context = testContext([node('a'), deviceClass(), slice('a', [gpu('g0')]), template, p]);
    startResourceClaimController(context);
    startScheduler(context, { random: () => 0 });
    expect(await placed('p')).toBe('a');
    const [made] = context.client.objects(resources.resourceclaims) as ResourceClaim[];
    expect(made?.metadata).toMatchObject({
      labels: { from: 't' },
      annotations: { 'resource.kubernetes.io/pod-claim-name': 'gpu' },
      ownerReferences: [{ kind: 'Pod', name: 'p', controller: true }],
    });
    expect(made?.metadata.name).toMatch(/^p-gpu-/);
    expect(get('p').status?.resourceClaimStatuses).toEqual([{ name: 'gpu', resourceClaimName: made!.metadata.name }]);
    await context.client.patch(resources.pods, get('p').metadata, 'merge', { status: { phase: 'Succeeded' } }, { subresource: 'status' });
    await eventually('the claim to be gone', () => context.client.objects(resources.resourceclaims).length === 0);
  });

  test('a shared claim is deallocated when its last pod is gone', async () => {
    context = testContext([node('a'), deviceClass(), slice('a', [gpu('g0')]), claim('one', [ask()]), pod('p', 'one')]);
    startResourceClaimController(context);
    startScheduler(context, { random: () => 0 });
    await placed('p');
    await context.client.delete(resources.pods, get('p').metadata, { gracePeriodSeconds: 0 });
    await eventually('the claim to be free', () => !claimNamed('one').status?.allocation && !claimNamed('one').metadata.finalizers?.length);
    expect(claimNamed('one').status?.reservedFor).toBeUndefined();
  });
});

describe('taints of devices', () => {
  test('end pods that do not tolerate them, or when their time is over', async () => {
    const tolerated = (more: object) => [ask({ tolerations: [{ key: 'broken', operator: 'Exists', ...more }] })];
    const claims = [claim('strict', [ask()]), claim('patient', tolerated({ tolerationSeconds: 60 })), claim('blind', tolerated({}))];
    const devices = [gpu('g0'), gpu('g1'), gpu('g2')];
    const clock = new FakeClock(Date.now());
    context = testContext(
      [node('a'), deviceClass(), slice('a', devices), ...claims, pod('strict', 'strict'), pod('patient', 'patient'), pod('blind', 'blind')],
      clock,
    );
    startScheduler(context, { random: () => 0 });
    startDeviceTaintEvictionController(context);
    for (const name of ['strict', 'patient', 'blind']) await placed(name);
    const timeAdded = new Date(context.clock.now()).toISOString();
    const taint = { key: 'broken', effect: 'NoExecute', timeAdded };
    await context.client.create(resources.devicetaintrules, { metadata: { name: 'rule' }, spec: { deviceSelector: { driver }, taint } } as never);
    await eventually('the strict one to go', () => !get('strict') || get('strict').metadata.deletionTimestamp);
    expect(context.recorded.map((e) => e.message)).toContain('Marking for deletion');
    expect(get('patient').metadata.deletionTimestamp).toBeUndefined();
    clock.advance(61_000);
    await eventually('the patient one to go', () => !get('patient') || get('patient').metadata.deletionTimestamp);
    expect(get('blind').metadata.deletionTimestamp).toBeUndefined();
  });
});
