import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeInstancesCommand, RevokeSecurityGroupIngressCommand, DescribeSecurityGroupsCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type HostService, startLocalstack, startMoto } from '../../localstack/host/start.ts';
import { type AwsClients, createAwsClients } from '../../src/aws/clients.ts';
import { clusterId } from '../../src/cluster/state.ts';
import { destroyEverything } from '../../src/localaws/dataplane/cleanup.ts';
import { Machine } from './command.ts';
import { findPulumi, inventory, PulumiStack, serveDataPlane } from './pulumi-stack.ts';
import { deployExample, examplePage, pushExample } from './quickstart-page.ts';

/*
 * infra/quickstart with the real Pulumi command on LocalStack and on moto, whose instances `kumulus aws dataplane` boots: it has
 * the registry, too, that they lack.
 */
const minutes = 60_000;
const probe = new Machine();
const missing = [
  ...(findPulumi() ? [] : ['the pulumi command (https://www.pulumi.com/docs/install/)']),
  ...(probe.kubectlPath ? [] : ['kubectl']),
  ...(process.getuid?.() === 0 ? [] : ['root, for instances']),
];
if (missing.length) console.warn(`infra/quickstart is not tested on LocalStack and moto: this machine lacks ${missing.join(', ')}`);
afterAll(() => probe.end());

const fakes: [string, () => Promise<HostService>][] = [
  ['LocalStack', startLocalstack],
  ['moto', startMoto],
];

