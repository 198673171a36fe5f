import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { resources } from '../../api/generated/resources.ts';
import type { Pod } from '../../api/generated/types.ts';
import { FakeClock } from '../../client/fake-clock.ts';
import { eventually, startTestCluster, type TestCluster } from '../testing/cluster.ts';
import { newPodSigner, type PodSigner } from '../testing/pod-signer.ts';
import { PodCertificates } from './pod-certificates.ts';

let cluster: TestCluster;
let signer: PodSigner;
const stopping = new AbortController();
const minute = 60_000;

beforeAll(async () => {
  cluster = await startTestCluster();
  signer = await newPodSigner(cluster.admin, 'example.com/renewed');
});
afterAll(async () => {
  stopping.abort();
  await cluster?.stop();
});

test('renews when the signer said to, serves the old one meanwhile, and tells what is late', async () => {
  const node = await cluster.admin.create(resources.nodes, { metadata: { name: 'renewing' } } as never);
  const pod: Pod = await cluster.createPod('renewed', { nodeName: 'renewing', containers: [{ name: 'c', image: 'i' }] });
  const clock = new FakeClock(Date.now());
  const events: string[] = [];
  const changed: string[] = [];
  const certificates = new PodCertificates({
    client: cluster.admin,
    clock,
    log: pino({ level: 'silent' }),
    recorder: { event: (_object: unknown, _type: string, reason: string) => events.push(reason) } as never,
    signal: stopping.signal,
    nodeName: 'renewing',
    nodeUid: () => node.metadata.uid,
    onChange: (uid) => changed.push(uid),
  });
  const get = () =>
    certificates.get(pod, 'tls', 0, { signerName: 'example.com/renewed', keyType: 'ECDSAP256', credentialBundlePath: 'x' }, stopping.signal);
  const nextRequest = async () => {
    await eventually('a request', async () => (await signer.pending()).length === 1);
    return (await signer.pending())[0]!;
  };
  const told = async () => {
    const before = changed.length;
    await eventually('word of the answer', () => changed.length > before);
  };

  const first = get();
  await signer.issue(await nextRequest());
  const old = await first;
  const issuedAt = clock.now();
  // Half an hour, and up to five minutes so that not all come at once.
  expect(old.refreshAt - issuedAt).toBeGreaterThan(29 * minute);
  expect(old.refreshAt - issuedAt).toBeLessThan(36 * minute);
  expect(await get()).toEqual(old);
  expect(await signer.pending()).toEqual([]);

  clock.advance(old.refreshAt - issuedAt);
  const during = await get();
  expect([during.privateKey, during.chain]).toEqual([old.privateKey, old.chain]);
  const renewal = await nextRequest();
  clock.advance(11 * minute);
  await get();
  expect(events).toEqual(['CertificateOverdueForRefresh']);
  const heard = told();
  await signer.issue(renewal, { beginRefreshAt: new Date(Date.now() + 49 * minute).toISOString().replace(/\.\d+/, '') });
  await heard;
  const renewed = await get();
  expect(renewed.privateKey).not.toBe(old.privateKey);
  expect(renewed.chain).not.toBe(old.chain);
  expect(events).toEqual(['CertificateOverdueForRefresh']);
});
