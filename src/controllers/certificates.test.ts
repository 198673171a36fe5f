import 'reflect-metadata';
import { generateKeyPairSync, webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { afterEach, describe, expect, test } from 'vitest';
import type { CertificateSigningRequest } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { FakeClock } from '../client/fake-clock.ts';
import { startCsrApprovingController } from './csrapproving.ts';
import { startCsrCleanerController } from './csrcleaner.ts';
import { startCsrSigningController } from './csrsigning.ts';
import { startPodCertificateRequestCleaner } from './podcertificaterequestcleaner.ts';
import { eventually, settle, type TestContext, testContext } from './testing.ts';

let context: TestContext;
afterEach(() => context?.stop());

x509.cryptoProvider.set(webcrypto as never);
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

async function authority() {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const cert = await x509.X509CertificateGenerator.createSelfSigned({
    name: 'CN=kubernetes',
    notAfter: new Date(Date.now() + 1e12),
    signingAlgorithm: algorithm,
    keys: keys as never,
    extensions: [new x509.BasicConstraintsExtension(true, undefined, true), await x509.SubjectKeyIdentifierExtension.create(keys.publicKey as never)],
  });
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  return { cert: cert.toString('pem'), key };
}

async function request(o: {
  cn: string;
  org?: string;
  signer: string;
  user: string;
  groups?: string[];
  usage: string;
  ips?: string[];
  dns?: string[];
  expirationSeconds?: number;
}) {
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify']);
  const names = [
    ...(o.ips ?? []).map((value) => ({ type: 'ip' as const, value })),
    ...(o.dns ?? []).map((value) => ({ type: 'dns' as const, value })),
  ];
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: [...(o.org ? [{ O: [o.org] }] : []), { CN: [o.cn] }],
    keys: keys as never,
    signingAlgorithm: algorithm,
    extensions: names.length ? [new x509.SubjectAlternativeNameExtension(names)] : [],
  });
  return {
    apiVersion: 'certificates.k8s.io/v1',
    kind: 'CertificateSigningRequest',
    metadata: { name: 'csr' },
    spec: {
      request: Buffer.from(csr.toString('pem')).toString('base64'),
      signerName: o.signer,
      usages: ['digital signature', o.usage],
      username: o.user,
      groups: o.groups ?? [],
      ...(o.expirationSeconds ? { expirationSeconds: o.expirationSeconds } : {}),
    },
  };
}

const csr = () => context.client.objects(resources.certificatesigningrequests)[0] as CertificateSigningRequest;
const certificate = () =>
  eventually('the certificate', () => csr()?.status?.certificate).then((text) => new X509Certificate(Buffer.from(text, 'base64')));
const serving = {
  cn: 'system:node:n1',
  org: 'system:nodes',
  signer: 'kubernetes.io/kubelet-serving',
  user: 'system:node:n1',
  groups: ['system:nodes'],
  usage: 'server auth',
};
const node = {
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name: 'n1' },
  spec: {},
  status: { addresses: [{ type: 'InternalIP', address: '10.0.0.5' }] },
};

function start(ca: { cert: string; key: string }, objects: unknown[], allowed: string[] = []) {
  context = testContext(objects);
  context.client.intercept(() => {});
  const create = context.client.create.bind(context.client);
  context.client.create = (async (type: any, object: any, options: any) => {
    if (type.resource !== 'subjectaccessreviews') return create(type, object, options);
    return { ...object, status: { allowed: allowed.includes(object.spec.resourceAttributes.subresource) } };
  }) as never;
  startCsrApprovingController(context);
  startCsrSigningController(context, ca);
}

