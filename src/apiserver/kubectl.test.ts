import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { findKubectl, startTestServer, type TestServer } from './testing.ts';

const run = promisify(execFile);
let server: TestServer;
let folder: string;
let program: string;

beforeAll(async () => {
  program = await findKubectl();
  folder = mkdtempSync(join(tmpdir(), 'kumulus-kubectl-'));
  server = await startTestServer();
  writeFileSync(join(folder, 'kubeconfig'), server.kubeconfig(server.admin));
  await kubectl('create', 'serviceaccount', 'default');
});
afterAll(async () => {
  await server?.stop();
  if (folder) rmSync(folder, { recursive: true, force: true });
});

async function attempt(...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { ...process.env, KUBECONFIG: join(folder, 'kubeconfig'), HOME: folder };
  try {
    return { code: 0, ...(await run(program, args, { env, timeout: 25_000 })) };
  } catch (error) {
    const failed = error as { code?: number; stdout?: string; stderr?: string };
    return { code: failed.code ?? -1, stdout: failed.stdout ?? '', stderr: failed.stderr ?? String(error) };
  }
}
async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await attempt(...args);
  if (code !== 0) throw new Error(`kubectl ${args.join(' ')}: ${stderr}`);
  return stdout;
}
const json = async (...args: string[]): Promise<any> => JSON.parse(await kubectl(...args, '-o', 'json'));
function manifest(text: string): string {
  const path = join(folder, `${Math.random().toString(36).slice(2)}.yaml`);
  writeFileSync(path, text);
  return path;
}

const web = (image = 'nginx:1', more = '') => `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: main
        image: ${image}
        ports: [{containerPort: 80}]
        env: [{name: A, value: "1"}]${more}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  selector: {app: web}
  ports: [{port: 80, targetPort: 80}]
`;

