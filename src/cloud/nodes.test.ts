import {
  CreateRouteCommand,
  DeleteRouteCommand,
  DescribeInstanceAttributeCommand,
  DescribeRouteTablesCommand,
  type Instance,
  ModifyInstanceAttributeCommand,
  StartInstancesCommand,
  StopInstancesCommand,
  TerminateInstancesCommand,
} from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Node } from '../api/generated/types.ts';
import { eventually, setStatus, settle } from '../controllers/testing.ts';
import { until } from '../localaws/api/testing.ts';
import { AwsInstances } from './aws/instances.ts';
import { startCloudNodeController, uninitializedTaint } from './node.ts';
import { startCloudNodeLifecycleController } from './node-lifecycle.ts';
import { startRouteController } from './route.ts';
import { nodeOf, TestCloud } from './testing.ts';

let cloud: TestCloud;
beforeEach(async () => {
  cloud = await TestCloud.start();
});
afterEach(() => cloud.end());

const getNode = (name: string) => cloud.context.client.get(resources.nodes, { name });
const nodes = () => cloud.context.client.objects<Node>(resources.nodes);
const recorded = (reason: string) => cloud.context.recorded.filter((one) => one.reason === reason);

/** A Node as a kubelet registers it that was told that a cloud provider is elsewhere. */
const fresh = (name: string, taints: object[] = []) => ({
  apiVersion: 'v1',
  kind: 'Node',
  metadata: { name, labels: { 'kubernetes.io/hostname': name } },
  spec: { taints: [{ key: uninitializedTaint, value: 'true', effect: 'NoSchedule' }, ...taints] },
  status: { addresses: [{ type: 'Hostname', address: name }] },
});

describe('node', () => {
  test('gets provider id, zone, region, type and addresses, and loses its taint and no other', async () => {
    const [instance] = await cloud.launch(1);
    const name = instance!.PrivateDnsName!;
    startCloudNodeController(cloud.begin([fresh(name, [{ key: 'other', effect: 'NoExecute' }])]));
    const node = await eventually('the provider id', async () => {
      const one = await getNode(name);
      return one.spec.providerID ? one : undefined;
    });
    expect(node.spec.providerID).toBe(`aws:///us-east-1a/${instance!.InstanceId}`);
    expect(node.spec.taints).toEqual([{ key: 'other', effect: 'NoExecute' }]);
    expect(node.metadata.labels).toEqual({
      'kubernetes.io/hostname': name,
      'node.kubernetes.io/instance-type': 't3.medium',
      'beta.kubernetes.io/instance-type': 't3.medium',
      'topology.kubernetes.io/zone': 'us-east-1a',
      'failure-domain.beta.kubernetes.io/zone': 'us-east-1a',
      'topology.kubernetes.io/region': 'us-east-1',
      'failure-domain.beta.kubernetes.io/region': 'us-east-1',
    });
    expect(node.status!.addresses).toContainEqual({ type: 'InternalIP', address: instance!.PrivateIpAddress });
    expect(node.status!.addresses!.filter((one) => one.type === 'Hostname')).toEqual([{ type: 'Hostname', address: name }]);
  });

  test('without an instance keeps its taint until there is one', async () => {
    startCloudNodeController(cloud.begin([fresh('ip-10-0-0-99.ec2.internal')]));
    await eventually('a lookup', () => cloud.calls.includes('DescribeInstances'));
    await settle();
    expect((await getNode('ip-10-0-0-99.ec2.internal')).spec.providerID).toBeUndefined();
    expect((await getNode('ip-10-0-0-99.ec2.internal')).spec.taints).toHaveLength(1);
  });

  test('a hundred at once cost a handful of calls', async () => {
    const instances = await cloud.launch(100);
    const controller = startCloudNodeController(cloud.begin(instances.map((one) => fresh(one.PrivateDnsName!))));
    await eventually('all', () => nodes().every((one) => one.spec.providerID));
    expect(controller.name).toBe('cloud-node-controller');
    expect(cloud.calls.filter((one) => one === 'DescribeInstances').length).toBeLessThanOrEqual(15);
  }, 30_000);
});

