import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { requestOverHttp2, startTestServer, type TestAnswer, type TestServer } from './testing.ts';

let server: TestServer;
let admin: Client;
const r = resources as any;
const encode = (text: string) => Buffer.from(text).toString('base64');

beforeAll(async () => {
  server = await startTestServer();
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
  await admin.create(r.serviceaccounts, { metadata: { namespace: 'default', name: 'default' } } as any);
});
afterAll(async () => server?.stop());

const whoami = async (headers: Record<string, string> = {}, user?: { cert: string; key: string }): Promise<TestAnswer> =>
  requestOverHttp2(server, {
    method: 'POST',
    path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
    headers: { 'content-type': 'application/json', ...headers },
    body: '{}',
    ...(user ? { user } : {}),
  });
const refusal = async (work: Promise<unknown>): Promise<{ code: number; message: string }> => {
  try {
    await work;
  } catch (error) {
    return error as never;
  }
  throw new Error('it was not refused');
};
const pod = (name: string, spec: object) =>
  ({ metadata: { namespace: 'default', name }, spec: { containers: [{ name: 'c', image: 'i' }], ...spec } }) as any;

describe('who is it', () => {
  test('a client certificate: common name and organizations', async () => {
    const user = await server.authority.issue({ commonName: 'jane', organizations: ['dev', 'ops'] });
    const answer = await whoami({}, user);
    expect(answer.json.status.userInfo).toEqual({
      username: 'jane',
      groups: ['dev', 'ops', 'system:authenticated'],
      extra: { 'authentication.kubernetes.io/credential-id': [expect.stringMatching(/^X509SHA256=[0-9a-f]{64}$/)] },
    });
  });

  test('a certificate of another authority is refused', async () => {
    const other = await (await import('./testing.ts')).createTestAuthority();
    const user = await other.issue({ commonName: 'mallory', organizations: ['system:masters'] });
    expect((await whoami({}, user)).status).toBe(401);
  });

  test('nobody: anonymous, who may see the version and little else', async () => {
    expect((await requestOverHttp2(server, { path: '/version' })).status).toBe(200);
    const answer = await requestOverHttp2(server, { path: '/api/v1/namespaces/default/pods' });
    expect(answer.status).toBe(403);
    expect(answer.json.message).toBe(
      'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" in the namespace "default"',
    );
    expect((await requestOverHttp2(server, { path: '/metrics' })).json.message).toBe('forbidden: User "system:anonymous" cannot get path "/metrics"');
  });

  test('a service account token, until its pod or account is gone', async () => {
    await admin.create(r.serviceaccounts, { metadata: { namespace: 'default', name: 'robot' } } as any);
    await admin.create(r.pods, pod('robots', { serviceAccountName: 'robot', nodeName: 'n1' }));
    const account = { namespace: 'default', name: 'robot' };
    const plain: any = await admin.createSubresource(r.serviceaccounts, account, 'token', { spec: { expirationSeconds: 600 } });
    const bound: any = await admin.createSubresource(r.serviceaccounts, account, 'token', {
      spec: { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'robots' } },
    });
    const who = await whoami({ authorization: `Bearer ${bound.status.token}` });
    expect(who.json.status.userInfo).toMatchObject({
      username: 'system:serviceaccount:default:robot',
      groups: ['system:serviceaccounts', 'system:serviceaccounts:default', 'system:authenticated'],
      extra: { 'authentication.kubernetes.io/pod-name': ['robots'], 'authentication.kubernetes.io/node-name': ['n1'] },
    });
    const review: any = await admin.create(r.tokenreviews, { spec: { token: plain.status.token } } as any);
    expect(review.status).toMatchObject({ authenticated: true, user: { username: 'system:serviceaccount:default:robot' } });
    const elsewhere: any = await admin.create(r.tokenreviews, { spec: { token: plain.status.token, audiences: ['vault'] } } as any);
    expect(elsewhere.status.authenticated).toBeUndefined();
    expect((await whoami({ authorization: `Bearer ${bound.status.token}x` })).status).toBe(401);
    expect((await refusal(admin.createSubresource(r.serviceaccounts, account, 'token', { spec: { expirationSeconds: 5 } }))).code).toBe(422);
    // A token that was not seen before is judged by what exists now.
    const late: any = await admin.createSubresource(r.serviceaccounts, account, 'token', {
      spec: { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'robots' } },
    });
    await admin.delete(r.pods, { namespace: 'default', name: 'robots' }, { gracePeriodSeconds: 0 });
    expect((await whoami({ authorization: `Bearer ${late.status.token}` })).status).toBe(401);
  });

  test('a bootstrap token, while it is valid', async () => {
    const secret = (id: string, more: object = {}) => ({
      metadata: { namespace: 'kube-system', name: `bootstrap-token-${id}` },
      type: 'bootstrap.kubernetes.io/token',
      data: {
        'token-id': encode(id),
        'token-secret': encode('0123456789abcdef'),
        'usage-bootstrap-authentication': encode('true'),
        'auth-extra-groups': encode('system:bootstrappers:worker'),
        ...more,
      },
    });
    await admin.create(r.secrets, secret('abcdef') as any);
    await admin.create(r.secrets, secret('expire', { expiration: encode('2020-01-01T00:00:00Z') }) as any);
    const who = await whoami({ authorization: 'Bearer abcdef.0123456789abcdef' });
    expect(who.json.status.userInfo).toEqual({
      username: 'system:bootstrap:abcdef',
      groups: ['system:bootstrappers', 'system:bootstrappers:worker', 'system:authenticated'],
    });
    expect((await whoami({ authorization: 'Bearer abcdef.0123456789abcdee' })).status).toBe(401);
    expect((await whoami({ authorization: 'Bearer expire.0123456789abcdef' })).status).toBe(401);
  });

  test('impersonation needs the right to it', async () => {
    const headers = { 'impersonate-user': 'jane', 'impersonate-group': 'dev' };
    const answer = await whoami(headers, server.admin);
    expect(answer.json.status.userInfo).toEqual({ username: 'jane', groups: ['dev', 'system:authenticated'] });
    const user = await server.authority.issue({ commonName: 'joe' });
    const refused = await whoami({ 'impersonate-user': 'jane' }, user);
    expect(refused.json.message).toBe(
      'users "jane" is forbidden: User "joe" cannot impersonate resource "users" in API group "" at the cluster scope',
    );
  });
});

