/** /metrics beside upstream's: dashboards, alerts and the kubernetes-mixin read names, types, labels and buckets. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { Connection } from './connection.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, the comparison of metrics: ${missing}`);

interface Family {
  type: string;
  labels: string;
  buckets: string;
}

function familiesOf(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  const types = new Map([...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map((m) => [m[1] as string, m[2] as string]));
  const samples = text.split('\n').filter((line) => line && !line.startsWith('#'));
  const seen = new Map<string, { labels: Set<string>; buckets: Map<string, number> }>();
  for (const line of samples) {
    const [, sample = '', inner = ''] = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? /.exec(line) ?? [];
    const name = types.has(sample) ? sample : sample.replace(/_(bucket|sum|count)$/, '');
    let one = seen.get(name);
    if (!one) seen.set(name, (one = { labels: new Set(), buckets: new Map() }));
    for (const [, label = '', value = ''] of inner.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)) {
      if (label === 'le') one.buckets.set(value, Number(value.replace('+Inf', 'Infinity')));
      else one.labels.add(label);
    }
  }
  for (const [name, { labels, buckets }] of seen) {
    // As numbers of six digits: how they are written is no matter.
    const bounds = [...buckets.values()].sort((a, b) => a - b).map((b) => (Number.isFinite(b) ? Number(b.toPrecision(6)) : '+Inf'));
    families.set(name, { type: types.get(name) ?? '', labels: [...labels].sort().join(' '), buckets: bounds.join(' ') });
  }
  return families;
}

/** What the kubernetes-mixin, kube-prometheus and Grafana's dashboards ask an API server for. */
const asked = [
  ...['apiserver_request_total', 'apiserver_request_duration_seconds', 'apiserver_request_sli_duration_seconds', 'apiserver_response_sizes'],
  ...['apiserver_longrunning_requests', 'apiserver_current_inflight_requests', 'apiserver_watch_events_total', 'apiserver_watch_events_sizes'],
  ...['apiserver_flowcontrol_current_executing_requests', 'apiserver_flowcontrol_current_executing_seats', 'apiserver_flowcontrol_current_inqueue_requests'],
  ...['apiserver_flowcontrol_nominal_limit_seats', 'apiserver_flowcontrol_current_limit_seats', 'apiserver_flowcontrol_dispatched_requests_total'],
  ...['apiserver_flowcontrol_request_wait_duration_seconds', 'apiserver_flowcontrol_request_execution_seconds'],
  ...['apiserver_admission_controller_admission_duration_seconds', 'apiserver_admission_step_admission_duration_seconds'],
  ...['apiserver_resource_objects', 'apiserver_audit_event_total', 'apiserver_tls_handshake_errors_total', 'etcd_request_duration_seconds', 'etcd_requests_total'],
  ...['authentication_attempts', 'authentication_duration_seconds', 'authenticated_user_requests', 'authorization_attempts_total', 'authorization_duration_seconds'],
  ...['process_cpu_seconds_total', 'process_resident_memory_bytes', 'process_open_fds', 'process_max_fds', 'process_start_time_seconds', 'process_virtual_memory_bytes'],
  ...['kubernetes_build_info', 'apiserver_storage_size_bytes'],
];

describe.skipIf(missing)('metrics', () => {
  let server: TestServer;
  let peer: Peer;
  let ours: Connection;
  let mine: Map<string, Family>;
  let theirs: Map<string, Family>;
  beforeAll(async () => {
    [server, peer] = await Promise.all([startTestServer(), startPeer()]);
    ours = new Connection(server.address, { ca: server.ca, ...server.admin });
    for (const c of [ours, peer.connection]) {
      const path = '/api/v1/namespaces/default/configmaps';
      for (let i = 0; i < 3; i++) await c.send({ method: 'POST', path, body: { metadata: { name: `c-${i}` } } });
      await c.send({ method: 'GET', path });
      await c.send({ method: 'GET', path: `${path}/c-1` });
      await c.send({ method: 'GET', path: `${path}?watch=1&timeoutSeconds=1` });
    }
    const text = async (c: Connection) => (await c.send({ method: 'GET', path: '/metrics' })).text;
    [mine, theirs] = [familiesOf(await text(ours)), familiesOf(await text(peer.connection))];
  });
  afterAll(async () => {
    ours?.close();
    await server?.stop();
    await peer?.stop();
  });

  test('everything that dashboards ask for is there', () => {
    expect(asked.filter((name) => !mine.has(name))).toEqual([]);
  });

  test('what both have has the same type, labels and buckets', () => {
    const common = [...mine.keys()].filter((name) => theirs.has(name)).sort();
    expect(common.length).toBeGreaterThan(35);
    const shown = (of: Map<string, Family>) => Object.fromEntries(common.map((name) => [name, of.get(name)]));
    expect(shown(mine)).toEqual(shown(theirs));
  });

  test('component SLIs', async () => {
    const of = async (c: Connection) => {
      for (const kind of ['healthz', 'livez', 'readyz']) await c.send({ method: 'GET', path: `/${kind}` });
      return familiesOf((await c.send({ method: 'GET', path: '/metrics/slis' })).text);
    };
    expect(await of(ours)).toEqual(await of(peer.connection));
  });
});
