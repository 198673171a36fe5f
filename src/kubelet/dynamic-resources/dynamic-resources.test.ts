import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Server, ServerCredentials, type sendUnaryData, type ServerUnaryCall } from '@grpc/grpc-js';
import protobuf from 'protobufjs';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import type { Kubelet } from '../kubelet.ts';
import { eventually, isReady, startTestCluster, type TestCluster } from '../testing/cluster.ts';
import { FakeRuntime } from '../testing/runtime.ts';

const { root: messages } = protobuf.parse(`syntax = "proto3";
  message Nothing {}
  message Info { string type = 1; string name = 2; string endpoint = 3; repeated string versions = 4; }
  message Status { bool registered = 1; string error = 2; }
  message Claim { string namespace = 1; string uid = 2; string name = 3; }
  message Claims { repeated Claim claims = 1; }
  message Device { repeated string requests = 1; string pool = 2; string device = 3; repeated string cdi = 4; }
  message Prepared { repeated Device devices = 1; string error = 2; }
  message Answer { map<string, Prepared> claims = 1; }`);

let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;
let registry: string;
const driver = 'gpu.example.com';
const image = 'registry.example/app:v1';

/** A driver as its authors would write it: a gRPC server on a socket where the kubelet looks. */
class Driver {
  readonly calls: string[] = [];
  registered: boolean | undefined;
  error = '';
  private server = new Server();

  async start(): Promise<void> {
    const method = (path: string, input: string, output: string, handle: (request: any) => object) => ({
      [path]: {
        path,
        requestStream: false,
        responseStream: false,
        requestSerialize: () => Buffer.alloc(0),
        requestDeserialize: (b: Buffer) => messages.lookupType(input).decode(b),
        responseSerialize: (m: object) => messages.lookupType(output).encode(m).finish() as Buffer,
        responseDeserialize: () => ({}),
        handle: (call: ServerUnaryCall<any, any>, done: sendUnaryData<any>) => done(null, handle(call.request)),
      },
    });
    const service = '/k8s.io.kubelet.pkg.apis.dra.v1.DRAPlugin';
    const each = (verb: string, request: any, answer: (name: string) => object) => ({
      claims: Object.fromEntries(
        request.claims.map(({ uid, name }: any) => {
          this.calls.push(`${verb} ${name}`);
          return [uid, this.error ? { error: this.error } : answer(name)];
        }),
      ),
    });
    const definitions = {
      ...method('/pluginregistration.Registration/GetInfo', 'Nothing', 'Info', () => ({
        type: 'DRAPlugin',
        name: driver,
        versions: ['v1.DRAPlugin'],
      })),
      ...method('/pluginregistration.Registration/NotifyRegistrationStatus', 'Status', 'Nothing', ({ registered }) => {
        this.registered = registered;
        return {};
      }),
      ...method(`${service}/NodePrepareResources`, 'Claims', 'Answer', (request) =>
        each('prepare', request, () => ({
          devices: [
            { requests: ['a'], pool: 'p', device: 'g0', cdi: ['example.com/gpu=g0'] },
            { requests: ['b/big'], pool: 'p', device: 'g1', cdi: ['example.com/gpu=g1'] },
          ],
        })),
      ),
      ...method(`${service}/NodeUnprepareResources`, 'Claims', 'Answer', (request) => each('unprepare', request, () => ({}))),
    };
    const handlers = Object.fromEntries(Object.values(definitions).map((d) => [d.path, d.handle]));
    this.server.addService(definitions as never, handlers as never);
    await new Promise<void>((resolve, reject) =>
      this.server.bindAsync(`unix:${join(registry, `${driver}.sock`)}`, ServerCredentials.createInsecure(), (error) =>
        error ? reject(error) : resolve(),
      ),
    );
  }

  stop(): void {
    this.server.forceShutdown();
  }
}
let plugin: Driver;

beforeAll(async () => {
  cluster = await startTestCluster();
  registry = join(cluster.directory, 'plugins_registry');
  await mkdir(registry, { recursive: true });
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime);
  plugin = new Driver();
});
afterEach(async () => {
  plugin.stop();
  await rm(join(registry, `${driver}.sock`), { force: true });
  plugin = new Driver();
});
afterAll(async () => {
  await kubelet?.stop();
  await cluster?.stop();
});