describe('certificates for kubelets', () => {
  test('a bootstrapping kubelet gets a client certificate of the CA, as long as it asked for', async () => {
    const ca = await authority();
    const object = await request({
      cn: 'system:node:n1',
      org: 'system:nodes',
      signer: 'kubernetes.io/kube-apiserver-client-kubelet',
      user: 'system:bootstrap:abc',
      usage: 'client auth',
      expirationSeconds: 3600,
    });
    start(ca, [object], ['nodeclient']);
    const made = await certificate();
    expect(made.checkIssued(new X509Certificate(ca.cert))).toBe(true);
    expect(made.verify(new X509Certificate(ca.cert).publicKey)).toBe(true);
    expect(made.subject.split('\n').sort()).toEqual(['CN=system:node:n1', 'O=system:nodes']);
    expect(made.keyUsage).toEqual(['1.3.6.1.5.5.7.3.2']);
    expect(Math.abs(made.validToDate.getTime() - Date.now() - 3600_000)).toBeLessThan(60_000);
    expect(csr().status!.conditions).toMatchObject([
      { type: 'Approved', status: 'True', reason: 'AutoApproved', message: 'Auto approving kubelet client certificate after SubjectAccessReview.' },
    ]);
  });

  test('without the permission there is none', async () => {
    const object = await request({
      cn: 'system:node:n1',
      org: 'system:nodes',
      signer: 'kubernetes.io/kube-apiserver-client-kubelet',
      user: 'mallory',
      usage: 'client auth',
    });
    start(await authority(), [object]);
    await settle(100);
    expect(csr().status?.conditions ?? []).toEqual([]);
  });

  test('a serving certificate for addresses of the node, as soon as the Node has them', async () => {
    start(await authority(), [{ ...node, status: {} }, await request({ ...serving, ips: ['10.0.0.5'] })]);
    await settle(100);
    expect(csr().status?.certificate).toBeUndefined();
    await context.client.update(
      resources.nodes,
      { ...(await context.client.get(resources.nodes, { name: 'n1' })), status: node.status },
      { subresource: 'status' },
    );
    expect((await certificate()).subjectAltName).toBe('IP Address:10.0.0.5');
  });

  test.each([
    ['an address that is not its own', { ips: ['10.0.0.6'] }],
    ['the name of another node', { user: 'system:node:n2', ips: ['10.0.0.5'] }],
    ['an organisation that is not of nodes', { org: 'system:masters', ips: ['10.0.0.5'] }],
  ])('no serving certificate for %s', async (_, over) => {
    start(await authority(), [node, await request({ ...serving, ...over })]);
    await settle(100);
    expect(csr().status?.conditions ?? []).toEqual([]);
  });

  test('an approved request that breaks the rules of its signer fails', async () => {
    const object = await request({ cn: 'x', signer: 'kubernetes.io/kube-apiserver-client', user: 'u', usage: 'server auth' });
    start(await authority(), [{ ...object, status: { conditions: [{ type: 'Approved', status: 'True' }] } }]);
    const failed = await eventually('the failure', () => csr().status?.conditions?.find((c) => c.type === 'Failed'));
    expect(failed).toMatchObject({ reason: 'SignerValidationFailure', message: 'invalid usage for client certificate: server auth' });
  });

  test('an RSA authority works too', async () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const der = privateKey.export({ type: 'pkcs8', format: 'der' });
    const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' };
    const signing = await webcrypto.subtle.importKey('pkcs8', der as never, rsa, true, ['sign']);
    const spki = await webcrypto.subtle.importKey(
      'spki',
      (await import('node:crypto')).createPublicKey(privateKey).export({ type: 'spki', format: 'der' }) as never,
      rsa,
      true,
      ['verify'],
    );
    const cert = await x509.X509CertificateGenerator.createSelfSigned({
      name: 'CN=rsa',
      signingAlgorithm: rsa,
      keys: { privateKey: signing, publicKey: spki } as never,
      notAfter: new Date(Date.now() + 1e11),
    });
    const ca = { cert: cert.toString('pem'), key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
    start(ca, [node, await request({ ...serving, ips: ['10.0.0.5'] })]);
    expect((await certificate()).verify(new X509Certificate(ca.cert).publicKey)).toBe(true);
  });

  test('old requests are cleaned away', async () => {
    const clock = new FakeClock();
    context = testContext([await request({ ...serving })], clock);
    startCsrCleanerController(context);
    await eventually('the timer', () => clock.pending > 0);
    clock.advance(23 * 3600_000);
    await settle();
    expect(csr()).toBeDefined();
    clock.advance(2 * 3600_000);
    await eventually('the deletion', () => !csr());
  });
});

test('requests of pods are kept for half an hour', async () => {
  const clock = new FakeClock();
  const at = { namespace: 'default', name: 'r' };
  context = testContext([{ apiVersion: 'certificates.k8s.io/v1', kind: 'PodCertificateRequest', metadata: at, spec: {} }], clock);
  startPodCertificateRequestCleaner(context);
  const there = async () => (await context.client.list(resources.podcertificaterequests, {})).items.length;
  await eventually('the timer', () => clock.pending > 0);
  clock.advance(29 * 60_000);
  await settle();
  expect(await there()).toBe(1);
  clock.advance(2 * 60_000);
  await eventually('the deletion', async () => (await there()) === 0);
});
