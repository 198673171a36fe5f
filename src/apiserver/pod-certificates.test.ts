import 'reflect-metadata';
import { Pkcs10CertificateRequestGenerator } from '@peculiar/x509';
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';
import { startTestServer, type TestServer } from './testing.ts';

let server: TestServer;
let admin: Client;
let node: Client;
let spec: Record<string, unknown>;
let certificate: string;
const r = resources as any;
const signerName = 'example.com/pods';
const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

const stub = async () => {
  const keys = (await crypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])) as any;
  return Buffer.from((await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: algorithm })).rawData).toString('base64');
};
const podOf = (volumes: object[]) => ({ nodeName: 'n1', containers: [{ name: 'c', image: 'i' }], volumes });
const projected = (source: object) => podOf([{ name: 'v', projected: { sources: [source] } }]);
const refusal = async (work: Promise<unknown>): Promise<{ code: number; message: string }> => {
  try {
    await work;
  } catch (error) {
    return error as never;
  }
  throw new Error('it was not refused');
};

beforeAll(async () => {
  server = await startTestServer();
  admin = server.localClient({ name: 'admin', groups: ['system:masters'] });
  node = server.localClient({ name: 'system:node:n1', groups: ['system:nodes'] });
  const account: any = await admin.create(r.serviceaccounts, { metadata: { namespace: 'default', name: 'default' } } as any);
  const self: any = await admin.create(r.nodes, { metadata: { name: 'n1' } } as any);
  const podCertificate = { signerName, keyType: 'ECDSAP256', credentialBundlePath: 'b.pem' };
  const pod: any = await admin.create(r.pods, { metadata: { namespace: 'default', name: 'p' }, spec: projected({ podCertificate }) } as any);
  spec = {
    signerName,
    podName: 'p',
    podUID: pod.metadata.uid,
    serviceAccountName: 'default',
    serviceAccountUID: account.metadata.uid,
    nodeName: 'n1',
    nodeUID: self.metadata.uid,
    stubPKCS10Request: await stub(),
  };
  certificate = (await server.authority.issue({ commonName: 'x' })).cert;
});
afterAll(async () => server?.stop());

const ask = (client: Client, change: object = {}): Promise<any> =>
  client.create(r.podcertificaterequests, { metadata: { namespace: 'default', generateName: 'req-' }, spec: { ...spec, ...change } } as any);

describe('a node asks for certificates of its pods', () => {
  test('of pods that run there and mount one, and reads what it asked', async () => {
    const made = await ask(node);
    expect(made.spec.maxExpirationSeconds).toBe(86_400);
    // The authorizer's view is current as soon as a list is.
    await admin.list(r.podcertificaterequests, {});
    expect(await node.get(r.podcertificaterequests, { namespace: 'default', name: made.metadata.name })).toMatchObject({ spec });
    const { items } = await node.list(r.podcertificaterequests, { fieldSelector: 'spec.nodeName=n1' });
    expect(items).toHaveLength(1);
    await node.get(r.serviceaccounts, { namespace: 'default', name: 'default' });
    await node.list(r.clustertrustbundles, {});
  });

  test('for nobody else, and answers nothing', async () => {
    const [made] = (await admin.list(r.podcertificaterequests, {})).items as any[];
    const other = server.localClient({ name: 'system:node:n2', groups: ['system:nodes'] });
    expect((await refusal(ask(other))).message).toContain('Spec.NodeName="n1", which is not the requesting node "n2"');
    expect((await refusal(ask(node, { podUID: 'x' }))).message).toContain('contains pod UID ("x") which differs from running pod');
    expect((await refusal(ask(node, { nodeUID: 'x' }))).message).toContain('names node UID "x", inconsistent with the running node');
    expect((await refusal(ask(node, { serviceAccountUID: 'x' }))).message).toContain('names service account UID "x"');
    expect((await refusal(ask(node, { signerName: 'example.com/other' }))).message).toContain(
      'pod "default/p" does not mount a podCertificate projected volume for signer "example.com/other"',
    );
    const at = { namespace: 'default', name: made.metadata.name };
    expect((await refusal(other.get(r.podcertificaterequests, at))).message).toContain("no relationship found between node 'n2'");
    expect((await refusal(node.list(r.podcertificaterequests, {}))).message).toContain('with nodeName field selector');
    expect((await refusal(node.update(r.podcertificaterequests, made, { subresource: 'status' }))).message).toContain(
      'nodes may not access the status subresource',
    );
    expect((await refusal(other.get(r.serviceaccounts, { namespace: 'default', name: 'default' }))).code).toBe(403);
  });
});