/** A pod with a claim that is allocated and reserved, as the scheduler leaves it. */
async function podWithClaim(name: string, reserve = true): Promise<void> {
  const claim = await cluster.admin.create(resources.resourceclaims, {
    metadata: { name, namespace: 'default' },
    spec: { devices: { requests: ['a', 'b'].map((r) => ({ name: r, exactly: { deviceClassName: 'gpu' } })) } },
  } as never);
  const containers = [
    { name: `${name}-both`, image, resources: { claims: [{ name: 'gpu' }] } },
    { name: `${name}-b`, image, resources: { claims: [{ name: 'gpu', request: 'b' }] } },
    { name: `${name}-none`, image },
  ];
  const pod = await cluster.createPod(name, {
    terminationGracePeriodSeconds: 1,
    containers,
    resourceClaims: [{ name: 'gpu', resourceClaimName: name }],
  });
  const results = ['a', 'b'].map((request, i) => ({ request, driver, pool: 'p', device: `g${i}` }));
  // As many as there can be: none is left for this pod.
  const others = Array.from({ length: 256 }, (_, i) => ({ apiGroup: 'example.com', resource: 'things', name: `thing-${i}`, uid: `${i}` }));
  const reservedFor = reserve ? [{ resource: 'pods', name, uid: pod.metadata.uid }] : others;
  await cluster.admin.update(resources.resourceclaims, { ...claim, status: { allocation: { devices: { results } }, reservedFor } } as never, {
    subresource: 'status',
  });
}
const warned = (name: string, text: string) =>
  eventually(`a warning: ${text}`, async () =>
    (await cluster.admin.list(resources.events, { namespace: 'default', fieldSelector: `involvedObject.name=${name}` })).items.find((e) =>
      e.message?.includes(text),
    ),
  );
const devicesOf = (container: string) => runtime.named(container)?.config.cdiDevices;
const gone = (name: string) =>
  eventually(`pod ${name} to be gone`, () =>
    cluster.pod(name).then(
      () => false,
      () => true,
    ),
  );

test('a pod waits for its driver, gets the devices that each container asks for, and gives them back', async () => {
  await podWithClaim('one');
  await warned('one', `Failed to prepare dynamic resources: DRA driver ${driver} is not registered`);
  await plugin.start();
  await cluster.until('one', 'Ready', isReady);
  expect(plugin.registered).toBe(true);
  expect(plugin.calls).toEqual(['prepare one']);
  expect(devicesOf('one-both')).toEqual(['example.com/gpu=g0', 'example.com/gpu=g1']);
  expect(devicesOf('one-b')).toEqual(['example.com/gpu=g1']);
  expect(devicesOf('one-none')).toBeUndefined();
  // What is prepared outlives the kubelet.
  await kubelet.stop();
  kubelet = await cluster.startKubelet(runtime);
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'one' });
  await gone('one');
  expect(plugin.calls).toEqual(['prepare one', 'unprepare one']);
});

test('what a driver cannot prepare is told and tried again', async () => {
  await plugin.start();
  plugin.error = 'the fan is broken';
  await podWithClaim('two');
  await warned('two', 'NodePrepareResources failed for ResourceClaim default/two: the fan is broken');
  expect((await cluster.pod('two')).status?.phase).toBe('Pending');
  plugin.error = '';
  await cluster.until('two', 'Ready', isReady);
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'two' });
  await gone('two');
  expect(plugin.calls.at(-1)).toBe('unprepare two');
});

test('a pod whose driver never came goes without it', async () => {
  await podWithClaim('four');
  await warned('four', `DRA driver ${driver} is not registered`);
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'four' });
  await gone('four');
});

test('a claim that is reserved for others is refused', async () => {
  await plugin.start();
  await podWithClaim('three', false);
  await warned('three', 'is not allowed to use resource claim three');
  expect(plugin.calls).toEqual([]);
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'three' });
  await gone('three');
});