describe('may they', () => {
  const as = (name: string, ...groups: string[]) => server.localClient({ name, groups });

  test('a role in a namespace, by its binding', async () => {
    await admin.create(r.roles, {
      metadata: { namespace: 'default', name: 'reader' },
      rules: [{ apiGroups: [''], resources: ['configmaps'], verbs: ['get', 'list'], resourceNames: [] }],
    } as any);
    await admin.create(r.rolebindings, {
      metadata: { namespace: 'default', name: 'reader' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'Role', name: 'reader' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'joe' }],
    } as any);
    const joe = as('joe');
    await admin.list(r.configmaps, {});
    expect((await joe.list(r.configmaps, { namespace: 'default' })).kind).toBe('ConfigMapList');
    expect((await refusal(joe.list(r.configmaps))).message).toBe(
      'configmaps is forbidden: User "joe" cannot list resource "configmaps" in API group "" at the cluster scope',
    );
    expect((await refusal(joe.create(r.configmaps, { metadata: { namespace: 'default', name: 'x' } } as any))).code).toBe(403);
    await admin.delete(r.rolebindings, { namespace: 'default', name: 'reader' });
    await admin.list(r.configmaps, {});
    expect((await refusal(joe.list(r.configmaps, { namespace: 'default' }))).code).toBe(403);
  });

  test('the default cluster roles aggregate: edit holds what view holds', async () => {
    await admin.create(r.clusterrolebindings, {
      metadata: { name: 'editors' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'edit' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'Group', name: 'editors' }],
    } as any);
    await admin.list(r.configmaps, {});
    const editor = as('ed', 'editors');
    await editor.create(r.configmaps, { metadata: { namespace: 'default', name: 'edited' } } as any);
    await editor.list(r.events, { namespace: 'default' });
    expect((await refusal(editor.list(r.roles, { namespace: 'default' }))).code).toBe(403);
    expect((await refusal(editor.list(r.nodes))).code).toBe(403);
    const review: any = await editor.create(r.selfsubjectaccessreviews, {
      spec: { resourceAttributes: { verb: 'delete', resource: 'pods', namespace: 'default' } },
    } as any);
    expect(review.status).toMatchObject({
      allowed: true,
      reason: 'RBAC: allowed by ClusterRoleBinding "editors" of ClusterRole "edit" to Group "editors"',
    });
    const rules: any = await editor.create(r.selfsubjectrulesreviews, { spec: { namespace: 'default' } } as any);
    expect(rules.status.resourceRules.length).toBeGreaterThan(10);
  });

  test('nobody grants what they do not have', async () => {
    await admin.create(r.clusterroles, {
      metadata: { name: 'role-writer' },
      rules: [{ apiGroups: ['rbac.authorization.k8s.io'], resources: ['clusterroles', 'clusterrolebindings'], verbs: ['create', 'update', 'get'] }],
    } as any);
    await admin.create(r.clusterrolebindings, {
      metadata: { name: 'role-writer' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'role-writer' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'writer' }],
    } as any);
    await admin.list(r.configmaps, {});
    const writer = as('writer');
    const error = await refusal(
      writer.create(r.clusterroles, { metadata: { name: 'more' }, rules: [{ apiGroups: [''], resources: ['secrets'], verbs: ['get'] }] } as any),
    );
    expect(error.code).toBe(403);
    expect(error.message).toContain(
      'is attempting to grant RBAC permissions not currently held:\n{APIGroups:[""], Resources:["secrets"], Verbs:["get"]}',
    );
    await writer.create(r.clusterroles, {
      metadata: { name: 'same' },
      rules: [{ apiGroups: ['rbac.authorization.k8s.io'], resources: ['clusterroles'], verbs: ['get'] }],
    } as any);
    const bind = await refusal(
      writer.create(r.clusterrolebindings, {
        metadata: { name: 'root' },
        roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'cluster-admin' },
        subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'writer' }],
      } as any),
    );
    expect(bind.code).toBe(403);
  });

  test('a node reads what its pods need, and writes only itself', async () => {
    await admin.create(r.secrets, { metadata: { namespace: 'default', name: 'mounted' } } as any);
    await admin.create(r.secrets, { metadata: { namespace: 'default', name: 'other' } } as any);
    await admin.create(r.pods, pod('mounts', { nodeName: 'n1', volumes: [{ name: 's', secret: { secretName: 'mounted' } }] }));
    await admin.list(r.pods, {});
    const node = as('system:node:n1', 'system:nodes');
    const other = as('system:node:n2', 'system:nodes');
    expect(await node.get(r.secrets, { namespace: 'default', name: 'mounted' })).toBeTruthy();
    await node.list(r.secrets, { namespace: 'default', fieldSelector: 'metadata.name=mounted' });
    expect((await refusal(node.get(r.secrets, { namespace: 'default', name: 'other' }))).message).toContain(
      "no relationship found between node 'n1' and this object",
    );
    expect((await refusal(node.list(r.secrets, { namespace: 'default' }))).code).toBe(403);
    expect((await refusal(other.get(r.secrets, { namespace: 'default', name: 'mounted' }))).code).toBe(403);
    await node.list(r.pods, { fieldSelector: 'spec.nodeName=n1' });
    expect((await refusal(node.list(r.pods))).code).toBe(403);

    await node.create(r.nodes, { metadata: { name: 'n1', labels: { 'kubernetes.io/hostname': 'n1' } } } as any);
    const made: any = await node.get(r.nodes, { name: 'n1' });
    expect(made.spec.taints).toContainEqual({ key: 'node.kubernetes.io/not-ready', effect: 'NoSchedule' });
    expect((await refusal(node.create(r.nodes, { metadata: { name: 'n3' } } as any))).code).toBe(403);
    await node.patch(r.nodes, { name: 'n1' }, 'merge', { status: { conditions: [{ type: 'Ready', status: 'True' }] } }, { subresource: 'status' });
    expect((await refusal(node.patch(r.nodes, { name: 'n1' }, 'merge', { spec: { taints: [] } }))).message).toContain('not allowed to modify taints');
    expect(
      (await refusal(node.patch(r.nodes, { name: 'n1' }, 'merge', { metadata: { labels: { 'node-restriction.kubernetes.io/x': 'y' } } }))).code,
    ).toBe(403);
    await node.patch(r.pods, { namespace: 'default', name: 'mounts' }, 'merge', { status: { phase: 'Running' } }, { subresource: 'status' });
    expect(
      (
        await refusal(
          other.patch(r.pods, { namespace: 'default', name: 'mounts' }, 'merge', { status: { phase: 'Failed' } }, { subresource: 'status' }),
        )
      ).code,
    ).toBe(403);
    const token: any = await node.createSubresource(r.serviceaccounts, { namespace: 'default', name: 'default' }, 'token', {
      spec: { boundObjectRef: { kind: 'Pod', apiVersion: 'v1', name: 'mounts' } },
    });
    expect(token.status.token).toBeTruthy();
    expect((await refusal(node.createSubresource(r.serviceaccounts, { namespace: 'default', name: 'default' }, 'token', { spec: {} }))).code).toBe(
      400,
    );
  });
});