describe('objects', () => {
  test('apply creates, leaves alone, and changes only what changed', async () => {
    const path = manifest(web());
    expect(await kubectl('apply', '-f', path)).toBe('deployment.apps/web created\nservice/web created\n');
    expect(await kubectl('apply', '-f', path)).toBe('deployment.apps/web unchanged\nservice/web unchanged\n');
    const before = await json('get', 'service', 'web');
    // Somebody adds an environment variable; apply changes the image and leaves it.
    await kubectl('set', 'env', 'deployment/web', 'B=2');
    expect(await kubectl('apply', '-f', manifest(web('nginx:2')))).toBe('deployment.apps/web configured\nservice/web unchanged\n');
    const deployment = await json('get', 'deployment', 'web');
    const [container] = deployment.spec.template.spec.containers;
    expect(container).toMatchObject({
      image: 'nginx:2',
      env: [
        { name: 'A', value: '1' },
        { name: 'B', value: '2' },
      ],
      imagePullPolicy: 'IfNotPresent',
    });
    expect(deployment.metadata.generation).toBe(3);
    expect((await json('get', 'service', 'web')).spec).toEqual(before.spec);
    expect(await kubectl('diff', '-f', manifest(web('nginx:2')))).toBe('');
  });

  test('get prints columns', async () => {
    expect(await kubectl('get', 'deployment', 'web')).toMatch(/^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +0\/2 +0 +0 +\S+\n$/);
    expect(await kubectl('get', 'service', 'web')).toMatch(
      /^NAME +TYPE +CLUSTER-IP +EXTERNAL-IP +PORT\(S\) +AGE\nweb +NodePort +10\.96\.\d+\.\d+ +<none> +80:3\d{4}\/TCP +\S+\n$/,
    );
    expect(await kubectl('get', 'namespaces')).toMatch(/default +Active/);
    expect(await kubectl('get', 'deploy,svc', '-A', '-o', 'wide')).toContain('deployment.apps/web');
    expect(await kubectl('get', 'all')).toContain('service/web');
    expect(await kubectl('get', 'deploy', '-l', 'app=web', '-o', 'name')).toBe('deployment.apps/web\n');
    expect(await kubectl('get', 'deploy', '-l', 'app!=web', '-o', 'name')).toBe('');
    expect(await kubectl('get', 'service', 'web', '-o', 'jsonpath={.spec.ports[0].targetPort}')).toBe('80');
  });

  test('describe', async () => {
    const text = await kubectl('describe', 'deployment', 'web');
    expect(text).toMatch(/Replicas: +2 desired/);
    expect(text).toMatch(/StrategyType: +RollingUpdate/);
    expect(await kubectl('describe', 'service', 'web')).toMatch(/Session Affinity: +None/);
  });

  test('scale, label, annotate, patch', async () => {
    expect(await kubectl('scale', 'deployment/web', '--replicas=5')).toBe('deployment.apps/web scaled\n');
    expect((await attempt('scale', 'deployment/web', '--current-replicas=1', '--replicas=2')).code).toBe(1);
    await kubectl('label', 'deployment', 'web', 'tier=front');
    await kubectl('annotate', 'deployment', 'web', 'note=here');
    await kubectl('patch', 'deployment', 'web', '-p', '{"spec":{"template":{"spec":{"containers":[{"name":"main","image":"nginx:3"}]}}}}');
    await kubectl('patch', 'deployment', 'web', '--type=json', '-p', '[{"op":"replace","path":"/spec/replicas","value":4}]');
    await kubectl('patch', 'deployment', 'web', '--type=merge', '-p', '{"spec":{"paused":true}}');
    const { metadata, spec } = await json('get', 'deployment', 'web');
    expect(metadata.labels.tier).toBe('front');
    expect(metadata.annotations.note).toBe('here');
    expect(spec).toMatchObject({
      replicas: 4,
      paused: true,
      template: { spec: { containers: [{ name: 'main', image: 'nginx:3', env: expect.any(Array) }] } },
    });
    expect((await attempt('label', 'deployment', 'web', 'tier=back')).stderr).toContain('already has a value');
  });

  test('create, run, expose, autoscale', async () => {
    expect(await kubectl('create', 'deployment', 'made', '--image=x', '--replicas=0')).toBe('deployment.apps/made created\n');
    expect((await json('get', 'deployment', 'made')).spec.replicas).toBe(0);
    expect(await kubectl('create', 'configmap', 'settings', '--from-literal=a=b')).toBe('configmap/settings created\n');
    expect(await kubectl('create', 'secret', 'generic', 'hidden', '--from-literal=a=b')).toBe('secret/hidden created\n');
    expect((await json('get', 'secret', 'hidden')).data).toEqual({ a: 'Yg==' });
    expect(await kubectl('run', 'lonely', '--image=busybox', '--restart=Never', '--', 'sleep', '1')).toBe('pod/lonely created\n');
    expect(await kubectl('get', 'pod', 'lonely')).toMatch(/^NAME +READY +STATUS +RESTARTS +AGE\nlonely +0\/1 +Pending +0 +\S+\n$/);
    expect(await kubectl('expose', 'deployment', 'made', '--port=80')).toBe('service/made exposed\n');
    expect(await kubectl('create', 'job', 'once', '--image=x')).toBe('job.batch/once created\n');
    expect(await kubectl('create', 'cronjob', 'often', '--image=x', '--schedule=* * * * *')).toBe('cronjob.batch/often created\n');
    expect(await kubectl('autoscale', 'deployment', 'made', '--max=3')).toBe('horizontalpodautoscaler.autoscaling/made autoscaled\n');
    expect((await attempt('create', 'configmap', 'settings')).stderr).toContain('configmaps "settings" already exists');
  });

  test('wait hears of a condition', async () => {
    const waiting = kubectl('wait', 'pod/lonely', '--for=condition=Ready', '--timeout=20s');
    const admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
    await admin.patch(
      { group: '', version: 'v1', resource: 'pods', kind: 'Pod', namespaced: true },
      { namespace: 'default', name: 'lonely' },
      'merge',
      { status: { conditions: [{ type: 'Ready', status: 'True' }] } },
      { subresource: 'status' },
    );
    expect(await waiting).toBe('pod/lonely condition met\n');
  });

  test('delete waits until it is gone', async () => {
    expect(await kubectl('delete', 'pod', 'lonely')).toContain('pod "lonely" deleted');
    expect(await kubectl('delete', 'deploy,svc', 'web')).toContain('deployment.apps "web" deleted');
    expect((await attempt('get', 'deployment', 'web')).stderr).toBe('Error from server (NotFound): deployments.apps "web" not found\n');
    expect(await kubectl('delete', 'configmap', '--all')).toContain('configmap "settings" deleted');
  });
});