describe.skipIf(missing.length > 0).each(fakes)('infra/quickstart on %s', { timeout: 10 * minutes }, (name, start) => {
  const machine = new Machine();
  // LocalStack takes an access key of 12 digits for the account.
  const keys = { accessKeyId: '000000000042', secretAccessKey: 'test' };
  let aws: HostService;
  let plane: Awaited<ReturnType<typeof serveDataPlane>>;
  let clients: AwsClients;
  let stack: PulumiStack;
  let empty: Record<string, number>;

  beforeAll(async () => {
    aws = await start();
    const env = { ...machine.env, AWS_ACCESS_KEY_ID: keys.accessKeyId, AWS_SECRET_ACCESS_KEY: keys.secretAccessKey };
    plane = await serveDataPlane(machine.folder, aws.url, env);
    clients = createAwsClients({ region: 'us-east-1', endpoint: aws.url, credentials: keys });
    empty = await inventory(clients);
    stack = new PulumiStack(machine.folder, `kumulus-test-${name.toLowerCase()}-${process.pid}`, machine.env);
    await stack.init({
      'kumulus:region': 'us-east-1',
      'kumulus:endpoint': aws.url,
      'kumulus:accessKeyId': keys.accessKeyId,
      'kumulus:secretAccessKey': keys.secretAccessKey,
      amiId: 'ami-12c6146b',
      timeoutSeconds: '300',
    });
  }, 10 * minutes);

  afterAll(async () => {
    await stack?.destroy().catch((error) => console.error(error));
    await stack?.remove();
    clients?.destroy();
    await plane?.stop();
    await aws?.stop();
    const directory = join(machine.folder, 'plane');
    await destroyEverything({ directory, id: clusterId(directory), log: pino({ level: 'silent' }) });
    await machine.end();
  }, 5 * minutes);

  const nodes = async (): Promise<string[]> => (await machine.kubectl('get nodes -o name')).split('\n').filter(Boolean).sort();

  test('up: the kubeconfig works, and preview is clean', async () => {
    await stack.up();
    const { kubeconfig, nodeNames } = await stack.outputs();
    writeFileSync(machine.kubeconfig, JSON.stringify(kubeconfig), { mode: 0o600 });
    expect(await nodes()).toEqual((nodeNames as string[]).map((one) => `node/${one}`).sort());
    expect(await machine.kubectl('get nodes --no-headers')).not.toMatch(/NotReady/);
    await stack.run('preview', '--refresh', '--expect-no-changes');
  });

  test('a page is served through a load balancer', async () => {
    await deployExample(machine, await pushExample(clients, plane.registryUrl));
    expect(await page()).toMatch(/Hello from Kumulus/);
  });

  test('a worker that was terminated, and a rule that was taken away, are found by refresh and mended', async () => {
    const ec2 = await clients.ec2();
    const filters = (id: string) => [{ Name: 'tag:kumulus:logical-id', Values: [id] }];
    const alive = async () => {
      const states = { Name: 'instance-state-name', Values: ['pending', 'running'] };
      const found = await ec2.send(new DescribeInstancesCommand({ Filters: [...filters('workers-1'), states] }));
      return found.Reservations?.[0]?.Instances?.[0];
    };
    const lost = await alive();
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [lost?.InstanceId as string] }));
    const group = async () => (await ec2.send(new DescribeSecurityGroupsCommand({ Filters: filters('nodes') }))).SecurityGroups?.[0];
    const before = await group();
    const rule = { IpProtocol: 'tcp', FromPort: 10_250, ToPort: 10_250, IpRanges: [{ CidrIp: '10.0.0.0/16' }] };
    await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: before?.GroupId, IpPermissions: [rule] }));
    const said = await stack.refresh();
    expect(said).toMatch(/quickstart-workers-1/);
    expect(await stack.preview()).toMatch(/10250/);
    await stack.up();
    expect((await alive())?.InstanceId).not.toBe(lost?.InstanceId);
    expect((await group())?.IpPermissions?.some((p) => p.FromPort === 10_250)).toBe(true);
    const now = await alive();
    // The same address, which is free again, is the same name: then it is the new instance's Node by now.
    if (lost?.PrivateDnsName !== now?.PrivateDnsName) await machine.kubectl(`wait --for=delete node/${lost?.PrivateDnsName} --timeout=120s`);
    expect(await machine.kubectl(`get node ${now?.PrivateDnsName} -o jsonpath={.spec.providerID}`)).toMatch(new RegExp(`/${now?.InstanceId}$`));
    expect((await nodes()).length).toBe(2);
    expect(await page()).toMatch(/Hello from Kumulus/);
  });

  test('the control plane is replaced at its address, and the cluster is the same', async () => {
    await machine.kubectl('create configmap kept --from-literal=a=b');
    const ec2 = await clients.ec2();
    const running = async () => {
      const Filters = [{ Name: 'tag:kumulus:logical-id', Values: ['control-plane-0'] }, { Name: 'instance-state-name', Values: ['running'] }];
      return (await ec2.send(new DescribeInstancesCommand({ Filters }))).Reservations?.[0]?.Instances?.[0];
    };
    const lost = await running();
    await ec2.send(new TerminateInstancesCommand({ InstanceIds: [lost?.InstanceId as string] }));
    await stack.up('--refresh');
    const found = await running();
    expect(found?.InstanceId).not.toBe(lost?.InstanceId);
    expect(found?.PrivateIpAddress).toBe(lost?.PrivateIpAddress);
    expect(await machine.kubectl('get configmap kept -o jsonpath={.data.a}')).toBe('b');
    expect((await nodes()).length).toBe(2);
    expect(await page()).toMatch(/Hello from Kumulus/);
    await stack.run('preview', '--refresh', '--expect-no-changes');
  });

  test('two workers become four and two again', async () => {
    const two = await nodes();
    await stack.run('config', 'set', 'nodes', '4');
    await stack.up();
    const four = await nodes();
    expect(four.length).toBe(4);
    await stack.run('config', 'set', 'nodes', '2');
    await stack.up();
    for (const node of four.filter((one) => !two.includes(one))) await machine.kubectl(`wait --for=delete ${node} --timeout=120s`);
    expect(await nodes()).toEqual(two);
  });

  test("destroy leaves it empty, the cluster's own load balancers too", async () => {
    await stack.destroy();
    expect(await inventory(clients)).toEqual(empty);
  });

  test('an up that is killed half way goes on to the same end with nothing doubled', async () => {
    await stack.upKilledAt('LoadBalancer quickstart-api creating');
    await stack.upKilledAt('Instance quickstart-workers-0 creating');
    await stack.up();
    const added = Object.fromEntries(Object.entries(await inventory(clients)).map(([kind, count]) => [kind, count - (empty[kind] ?? 0)]));
    expect(added).toMatchObject({ vpcs: 1, subnets: 2, internetGateways: 1, instances: 3, launchTemplates: 2, loadBalancers: 1, targetGroups: 1 });
    expect(added).toMatchObject({ instanceProfiles: 2, roles: 2, policies: 1, parameters: 4 });
    await stack.destroy();
    expect(await inventory(clients)).toEqual(empty);
  });

  const page = async (): Promise<string> => (await examplePage(machine, clients)).text;
});
