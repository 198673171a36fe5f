import type { Question } from 'dns-packet';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import { systemClock } from '../client/clock.ts';
import { createFakeClient, type FakeClient } from '../client/fake.ts';
import { createInformerFactory } from '../client/informers.ts';
import { type ClusterRecords, createClusterRecords } from './dns-records.ts';
import { namespace, service, slice } from './testing-objects.ts';

describe('cluster records', () => {
  let client: FakeClient;
  let records: ClusterRecords;
  let stop: AbortController;
  afterEach(() => stop.abort());

  beforeEach(async () => {
    stop = new AbortController();
    client = createFakeClient([
      namespace('shop'),
      namespace('empty'),
      service('web', { clusterIP: '10.96.0.20', ports: [{ name: 'http', port: 80 }, { name: 'dns', port: 53, protocol: 'UDP' }, { port: 81 }] }),
      service('db', { clusterIP: 'None', ports: [{ name: 'sql', port: 1 }] }),
      slice(
        'db',
        [{ ip: '10.244.0.2', hostname: 'db-0' }, { ip: '10.244.1.3' }, { ip: '10.244.1.4', hostname: 'db-2', ready: false }],
        [{ name: 'sql', port: 5432 }],
      ),
      slice('web', [{ ip: '10.244.0.9' }], [{ name: 'http', port: 8080 }]),
      service('early', { clusterIP: 'None', publishNotReadyAddresses: true }),
      slice('early', [{ ip: '10.244.1.8', ready: false }]),
      service('alone', { clusterIP: 'None' }),
      service('out', { type: 'ExternalName', externalName: 'www.example.com.' }),
      service('pending', {}),
    ]);
    const informers = createInformerFactory(client, { log: pino({ level: 'silent' }), clock: systemClock, signal: stop.signal });
    records = createClusterRecords(informers, 'cluster.local', '10.96.0.10');
    await records.synced();
  });
  const look = (name: string, type: string = 'A') => {
    const found = records.lookup({ name, type: type as Question['type'], class: 'IN' });
    if (!found) return undefined;
    return [
      found.rcode,
      ...found.answers
        .map((r) => ('data' in r ? (typeof r.data === 'object' && r.type === 'SRV' ? `${r.data.port} ${r.data.target}` : String(r.data)) : r.type))
        .sort(),
    ];
  };
  const local = (name: string, type?: string) => look(`${name}.cluster.local`, type);

  it('says which schema it follows', () => {
    expect(local('dns-version', 'TXT')).toEqual(['NOERROR', '1.1.0']);
    expect(local('dns-version', 'A')).toEqual(['NOERROR']);
  });

  it('knows services', () => {
    expect(local('web.shop.svc')).toEqual(['NOERROR', '10.96.0.20']);
    expect(local('WEB.Shop.SVC')).toEqual(['NOERROR', '10.96.0.20']);
    expect(local('web.shop.svc', 'ANY')).toEqual(['NOERROR', '10.96.0.20']);
    expect(local('web.shop.svc', 'AAAA')).toEqual(['NOERROR']);
    expect(local('web.shop.svc', 'UNKNOWN_65')).toEqual(['NOERROR']);
    expect(local('x.web.shop.svc')).toEqual(['NXDOMAIN']);
    expect(local('pending.shop.svc')).toEqual(['NXDOMAIN']);
    expect(local('web.empty.svc')).toEqual(['NXDOMAIN']);
    expect(local('web.nowhere.svc')).toEqual(['NXDOMAIN']);
  });

  it('keeps the name as it was asked', () => {
    const found = records.lookup({ name: 'Web.shop.svc.cluster.local', type: 'A' });
    expect(found?.answers[0]).toMatchObject({ name: 'Web.shop.svc.cluster.local', type: 'A', ttl: 5 });
  });

  it('knows named ports', () => {
    expect(local('_http._tcp.web.shop.svc', 'SRV')).toEqual(['NOERROR', '80 web.shop.svc.cluster.local']);
    expect(local('_dns._udp.web.shop.svc', 'SRV')).toEqual(['NOERROR', '53 web.shop.svc.cluster.local']);
    expect(local('_http._udp.web.shop.svc', 'SRV')).toEqual(['NXDOMAIN']);
    expect(local('_._tcp.web.shop.svc', 'SRV')).toEqual(['NXDOMAIN']);
    expect(local('_http._tcp.web.shop.svc', 'A')).toEqual(['NOERROR']);
    // There are names beneath it.
    expect(local('_tcp.web.shop.svc', 'SRV')).toEqual(['NOERROR']);
    expect(local('_sctp.web.shop.svc', 'SRV')).toEqual(['NXDOMAIN']);
    expect(records.lookup({ name: '_http._tcp.web.shop.svc.cluster.local', type: 'SRV' })?.additionals).toEqual([
      { type: 'A', name: 'web.shop.svc.cluster.local', ttl: 5, data: '10.96.0.20' },
    ]);
  });

  it('knows the ready endpoints of headless services', () => {
    expect(local('db.shop.svc')).toEqual(['NOERROR', '10.244.0.2', '10.244.1.3']);
    expect(local('db-0.db.shop.svc')).toEqual(['NOERROR', '10.244.0.2']);
    expect(local('10-244-1-3.db.shop.svc')).toEqual(['NOERROR', '10.244.1.3']);
    expect(local('db-2.db.shop.svc')).toEqual(['NXDOMAIN']);
    expect(local('10-244-0-9.web.shop.svc')).toEqual(['NXDOMAIN']);
    expect(local('early.shop.svc')).toEqual(['NOERROR', '10.244.1.8']);
    expect(local('alone.shop.svc')).toEqual(['NXDOMAIN']);
    expect(local('_sql._tcp.db.shop.svc', 'SRV')).toEqual([
      'NOERROR',
      '5432 10-244-1-3.db.shop.svc.cluster.local',
      '5432 db-0.db.shop.svc.cluster.local',
    ]);
  });

  it('follows what changes', async () => {
    await client.update(resources.endpointslices, slice('db', [{ ip: '10.244.1.4', hostname: 'db-2' }]) as never);
    await vi.waitFor(() => expect(local('db.shop.svc')).toEqual(['NOERROR', '10.244.1.4']));
    await client.delete(resources.services, { namespace: 'shop', name: 'web' });
    await vi.waitFor(() => expect(local('web.shop.svc')).toEqual(['NXDOMAIN']));
    expect(look('20.0.96.10.in-addr.arpa', 'PTR')).toBeUndefined();
  });

  it('knows pods by their address', () => {
    expect(local('10-244-3-4.shop.pod')).toEqual(['NOERROR', '10.244.3.4']);
    expect(local('10-244-3-4.shop.pod', 'AAAA')).toEqual(['NOERROR']);
    expect(local('10-244-3-400.shop.pod')).toEqual(['NXDOMAIN']);
    expect(local('10-244-3-4.nowhere.pod')).toEqual(['NXDOMAIN']);
    expect(local('name.shop.pod')).toEqual(['NXDOMAIN']);
    expect(local('x.10-244-3-4.shop.pod')).toEqual(['NXDOMAIN']);
  });

  it('leads to external names', () => {
    expect(records.lookup({ name: 'out.shop.svc.cluster.local', type: 'A' })).toEqual({
      rcode: 'NOERROR',
      answers: [{ type: 'CNAME', name: 'out.shop.svc.cluster.local', ttl: 5, data: 'www.example.com' }],
      follow: 'www.example.com',
    });
    expect(records.lookup({ name: 'out.shop.svc.cluster.local', type: 'CNAME' })).not.toHaveProperty('follow');
    expect(local('x.out.shop.svc')).toEqual(['NXDOMAIN']);
  });

  it('knows addresses of services and ready endpoints backwards, and no others', () => {
    expect(look('20.0.96.10.in-addr.arpa', 'PTR')).toEqual(['NOERROR', 'web.shop.svc.cluster.local']);
    expect(look('20.0.96.10.in-addr.arpa', 'A')).toEqual(['NOERROR']);
    expect(look('2.0.244.10.in-addr.arpa', 'PTR')).toEqual(['NOERROR', 'db-0.db.shop.svc.cluster.local']);
    expect(look('3.1.244.10.IN-ADDR.ARPA', 'PTR')).toEqual(['NOERROR', '10-244-1-3.db.shop.svc.cluster.local']);
    expect(look('4.1.244.10.in-addr.arpa', 'PTR')).toBeUndefined();
    expect(look('8.1.244.10.in-addr.arpa', 'PTR')).toEqual(['NOERROR', '10-244-1-8.early.shop.svc.cluster.local']);
    // A pod behind a service with an address of its own has no name by that.
    expect(look('9.0.244.10.in-addr.arpa', 'PTR')).toBeUndefined();
    expect(look('1.2.0.192.in-addr.arpa', 'PTR')).toBeUndefined();
  });

  it('says which names have others beneath, which are not there, and which are not its own', () => {
    for (const name of ['svc', 'pod', 'shop.svc', 'empty.svc', 'shop.pod', 'dns']) expect([name, local(name)]).toEqual([name, ['NOERROR']]);
    for (const name of ['x', 'nowhere.svc', 'nowhere.pod', 'web.shop', 'dns-version.x']) expect([name, local(name)]).toEqual([name, ['NXDOMAIN']]);
    // What the search list of a pod makes of a name.
    expect(local('web.shop.svc.cluster.local.shop.svc')).toEqual(['NXDOMAIN']);
    expect(local('www.example.com.svc')).toEqual(['NXDOMAIN']);
    for (const name of ['www.example.com', 'xcluster.local', 'local', 'web.shop.svc', 'web.shop.svc.cluster.local.ec2.internal'])
      expect([name, look(name)]).toEqual([name, undefined]);
  });

  it('knows its zone', () => {
    expect(look('cluster.local', 'SOA')).toEqual(['NOERROR', '[object Object]']);
    expect(look('cluster.local', 'NS')).toEqual(['NOERROR', 'ns.dns.cluster.local']);
    expect(look('cluster.local', 'A')).toEqual(['NOERROR']);
    expect(local('ns.dns')).toEqual(['NOERROR', '10.96.0.10']);
    expect(records.authority()).toMatchObject({ type: 'SOA', name: 'cluster.local', data: { mname: 'ns.dns.cluster.local' } });
  });
});