describe('instances', () => {
  test('are found page by page, over a hundred pages', async () => {
    cloud.begin();
    const instances = await cloud.launch(500);
    let pages = 0;
    const ec2 = await cloud.options.clients.ec2();
    ec2.middlewareStack.add(
      (next: any, context: any) => (args: any) => {
        if (context.commandName !== 'DescribeInstancesCommand') return next(args);
        pages++;
        return next({ ...args, input: { ...args.input, MaxResults: 5 } });
      },
      { step: 'initialize', name: 'small-pages' },
    );
    const found = await new AwsInstances(cloud.options).describe([{ Name: 'vpc-id', Values: [cloud.vpcId] }]);
    expect(new Set(found.map((one) => one.InstanceId))).toEqual(new Set(instances.map((one) => one.InstanceId)));
    expect(pages).toBe(100);
  }, 60_000);
});

describe('node lifecycle', () => {
  const notReady = (node: ReturnType<typeof nodeOf>) =>
    setStatus(cloud.context.client, resources.nodes, node as never, { conditions: [{ type: 'Ready', status: 'Unknown' }] });

  test('a node whose instance is gone is deleted when it stops being ready, and not before', async () => {
    const [instance, other] = await cloud.launch(2);
    const [node, healthy] = [nodeOf(instance!), nodeOf(other!, 1)];
    startCloudNodeLifecycleController(cloud.begin([node, healthy]));
    await cloud.ec2.send(new TerminateInstancesCommand({ InstanceIds: [instance!.InstanceId!] }));
    await settle(150);
    expect(cloud.calls).toEqual([]);
    await notReady(node);
    await eventually('its end', () => {
      cloud.clock.advance(5000);
      return nodes().length === 1;
    });
    expect(nodes()[0]!.metadata.name).toBe(healthy.metadata.name);
    expect(recorded('DeletingNode')).toHaveLength(1);
  });

  test('a node whose instance is stopped is tainted, and freed when it is ready again', async () => {
    const [instance] = await cloud.launch(1);
    const node = nodeOf(instance!, 0, { spec: { taints: [{ key: 'other', effect: 'NoSchedule' }] } });
    startCloudNodeLifecycleController(cloud.begin([node]));
    const InstanceIds = [instance!.InstanceId!];
    await cloud.ec2.send(new StopInstancesCommand({ InstanceIds }));
    await notReady(node);
    const taints = async () => (await getNode(node.metadata.name)).spec.taints?.map((one) => one.key);
    await eventually('the taint', async () => (await taints())?.includes('node.cloudprovider.kubernetes.io/shutdown'));
    expect(await taints()).toEqual(['other', 'node.cloudprovider.kubernetes.io/shutdown']);
    await until('stopped', async () => cloud.ec2.send(new StartInstancesCommand({ InstanceIds })).catch(() => undefined));
    await setStatus(cloud.context.client, resources.nodes, node as never, { conditions: [{ type: 'Ready', status: 'True' }] });
    await eventually('no taint', async () => (await taints())?.join() === 'other');
  });

  test('an AWS that does not answer deletes nothing', async () => {
    const [instance] = await cloud.launch(1);
    cloud.failing('DescribeInstances', { name: 'UnauthorizedOperation' }, { times: 1000 });
    startCloudNodeLifecycleController(cloud.begin([nodeOf(instance!, 0, { ready: false })]));
    for (let i = 0; i < 5; i++) {
      cloud.clock.advance(30_000);
      await settle(30);
    }
    expect(cloud.calls.length).toBeGreaterThan(2);
    expect(nodes()).toHaveLength(1);
  });
});

