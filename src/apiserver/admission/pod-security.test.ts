import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import type { StatusError } from '../../api/errors.ts';
import { startTestServer, type TestServer } from '../testing.ts';
import { evaluate } from './pod-security/checks.ts';
import { policyOf } from './pod-security/policy.ts';

const container = (extra: object = {}) => ({ name: 'main', image: 'i', ...extra }) as any;
const good = container({
  securityContext: { allowPrivilegeEscalation: false, capabilities: { drop: ['ALL'] }, runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } },
});
const details = (level: 'baseline' | 'restricted', spec: object, minor?: number, annotations?: Record<string, string>) =>
  evaluate(level, minor, annotations ? { annotations } : {}, { containers: [container()], ...spec } as any).map((v) => `${v.reason} (${v.detail})`);

describe('the checks', () => {
  it('let a pod that is restricted in all through, and say all that is wrong with one that is not', () => {
    expect(details('restricted', { containers: [good] })).toEqual([]);
    expect(details('baseline', {})).toEqual([]);
    expect(details('restricted', {})).toEqual([
      'allowPrivilegeEscalation != false (container "main" must set securityContext.allowPrivilegeEscalation=false)',
      'unrestricted capabilities (container "main" must set securityContext.capabilities.drop=["ALL"])',
      'runAsNonRoot != true (pod or container "main" must set securityContext.runAsNonRoot=true)',
      'seccompProfile (pod or container "main" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
    ]);
  });

  it.each<[string, object, string]>([
    ['host namespaces', { hostNetwork: true, hostPID: true }, 'host namespaces (hostNetwork=true, hostPID=true)'],
    ['hostPath', { volumes: [{ name: 'v', hostPath: { path: '/' } }] }, 'hostPath volumes (volume "v")'],
    [
      'privileged',
      { containers: [container({ securityContext: { privileged: true } }), { name: 'b', image: 'i', securityContext: { privileged: true } }] },
      'privileged (containers "main", "b" must not set securityContext.privileged=true)',
    ],
    ['ports', { containers: [container({ ports: [{ hostPort: 80 }, { hostPort: 443 }] })] }, 'hostPort (container "main" uses hostPorts 443, 80)'],
    [
      'capabilities',
      { initContainers: [{ name: 'init', image: 'i', securityContext: { capabilities: { add: ['SYS_ADMIN', 'NET_RAW', 'CHOWN'] } } }] },
      'non-default capabilities (container "init" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)',
    ],
    [
      'seccomp',
      { securityContext: { seccompProfile: { type: 'Unconfined' } } },
      'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")',
    ],
    [
      'SELinux',
      { containers: [container({ securityContext: { seLinuxOptions: { type: 'spc_t', user: 'u' } } })] },
      'seLinuxOptions (container "main" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set)',
    ],
    ['sysctls', { securityContext: { sysctls: [{ name: 'kernel.msgmax', value: '1' }] } }, 'forbidden sysctls (kernel.msgmax)'],
    [
      'probes',
      { containers: [container({ livenessProbe: { httpGet: { host: '10.0.0.1', port: 80 } } })] },
      'probe or lifecycle host (container "main" uses probe or lifecycle host "10.0.0.1")',
    ],
    ['procMount', { containers: [container({ securityContext: { procMount: 'Unmasked' } })] }, 'procMount (container "main" must not set securityContext.procMount to "Unmasked")'],
    [
      'AppArmor',
      { securityContext: { appArmorProfile: { type: 'Unconfined' } } },
      'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")',
    ],
  ])('baseline forbids %s', (_, spec, text) => expect(details('baseline', spec)).toEqual([text]));

  it('follow the version of the policy', () => {
    const probing = { containers: [container({ readinessProbe: { tcpSocket: { host: 'h', port: 1 } } })] };
    expect(details('baseline', probing, 33)).toEqual([]);
    expect(details('baseline', probing, 34)).toHaveLength(1);
    expect(details('restricted', {}, 7)).toEqual(['runAsNonRoot != true (pod or container "main" must set securityContext.runAsNonRoot=true)']);
    expect(details('restricted', { os: { name: 'windows' } })).toHaveLength(1);
    expect(details('restricted', { containers: [{ ...good, securityContext: { ...good.securityContext, runAsUser: 0 } }], hostUsers: false })).toEqual([]);
    expect(details('restricted', { containers: [good], volumes: [{ name: 'v', hostPath: {} }] })).toEqual([
      'restricted volume types (volume "v" uses restricted volume type "hostPath")',
    ]);
  });
});

