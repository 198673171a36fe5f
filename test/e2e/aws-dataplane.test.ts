import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import * as ec2sdk from '@aws-sdk/client-ec2';
import * as elbsdk from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { startLocalstack } from '../../localstack/host/start.ts';
import { destroyEverything, findLeavings } from '../../src/localaws/dataplane/dataplane.ts';
import { clusterId } from '../../src/cluster/state.ts';

/** `kumulus aws serve` and `kumulus aws dataplane` as processes of their own, as people start them. */
const root = join(import.meta.dirname, '../..');
let folder: string;
let children: ChildProcess[];
let cleanups: (() => Promise<unknown>)[];

beforeEach(() => {
  if (process.getuid?.() !== 0) throw new Error('these tests make Linux namespaces: run them as root');
  folder = mkdtempSync('/tmp/kumulus-aws-e2e-');
  children = [];
  cleanups = [];
});
afterEach(async () => {
  for (const child of [...children].reverse()) await end(child);
  for (const cleanup of cleanups) await cleanup();
  await destroyEverything({ directory: join(folder, 'plane'), id: clusterId(join(folder, 'plane')) });
  rmSync(folder, { recursive: true, force: true });
}, 60_000);

async function end(child: ChildProcess): Promise<number | null> {
  const ended = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  if (child.exitCode !== null || child.signalCode !== null) return child.exitCode;
  child.kill('SIGINT');
  return ended;
}

/** Starts a command, and resolves with its first line. */
function start(words: string[], env: Record<string, string> = {}): Promise<{ line: string; child: ChildProcess }> {
  const keys = { AWS_CONFIG_FILE: join(folder, 'config'), AWS_SHARED_CREDENTIALS_FILE: join(folder, 'credentials') };
  const child = spawn(process.execPath, [join(root, 'bin/kumulus.js'), 'aws', ...words], {
    env: { PATH: process.env['PATH'], HOME: folder, ...keys, ...env },
  });
  children.push(child);
  return new Promise((resolve, reject) => {
    let out = '';
    let err = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      out += text;
      if (out.includes('\n')) resolve({ line: out.split('\n')[0]!, child });
    });
    child.stderr.setEncoding('utf8').on('data', (text) => (err += text));
    child.once('exit', (code) => reject(new Error(`kumulus aws ${words.join(' ')} ended with ${code}: ${err}`)));
  });
}

async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  for (const last = Date.now() + 60_000; ; ) {
    const found = await look().catch(() => undefined);
    if (found) return found;
    if (Date.now() > last) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

const fetchText = (url: string) =>
  new Promise<string>((resolve, reject) => {
    get(url, { timeout: 2000 }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve(text));
    })
      .on('timeout', function (this: { destroy(): void }) {
        this.destroy();
      })
      .on('error', reject);
  });

/** Says who it is over HTTP, and writes to its volume. */
const userData = `#!/bin/sh
mkdir -p /srv/www && hostname >/srv/www/index.html
cat >/srv/serve.mjs <<'END'
import { createServer } from 'node:http';
import { hostname } from 'node:os';
createServer((request, response) => response.end(hostname())).listen(80);
END
setsid node /srv/serve.mjs >/dev/null 2>&1 &
while [ ! -b /dev/sdf ]; do sleep 0.2; done
mkfs.ext4 -q /dev/sdf && mount /dev/sdf /mnt && echo kept >/mnt/file && echo 'the volume is mounted'
`;

