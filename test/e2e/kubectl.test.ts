/** Step (a) of the whole way: the store, the API server, and kubectl as users have it. */
import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { resources } from '../../src/api/generated/resources.ts';
import { type ApiServer, startApiServer } from '../../src/apiserver/server.ts';
import type { Client } from '../../src/client/client.ts';
import { createHttpClient } from '../../src/client/http.ts';
import { clusterKubeconfig, kubeconfigText } from '../../src/cluster/kubeconfig.ts';
import { ensurePki, type Pki } from '../../src/cluster/pki.ts';
import { findProgram } from '../../src/cluster/preflight.ts';
import { openLmdbStore } from '../../src/store/lmdb.ts';
import type { Store } from '../../src/store/store.ts';

const folder = mkdtempSync(join(tmpdir(), 'kumulus-e2e-'));
const built = join(process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools'), 'bin/kubectl');
const kubectlPath = existsSync(built) ? built : findProgram('kubectl');
let pki: Pki;
let store: Store;
let server: ApiServer;
let client: Client;

async function start(): Promise<void> {
  store = await openLmdbStore(join(folder, 'store'));
  server = await startApiServer({
    store,
    tls: pki.apiserver,
    clientCa: pki.ca.cert,
    host: '127.0.0.1',
    port: 0,
    serviceAccount: {
      issuer: 'https://kubernetes.default.svc.cluster.local',
      privateKey: pki.serviceAccount.privateKey,
      publicKeys: [pki.serviceAccount.publicKey],
    },
    serviceCidr: '10.96.0.0/16',
    log: pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'silent' }),
  });
  await server.ready;
  const url = `https://127.0.0.1:${server.port}`;
  writeFileSync(join(folder, 'kubeconfig'), kubeconfigText(clusterKubeconfig('e2e', url, pki.ca.cert, pki.admin)));
  client = createHttpClient({ server: url, ca: pki.ca.cert, ...pki.admin });
}
async function stop(): Promise<void> {
  client?.close();
  await server?.stop(1000);
  await store?.close();
}

async function kubectl(args: string, input?: string): Promise<{ code: number; out: string; err: string }> {
  const running = promisify(execFile)(kubectlPath as string, args.split(' '), {
    env: { ...process.env, HOME: folder, KUBECONFIG: join(folder, 'kubeconfig') },
    timeout: 60_000,
  });
  running.child.stdin?.end(input ?? '');
  try {
    const { stdout, stderr } = await running;
    return { code: 0, out: stdout, err: stderr };
  } catch (error) {
    const e = error as { code: number; stdout: string; stderr: string };
    return { code: e.code, out: e.stdout, err: e.stderr };
  }
}
const ok = async (args: string, input?: string): Promise<string> => {
  const result = await kubectl(args, input);
  expect(result, `kubectl ${args}`).toMatchObject({ code: 0 });
  return result.out;
};

beforeAll(async () => {
  if (!kubectlPath) throw new Error('kubectl is not in PATH: this suite needs it');
  pki = await ensurePki(join(folder, 'pki'), { dnsNames: ['localhost', 'kubernetes'], ips: ['127.0.0.1', '10.96.0.1'] });
  await start();
});
afterAll(async () => {
  await stop();
  rmSync(folder, { recursive: true, force: true });
});

const deployment = (image: string, replicas = 2) => `apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: ${replicas}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: ${image}
        ports: [{containerPort: 8080}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
`;