describe('admission', () => {
  test('a pod gets its account, token, tolerations and priority', async () => {
    const made: any = await admin.create(r.pods, pod('complete', { priorityClassName: 'system-node-critical' }));
    expect(made.spec).toMatchObject({ serviceAccountName: 'default', priority: 2_000_001_000, preemptionPolicy: 'PreemptLowerPriority' });
    expect(made.spec.volumes[0].name).toMatch(/^kube-api-access-/);
    expect(made.spec.containers[0].volumeMounts[0]).toEqual({
      name: made.spec.volumes[0].name,
      readOnly: true,
      mountPath: '/var/run/secrets/kubernetes.io/serviceaccount',
    });
    expect(made.spec.tolerations.map((t: any) => [t.key, t.tolerationSeconds])).toEqual([
      ['node.kubernetes.io/not-ready', 300],
      ['node.kubernetes.io/unreachable', 300],
    ]);
    expect((await refusal(admin.create(r.pods, pod('nobody', { serviceAccountName: 'nobody' })))).message).toContain(
      'serviceaccount "nobody" not found',
    );
    expect((await refusal(admin.create(r.pods, pod('classless', { priorityClassName: 'none' })))).message).toContain(
      'no PriorityClass with name none was found',
    );
  });

  test('claims get the default class and stay while in use', async () => {
    await admin.create(r.storageclasses, {
      metadata: { name: 'fast', annotations: { 'storageclass.kubernetes.io/is-default-class': 'true' } },
      provisioner: 'x',
    } as any);
    await admin.list(r.storageclasses, {});
    const claim: any = await admin.create(r.persistentvolumeclaims, {
      metadata: { namespace: 'default', name: 'data' },
      spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
    } as any);
    expect(claim.spec.storageClassName).toBe('fast');
    expect(claim.metadata.finalizers).toEqual(['kubernetes.io/pvc-protection']);
  });

  test('limits are filled in, quotas hold', async () => {
    await admin.create(r.namespaces, { metadata: { name: 'bounded' } } as any);
    await admin.create(r.serviceaccounts, { metadata: { namespace: 'bounded', name: 'default' } } as any);
    await admin.create(r.limitranges, {
      metadata: { namespace: 'bounded', name: 'l' },
      spec: { limits: [{ type: 'Container', default: { cpu: '200m' }, defaultRequest: { cpu: '100m' }, max: { cpu: '1' } }] },
    } as any);
    await admin.create(r.resourcequotas, {
      metadata: { namespace: 'bounded', name: 'q' },
      spec: { hard: { pods: '1', 'requests.cpu': '1' } },
    } as any);
    await admin.list(r.resourcequotas, {});
    const within = (name: string, resources: object = {}) =>
      ({ metadata: { namespace: 'bounded', name }, spec: { containers: [{ name: 'c', image: 'i', resources }] } }) as any;
    expect((await refusal(admin.create(r.pods, within('big', { limits: { cpu: '2' }, requests: { cpu: '2' } })))).message).toContain(
      'maximum cpu usage per Container is 1, but limit is 2',
    );
    const made: any = await admin.create(r.pods, within('first'));
    expect(made.spec.containers[0].resources).toEqual({ limits: { cpu: '200m' }, requests: { cpu: '100m' } });
    expect((await refusal(admin.create(r.pods, within('second')))).message).toBe(
      'pods "second" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1',
    );
  });

  test('a CSR is signed for who asked for it, by who may', async () => {
    const jane = server.localClient({ name: 'jane', groups: ['dev', 'system:masters'] });
    const request = 'LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0=';
    const made: any = await jane
      .create(r.certificatesigningrequests, {
        metadata: { name: 'csr' },
        spec: { request, signerName: 'example.com/signer', usages: ['client auth'], username: 'root', groups: ['system:masters'] },
      } as any)
      .catch((e: Error) => e);
    // What is no request at all is refused by validation; what is accepted carries who asked.
    if (made instanceof Error) expect((made as any).code).toBe(422);
    else expect(made.spec).toMatchObject({ username: 'jane', groups: ['dev', 'system:masters', 'system:authenticated'] });
  });
});