/** An instance with a volume behind a load balancer: asked for at the endpoint, made real here, and gone again. */
async function wholeLife(endpoint: string, credentials: { accessKeyId: string; secretAccessKey: string }, key: string) {
  const config = { region: 'us-east-1', endpoint, credentials };
  const ec2 = new ec2sdk.EC2Client(config);
  const elb = new elbsdk.ElasticLoadBalancingV2Client(config);
  cleanups.push(async () => [ec2, elb].forEach((client) => client.destroy()));
  const { child } = await start(['dataplane', '--endpoint', endpoint, '--state', join(folder, 'plane')], {
    AWS_ACCESS_KEY_ID: credentials.accessKeyId,
    AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  });
  const vpc = (await ec2.send(new ec2sdk.CreateVpcCommand({ CidrBlock: '10.9.0.0/16' }))).Vpc!.VpcId!;
  const { InternetGateway } = await ec2.send(new ec2sdk.CreateInternetGatewayCommand({}));
  await ec2.send(new ec2sdk.AttachInternetGatewayCommand({ VpcId: vpc, InternetGatewayId: InternetGateway!.InternetGatewayId }));
  const where = { VpcId: vpc, CidrBlock: '10.9.0.0/20', AvailabilityZone: 'us-east-1a' };
  const subnet = (await ec2.send(new ec2sdk.CreateSubnetCommand(where))).Subnet!.SubnetId!;
  const group = (await ec2.send(new ec2sdk.CreateSecurityGroupCommand({ VpcId: vpc, GroupName: 'web', Description: 'web' }))).GroupId!;
  const web = [{ IpProtocol: 'tcp', FromPort: 80, ToPort: 80, IpRanges: [{ CidrIp: '0.0.0.0/0' }] }];
  await ec2.send(new ec2sdk.AuthorizeSecurityGroupIngressCommand({ GroupId: group, IpPermissions: web }));
  const { Images } = await ec2.send(new ec2sdk.DescribeImagesCommand({ Filters: [{ Name: 'architecture', Values: ['x86_64'] }] }));
  const launched = await ec2.send(
    new ec2sdk.RunInstancesCommand({
      ImageId: Images![0]!.ImageId,
      InstanceType: 't3.micro',
      SubnetId: subnet,
      SecurityGroupIds: [group],
      UserData: Buffer.from(userData).toString('base64'),
      MinCount: 1,
      MaxCount: 1,
    }),
  );
  const instance = launched.Instances![0]!;
  const InstanceId = instance.InstanceId!;
  const volume = (await ec2.send(new ec2sdk.CreateVolumeCommand({ AvailabilityZone: 'us-east-1a', Size: 1 }))).VolumeId!;
  await until('the attachment', () => ec2.send(new ec2sdk.AttachVolumeCommand({ VolumeId: volume, InstanceId, Device: '/dev/sdf' })));
  const console = () => readFileSync(join(folder, 'plane/instances', InstanceId, 'console.log'), 'utf8');
  await until('the volume to be mounted', async () => console().includes('the volume is mounted'));

  const balancer = await elb.send(new elbsdk.CreateLoadBalancerCommand({ Name: key, Type: 'network', Subnets: [subnet] }));
  const LoadBalancerArn = balancer.LoadBalancers![0]!.LoadBalancerArn!;
  const target = { Name: key, Protocol: 'TCP' as const, Port: 80, VpcId: vpc, TargetType: 'instance' as const };
  const made = await elb.send(new elbsdk.CreateTargetGroupCommand({ ...target, HealthCheckIntervalSeconds: 10 }));
  const TargetGroupArn = made.TargetGroups![0]!.TargetGroupArn!;
  await elb.send(new elbsdk.RegisterTargetsCommand({ TargetGroupArn, Targets: [{ Id: InstanceId }] }));
  const forward = [{ Type: 'forward' as const, TargetGroupArn }];
  await elb.send(new elbsdk.CreateListenerCommand({ LoadBalancerArn, Protocol: 'TCP', Port: 80, DefaultActions: forward }));
  const addresses = () => JSON.parse(readFileSync(join(folder, 'plane/dataplane/load-balancers.json'), 'utf8')) as [string, { host: string }][];
  const host = await until('an address', async () => addresses().find(([arn]) => arn === LoadBalancerArn)?.[1].host);
  const answer = await until('the page', () => fetchText(`http://${host}/`));
  expect(answer).toBe(`ip-${instance.PrivateIpAddress!.replaceAll('.', '-')}`);

  // A data plane that ends takes its instances down; the next one boots them again, with what they wrote.
  expect(await end(child)).toBe(0);
  expect((await findLeavings()).filter((one) => one.clusterId === clusterId(join(folder, 'plane')) && one.kind !== 'cgroup')).toEqual([]);
  return { ec2, elb, InstanceId, LoadBalancerArn, volume };
}

test('what the embedded AWS without a data plane holds is made real by one beside it', async () => {
  const { line, child } = await start(['serve', '--port', '0', '--state', join(folder, 'serve'), '-o', 'json']);
  const facts = JSON.parse(line);
  const { accessKeyId, secretAccessKey } = JSON.parse(readFileSync(facts.credentialsFile, 'utf8'));
  expect(readFileSync(join(folder, 'config'), 'utf8')).toContain(`endpoint_url = ${facts.endpoint}`);
  await wholeLife(facts.endpoint, { accessKeyId, secretAccessKey }, 'embedded');
  expect(await end(child)).toBe(0);
  expect(readFileSync(join(folder, 'config'), 'utf8')).not.toContain('endpoint_url');
}, 180_000);

test('what LocalStack holds is made real', async () => {
  const { url, stop } = await startLocalstack();
  cleanups.push(stop);
  await wholeLife(url, { accessKeyId: '100000000003', secretAccessKey: 'test' }, 'localstack');
}, 900_000);

test('endpoints that do not answer, hosts outside of loopback and ports that are taken are said in one line', async () => {
  await expect(start(['dataplane', '--endpoint', 'http://127.0.0.1:1', '--state', join(folder, 'plane')])).rejects.toThrow('cannot be read');
  await expect(start(['dataplane', '--endpoint', 'https://ec2.us-east-1.amazonaws.com'])).rejects.toThrow('ended with 2');
  await expect(start(['serve', '--host', '0.0.0.0'])).rejects.toThrow('loopback only');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await expect(start(['serve', '--port', String(port), '--state', join(folder, 'serve')])).rejects.toThrow(`port ${port} on 127.0.0.1 is taken`);
  server.close();
}, 60_000);