describe('what a request may say', () => {
  test('a signer, whose it is, how long, and a request signed by a key that is strong enough', async () => {
    const wrong = async (change: object) => (await refusal(ask(admin, change))).message;
    expect(await wrong({ signerName: 'pods' })).toContain('spec.signerName: Invalid value: "pods": must be a fully qualified domain and path');
    expect(await wrong({ maxExpirationSeconds: 60 })).toContain('must be in the range [3600, 7862400]');
    expect(await wrong({ maxExpirationSeconds: 90_000, signerName: 'kubernetes.io/x' })).toContain('must be in the range [3600, 86400]');
    expect(await wrong({ unverifiedUserAnnotations: { path: 'x' } })).toContain('must be a domain-prefixed key (such as "acme.io/foo")');
    expect(await wrong({ stubPKCS10Request: Buffer.from('x').toString('base64') })).toContain(
      'spec.stubPKCS10Request: Invalid value: must be a valid PKCS#10 CSR',
    );
    const forged = Buffer.from(await stub(), 'base64');
    forged[forged.length - 1]! ^= 1;
    expect(await wrong({ stubPKCS10Request: forged.toString('base64') })).toContain('spec.stubPKCS10Request: Invalid value: invalid signature');
    const rsa = { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256', publicExponent: new Uint8Array([1, 0, 1]), modulusLength: 2048 };
    const keys = (await crypto.subtle.generateKey(rsa, true, ['sign', 'verify'])) as any;
    const weak = await Pkcs10CertificateRequestGenerator.create({ keys, signingAlgorithm: rsa as never });
    expect(await wrong({ stubPKCS10Request: Buffer.from(weak.rawData).toString('base64') })).toContain(
      'RSA keys must have modulus size 3072 or 4096',
    );
  });

  test('and nothing else afterwards', async () => {
    const made = await ask(admin);
    const at = { namespace: 'default', name: made.metadata.name };
    expect((await refusal(admin.patch(r.podcertificaterequests, at, 'merge', { spec: { maxExpirationSeconds: 4000 } }))).message).toContain(
      'field is immutable',
    );
    const labelled: any = await admin.patch(r.podcertificaterequests, at, 'merge', { metadata: { labels: { a: 'b' } }, status: { notAfter: null } });
    expect(labelled.metadata.labels).toEqual({ a: 'b' });
  });
});

describe('the answer', () => {
  const condition = (type: string, status = 'True') => ({ type, status, reason: 'R', message: 'm', lastTransitionTime: '2026-01-01T00:00:00Z' });
  const answer = async (client: Client, status: object, made?: any) => {
    made ??= await ask(admin);
    return client.update(r.podcertificaterequests, { ...made, status } as any, { subresource: 'status' });
  };

  test('comes from who may sign for the signer', async () => {
    await admin.create(r.clusterroles, {
      metadata: { name: 'answers' },
      rules: [{ apiGroups: ['certificates.k8s.io'], resources: ['podcertificaterequests/status'], verbs: ['update'] }],
    } as any);
    await admin.create(r.clusterrolebindings, {
      metadata: { name: 'answers' },
      roleRef: { apiGroup: 'rbac.authorization.k8s.io', kind: 'ClusterRole', name: 'answers' },
      subjects: [{ apiGroup: 'rbac.authorization.k8s.io', kind: 'User', name: 'jane' }],
    } as any);
    const jane = server.localClient({ name: 'jane', groups: [] });
    await admin.list(r.clusterroles, {});
    await admin.list(r.clusterrolebindings, {});
    const denied = { conditions: [condition('Denied')] };
    expect((await refusal(answer(jane, denied))).message).toContain(`User "jane" is not permitted to "sign" for signer "${signerName}"`);
    await admin.patch(r.clusterroles, { name: 'answers' }, 'json', [
      {
        op: 'add',
        path: '/rules/-',
        value: { apiGroups: ['certificates.k8s.io'], resources: ['signers'], resourceNames: ['example.com/*'], verbs: ['sign'] },
      },
    ]);
    await admin.list(r.clusterroles, {});
    const made: any = await answer(jane, denied);
    expect(made.status).toEqual(denied);
    expect((await refusal(answer(jane, { conditions: [condition('Failed')] }, made))).message).toContain(
      'immutable after PodCertificateRequest is issued',
    );
  });

  test('is one of three, and a certificate of the key that was asked for', async () => {
    const wrong = async (status: object) => (await refusal(answer(admin, status))).message;
    expect(await wrong({ conditions: [condition('Late')] })).toContain('supported values: "Issued", "Denied", "Failed"');
    expect(await wrong({ conditions: [condition('Issued', 'False')] })).toContain('status.conditions[0].status: Unsupported value: "False"');
    expect(await wrong({ conditions: [condition('Denied'), condition('Issued')] })).toContain('There may be at most one condition');
    expect(await wrong({ conditions: [condition('Denied')], certificateChain: 'x' })).toContain('non-condition status fields must be empty');
    expect(await wrong({ certificateChain: 'x' })).toContain('status is immutable unless transitioning to');
    expect(await wrong({ conditions: [condition('Issued')] })).toContain('must contain at least one certificate');
    expect(await wrong({ conditions: [condition('Issued')], certificateChain: certificate })).toContain('was not issued to the requested public key');
  });
});

describe('volumes and bundles', () => {
  test('projections name what there can be', async () => {
    const wrong = async (source: object) =>
      (await refusal(admin.create(r.pods, { metadata: { namespace: 'default', name: 'w' }, spec: projected(source) } as any))).message;
    const bundle = (clusterTrustBundle: object) => wrong({ clusterTrustBundle: { path: 'ca.pem', ...clusterTrustBundle } });
    expect(await bundle({})).toContain('clusterTrustBundle: Required value: either name or signerName must be specified');
    expect(await bundle({ name: 'a', signerName })).toContain('only one of name and signerName may be used');
    expect(await bundle({ name: 'a', labelSelector: {} })).toContain('labelSelector must be unset if name is specified');
    expect(await bundle({ name: 'example.com:pods:A' })).toContain('not a valid clustertrustbundlename');
    const certificate = (podCertificate: object) => wrong({ podCertificate: { signerName, keyType: 'ED25519', keyPath: 'k', ...podCertificate } });
    expect(await certificate({ keyType: 'DSA' })).toContain('podCertificate.keyType: Unsupported value: "DSA"');
    expect(await certificate({ keyPath: '' })).toContain('specify at least one of credentialBundlePath, keyPath, and certificateChainPath');
    expect(await certificate({ certificateChainPath: 'k' })).toContain('conflicting duplicate paths');
    expect(await certificate({ keyPath: '../k' })).toContain("must not contain '..'");
    expect(await certificate({ maxExpirationSeconds: 7_862_401 })).toContain('if provided, maxExpirationSeconds must be <= 7862400');
  });

  test('a bundle holds certificates of authorities, each once', async () => {
    const wrong = async (trustBundle: string) =>
      (await refusal(admin.create(r.clustertrustbundles, { metadata: { name: 'b' }, spec: { trustBundle } } as any))).message;
    const key = generateKeyPairSync('ed25519').privateKey.export({ format: 'pem', type: 'pkcs8' }) as string;
    const ca = server.authority.cert;
    expect(await wrong('nothing')).toContain('spec.trustBundle: Invalid value: "<value omitted>": at least one trust anchor must be provided');
    expect(await wrong(key)).toContain('entry 0 has bad block type: PRIVATE KEY');
    expect(await wrong(ca.replace('CERTIFICATE-----\n', 'CERTIFICATE-----\nA: b\n\n'))).toContain('entry 0 has PEM block headers');
    expect(await wrong(`${ca}\n${certificate}`)).toContain('entry 1 does not have the CA bit set');
    expect(await wrong(`${ca}\n${ca}`)).toContain('duplicate trust anchor (indices [0 1])');
    await admin.create(r.clustertrustbundles, { metadata: { name: 'b' }, spec: { trustBundle: `the root\n${ca}` } } as any);
  });
});