describe('kubectl', () => {
  it('finds the server, its resources and its version', async () => {
    expect(await ok('version')).toContain('Server Version: v1.37');
    const list = await ok('api-resources');
    expect(list).toMatch(/^deployments +deploy +apps\/v1 +true +Deployment$/m);
    expect(list).toMatch(/^pods +po +v1 +true +Pod$/m);
    expect(await ok('get namespaces')).toMatch(/^kube-system +Active/m);
    expect(await ok('get service kubernetes')).toMatch(/^kubernetes +ClusterIP +10\.96\.0\.1 +<none> +443\/TCP/m);
  });

  it('applies, applies again, and changes only what changed', async () => {
    expect(await ok('apply -f -', deployment('nginx:1.25'))).toBe('deployment.apps/web created\nservice/web created\n');
    expect(await ok('apply -f -', deployment('nginx:1.25'))).toBe('deployment.apps/web unchanged\nservice/web unchanged\n');
    expect(await ok('apply -f -', deployment('nginx:1.26'))).toBe('deployment.apps/web configured\nservice/web unchanged\n');
    const web = await client.get(resources.deployments, { namespace: 'default', name: 'web' });
    expect(web.metadata.generation).toBe(2);
    expect(web.spec.strategy).toEqual({ type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '25%', maxSurge: '25%' } });
    expect(web.spec.template.spec.containers[0]).toMatchObject({
      image: 'nginx:1.26',
      imagePullPolicy: 'IfNotPresent',
      terminationMessagePath: '/dev/termination-log',
      ports: [{ containerPort: 8080, protocol: 'TCP' }],
    });
    const service = await client.get(resources.services, { namespace: 'default', name: 'web' });
    expect(service.spec.clusterIP).toMatch(/^10\.96\./);
    expect(await ok('get deployment web')).toMatch(/^NAME +READY +UP-TO-DATE +AVAILABLE +AGE\nweb +0\/2 +0 +0 +\d+s\n$/);
  });

  it('scales, labels, patches, waits and explains', async () => {
    expect(await ok('scale deployment web --replicas=5')).toBe('deployment.apps/web scaled\n');
    expect(await ok('label deployment web tier=front')).toBe('deployment.apps/web labeled\n');
    expect(await ok('patch deployment web --type=merge -p {"spec":{"paused":true}}')).toBe('deployment.apps/web patched\n');
    expect(await ok('get deployment web -o jsonpath={.spec.replicas},{.spec.paused},{.metadata.labels.tier}')).toBe('5,true,front');
    expect(await ok('get deployments -l tier=front -o name')).toBe('deployment.apps/web\n');
    expect(await ok('get deployments -l tier!=front -o name')).toBe('');
    expect(await ok('explain deployment.spec.strategy')).toContain('rollingUpdate');
    expect(await ok('auth can-i create pods')).toBe('yes\n');
    expect((await kubectl('auth can-i create pods --as=nobody')).out).toBe('no\n');
    expect(await ok('describe service web')).toMatch(/Selector: +app=web/);
  });

  it('refuses what is wrong in the words that users know', async () => {
    const strict = await kubectl('apply -f -', deployment('nginx').replace('replicas: 2', 'replicsa: 2'));
    expect(strict.code).toBe(1);
    expect(strict.err).toContain('unknown field "spec.replicsa"');
    const wrong = await kubectl(
      'create --validate=false -f -',
      deployment('nginx').replace('replicas: 2', 'replicas: "two"').replace('name: web', 'name: wrong'),
    );
    expect(wrong.err).toContain(
      'cannot be handled as a Deployment: json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32',
    );
    const long = await kubectl(`create configmap ${'x'.repeat(254)}`);
    expect(long.err).toContain('must be no more than 253 characters');
    expect((await kubectl('get pod nothing')).err).toBe('Error from server (NotFound): pods "nothing" not found\n');
    expect((await kubectl('get pods --as=nobody')).err).toContain(
      'Error from server (Forbidden): pods is forbidden: User "nobody" cannot list resource "pods" in API group "" in the namespace "default"',
    );
    expect((await kubectl('create namespace default')).err).toBe('Error from server (AlreadyExists): namespaces "default" already exists\n');
  });

  it('reports a conflict', async () => {
    const web = await client.get(resources.deployments, { namespace: 'default', name: 'web' });
    await client.update(resources.deployments, { ...web, metadata: { ...web.metadata, labels: { first: 'yes' } } });
    await expect(client.update(resources.deployments, { ...web, metadata: { ...web.metadata, labels: { second: 'yes' } } })).rejects.toMatchObject({
      reason: 'Conflict',
      message:
        'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; please apply your changes to the latest version and try again',
    });
  });

  it('watches from a revision and sees every change in order', async () => {
    const list = await client.list(resources.configmaps, { namespace: 'default' });
    const seen: string[] = [];
    const end = new AbortController();
    const watching = (async () => {
      for await (const e of client.watch(resources.configmaps, {
        namespace: 'default',
        resourceVersion: list.metadata.resourceVersion,
        signal: end.signal,
      })) {
        if (e.type === 'ERROR') throw new Error(e.object.message);
        seen.push(`${e.type} ${e.object.metadata.name}`);
        if (seen.length === 3) return;
      }
    })();
    await ok('create configmap one --from-literal=a=b');
    await ok('label configmap one x=y');
    await ok('delete configmap one');
    await watching;
    end.abort();
    expect(seen).toEqual(['ADDED one', 'MODIFIED one', 'DELETED one']);
  });

  it('has everything again after a restart', async () => {
    const before = await client.get(resources.services, { namespace: 'default', name: 'web' });
    await stop();
    await start();
    expect(await client.get(resources.services, { namespace: 'default', name: 'web' })).toEqual(before);
    expect(await ok('delete deployment/web service/web')).toMatch(/deployment\.apps "web" deleted.*\nservice "web" deleted/);
  });
});
