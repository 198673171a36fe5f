import { RevokeSecurityGroupIngressCommand, DescribeSecurityGroupRulesCommand, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import {
  DeleteListenerCommand,
  DeregisterTargetsCommand,
  DescribeListenersCommand,
  DescribeLoadBalancerAttributesCommand,
  DescribeLoadBalancersCommand,
  DescribeTagsCommand,
  DescribeTargetGroupAttributesCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
  RemoveTagsCommand,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { resources } from '../api/generated/resources.ts';
import type { Service } from '../api/generated/types.ts';
import { eventually, settle } from '../controllers/testing.ts';
import { balancerName } from './aws/load-balancers.ts';
import { startServiceController } from './service.ts';
import { nodeOf, TestCloud } from './testing.ts';

let cloud: TestCloud;
beforeEach(async () => {
  cloud = await TestCloud.start();
});
afterEach(() => cloud.end());

const uid = '0a1b2c3d-1111-2222-3333-444455556666';
const key = { namespace: 'default', name: 'web' };
const finalizer = 'service.kubernetes.io/load-balancer-cleanup';
const annotation = (name: string) => `service.beta.kubernetes.io/aws-load-balancer-${name}`;
const service = (spec: object = {}, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { ...key, uid, ...metadata },
  spec: { type: 'LoadBalancer', ports: [{ name: 'http', port: 80, nodePort: 30080, protocol: 'TCP' }], ...spec },
});
const getService = () => cloud.context.client.get(resources.services, key);
const ready = () => eventually('an address', async () => (await getService()).status?.loadBalancer?.ingress?.[0]?.hostname);
const change = (patch: object) => cloud.context.client.patch(resources.services, key, 'merge', patch);
const recorded = (reason: string) => cloud.context.recorded.filter((one) => one.reason === reason);

/** What AWS has for the Service, as lists that are easily compared. */
async function inAws() {
  const { LoadBalancers = [] } = await cloud.elbv2.send(new DescribeLoadBalancersCommand({}));
  const { TargetGroups = [] } = await cloud.elbv2.send(new DescribeTargetGroupsCommand({}));
  const balancer = LoadBalancers.find((one) => one.LoadBalancerName === balancerName(uid));
  const listeners = balancer ? (await cloud.elbv2.send(new DescribeListenersCommand({ LoadBalancerArn: balancer.LoadBalancerArn }))).Listeners! : [];
  const targets = [];
  for (const { TargetGroupArn, Port } of TargetGroups) {
    // One that is just being deleted has none.
    const health = await cloud.elbv2.send(new DescribeTargetHealthCommand({ TargetGroupArn })).catch(() => undefined);
    for (const one of health?.TargetHealthDescriptions ?? []) if (one.TargetHealth?.State !== 'draining') targets.push(`${Port} ${one.Target!.Id}`);
  }
  const rules = await cloud.ec2.send(new DescribeSecurityGroupRulesCommand({ Filters: [{ Name: 'group-id', Values: [cloud.groupId] }] }));
  const ingress = rules.SecurityGroupRules!.filter((one) => !one.IsEgress);
  return {
    balancer,
    groups: TargetGroups,
    listeners,
    ports: listeners.map((one) => one.Port).sort((a, b) => a! - b!),
    nodePorts: TargetGroups.map((one) => one.Port).sort((a, b) => a! - b!),
    targets: targets.sort(),
    ingress,
    rules: ingress.map((one) => `${one.FromPort} ${one.CidrIpv4}`).sort(),
  };
}
const nothing = { balancer: undefined, groups: [], rules: [] };

describe('a Service of type LoadBalancer', () => {
  test('gets a network load balancer, with the nodes as targets and rules that let its traffic in, and leaves nothing', async () => {
    const instances = await cloud.launch(3);
    const [a, b, c] = instances.map((one, i) => nodeOf(one, i));
    const outside = { ...c!, metadata: { ...c!.metadata, labels: { 'node.kubernetes.io/exclude-from-external-load-balancers': '' } } };
    startServiceController(cloud.begin([a, b, outside, service()]));
    const hostname = await ready();
    const made = await inAws();
    expect(made.balancer).toMatchObject({ Type: 'network', Scheme: 'internet-facing', DNSName: hostname, VpcId: cloud.vpcId });
    expect(made.balancer!.AvailabilityZones!.map((one) => one.SubnetId).sort()).toEqual([...cloud.subnetIds].sort());
    expect(made).toMatchObject({ ports: [80], nodePorts: [30080] });
    expect(made.targets).toEqual([`30080 ${instances[0]!.InstanceId}`, `30080 ${instances[1]!.InstanceId}`].sort());
    expect(made.rules).toEqual(['30080 0.0.0.0/0', '30080 10.0.0.0/16']);
    const { TagDescriptions } = await cloud.elbv2.send(new DescribeTagsCommand({ ResourceArns: [made.balancer!.LoadBalancerArn!] }));
    const tags = Object.fromEntries(TagDescriptions![0]!.Tags!.map((one) => [one.Key, one.Value]));
    expect(tags).toMatchObject({ 'kubernetes.io/cluster/test': 'owned', 'kubernetes.io/service-name': 'default/web' });
    expect((await getService()).metadata.finalizers).toEqual([finalizer]);
    await eventually('the event', () => recorded('EnsuredLoadBalancer')[0]);

    await cloud.context.client.delete(resources.services, key);
    await eventually('the Service to go', () => cloud.context.client.objects(resources.services).length === 0);
    expect(await inAws()).toMatchObject(nothing);
    expect(recorded('DeletedLoadBalancer')).toHaveLength(1);
  });

  test('follows the Service: ports, annotations, source ranges, traffic policy; and gives the load balancer back with the type', async () => {
    const [instance] = await cloud.launch(1);
    startServiceController(cloud.begin([nodeOf(instance!), service({}, { finalizers: ['example.com/other'] })]));
    await ready();
    await change({
      spec: {
        ports: [
          { name: 'http', port: 8080, nodePort: 30090 },
          { name: 'https', port: 443, nodePort: 30443 },
        ],
      },
    });
    await eventually('the ports', async () => (await inAws()).rules.length === 4 && (await inAws()).nodePorts.length === 2);
    let now = await inAws();
    expect(now).toMatchObject({ ports: [443, 8080], nodePorts: [30090, 30443] });
    expect(now.targets).toHaveLength(2);

    await change({ spec: { loadBalancerSourceRanges: ['192.0.2.0/24'], externalTrafficPolicy: 'Local', healthCheckNodePort: 32000 } });
    const ranges = ['30090 10.0.0.0/16', '30090 192.0.2.0/24', '30443 10.0.0.0/16', '30443 192.0.2.0/24', '32000 10.0.0.0/16'];
    // What is new is let in before what is old is taken away.
    await eventually('the ranges', async () => (await inAws()).rules.join() === ranges.join());
    now = await inAws();
    expect(now.groups.map((one) => [one.HealthCheckProtocol, one.HealthCheckPort, one.HealthCheckPath])).toEqual(
      Array(2).fill(['HTTP', '32000', '/healthz']),
    );

    const annotations = {
      [annotation('healthcheck-interval')]: '30',
      [annotation('attributes')]: 'deletion_protection.enabled=false,load_balancing.cross_zone.enabled=false',
      [annotation('target-group-attributes')]: 'deregistration_delay.timeout_seconds=5',
      [annotation('additional-resource-tags')]: 'team=a',
    };
    await change({ metadata: { annotations } });
    await eventually('the interval', async () => (await inAws()).groups.every((one) => one.HealthCheckIntervalSeconds === 30));
    const { LoadBalancerArn } = now.balancer!;
    const attributes = await cloud.elbv2.send(new DescribeLoadBalancerAttributesCommand({ LoadBalancerArn }));
    expect(attributes.Attributes).toContainEqual({ Key: 'load_balancing.cross_zone.enabled', Value: 'false' });
    const { TargetGroupArn } = now.groups[0]!;
    await eventually('the delay', async () =>
      (await cloud.elbv2.send(new DescribeTargetGroupAttributesCommand({ TargetGroupArn }))).Attributes!.some(
        (one) => one.Key === 'deregistration_delay.timeout_seconds' && one.Value === '5',
      ),
    );
    expect((await inAws()).balancer!.LoadBalancerArn).toBe(LoadBalancerArn);

    await change({ spec: { type: 'ClusterIP' } });
    await eventually('the finalizer to go', async () => !(await getService()).metadata.finalizers?.includes(finalizer));
    expect(await inAws()).toMatchObject(nothing);
    const last = await getService();
    expect(last.metadata.finalizers).toEqual(['example.com/other']);
    expect(last.status?.loadBalancer?.ingress ?? []).toEqual([]);
  });

  test('inside the VPC when it asks for that; another scheme is another load balancer', async () => {
    startServiceController(cloud.begin([service({}, { annotations: { [annotation('scheme')]: 'internal' } })]));
    await ready();
    const before = await inAws();
    expect(before.balancer!.Scheme).toBe('internal');
    expect(before.rules).toEqual(['30080 10.0.0.0/16']);
    await change({ metadata: { annotations: { [annotation('scheme')]: 'internet-facing' } } });
    await eventually('another', async () => (await inAws()).balancer?.Scheme === 'internet-facing' && (await inAws()).rules.length === 2);
    expect((await inAws()).balancer!.LoadBalancerArn).not.toBe(before.balancer!.LoadBalancerArn);
    await eventually('its name', async () => (await getService()).status!.loadBalancer!.ingress![0]!.hostname === (await inAws()).balancer!.DNSName);
  });

  test('of a class of its own is left alone, and so is what asks for what there is not, with the reason', async () => {
    const context = cloud.begin([service({ loadBalancerClass: 'service.k8s.aws/nlb' })]);
    startServiceController(context);
    await settle(150);
    expect(cloud.calls).toEqual([]);
    expect((await getService()).metadata.finalizers).toBeUndefined();
    const wrong: [object, object, string][] = [
      [{ ports: [{ port: 53, nodePort: 30053, protocol: 'UDP' }] }, {}, 'only TCP listeners are supported'],
      [{ ports: [{ port: 80 }] }, {}, 'no node port'],
      [{}, { [annotation('ssl-cert')]: 'arn:aws:acm:us-east-1:1:certificate/1' }, `${annotation('ssl-cert')}`],
      [{}, { [annotation('attributes')]: 'nonsense' }, "'nonsense' is not of the form key=value"],
      [{}, { [annotation('subnets')]: 'subnet-0' }, 'subnet subnet-0 is not in'],
      [{}, { [annotation('scheme')]: 'outside' }, "'outside' is neither internal nor internet-facing"],
    ];
    for (const [i, [spec, annotations, message]] of wrong.entries()) {
      const name = `wrong-${i}`;
      await context.client.create(resources.services, service(spec, { name, uid: `${i}`, annotations }) as never);
      const event = await eventually(message, () => recorded('SyncLoadBalancerFailed').find((one) => one.about.metadata.name === name));
      expect(event.message).toContain(message);
    }
    expect(await inAws()).toMatchObject(nothing);
  });
});

describe('nodes', () => {
  test('that come and go are registered and deregistered; one whose instance ends does not keep others out', async () => {
    const [one, two, three] = await cloud.launch(3);
    const context = cloud.begin([nodeOf(one!), service()]);
    startServiceController(context);
    await ready();
    await context.client.create(resources.nodes, nodeOf(two!, 1) as never);
    await eventually('the second', async () => (await inAws()).targets.includes(`30080 ${two!.InstanceId}`));
    await cloud.ec2.send(new TerminateInstancesCommand({ InstanceIds: [two!.InstanceId!] }));
    await context.client.create(resources.nodes, nodeOf(three!, 2) as never);
    await eventually('the third', async () => (await inAws()).targets.includes(`30080 ${three!.InstanceId}`));
    await context.client.delete(resources.nodes, { name: two!.PrivateDnsName! });
    await context.client.delete(resources.nodes, { name: one!.PrivateDnsName! });
    await eventually('only the third', async () => (await inAws()).targets.join() === `30080 ${three!.InstanceId}`);
  });
});

describe('what drifted', () => {
  test('listener, targets, rules and load balancer that were removed behind its back are there again', async () => {
    const [instance] = await cloud.launch(1);
    startServiceController(cloud.begin([nodeOf(instance!), service()]));
    await ready();
    const before = await inAws();
    await cloud.elbv2.send(new DeleteListenerCommand({ ListenerArn: before.listeners[0]!.ListenerArn }));
    await cloud.elbv2.send(
      new DeregisterTargetsCommand({ TargetGroupArn: before.groups[0]!.TargetGroupArn, Targets: [{ Id: instance!.InstanceId! }] }),
    );
    const SecurityGroupRuleIds = before.ingress.map((one) => one.SecurityGroupRuleId!);
    await cloud.ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: cloud.groupId, SecurityGroupRuleIds }));
    await cloud.authorize(22, '0.0.0.0/0', 'of somebody else');
    await cloud.authorize(30081, '0.0.0.0/0', 'kubernetes.io/service-name=default/web');
    cloud.clock.advance(75_000);
    await eventually('the rules', async () => (await inAws()).rules.join() === '22 0.0.0.0/0,30080 0.0.0.0/0,30080 10.0.0.0/16');
    const after = await inAws();
    expect(after).toMatchObject({ ports: [80], targets: before.targets });
    expect(after.balancer!.LoadBalancerArn).toBe(before.balancer!.LoadBalancerArn);
    expect(after.groups[0]!.TargetGroupArn).toBe(before.groups[0]!.TargetGroupArn);
  });

  test("tags that were taken away do not make it somebody else's, and come back", async () => {
    startServiceController(cloud.begin([service()]));
    await ready();
    const { balancer } = await inAws();
    const ResourceArns = [balancer!.LoadBalancerArn!];
    await cloud.elbv2.send(new RemoveTagsCommand({ ResourceArns, TagKeys: ['kubernetes.io/cluster/test'] }));
    cloud.clock.advance(75_000);
    await eventually('the tag', async () => {
      const { TagDescriptions } = await cloud.elbv2.send(new DescribeTagsCommand({ ResourceArns }));
      return TagDescriptions![0]!.Tags!.some((one) => one.Key === 'kubernetes.io/cluster/test' && one.Value === 'owned');
    });
    expect((await inAws()).balancer!.LoadBalancerArn).toBe(balancer!.LoadBalancerArn);
    expect(recorded('SyncLoadBalancerFailed')).toEqual([]);
  });

  test('nothing is written while nothing drifts, and nothing is asked between two looks', async () => {
    const [instance] = await cloud.launch(1);
    const context = cloud.begin([nodeOf(instance!), service()]);
    startServiceController(context);
    await ready();
    await eventually('the event', () => recorded('EnsuredLoadBalancer')[0]);
    await settle();
    cloud.calls = [];
    await change({ metadata: { labels: { of: 'no interest' } } });
    await settle(150);
    expect(cloud.calls).toEqual([]);
    cloud.clock.advance(75_000);
    await eventually('a look', () => cloud.calls.includes('DescribeSecurityGroupRules'));
    expect(cloud.calls.filter((one) => !one.startsWith('Describe'))).toEqual([]);
  });
});

