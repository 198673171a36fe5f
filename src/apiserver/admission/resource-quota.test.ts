import { afterAll, beforeAll, expect, it } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { startTestServer, type TestServer } from '../testing.ts';

let server: TestServer;
let admin: ReturnType<TestServer['localClient']>;
const namespace = 'default';
beforeAll(async () => {
  server = await startTestServer();
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
});
afterAll(() => server?.stop());
const map = (name: string, dryRun = false) => admin.create(resources.configmaps as any, { metadata: { namespace, name } } as any, { dryRun });

it('of many creations at once only as many pass as there is room for; what is deleted, refused or dry takes none', async () => {
  const quota = { metadata: { namespace, name: 'two' }, spec: { hard: { configmaps: '2' } } };
  await admin.create(resources.resourcequotas as any, quota as any);
  await map('dry', true);
  const results = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => map(`m${i}`)));
  const made = results.flatMap((r) => (r.status === 'fulfilled' ? [(r.value as any).metadata.name] : []));
  expect(made).toHaveLength(2);
  const refused = results.find((r) => r.status === 'rejected') as PromiseRejectedResult;
  expect(refused.reason).toMatchObject({
    code: 403,
    message: expect.stringMatching(/configmaps "m\d" is forbidden: exceeded quota: two, requested: configmaps=1, used: configmaps=2, limited: configmaps=2/),
  });
  await admin.delete(resources.configmaps as any, { namespace, name: made[0] });
  await map('again');
  await expect(map('more')).rejects.toThrow('exceeded quota');
});
