import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Kubelet } from './kubelet.ts';
import { eventually, isReady, startTestCluster, type TestCluster } from './testing/cluster.ts';
import { FakeRuntime } from './testing/runtime.ts';

/** A way to the API server that can be cut. */
class Wire {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private broken = false;

  constructor(target: URL) {
    this.server = createServer((socket) => {
      if (this.broken) return void socket.destroy();
      const other = connect({ host: target.hostname, port: Number(target.port) });
      for (const side of [socket, other]) {
        this.sockets.add(side);
        side.on('error', () => {});
        side.on('close', () => {
          this.sockets.delete(side);
          socket.destroy();
          other.destroy();
        });
      }
      socket.pipe(other).pipe(socket);
    });
  }
  async open(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    return `https://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }
  cut(): void {
    this.broken = true;
    for (const socket of this.sockets) socket.destroy();
  }
  mend(): void {
    this.broken = false;
  }
  close(): void {
    this.cut();
    this.server.close();
  }
}

let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;
let wire: Wire;
const image = 'registry.example/app:v1';

beforeAll(async () => {
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  wire = new Wire(new URL(cluster.server));
  kubelet = await cluster.startKubelet(runtime, { client: { server: await wire.open(), token: 'abcdef.0123456789abcdef' } });
});
afterAll(async () => {
  wire?.close();
  await kubelet?.stop();
  await cluster?.stop();
});

test('without its API server the node goes on: containers are restarted, with their files and environment; all is told afterwards', async () => {
  await cluster.admin.create(resources.configmaps, { metadata: { namespace: 'default', name: 'settings' }, data: { color: 'blue' } });
  const settings = { configMapKeyRef: { name: 'settings', key: 'color' } };
  await cluster.createPod('goes-on', {
    containers: [{ name: 'c', image, env: [{ name: 'COLOR', valueFrom: settings }], volumeMounts: [{ name: 'files', mountPath: '/files' }] }],
    volumes: [{ name: 'files', configMap: { name: 'settings' } }],
  });
  await cluster.createPod('deleted', { terminationGracePeriodSeconds: 1, containers: [{ name: 'd', image }] });
  await cluster.until('goes-on', 'Ready', isReady);
  await cluster.until('deleted', 'Ready', isReady);
  wire.cut();
  const first = runtime.named('c')!;
  first.process.exit(9);
  const second = await eventually('the container to be started again', () => {
    const now = runtime.named('c');
    return now !== first && now?.status.state === 'CONTAINER_RUNNING' ? now : undefined;
  });
  expect(second.config.envs).toContainEqual({ key: 'COLOR', value: 'blue' });
  // Deleted by force, as for a node that is cut off; it does not know.
  await cluster.admin.delete(resources.pods, { namespace: 'default', name: 'deleted' }, { gracePeriodSeconds: 0 });
  expect(runtime.named('d')?.status.state).toBe('CONTAINER_RUNNING');
  expect((await cluster.pod('goes-on')).status?.containerStatuses?.[0]?.restartCount).toBe(0);
  wire.mend();
  const pod = await cluster.until('goes-on', 'the restart to be told', (p) => p.status?.containerStatuses?.[0]?.restartCount === 1 && isReady(p));
  expect(pod.status?.containerStatuses?.[0]?.lastState?.terminated?.exitCode).toBe(9);
  // What comes back is fenced: what was given to others ends.
  await eventually('the deleted pod to end', () => runtime.named('d') === undefined);
});
