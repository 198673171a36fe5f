import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type AnyObject, type Cluster, startCluster } from '../../../src/index.ts';
import { missingPeers, programPath } from '../peer.ts';

const missing = missingPeers('helm');
if (missing) console.warn(`skipped, charts by Helm: ${missing}`);

const shop = join(import.meta.dirname, 'shop');
/** One's pods that never become ready. */
const broken = ['--set', 'image=shop:broken', '--set-string', 'behaviour={ready: false}'];

describe.skipIf(missing)('Helm 4 on a cluster of ours', () => {
  let cluster: Cluster;
  let kubeconfig: string;
  const home = mkdtempSync(join(tmpdir(), 'kumulus-interop-helm-'));
  let count = 0;
  /** A namespace of the test's own. */
  let ns: string;

  beforeAll(async () => {
    cluster = await startCluster({ simulatedNodes: 2 });
    kubeconfig = await cluster.writeKubeconfig(join(home, 'kubeconfig'));
  });
  afterAll(async () => {
    await cluster?.stop();
    rmSync(home, { recursive: true, force: true });
  });
  beforeEach(() => {
    ns = `shop-${++count}`;
  });

  const run = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>((resolve) => {
      const env = { PATH: process.env['PATH'] ?? '', KUBECONFIG: kubeconfig, HOME: home };
      execFile(programPath('helm'), [...args, '--namespace', ns], { env, timeout: 100_000 }, (error, stdout, stderr) =>
        resolve({ code: error ? Number(error.code ?? -1) : 0, stdout, stderr }),
      );
    });
  const helm = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(...args);
    if (code !== 0) throw new Error(`helm ${args.join(' ')} ended with ${code}:\n${stderr}${stdout}`);
    return stdout;
  };
  const install = (...args: string[]) => helm('install', 'a', shop, '--create-namespace', '--wait', '--timeout=60s', ...args);
  const upgrade = (...args: string[]) => helm('upgrade', 'a', shop, '--wait', '--timeout=60s', ...args);
  const history = async () => JSON.parse(await helm('history', 'a', '-o', 'json')).map((r: any) => `${r.revision} ${r.status}`);
  const deployment = () => cluster.get('Deployment', 'a-web', ns);
  const images = async () => {
    const pods = await cluster.list('Pod', { namespace: ns, labelSelector: 'app=a-web' });
    return pods.filter((p) => !p.metadata.deletionTimestamp).map((p) => p.spec.containers[0]?.image);
  };
  const hookDone = async (hook: string) => {
    const job = await cluster.get('Job', `a-${hook}`, ns);
    return job.status?.conditions?.some((c) => c.type === 'Complete' && c.status === 'True');
  };
  const left = async () => {
    const kinds = ['Deployment', 'StatefulSet', 'Service', 'Secret', 'ConfigMap', 'Pod', 'Role', 'Ingress', 'Widget', 'PodDisruptionBudget'];
    const lists = await Promise.all(kinds.map((kind) => cluster.list(kind, { namespace: ns })));
    const objects = lists.flat() as AnyObject[];
    return objects.filter((o) => o.metadata.name !== 'kube-root-ca.crt' && o.metadata.labels?.['job-name'] === undefined).map((o) => `${o.kind}/${o.metadata.name}`);
  };

  test('install --wait: hooks in order, a CRD and its object, a subchart, lookups, fields owned by Helm', async () => {
    const told = await install();
    expect(told).toContain(`a runs in ${ns}, revision 1.`);
    expect((await deployment()).status).toMatchObject({ availableReplicas: 2, updatedReplicas: 2 });
    expect((await cluster.get('StatefulSet', 'a-db', ns)).status?.readyReplicas).toBe(2);
    const widget = await cluster.get('Widget', 'a', ns);
    expect(widget.spec).toEqual({ size: 2, colour: 'blue', parts: [{ name: 'wheel', count: 4 }] });
    for (const hook of ['pre-install', 'post-install']) expect(await hookDone(hook)).toBe(true);
    const [first, web, last] = [await cluster.get('Job', 'a-pre-install', ns), await deployment(), await cluster.get('Job', 'a-post-install', ns)];
    const versions = [first, web, last].map((o) => o.metadata.creationTimestamp!);
    expect([...versions].sort()).toEqual(versions);
    await expect(cluster.get('ConfigMap', 'a-first', ns)).rejects.toThrow('not found');
    expect((await cluster.get('ConfigMap', 'a-config', ns)).data).toMatchObject({ kubernetes: expect.stringMatching(/^v1\.37\./), knowsWidgets: 'true' });
    const secret = await cluster.get('Secret', 'a-password', ns);
    // Charts are rendered before their namespace is made.
    const others = (await cluster.list('Namespace')).filter((n) => n.metadata.name !== ns);
    expect(Number(secret.metadata.annotations?.['shop.example.com/namespaces'])).toBe(others.length);
    const helms = web.metadata.managedFields?.find((f) => f.manager === 'helm');
    expect(helms).toMatchObject({ operation: 'Apply', apiVersion: 'apps/v1' });
    expect(JSON.stringify(helms?.fieldsV1)).toContain('f:replicas');
  });

  test('status, list and get tell what is there', async () => {
    await install('--set', 'replicas=1');
    const status = JSON.parse(await helm('status', 'a', '-o', 'json'));
    expect(status.info.status).toBe('deployed');
    expect(JSON.parse(await helm('list', '-o', 'json'))).toMatchObject([{ name: 'a', namespace: ns, revision: '1', status: 'deployed', chart: 'shop-0.1.0' }]);
    expect(await helm('get', 'manifest', 'a')).toContain('kind: StatefulSet');
    expect(await helm('get', 'hooks', 'a')).toContain('helm.sh/hook: post-install');
    expect(JSON.parse(await helm('get', 'values', 'a', '-o', 'json'))).toEqual({ replicas: 1 });
    expect(await helm('get', 'notes', 'a')).toContain('revision 1');
    // Helm asks by selector for what it shows of each kind.
    expect(JSON.stringify(status.info.resources ?? {})).toContain('a-web');
  });

  test('upgrade and rollback: fields come and go, the password stays', async () => {
    await install();
    const password = (await cluster.get('Secret', 'a-password', ns)).data?.['password'];
    await upgrade('--set', 'image=shop:2', '--set', 'replicas=3', '--set', 'extra.colour=red');
    expect(await images()).toEqual(['shop:2', 'shop:2', 'shop:2']);
    expect((await cluster.get('ConfigMap', 'a-config', ns)).data?.['colour']).toBe('red');
    expect((await cluster.get('Widget', 'a', ns)).spec.size).toBe(3);
    for (const hook of ['pre-upgrade', 'post-upgrade']) expect(await hookDone(hook)).toBe(true);
    const secret = await cluster.get('Secret', 'a-password', ns);
    expect(secret.data?.['password']).toBe(password);
    expect(secret.metadata.annotations?.['shop.example.com/widgets']).toBe('1');
    // The subchart goes away whole.
    await upgrade('--set', 'db.enabled=false');
    await cluster.waitFor({ kind: 'StatefulSet', name: 'a-db', namespace: ns }, 'deleted');
    expect((await cluster.get('ConfigMap', 'a-config', ns)).data).not.toHaveProperty('colour');
    await helm('rollback', 'a', '2', '--wait', '--timeout=60s');
    expect(await images()).toEqual(['shop:2', 'shop:2', 'shop:2']);
    expect((await cluster.get('StatefulSet', 'a-db', ns)).status?.readyReplicas).toBe(2);
    expect((await cluster.get('ConfigMap', 'a-config', ns)).data?.['colour']).toBe('red');
    for (const hook of ['pre-rollback', 'post-rollback']) expect(await hookDone(hook)).toBe(true);
    expect(await history()).toEqual(['1 superseded', '2 superseded', '3 superseded', '4 deployed']);
  });

  test('test --logs shows what the pod said, and fails where it fails', async () => {
    await install('--set', 'replicas=1');
    const told = await helm('test', 'a', '--logs', '--timeout=60s');
    expect(told).toMatch(/Phase:\s+Succeeded/);
    expect(told).toContain('reached a');
    await upgrade('--set', 'replicas=1', '--set', 'testExitCode=1');
    const failed = await run('test', 'a', '--timeout=60s');
    expect(failed.code).toBe(1);
    expect(failed.stderr + failed.stdout).toMatch(/Phase:\s+Failed/);
  });

  test('an upgrade whose hook fails changes nothing; the next one goes through', async () => {
    await install();
    const before = await deployment();
    const failed = await run('upgrade', 'a', shop, '--wait', '--timeout=60s', '--set', 'image=shop:2', '--set', 'upgradeExitCode=1');
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('pre-upgrade hooks failed');
    expect((await deployment()).metadata.generation).toBe(before.metadata.generation);
    expect(await history()).toEqual(['1 deployed', '2 failed']);
    await upgrade('--set', 'image=shop:2');
    expect(await images()).toEqual(['shop:2', 'shop:2']);
    expect(await history()).toEqual(['1 superseded', '2 failed', '3 deployed']);
  });

  test('upgrade --install --rollback-on-failure installs, and rolls back what does not become ready', async () => {
    const atomic = ['upgrade', '--install', 'a', shop, '--create-namespace', '--rollback-on-failure'];
    await helm(...atomic, '--timeout=60s');
    expect(await images()).toEqual(['shop:1', 'shop:1']);
    const failed = await run(...atomic, '--timeout=8s', ...broken);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('has been rolled back due to rollback-on-failure being set');
    await cluster.eventually('the pods as they were', async () => JSON.stringify(await images()) === JSON.stringify(['shop:1', 'shop:1']));
    expect((await deployment()).status).toMatchObject({ availableReplicas: 2, updatedReplicas: 2 });
    expect(await history()).toEqual(['1 superseded', '2 failed', '3 deployed']);
  });

  test('an install that fails with --rollback-on-failure leaves nothing', async () => {
    const failed = await run('install', 'a', shop, '--create-namespace', '--rollback-on-failure', '--timeout=8s', ...broken);
    expect(failed.code).toBe(1);
    expect(failed.stderr).toContain('has been uninstalled due to rollback-on-failure being set');
    await cluster.eventually('an empty namespace', async () => (await left()).length === 0);
  });

  test("another's field is a conflict, which --force-conflicts takes over", async () => {
    await install();
    const scaled = await cluster.patch({ kind: 'Deployment', name: 'a-web', namespace: ns }, { spec: { replicas: 5 } });
    expect(scaled['spec'].replicas).toBe(5);
    const refused = await run('upgrade', 'a', shop, '--set', 'replicas=3');
    expect(refused.code).toBe(1);
    expect(refused.stderr.replaceAll('\\', '')).toMatch(/conflict with "kumulus-sdk" using apps\/v1: \.spec\.replicas/);
    await upgrade('--set', 'replicas=3', '--force-conflicts');
    expect((await deployment()).spec?.replicas).toBe(3);
  });

  test('what the server refuses is told in its words', async () => {
    await install();
    const refused = await run('upgrade', 'a', shop, '--set', 'db.replicas=-1');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toContain('spec.replicas: Invalid value: -1: must be greater than or equal to 0');
    const dry = await run('upgrade', 'a', shop, '--dry-run=server', '--set', 'replicas=4');
    expect(dry).toMatchObject({ code: 0, stdout: expect.stringContaining('replicas: 4') });
    expect((await deployment()).spec?.replicas).toBe(2);
  });

  test('client-side apply, and from there to server-side apply', async () => {
    await install('--server-side=false');
    expect((await deployment()).metadata.managedFields?.filter((f) => f.operation === 'Apply')).toEqual([]);
    await upgrade('--server-side=false', '--set', 'image=shop:2');
    expect(await images()).toEqual(['shop:2', 'shop:2']);
    await upgrade('--server-side=true', '--set', 'image=shop:3', '--set', 'extra.a=b');
    expect(await images()).toEqual(['shop:3', 'shop:3']);
    // What client-side apply put there goes when the chart no longer has it.
    await upgrade('--set', 'image=shop:4');
    expect((await cluster.get('ConfigMap', 'a-config', ns)).data).not.toHaveProperty('a');
  });

  test('uninstall --wait takes all away but the CRD; --keep-history keeps what may come back', async () => {
    await install();
    await helm('uninstall', 'a', '--wait', '--keep-history', '--timeout=60s', '--cascade=foreground');
    expect((await left()).filter((name) => !name.startsWith('Secret/sh.helm.release'))).toEqual([]);
    for (const hook of ['pre-delete', 'post-delete']) expect(await hookDone(hook)).toBe(true);
    expect(await history()).toEqual(['1 uninstalled']);
    await helm('rollback', 'a', '1', '--wait', '--timeout=60s');
    expect(await images()).toEqual(['shop:1', 'shop:1']);
    await helm('uninstall', 'a', '--wait', '--timeout=60s');
    await cluster.eventually('an empty namespace', async () => (await left()).length === 0);
    expect((await run('status', 'a')).stderr).toContain('release: not found');
    expect((await cluster.get('CustomResourceDefinition', 'widgets.shop.example.com')).spec.group).toBe('shop.example.com');
  });
});