describe('an AWS that throttles, fails, and answers with errors after the effect', () => {
  test('throttled calls are made again, without a word', async () => {
    cloud.failing('CreateTargetGroup', { name: 'Throttling' }, { times: 2 });
    startServiceController(cloud.begin([service()]));
    await ready();
    expect(recorded('SyncLoadBalancerFailed')).toEqual([]);
  });

  test.each(['CreateLoadBalancer', 'CreateTargetGroup', 'CreateListener', 'AuthorizeSecurityGroupIngress'])(
    'a lost answer to %s makes nothing twice',
    async (command) => {
      cloud.failing(command, { name: 'AnswerLost' }, { effect: true });
      startServiceController(cloud.begin([service()]));
      const event = await eventually('the failure', () => recorded('SyncLoadBalancerFailed')[0]);
      expect(event.message).toContain('failed to ensure load balancer: AnswerLost of the test');
      await eventually('its end', async () => {
        cloud.clock.advance(1000);
        return (await inAws()).rules.length === 2 && (await getService()).status?.loadBalancer?.ingress?.[0];
      });
      expect(await inAws()).toMatchObject({ ports: [80], nodePorts: [30080] });
    },
  );

  test('a deletion that fails half way is finished after a restart of the controllers', async () => {
    startServiceController(cloud.begin([service()]));
    await ready();
    const live = (await getService()) as Service;
    cloud.context.stop();
    cloud.failing('DeleteTargetGroup', { name: 'OutOfOrder' });
    const deleted = { ...live, metadata: { ...live.metadata, deletionTimestamp: '2026-01-01T00:00:00Z' } };
    startServiceController(cloud.begin([deleted]));
    await eventually('the failure', () => recorded('SyncLoadBalancerFailed')[0]);
    expect((await inAws()).balancer).toBeUndefined();
    await eventually('the end', () => {
      cloud.clock.advance(1000);
      return cloud.context.client.objects(resources.services).length === 0;
    });
    expect(await inAws()).toMatchObject(nothing);
  });
});
