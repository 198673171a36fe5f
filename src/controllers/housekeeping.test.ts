import { afterEach, describe, expect, test } from 'vitest';
import { FakeClock } from '../client/fake-clock.ts';
import type { Secret, ServiceCIDR } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { startTokenCleaner } from './bootstraptokens.ts';
import { startLegacyTokenCleaner } from './legacytokens.ts';
import { startNodeTtlController } from './nodettl.ts';
import { startServiceCidrController } from './servicecidr.ts';
import { type Bench, backends } from './testing/backends.ts';
import { eventually, settle } from './testing.ts';
import { startVolumeExpandController } from './volumeexpand.ts';

let bench: Bench;
afterEach(() => bench?.stop());

const base64 = (text: string) => Buffer.from(text).toString('base64');
const day = 86_400_000;

describe.each(backends)('housekeeping on $name', ({ name, open }) => {
  test('nodes are told how long kubelets may keep what they have read', async () => {
    bench = await open();
    startNodeTtlController(bench.as('ttl-controller'));
    await bench.create(resources.nodes, { metadata: { name: 'a' }, spec: {} });
    const ttl = async () => (await bench.get(resources.nodes, 'a')).metadata.annotations?.['node.alpha.kubernetes.io/ttl'];
    await eventually('0', async () => (await ttl()) === '0');
    for (let i = 0; i < 100; i++) await bench.create(resources.nodes, { metadata: { name: `n${i}` }, spec: {} });
    await bench.patch(resources.nodes, 'a', { metadata: { labels: { heart: 'beat' } } });
    await eventually('15', async () => (await ttl()) === '15');
  });

  test('a ServiceCIDR is said to be ready, and stays while an address needs it', async () => {
    const clock = new FakeClock(Math.floor(Date.now() / 1000) * 1000);
    bench = await open({ clock });
    startServiceCidrController(bench.as('service-cidrs-controller'));
    await bench.create(resources.servicecidrs, { metadata: { name: 'more' }, spec: { cidrs: ['10.200.0.0/24'] } });
    const more = async () => (await bench.all<ServiceCIDR>(resources.servicecidrs)).find((c) => c.metadata.name === 'more');
    const ready = async () => (await more())?.status?.conditions?.find((c) => c.type === 'Ready');
    await eventually('the condition', async () => (await ready())?.status === 'True');
    const labels = { 'ipaddress.kubernetes.io/managed-by': 'ipallocator.k8s.io', 'ipaddress.kubernetes.io/ip-family': 'IPv4' };
    const parentRef = { resource: 'services', namespace: 'default', name: 's' };
    await bench.create(resources.ipaddresses, { metadata: { name: '10.200.0.7', labels }, spec: { parentRef } });
    await settle();
    await bench.remove(resources.servicecidrs, 'more');
    await eventually('the condition', async () => (await ready())?.reason === 'Terminating');
    clock.advance(20_000);
    await settle();
    expect(await more()).toBeDefined();
    await bench.remove(resources.ipaddresses, '10.200.0.7');
    await eventually('the deletion', async () => {
      clock.advance(1000);
      return !(await more());
    });
  });

  test('expired bootstrap tokens go', async () => {
    const clock = new FakeClock();
    bench = await open({ clock });
    startTokenCleaner(bench.as('token-cleaner'));
    const secret = (id: string, expiration: number) => ({
      type: 'bootstrap.kubernetes.io/token',
      metadata: { namespace: 'kube-system', name: `bootstrap-token-${id}` },
      data: { 'token-id': base64(id), expiration: base64(new Date(expiration).toISOString()) },
    });
    await bench.create(resources.secrets, secret('aaaaaa', clock.now() - 1000));
    await bench.create(resources.secrets, secret('bbbbbb', clock.now() + 60_000));
    const left = async () => (await bench.all<Secret>(resources.secrets)).map((s) => s.metadata.name);
    await eventually('one', async () => (await left()).join() === 'bootstrap-token-bbbbbb');
    clock.advance(61_000);
    await eventually('none', async () => (await left()).length === 0);
  });

  test('a claim that asks for more is told who makes it larger', async () => {
    bench = await open();
    startVolumeExpandController(bench.as('expand-controller'));
    const claim = await bench.create(resources.persistentvolumeclaims, {
      metadata: { name: 'data' },
      spec: { accessModes: ['ReadWriteOnce'], volumeName: 'pv', storageClassName: 'gold', resources: { requests: { storage: '1Gi' } } },
    });
    await bench.create(resources.storageclasses, { metadata: { name: 'gold' }, provisioner: 'ebs.csi.aws.com', allowVolumeExpansion: true });
    const claimRef = { namespace: 'default', name: 'data', uid: claim.metadata.uid };
    const csi = { driver: 'ebs.csi.aws.com', volumeHandle: 'vol-1' };
    await bench.create(resources.persistentvolumes, {
      metadata: { name: 'pv' },
      spec: { capacity: { storage: '1Gi' }, accessModes: ['ReadWriteOnce'], storageClassName: 'gold', claimRef, csi },
    });
    await bench.patch(resources.persistentvolumeclaims, 'data', { status: { phase: 'Bound', capacity: { storage: '1Gi' } } }, 'status');
    await settle();
    await bench.patch(resources.persistentvolumeclaims, 'data', { spec: { resources: { requests: { storage: '2Gi' } } } });
    await eventually('the event', () => bench.recorded.some((e) => e.reason === 'ExternalExpanding'));
  });

  // On the API server creations carry its own time, which does not go back a year.
  if (name === 'the in-memory client') test('tokens that nobody has used for a year become invalid, and go after another', async () => {
    const clock = new FakeClock(Date.parse('2028-01-01T00:00:00Z'));
    bench = await open({ clock });
    const annotations = { 'kubernetes.io/service-account.name': 'robot' };
    const token = (name: string, labels: object = {}) => ({
      type: 'kubernetes.io/service-account-token',
      metadata: { name, annotations, labels, creationTimestamp: '2025-01-01T00:00:00Z' },
    });
    await bench.create(resources.configmaps, {
      metadata: { namespace: 'kube-system', name: 'kube-apiserver-legacy-service-account-token-tracking' },
      data: { since: '2025-01-01' },
    });
    await bench.create(resources.serviceaccounts, { metadata: { name: 'robot' }, secrets: [{ name: 'idle' }, { name: 'busy' }, { name: 'mounted' }] });
    await bench.create(resources.secrets, token('idle'));
    await bench.create(resources.secrets, token('busy', { 'kubernetes.io/legacy-token-last-used': '2027-12-01' }));
    await bench.create(resources.secrets, token('mounted'));
    await bench.create(resources.secrets, token('by-hand'));
    const volumes = [{ name: 'v', secret: { secretName: 'mounted' } }];
    await bench.create(resources.pods, { metadata: { name: 'p' }, spec: { containers: [], volumes } });
    startLegacyTokenCleaner(bench.as('legacy-service-account-token-cleaner'));
    const invalid = async () =>
      (await bench.all<Secret>(resources.secrets)).filter((s) => s.metadata.labels?.['kubernetes.io/legacy-token-invalid-since']).map((s) => s.metadata.name);
    await eventually('the mark', async () => (await invalid()).join() === 'idle');
    await settle();
    await eventually('the deletion', async () => {
      clock.advance(10 * day);
      await settle(5);
      return !(await bench.all<Secret>(resources.secrets)).some((s) => s.metadata.name === 'idle');
    });
    expect((await bench.all<Secret>(resources.secrets)).map((s) => s.metadata.name)).toEqual(expect.arrayContaining(['mounted', 'by-hand']));
  });
});
