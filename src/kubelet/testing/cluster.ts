import 'reflect-metadata';
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  PemConverter,
  SubjectAlternativeNameExtension,
  X509CertificateGenerator,
} from '@peculiar/x509';
import { createHmac, generateKeyPairSync, randomBytes, type webcrypto } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { type Logger, pino } from 'pino';
import { resources } from '../../api/generated/resources.ts';
import type { Pod } from '../../api/generated/types.ts';
import { startApiServer } from '../../apiserver/server.ts';
import type { Client } from '../../client/client.ts';
import { systemClock } from '../../client/clock.ts';
import { createInformerFactory } from '../../client/informers.ts';
import { startControllers } from '../../controllers/index.ts';
import { openMemoryStore } from '../../store/memory.ts';
import type { Runtime } from '../../runtime/cri.ts';
import { Cgroups } from '../cgroups.ts';
import { publicKeyHash } from '../discovery.ts';
import { unmountBelow } from '../volumes/mounts.ts';
import { type Kubelet, type KubeletOptions, startKubelet } from '../kubelet.ts';

const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
const token = 'abcdef.0123456789abcdef';
const r = resources as any;

async function newAuthority() {
  const generate = () => crypto.subtle.generateKey(algorithm, true, ['sign', 'verify']) as Promise<webcrypto.CryptoKeyPair>;
  const pem = async (keys: webcrypto.CryptoKeyPair) => PemConverter.encode(await crypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY');
  const validity = { notBefore: new Date(Date.now() - 60_000), notAfter: new Date(Date.now() + 86_400_000) };
  const keys = await generate();
  const ca = await X509CertificateGenerator.createSelfSigned({
    name: 'CN=kubernetes',
    ...validity,
    keys: keys as never,
    signingAlgorithm: algorithm,
    extensions: [
      new BasicConstraintsExtension(true, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.digitalSignature, true),
    ],
  });
  let serial = 1;
  const issue = async (commonName: string, organization: string, server: boolean) => {
    const own = await generate();
    const cert = await X509CertificateGenerator.create({
      serialNumber: (++serial).toString(16).padStart(2, '0'),
      subject: [{ O: [organization] }, { CN: [commonName] }],
      issuer: ca.subject,
      ...validity,
      publicKey: own.publicKey as never,
      signingKey: keys.privateKey as never,
      signingAlgorithm: algorithm,
      extensions: [
        new ExtendedKeyUsageExtension([server ? '1.3.6.1.5.5.7.3.1' : '1.3.6.1.5.5.7.3.2']),
        new SubjectAlternativeNameExtension([
          { type: 'dns', value: 'localhost' },
          { type: 'ip', value: '127.0.0.1' },
        ]),
      ],
    });
    return { cert: cert.toString('pem'), key: await pem(own) };
  };
  return { cert: ca.toString('pem'), key: await pem(keys), issue };
}

/** API server, controllers and what kubeadm puts into a cluster for nodes to join; in this process, over HTTPS on loopback. */
export interface TestCluster {
  server: string;
  ca: string;
  adminCertificate: { cert: string; key: string };
  admin: Client;
  log: Logger;
  /** Starts (or starts again) the kubelet of a node over a runtime; its files are kept between starts. */
  startKubelet(runtime: Runtime, options?: Partial<KubeletOptions>): Promise<Kubelet>;
  /** Where the kubelet named `node` keeps its files. */
  directory: string;
  /** The cgroup below which pods have theirs. */
  cgroupRoot: string;
  /** Everything of the cluster has ended and its files are gone. Kubelets must be stopped before. */
  stop(): Promise<void>;
  createPod(name: string, spec: object, metadata?: object): Promise<Pod>;
  pod(name: string): Promise<Pod>;
  /** The pod as soon as test is satisfied; fails with its status after 20 s. */
  until(name: string, what: string, test: (pod: Pod) => unknown): Promise<Pod>;
}

export const nodeName = 'ip-10-0-0-7.ec2.internal';

/** id: what its directory and cgroup are named after, for whoever has to clean up after a process that was killed. */
export async function startTestCluster(id = randomBytes(3).toString('hex')): Promise<TestCluster> {
  const authority = await newAuthority();
  const directory = join(tmpdir(), `kumulus-kubelet-${id}`);
  await mkdir(directory, { mode: 0o700 });
  const log = pino({ level: process.env['KUMULUS_TEST_LOG'] ?? 'silent' });
  const accounts = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    publicKeyEncoding: { type: 'spki', format: 'pem' },
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  });
  const cgroupRoot = `/kumulus-kubelet-${id}`;
  const store = openMemoryStore();
  const server = await startApiServer({
    store,
    tls: await authority.issue('kube-apiserver', 'kumulus', true),
    clientCa: authority.cert,
    serviceAccount: { issuer: 'https://kubernetes.default.svc', privateKey: accounts.privateKey, publicKeys: [accounts.publicKey] },
    serviceCidr: '10.96.0.0/16',
    kubeletClient: { ...(await authority.issue('kube-apiserver-kubelet-client', 'system:masters', false)), ca: authority.cert },
    log,
  });
  await server.ready;
  const admin = server.localClient({ name: 'kubernetes-admin', groups: ['system:masters'] });
  const stopping = new AbortController();
  const running = startControllers(
    {
      client: admin,
      informers: createInformerFactory(admin, { log, clock: systemClock, signal: stopping.signal }),
      clock: systemClock,
      events: { event() {} },
      log,
      signal: stopping.signal,
    },
    { clusterCidr: '10.244.0.0/16', nodeCidrMaskSize: 24, ca: authority, rootCa: authority.cert, podGcQuarantineMs: 200 },
  );
  await letNodesJoin(admin, server.address, authority.cert);
  const address = server.address;
  let serviceAccounts = false;

  const cluster: TestCluster = {
    server: address,
    ca: authority.cert,
    adminCertificate: await authority.issue('kubernetes-admin', 'system:masters', false),
    admin,
    log,
    cgroupRoot,
    directory: join(directory, 'kubelet'),
    startKubelet: (runtime, options = {}) =>
      startKubelet({
        nodeName,
        rootDir: join(directory, 'kubelet'),
        certDirectory: join(directory, 'kubelet/pki'),
        runtime,
        client: { server: address, token, caCertHashes: [publicKeyHash(authority.cert)] },
        cloudProvider: 'external',
        providerId: 'aws:///us-east-1a/i-0123456789abcdef0',
        nodeIp: '127.0.0.1',
        nodeLabels: { 'example.com/pool': 'blue' },
        registerWithTaints: [],
        clusterDns: ['10.96.0.10'],
        clusterDomain: 'cluster.local',
        csiDrivers: [
          { name: 'ebs.csi.aws.com', nodeId: 'i-0123456789abcdef0', topology: { 'topology.ebs.csi.aws.com/zone': 'us-east-1a' }, allocatable: 25 },
        ],
        address: '127.0.0.1',
        port: 0,
        cgroupRoot,
        podLogsDir: join(directory, 'pods'),
        containerLogsDir: join(directory, 'containers'),
        log,
        clock: systemClock,
        ...options,
      }),
    async createPod(name, spec, metadata = {}) {
      if (!serviceAccounts)
        await eventually('the default service account', () =>
          admin.get(r.serviceaccounts, { namespace: 'default', name: 'default' }).catch(() => undefined),
        );
      serviceAccounts = true;
      return admin.create(r.pods, { metadata: { name, namespace: 'default', ...metadata }, spec: { nodeName, ...spec } } as never) as Promise<Pod>;
    },
    pod: (name) => admin.get(resources.pods, { namespace: 'default', name }),
    async until(name, what, test) {
      let last: Pod | undefined;
      return eventually(
        `pod ${name}: ${what}`,
        async () => {
          last = await cluster.pod(name);
          return test(last) ? last : undefined;
        },
        () => JSON.stringify(last?.status, null, 1),
      );
    },
    async stop() {
      stopping.abort(new Error('the test is over'));
      await Promise.allSettled(running.map((c) => c.done));
      await server.stop(100);
      await store.close();
      await unmountBelow(directory);
      await new Cgroups(log, cgroupRoot).remove();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return cluster;
}

/** What lets nodes join: token, signed cluster-info and the roles of kubeadm. */
async function letNodesJoin(admin: Client, server: string, ca: string): Promise<void> {
  const [id = '', secret = ''] = token.split('.');
  const kubeconfig = JSON.stringify({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name: '', cluster: { 'certificate-authority-data': Buffer.from(ca).toString('base64'), server } }],
  });
  const header = Buffer.from(JSON.stringify({ alg: 'HS256', kid: id })).toString('base64url');
  const signature = createHmac('sha256', secret)
    .update(`${header}.${Buffer.from(kubeconfig).toString('base64url')}`)
    .digest('base64url');
  const rbac = 'rbac.authorization.k8s.io';
  const bind = (name: string, role: string, group: string) =>
    admin.create(r.clusterrolebindings, {
      metadata: { name },
      roleRef: { apiGroup: rbac, kind: 'ClusterRole', name: role },
      subjects: [{ kind: 'Group', name: group, apiGroup: rbac }],
    } as never);
  await admin.create(r.secrets, {
    metadata: { name: `bootstrap-token-${id}`, namespace: 'kube-system' },
    type: 'bootstrap.kubernetes.io/token',
    stringData: { 'token-id': id, 'token-secret': secret, 'usage-bootstrap-authentication': 'true', 'usage-bootstrap-signing': 'true' },
  } as never);
  await admin.create(r.configmaps, {
    metadata: { name: 'cluster-info', namespace: 'kube-public' },
    data: { kubeconfig, [`jws-kubeconfig-${id}`]: `${header}..${signature}` },
  } as never);
  await admin.create(r.roles, {
    metadata: { name: 'cluster-info', namespace: 'kube-public' },
    rules: [{ apiGroups: [''], resources: ['configmaps'], resourceNames: ['cluster-info'], verbs: ['get'] }],
  } as never);
  await admin.create(r.rolebindings, {
    metadata: { name: 'cluster-info', namespace: 'kube-public' },
    roleRef: { apiGroup: rbac, kind: 'Role', name: 'cluster-info' },
    subjects: [{ kind: 'User', name: 'system:anonymous', apiGroup: rbac }],
  } as never);
  await bind('bootstrap', 'system:node-bootstrapper', 'system:bootstrappers');
  await bind('approve', 'system:certificates.k8s.io:certificatesigningrequests:nodeclient', 'system:bootstrappers');
  await bind('renew', 'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient', 'system:nodes');
}

/** Resolves with what check returns as soon as that is something; fails after 20 s with what it waited for. */
export async function eventually<T>(
  what: string,
  check: () => T | undefined | null | false | Promise<T | undefined | null | false>,
  last = () => '',
): Promise<T> {
  const until = Date.now() + 20_000;
  for (;;) {
    const result = await check();
    if (result) return result;
    if (Date.now() > until) throw new Error(`waited in vain for ${what} ${last()}`);
    await delay(10);
  }
}

/** Whether the pod's Ready condition is True. */
export const isReady = (pod: Pod): boolean => pod.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') === true;
