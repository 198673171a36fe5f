import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import { requestOverHttp2, startTestServer, type TestServer } from '../testing.ts';
import { parseAuthorizationConfiguration } from './configuration.ts';

const r = resources as any;
let webhook: Server;
let server: TestServer;
let asked: any[] = [];
let broken = false;

/** Allows what names of users say: may-VERB. */
function decide(spec: any): object {
  if (spec.user === 'banned') return { allowed: false, denied: true, reason: 'banned' };
  const attributes = spec.resourceAttributes ?? spec.nonResourceAttributes;
  return spec.user === `may-${attributes.verb}` ? { allowed: true, reason: 'by the webhook' } : { allowed: false, reason: 'the webhook has no opinion' };
}

const configuration = (failurePolicy: string) => `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- type: Webhook
  name: first
  webhook:
    timeout: 3s
    authorizedTTL: 5m
    unauthorizedTTL: 30s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: ${failurePolicy}
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /hook}
    matchConditions:
    - expression: "!('system:nodes' in request.groups)"
    - expression: "!has(request.resourceAttributes) || request.resourceAttributes.namespace != 'kube-system'"
- {type: Node, name: node}
- {type: RBAC, name: rbac}
`;
const options = (failurePolicy = 'Deny') => ({
  authorizers: parseAuthorizationConfiguration(configuration(failurePolicy)),
  webhookConfig: () => ({ server: `http://127.0.0.1:${(webhook.address() as AddressInfo).port}/authorize` }),
});

beforeAll(async () => {
  webhook = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const review = JSON.parse(Buffer.concat(chunks).toString());
    asked.push(review);
    if (broken) return void response.writeHead(403).end();
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ ...review, status: decide(review.spec) }));
  });
  await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));
  server = await startTestServer({ authorization: options() });
});
afterAll(async () => {
  await server?.stop();
  await new Promise((resolve) => webhook?.close(resolve));
});
beforeEach(() => {
  asked = [];
  broken = false;
});

const as = (name: string, ...groups: string[]) => server.localClient({ name, groups });
const refusal = async (work: Promise<unknown>): Promise<{ code: number; message: string }> => {
  try {
    await work;
  } catch (error) {
    return error as never;
  }
  throw new Error('it was not refused');
};