describe('the server', () => {
  test('api-resources and api-versions', async () => {
    const text = await kubectl('api-resources');
    expect(text).toMatch(/^deployments +deploy +apps\/v1 +true +Deployment$/m);
    expect(text).toMatch(/^nodes +no +v1 +false +Node$/m);
    expect((await kubectl('api-versions')).split('\n')).toEqual(expect.arrayContaining(['v1', 'apps/v1', 'rbac.authorization.k8s.io/v1']));
  });

  test('explain', async () => {
    expect(await kubectl('explain', 'deployment.spec.template.spec.containers')).toMatch(/FIELD: containers <\[\]Container>/);
    expect(await kubectl('explain', 'pod.spec.nodeName')).toMatch(/FIELD: nodeName <string>/);
    expect((await attempt('explain', 'pod.spec.nothing')).stderr).toContain('field "nothing" does not exist');
  });

  test('auth can-i, whoami, --as', async () => {
    expect(await kubectl('auth', 'can-i', 'create', 'pods')).toBe('yes\n');
    expect((await attempt('auth', 'can-i', 'create', 'pods', '--as=jane')).stdout).toBe('no\n');
    await kubectl('create', 'role', 'looker', '--verb=get,list', '--resource=pods');
    await kubectl('create', 'rolebinding', 'looker', '--role=looker', '--user=jane');
    expect(await kubectl('auth', 'can-i', 'list', 'pods', '--as=jane')).toBe('yes\n');
    expect(await kubectl('auth', 'can-i', '--list', '--as=jane')).toMatch(/pods +\[\] +\[\] +\[get list\]/);
    expect(await kubectl('auth', 'whoami', '--as=jane')).toMatch(/Username +jane/);
    expect((await attempt('get', 'secrets', '--as=jane')).stderr).toBe(
      'Error from server (Forbidden): secrets is forbidden: User "jane" cannot list resource "secrets" in API group "" in the namespace "default"\n',
    );
  });

  test('a token of a service account', async () => {
    const token = (await kubectl('create', 'token', 'default')).trim();
    writeFileSync(join(folder, 'token-kubeconfig'), server.kubeconfig({ token }));
    expect(await kubectl('--kubeconfig', join(folder, 'token-kubeconfig'), 'auth', 'whoami')).toMatch(
      /Username +system:serviceaccount:default:default/,
    );
  });

  test('cordon, taint, drain', async () => {
    await kubectl('apply', '-f', manifest('{apiVersion: v1, kind: Node, metadata: {name: n1}}'));
    expect(await kubectl('cordon', 'n1')).toBe('node/n1 cordoned\n');
    expect(await kubectl('get', 'node', 'n1')).toMatch(/n1 +\S*SchedulingDisabled/);
    await kubectl('taint', 'nodes', 'n1', 'a=b:NoSchedule');
    expect((await json('get', 'node', 'n1')).spec.taints.map((t: { key: string }) => t.key)).toContain('a');
    await kubectl('uncordon', 'n1');
    expect(await kubectl('drain', 'n1')).toContain('node/n1 drained');
  });
});

