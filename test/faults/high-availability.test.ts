/** Three etcd members and two API servers under a write load: each is killed in turn, and nothing acknowledged is lost. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type EtcdCluster, findEtcd, startEtcd } from '../../src/store/etcd/testing.ts';
import { ApiServers } from './api-servers.ts';
import { Load } from './load.ts';

const etcdProgram = findEtcd();
if (!etcdProgram) console.log('high availability is not tested: no etcd on this machine (apt-get install etcd-server)');
const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe.runIf(etcdProgram)('three etcd members, two API servers', { timeout: 240_000 }, () => {
  let etcd: EtcdCluster;
  let servers: ApiServers;
  beforeAll(async () => {
    etcd = await startEtcd(3);
    servers = new ApiServers(['--etcd-servers', etcd.endpoints.join(',')]);
    await servers.start(0);
    await servers.start(1);
  }, 120_000);
  afterAll(async () => {
    await servers?.stop();
    await etcd?.stop();
  });

  it('SIGKILL of each in turn loses, doubles and reorders nothing', async () => {
    const load = new Load([servers.client(0), servers.client(1)]);
    load.start();
    for (const member of [0, 1, 2]) {
      await sleep(700);
      await etcd.kill(member);
      await sleep(1500);
      await etcd.start(member);
    }
    for (const server of [0, 1]) {
      await sleep(700);
      await servers.kill(server);
      await sleep(700);
      await servers.start(server);
    }
    await sleep(1000);
    const report = await load.finish();
    console.log('high availability:', JSON.stringify({ ...report, lost: report.lost.length, duplicated: report.duplicated.length }));
    expect(report.acknowledged).toBeGreaterThan(100);
    expect(report).toMatchObject({ lost: [], duplicated: [], violations: [], watchProblems: [] });
  });
});
