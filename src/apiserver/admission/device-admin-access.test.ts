import { afterAll, beforeAll, expect, it } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { startTestServer, type TestServer } from '../testing.ts';

let server: TestServer;
let admin: ReturnType<TestServer['localClient']>;
beforeAll(async () => {
  server = await startTestServer();
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
});
afterAll(() => server?.stop());

const spec = (adminAccess: boolean) => ({
  devices: { requests: [{ name: 'r', exactly: { deviceClassName: 'c', ...(adminAccess ? { adminAccess } : {}) } }] },
});
const claim = (namespace: string, name: string, adminAccess = true): Promise<any> =>
  admin.create(resources.resourceclaims, { metadata: { namespace, name }, spec: spec(adminAccess) } as never);
const template = (namespace: string, name: string): Promise<any> =>
  admin.create(resources.resourceclaimtemplates, { metadata: { namespace, name }, spec: { spec: spec(true) } } as never);

it('admin access to devices is for namespaces with the label', async () => {
  const message =
    'spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace';
  await expect(claim('default', 'a')).rejects.toMatchObject({ code: 422, message: `ResourceClaim.resource.k8s.io "a" is invalid: ${message}` });
  await expect(template('default', 'a')).rejects.toMatchObject({
    code: 422,
    message: `ResourceClaimTemplate.resource.k8s.io "a" is invalid: ${message}`,
  });
  const plain = await claim('default', 'plain', false);
  const results = [{ request: 'r', driver: 'd.example.com', pool: 'p', device: 'g', adminAccess: true }];
  const status = { allocation: { devices: { results } } };
  await expect(admin.update(resources.resourceclaims, { ...plain, status }, { subresource: 'status' })).rejects.toThrow(
    'admin access to devices requires',
  );
  await admin.create(resources.namespaces, { metadata: { name: 'admins', labels: { 'resource.kubernetes.io/admin-access': 'true' } } } as never);
  await claim('admins', 'a');
  await template('admins', 'a');
});