describe('bad manifests', () => {
  test.each([
    ['an unknown field', 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad}\ndatum: {a: b}\n', /strict decoding error: unknown field "datum"/],
    ['an unknown field deep inside', web('x', '\n        imge: y').split('---')[0]!, /unknown field "spec\.template\.spec\.containers\[0\]\.imge"/],
    [
      'a wrong type',
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {replicas: many}\n',
      /cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field/,
    ],
    [
      'a missing field',
      'apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: bad}\nspec: {template: {spec: {}}}\n',
      /spec\.selector: Required value/,
    ],
    [
      'a name that is none',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Bad_Name}\n',
      /metadata\.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of/,
    ],
    [
      'a name that is too long',
      `apiVersion: v1\nkind: Service\nmetadata: {name: ${'a'.repeat(64)}}\nspec: {ports: [{port: 80}]}\n`,
      /metadata\.name: Invalid value: .*must be no more than 63 (characters|bytes)/,
    ],
    ['an unknown kind', 'apiVersion: v1\nkind: Nonsense\nmetadata: {name: bad}\n', /no matches for kind "Nonsense" in version "v1"/],
    [
      'a value out of range',
      web().split('---')[0]!.replace('replicas: 2', 'replicas: -1'),
      /spec\.replicas: Invalid value: -1: must be greater than or equal to 0/,
    ],
    [
      'a namespace that is not there',
      'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bad, namespace: nowhere}\n',
      /namespaces "nowhere" not found/,
    ],
  ])('%s', async (_name, text, expected) => {
    const { code, stderr } = await attempt('create', '-f', manifest(text));
    expect(code).toBe(1);
    expect(stderr).toMatch(expected);
  });

  test('an immutable field', async () => {
    await kubectl('apply', '-f', manifest(web()));
    const changed = web()
      .replace('selector: {matchLabels: {app: web}}', 'selector: {matchLabels: {app: other}}')
      .replace('labels: {app: web}}\n    spec', 'labels: {app: other}}\n    spec');
    expect((await attempt('apply', '-f', manifest(changed))).stderr).toMatch(/spec\.selector: Invalid value: .*field is immutable/);
  });
});

describe('server-side apply', () => {
  const settings = (data: string) => manifest(`apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: ${data}\n`);
  const managers = async () =>
    ((await json('get', 'configmap', 'settings', '--show-managed-fields')).metadata.managedFields as any[]).map((m) => `${m.manager} ${m.operation}`);

  test('creates, shares, refuses and takes over', async () => {
    expect(await kubectl('apply', '--server-side', '-f', settings('{a: "1", b: "1"}'))).toBe('configmap/settings serverside-applied\n');
    expect(await managers()).toEqual(['kubectl Apply']);
    await kubectl('apply', '--server-side', '--field-manager=ci', '-f', settings('{c: "1"}'));
    const refused = await attempt('apply', '--server-side', '--field-manager=ci', '-f', settings('{a: "2", c: "1"}'));
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('Apply failed with 1 conflict: conflict with "kubectl": .data.a');
    expect(refused.stderr).toContain('--force-conflicts');
    await kubectl('apply', '--server-side', '--field-manager=ci', '--force-conflicts', '-f', settings('{a: "2", c: "1"}'));
    await kubectl('apply', '--server-side', '-f', settings('{}'));
    expect((await json('get', 'configmap', 'settings')).data).toEqual({ a: '2', c: '1' });
    expect((await managers()).sort()).toEqual(['ci Apply', 'kubectl Apply']);
    const version = (await json('get', 'configmap', 'settings')).metadata.resourceVersion;
    await kubectl('apply', '--server-side', '--field-manager=ci', '-f', settings('{a: "2", c: "1"}'));
    expect((await json('get', 'configmap', 'settings')).metadata.resourceVersion).toBe(version);
  });

  test('goes on where client-side apply left off', async () => {
    await kubectl('delete', 'configmap', 'settings');
    await kubectl('apply', '-f', settings('{a: "1", b: "1"}'));
    expect(await managers()).toEqual(['kubectl-client-side-apply Update']);
    await kubectl('apply', '--server-side', '-f', settings('{a: "2"}'));
    expect((await json('get', 'configmap', 'settings')).data).toEqual({ a: '2' });
    // kubectl keeps its annotation under a name of its own.
    expect(await managers()).toEqual(['kubectl-last-applied Apply', 'kubectl Apply']);
  });

  test('shows what it would do', async () => {
    await kubectl('apply', '--server-side', '--dry-run=server', '-f', settings('{a: "3"}'));
    expect((await json('get', 'configmap', 'settings')).data).toEqual({ a: '2' });
    const diff = await attempt('diff', '--server-side', '-f', settings('{a: "3"}'));
    expect(diff.stdout).toContain('+  a: "3"');
  });

  test('says what is wrong', async () => {
    const wrong = manifest('apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\nspec: {selektor: {a: b}}\n');
    expect((await attempt('apply', '--server-side', '-f', wrong)).stderr).toContain('.spec.selektor: field not declared in schema');
  });
});