it('labels that are wrong enforce the most and warn of nothing; enforcing warns of the same', () => {
  const label = (mode: string) => `pod-security.kubernetes.io/${mode}`;
  expect(policyOf({ [label('enforce')]: 'baseline', [label('enforce-version')]: 'v1.20' }).policy).toEqual({
    enforce: { level: 'baseline', version: 'v1.20' },
    audit: { level: 'privileged', version: 'latest' },
    warn: { level: 'baseline', version: 'v1.20' },
  });
  const wrong = policyOf({ [label('enforce')]: 'strict', [label('warn')]: 'x', [label('audit-version')]: '1.2' });
  expect(wrong.policy).toMatchObject({ enforce: { level: 'restricted' }, warn: { level: 'privileged' } });
  expect(wrong.errors.map((e) => `${e.field}: ${e.detail}`)).toEqual([
    'metadata.labels[pod-security.kubernetes.io/enforce]: must be one of privileged, baseline, restricted',
    'metadata.labels[pod-security.kubernetes.io/audit-version]: must be "latest" or "v1.x"',
    'metadata.labels[pod-security.kubernetes.io/warn]: must be one of privileged, baseline, restricted',
  ]);
});

describe('in the API server', () => {
  let server: TestServer;
  let admin: ReturnType<TestServer['localClient']>;
  beforeAll(async () => {
    server = await startTestServer();
    admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
    const namespace = (name: string, level: string) => ({ metadata: { name, labels: { 'pod-security.kubernetes.io/enforce': level } } });
    await admin.create(resources.namespaces as any, namespace('strict', 'restricted') as any);
    await admin.create(resources.namespaces as any, { metadata: { name: 'open' } } as any);
    // No controllers here: what they would make.
    for (const namespace of ['strict', 'open'])
      await admin.create(resources.serviceaccounts as any, { metadata: { namespace, name: 'default' } } as any);
  });
  afterAll(() => server?.stop());
  const pod = (namespace: string, name: string, spec: object) => ({ metadata: { namespace, name }, spec }) as any;
  const refusal = async (work: Promise<unknown>) => work.then(() => undefined, (e: StatusError) => e);

  it('refuses pods of the namespace, and takes those that comply', async () => {
    const error = await refusal(admin.create(resources.pods as any, pod('strict', 'bad', { containers: [container()], hostNetwork: true })));
    expect(error?.code).toBe(403);
    expect(error?.message).toMatch(
      /^pods "bad" is forbidden: violates PodSecurity "restricted:latest": host namespaces \(hostNetwork=true\), allowPrivilegeEscalation != false \(/,
    );
    await admin.create(resources.pods as any, pod('strict', 'good', { containers: [good] }));
    await admin.create(resources.pods as any, pod('open', 'any', { containers: [container({ securityContext: { privileged: true } })] }));
  });

  it('warns of templates that will be refused, and of pods that a new level would have refused', async () => {
    const send = async (method: string, path: string, body: object) => {
      const answer = await admin.raw({
        method,
        path,
        headers: { 'content-type': method === 'PATCH' ? 'application/merge-patch+json' : 'application/json' },
        body: JSON.stringify(body),
      });
      return { status: answer.status, warning: String(answer.headers['warning'] ?? '') };
    };
    const template = { metadata: { labels: { a: 'b' } }, spec: { containers: [container()] } };
    const deployment = await send('POST', '/apis/apps/v1/namespaces/strict/deployments', {
      metadata: { name: 'd' },
      spec: { selector: { matchLabels: { a: 'b' } }, template },
    });
    expect(deployment).toMatchObject({ status: 201, warning: expect.stringContaining('would violate PodSecurity \\"restricted:latest\\": allowPriv') });
    const raised = await send('PATCH', '/api/v1/namespaces/open', { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'baseline' } } });
    expect(raised.status).toBe(200);
    expect(raised.warning).toContain('existing pods in namespace \\"open\\" violate the new PodSecurity enforce level \\"baseline:latest\\"');
    expect(raised.warning).toContain('any: privileged');
    const wrong = await send('PATCH', '/api/v1/namespaces/open', { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'none' } } });
    expect(wrong.status).toBe(422);
  });
});
