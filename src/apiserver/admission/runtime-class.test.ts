import { afterAll, beforeAll, expect, it } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { startTestServer, type TestServer } from '../testing.ts';

let server: TestServer;
let admin: ReturnType<TestServer['localClient']>;
beforeAll(async () => {
  server = await startTestServer();
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
  await admin.create(resources.serviceaccounts as any, { metadata: { namespace: 'default', name: 'default' } } as any);
  await admin.create(
    resources.runtimeclasses as any,
    {
      metadata: { name: 'heavy' },
      handler: 'heavy',
      overhead: { podFixed: { cpu: '10m', memory: '1Mi' } },
      scheduling: { nodeSelector: { runtime: 'heavy' }, tolerations: [{ key: 'heavy', operator: 'Exists' }] },
    } as any,
  );
});
afterAll(() => server?.stop());
const create = (name: string, spec: object): Promise<any> =>
  admin.create(resources.pods as any, { metadata: { namespace: 'default', name }, spec: { containers: [{ name: 'c', image: 'i' }], ...spec } } as any);

it('gives a pod the overhead, the nodes and the tolerations of its class', async () => {
  const { spec } = await create('a', { runtimeClassName: 'heavy', nodeSelector: { disk: 'ssd' } });
  expect(spec.overhead).toEqual({ cpu: '10m', memory: '1Mi' });
  expect(spec.nodeSelector).toEqual({ disk: 'ssd', runtime: 'heavy' });
  expect(spec.tolerations).toContainEqual({ key: 'heavy', operator: 'Exists' });
});

it('refuses a class that does not exist, nodes that contradict it, and an overhead of no class', async () => {
  await expect(create('b', { runtimeClassName: 'none' })).rejects.toMatchObject({
    code: 403,
    message: 'pods "b" is forbidden: pod rejected: RuntimeClass "none" not found',
  });
  await expect(create('c', { runtimeClassName: 'heavy', nodeSelector: { runtime: 'light' } })).rejects.toThrow(
    'conflict: runtimeClass.scheduling.nodeSelector[runtime] = heavy; pod.spec.nodeSelector[runtime] = light',
  );
  await expect(create('d', { overhead: { cpu: '1' } })).rejects.toThrow('Pod Overhead set without corresponding RuntimeClass defined Overhead');
});
