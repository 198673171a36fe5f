import { createPrivateKey, X509Certificate } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { PodCertificateRequest } from '../api/generated/types.ts';
import type { Kubelet } from './kubelet.ts';
import { eventually, isReady, startTestCluster, type TestCluster } from './testing/cluster.ts';
import { newPodSigner, type PodSigner } from './testing/pod-signer.ts';
import { FakeRuntime } from './testing/runtime.ts';

/** These tests mount tmpfs: they need root. */
let cluster: TestCluster;
let runtime: FakeRuntime;
let kubelet: Kubelet;
let one: PodSigner;
let two: PodSigner;
const names = ['example.com/one', 'example.com/two'] as const;

beforeAll(async () => {
  if (process.getuid?.() !== 0) throw new Error('the tests of volumes need root, to mount');
  cluster = await startTestCluster();
  runtime = new FakeRuntime();
  kubelet = await cluster.startKubelet(runtime);
  one = await newPodSigner(cluster.admin, names[0]);
  two = await newPodSigner(cluster.admin, names[1]);
});
afterAll(async () => {
  await kubelet?.stop();
  await cluster?.stop();
});

const cat = async (container: string, file: string) => {
  const result = await runtime.execSync(runtime.named(container)!.status.id, ['cat', file]);
  if (result.exitCode !== 0) throw new Error(`${file}: ${result.stderr}`);
  return result.stdout.toString();
};
const projecting = (name: string, sources: object[], more: object = {}) =>
  cluster.createPod(name, {
    containers: [{ name, image: 'registry.example/app:v1', volumeMounts: [{ name: 'tls', mountPath: '/tls' }] }],
    volumes: [{ name: 'tls', projected: { sources } }],
    ...more,
  });
const bundle = (name: string, trustBundle: string, signerName?: string, labels?: Record<string, string>) =>
  cluster.admin.create(resources.clustertrustbundles, {
    metadata: { name, ...(labels ? { labels } : {}) },
    spec: { trustBundle, ...(signerName ? { signerName } : {}) },
  } as never);
const warning = (pod: string, text: string) =>
  eventually(`an event of ${pod} that says ${text}`, async () => {
    const { items } = await cluster.admin.list(resources.events, { namespace: 'default' });
    return items.some((e) => e.involvedObject?.name === pod && e.message?.includes(text));
  });
const requestOf = async (signer: PodSigner, pod: string): Promise<PodCertificateRequest> => {
  let found: PodCertificateRequest | undefined;
  await eventually(`a request of ${pod}`, async () => {
    found = (await signer.pending()).find((r) => r.spec.podName === pod);
    return found;
  });
  return found!;
};

describe('clusterTrustBundle', () => {
  test('by name, by signer and labels, each anchor once; what changes reaches the pod', async () => {
    await bundle('alone', `# a comment\n${one.ca}`);
    await bundle('example.com:one:a', one.ca, names[0], { live: 'yes' });
    await bundle('example.com:one:b', one.ca + two.ca, names[0], { live: 'yes' });
    await bundle('example.com:one:dead', two.ca, names[0], { live: 'no' });
    const of = (path: string, labelSelector?: object, optional?: boolean) => ({
      clusterTrustBundle: { path, signerName: names[0], ...(labelSelector ? { labelSelector } : {}), ...(optional ? { optional } : {}) },
    });
    await projecting('trusts', [
      { clusterTrustBundle: { name: 'alone', path: 'alone.pem' } },
      { clusterTrustBundle: { name: 'absent', path: 'absent.pem', optional: true } },
      of('all.pem', {}),
      of('live.pem', { matchLabels: { live: 'yes' } }),
      of('dead.pem', { matchLabels: { live: 'no' } }),
      of('nothing.pem', undefined, true),
    ]);
    await cluster.until('trusts', 'Ready', isReady);
    expect(await cat('trusts', '/tls/alone.pem')).toBe(one.ca);
    expect(await cat('trusts', '/tls/absent.pem')).toBe('');
    expect(await cat('trusts', '/tls/all.pem')).toBe([one.ca, two.ca].sort().join(''));
    expect(await cat('trusts', '/tls/live.pem')).toBe([one.ca, two.ca].sort().join(''));
    expect(await cat('trusts', '/tls/dead.pem')).toBe(two.ca);
    expect(await cat('trusts', '/tls/nothing.pem')).toBe('');
    await bundle('absent', two.ca);
    await eventually('the bundle that came later', async () => (await cat('trusts', '/tls/absent.pem')) === two.ca);
    await cluster.admin.delete(resources.clustertrustbundles, { name: 'example.com:one:b' });
    await eventually('the anchors without it', async () => (await cat('trusts', '/tls/live.pem')) === one.ca);
  });

  test('a pod waits for a bundle that it needs', async () => {
    await projecting('waits', [{ clusterTrustBundle: { path: 'ca.pem', signerName: names[1], labelSelector: {} } }]);
    await warning('waits', 'combination of signerName and labelSelector matched zero ClusterTrustBundles');
    await bundle('example.com:two:a', two.ca, names[1]);
    await cluster.until('waits', 'Ready', isReady);
    expect(await cat('waits', '/tls/ca.pem')).toBe(two.ca);
  });
});

describe('podCertificate', () => {
  test('asks for the pod, waits for the signer, and writes key and chain', async () => {
    await projecting(
      'certified',
      [
        {
          podCertificate: {
            signerName: names[0],
            keyType: 'ECDSAP256',
            credentialBundlePath: 'bundle.pem',
            keyPath: 'key.pem',
            certificateChainPath: 'chain.pem',
            maxExpirationSeconds: 7200,
            userAnnotations: { 'example.com/path': '/x' },
          },
        },
      ],
      { securityContext: { fsGroup: 2000 } },
    );
    const request = await requestOf(one, 'certified');
    const pod = await cluster.pod('certified');
    const node = await cluster.admin.get(resources.nodes, { name: pod.spec.nodeName! });
    expect(request).toMatchObject({
      metadata: { namespace: 'default', ownerReferences: [{ apiVersion: 'v1', kind: 'Pod', name: 'certified', uid: pod.metadata.uid }] },
      spec: {
        podUID: pod.metadata.uid,
        serviceAccountName: 'default',
        nodeName: node.metadata.name,
        nodeUID: node.metadata.uid,
        maxExpirationSeconds: 7200,
        unverifiedUserAnnotations: { 'example.com/path': '/x' },
      },
    });
    const issued = await one.issue(request);
    await cluster.until('certified', 'Ready', isReady);
    const [key, chain] = [await cat('certified', '/tls/key.pem'), await cat('certified', '/tls/chain.pem')];
    // What the signer wrote beside the certificates is left out.
    expect(chain).toBe(issued.status!.certificateChain!.replace(/^#.*\n/, ''));
    expect(await cat('certified', '/tls/bundle.pem')).toBe(key + chain);
    expect(new X509Certificate(chain).checkPrivateKey(createPrivateKey(key))).toBe(true);
    const file = runtime.hostPath(runtime.named('certified')!.config, '/tls/key.pem');
    expect(await stat(file)).toMatchObject({ mode: 0o100640, gid: 2000 });
  });

  test('what the signer refuses, the pod does not get', async () => {
    await projecting('refused', [{ podCertificate: { signerName: names[0], keyType: 'ED25519', credentialBundlePath: 'bundle.pem' } }]);
    await one.deny(await requestOf(one, 'refused'), 'not you');
    await warning('refused', 'was denied, reason="Tested", message="not you"');
    expect(isReady(await cluster.pod('refused'))).toBeFalsy();
  });
});