describe('routes', () => {
  const routes = async () => {
    const { RouteTables } = await cloud.ec2.send(new DescribeRouteTablesCommand({ RouteTableIds: [cloud.routeTableId] }));
    const found = RouteTables![0]!.Routes!.filter((one) => one.GatewayId !== 'local');
    return found.map((one) => `${one.DestinationCidrBlock} ${one.InstanceId ?? one.GatewayId ?? ''}`).sort();
  };
  const forwards = async (instance: Instance) => {
    const input = { InstanceId: instance.InstanceId, Attribute: 'sourceDestCheck' as const };
    return (await cloud.ec2.send(new DescribeInstanceAttributeCommand(input))).SourceDestCheck?.Value === false;
  };
  const condition = async (instance: Instance) =>
    (await getNode(instance.PrivateDnsName!)).status?.conditions?.find((one) => one.type === 'NetworkUnavailable');

  test("every node's pods get a route, with the source/destination check off, and the node is told", async () => {
    const [a, b] = await cloud.launch(2);
    startRouteController(cloud.begin([nodeOf(a!, 0), nodeOf(b!, 1)]));
    await eventually('the conditions', async () => (await condition(a!))?.status === 'False' && (await condition(b!))?.status === 'False');
    expect(await routes()).toEqual([`10.244.0.0/24 ${a!.InstanceId}`, `10.244.1.0/24 ${b!.InstanceId}`]);
    expect([await forwards(a!), await forwards(b!)]).toEqual([true, true]);
    expect(await condition(a!)).toMatchObject({ reason: 'RouteCreated' });
    await cloud.context.client.delete(resources.nodes, { name: a!.PrivateDnsName! });
    await eventually('one route', async () => (await routes()).join() === `10.244.1.0/24 ${b!.InstanceId}`);
  });

  test('what is lost, leads elsewhere, or is dropped by its instance is mended; routes of others stay', async () => {
    const [a, b] = await cloud.launch(2);
    const RouteTableId = cloud.routeTableId;
    await cloud.ec2.send(new CreateRouteCommand({ RouteTableId, DestinationCidrBlock: '10.244.0.0/24', InstanceId: b!.InstanceId }));
    await cloud.ec2.send(new CreateRouteCommand({ RouteTableId, DestinationCidrBlock: '10.244.9.0/24', InstanceId: b!.InstanceId }));
    await cloud.ec2.send(new CreateRouteCommand({ RouteTableId, DestinationCidrBlock: '192.168.0.0/16', InstanceId: b!.InstanceId }));
    startRouteController(cloud.begin([nodeOf(a!, 0), nodeOf(b!, 1)]));
    const right = [`10.244.0.0/24 ${a!.InstanceId}`, `10.244.1.0/24 ${b!.InstanceId}`, `192.168.0.0/16 ${b!.InstanceId}`].join();
    await eventually('the routes', async () => (await routes()).join() === right);
    await cloud.ec2.send(new DeleteRouteCommand({ RouteTableId, DestinationCidrBlock: '10.244.1.0/24' }));
    await cloud.ec2.send(new ModifyInstanceAttributeCommand({ InstanceId: a!.InstanceId, SourceDestCheck: { Value: true } }));
    await settle();
    cloud.clock.advance(61_000);
    await eventually('the routes again', async () => (await routes()).join() === right && (await forwards(a!)));
  });

  test('a route that cannot be made is said of its node, and made later', async () => {
    const [a] = await cloud.launch(1);
    cloud.failing('CreateRoute', { name: 'RouteLimitExceeded' });
    startRouteController(cloud.begin([nodeOf(a!)]));
    await eventually('the condition', async () => (await condition(a!))?.status === 'True');
    expect(recorded('FailedToCreateRoute')[0]!.message).toContain('Could not create route 10.244.0.0/24: RouteLimitExceeded');
    await eventually('the route', async () => {
      cloud.clock.advance(1000);
      return (await condition(a!))?.status === 'False';
    });
  });
});