describe('a webhook that authorizes', () => {
  test('over HTTPS: asked once for the same question', async () => {
    const user = await server.authority.issue({ commonName: 'may-list', organizations: ['dev'] });
    const path = '/api/v1/namespaces/default/pods?labelSelector=app%3Dweb,!old&fieldSelector=spec.nodeName%3Dn1';
    expect((await requestOverHttp2(server, { path, user })).status).toBe(200);
    expect((await requestOverHttp2(server, { path, user })).status).toBe(200);
    expect(asked.map((a) => [a.apiVersion, a.kind, a.spec])).toEqual([
      [
        'authorization.k8s.io/v1',
        'SubjectAccessReview',
        {
          resourceAttributes: {
            namespace: 'default',
            verb: 'list',
            version: 'v1',
            resource: 'pods',
            fieldSelector: { requirements: [{ key: 'spec.nodeName', operator: 'In', values: ['n1'] }] },
            labelSelector: {
              requirements: [
                { key: 'app', operator: 'In', values: ['web'] },
                { key: 'old', operator: 'DoesNotExist' },
              ],
            },
          },
          user: 'may-list',
          groups: ['dev', 'system:authenticated'],
          extra: { 'authentication.kubernetes.io/credential-id': [expect.any(String)] },
        },
      ],
    ]);
    expect((await requestOverHttp2(server, { path: '/healthz/none', user })).json.message).toContain('the webhook has no opinion');
  });

  test('what it has no opinion on goes down the chain; what it denies does not', async () => {
    const admin = as('admin', 'system:masters');
    await admin.create(r.clusterrolebindings, {
      metadata: { name: 'viewers' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'view' },
      subjects: [
        { apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'viewer' },
        { apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'banned' },
      ],
    } as any);
    expect(asked).toEqual([]);
    expect((await as('viewer').list(r.configmaps, { namespace: 'default' })).items).toEqual([]);
    expect((await refusal(as('banned').list(r.configmaps, { namespace: 'default' }))).message).toMatch(/: banned$/);
  });

  test('the review APIs ask the same chain', async () => {
    const admin = as('admin', 'system:masters');
    const review = async (user: string, verb: string) =>
      (await admin.create(r.subjectaccessreviews, { spec: { user, resourceAttributes: { verb, resource: 'pods', namespace: 'default' } } } as any) as any).status;
    expect(await review('may-patch', 'patch')).toEqual({ allowed: true, reason: 'by the webhook' });
    expect(await review('banned', 'patch')).toEqual({ allowed: false, denied: true, reason: 'banned' });
    const own = await requestOverHttp2(server, {
      method: 'POST',
      path: '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ spec: { nonResourceAttributes: { path: '/x', verb: 'create' } } }),
      user: await server.authority.issue({ commonName: 'may-create' }),
    });
    expect(own.json.status).toEqual({ allowed: true, reason: 'by the webhook' });
  });

  test('conditions keep questions from it', async () => {
    await refusal(as('may-list').list(r.configmaps, { namespace: 'kube-system' }));
    await as('system:node:n1', 'system:nodes').list(r.services);
    expect(asked).toEqual([]);
  });

  test('expressions of policies that ask the authorizer wait for its answer', async () => {
    const admin = as('admin', 'system:masters');
    await admin.create(r.validatingadmissionpolicies, {
      metadata: { name: 'asks' },
      spec: {
        matchConstraints: { resourceRules: [{ apiGroups: [''], apiVersions: ['v1'], operations: ['CREATE'], resources: ['configmaps'] }] },
        validations: [{ expression: "authorizer.group('').resource('secrets').namespace('default').check('create').allowed()", message: 'not you' }],
      },
    } as any);
    await admin.create(r.validatingadmissionpolicybindings, { metadata: { name: 'asks' }, spec: { policyName: 'asks', validationActions: ['Deny'] } } as any);
    await as('may-create').create(r.configmaps, { metadata: { namespace: 'default', name: 'a' } } as any);
    expect(asked.map((a) => a.spec.resourceAttributes.resource)).toEqual(['configmaps', 'secrets']);
    await admin.delete(r.validatingadmissionpolicybindings, { name: 'asks' });
  });

  test('its failure means what the policy says', async () => {
    broken = true;
    expect((await refusal(as('viewer').list(r.secrets, { namespace: 'default' }))).code).toBe(403);
    expect((await refusal(as('viewer').list(r.pods, { namespace: 'default' }))).code).toBe(403);
    server.updateAccess({ authorization: options('NoOpinion') });
    expect((await as('viewer').list(r.pods, { namespace: 'default' })).items).toEqual([]);
    const { body } = await requestOverHttp2(server, { path: '/metrics', user: server.admin });
    expect(body.toString()).toMatch(/^apiserver_authorization_webhook_evaluations_fail_open_total\{name="first",result="error"\} 1$/m);
    server.updateAccess({ authorization: options() });
  });

  test('AlwaysAllow', async () => {
    server.updateAccess({ authorization: { authorizers: [{ type: 'AlwaysAllow' }] } });
    await as('anybody').list(r.secrets);
    server.updateAccess({ authorization: options() });
  });
});

test('a configuration that is wrong says all that is', () => {
  const wrong = `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: RBAC, name: a}
- {type: RBAC, name: a}
- type: Webhook
  name: hook
  webhook:
    timeout: 31s
    failurePolicy: Maybe
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: relative}
    matchConditions: [{expression: "request.nothing"}]
`;
  const parts = [
    'authorizers[1].type: Duplicate value: "RBAC"',
    'authorizers[1].name: Duplicate value: "a"',
    'authorizers[2].webhook.timeout: Invalid value: "31s": must be > 0s and <= 30s',
    'authorizers[2].webhook.subjectAccessReviewVersion: Required value',
    'authorizers[2].webhook.failurePolicy: Unsupported value: "Maybe": supported values: "NoOpinion", "Deny"',
    'must be an absolute path',
    'authorizers[2].webhook.matchConditionSubjectAccessReviewVersion: Required value',
    'authorizers[2].webhook.matchConditions[0].expression: Invalid value: "request.nothing": compilation failed',
  ];
  for (const part of parts) expect(() => parseAuthorizationConfiguration(wrong)).toThrow(part);
});
