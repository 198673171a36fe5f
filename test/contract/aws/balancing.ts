import * as sdk from '@aws-sdk/client-elastic-load-balancing-v2';
import { expect } from 'vitest';
import { instances } from './compute.ts';
import { network } from './network.ts';
import { type Check, type Peer, refusal, until } from './peer.ts';

const tags = [{ Key: 'kubernetes.io/service-name', Value: 'default/web' }];

const check = { HealthCheckIntervalSeconds: 10, HealthCheckTimeoutSeconds: 5, HealthyThresholdCount: 2, UnhealthyThresholdCount: 2 };

async function targetGroup(peer: Peer, Name: string): Promise<string> {
  const { vpcId } = await network(peer);
  const input = { Name, Protocol: 'TCP' as const, Port: 30080, VpcId: vpcId, TargetType: 'instance' as const, ...check, Tags: tags };
  return (await peer.elbv2.send(new sdk.CreateTargetGroupCommand(input))).TargetGroups![0]!.TargetGroupArn!;
}

/** A load balancer with a listener that forwards to a group with two targets. */
function balancing(peer: Peer) {
  return peer.once('balancing', async () => {
    const { subnetIds } = await network(peer);
    const input = { Name: 'contract', Type: 'network' as const, Scheme: 'internet-facing' as const, Subnets: subnetIds, Tags: tags };
    const made = (await peer.elbv2.send(new sdk.CreateLoadBalancerCommand(input))).LoadBalancers![0]!;
    const arn = made.LoadBalancerArn!;
    const active = async () => (await describe(peer, arn)).State?.Code === 'active';
    const groupArn = await targetGroup(peer, 'contract');
    const Targets = (await instances(peer)).map((Id) => ({ Id }));
    await peer.elbv2.send(new sdk.RegisterTargetsCommand({ TargetGroupArn: groupArn, Targets }));
    const listener = {
      LoadBalancerArn: arn,
      Protocol: 'TCP' as const,
      Port: 80,
      DefaultActions: [{ Type: 'forward' as const, TargetGroupArn: groupArn }],
    };
    const listenerArn = (await peer.elbv2.send(new sdk.CreateListenerCommand(listener))).Listeners![0]!.ListenerArn!;
    await until('the load balancer', active);
    return { arn, groupArn, listenerArn, made, listener };
  });
}

const describe = async (peer: Peer, arn: string) =>
  (await peer.elbv2.send(new sdk.DescribeLoadBalancersCommand({ LoadBalancerArns: [arn] }))).LoadBalancers![0]!;

export const balancingChecks: Check[] = [
  {
    name: 'a network load balancer is provisioning at first, has a name of AWS and an ARN of its type',
    async run(peer) {
      const { arn, made } = await balancing(peer);
      expect(made.State?.Code).toBe('provisioning');
      expect(arn).toMatch(/^arn:aws:elasticloadbalancing:us-east-1:\d{12}:loadbalancer\/net\/contract\/[0-9a-f]{16}$/);
      expect(made.DNSName).toMatch(/^contract-[0-9a-z]+\.elb\.us-east-1\.amazonaws\.com$/);
    },
  },
  {
    name: 'a load balancer is found by name, with its subnets; one that does not exist is not',
    async run(peer) {
      const { arn } = await balancing(peer);
      const { subnetIds } = await network(peer);
      const [found] = (await peer.elbv2.send(new sdk.DescribeLoadBalancersCommand({ Names: ['contract'] }))).LoadBalancers!;
      expect(found).toMatchObject({ LoadBalancerArn: arn, Type: 'network', Scheme: 'internet-facing' });
      expect(found!.AvailabilityZones!.map((one) => one.SubnetId).sort()).toEqual([...subnetIds].sort());
      const missing = peer.elbv2.send(new sdk.DescribeLoadBalancersCommand({ Names: ['nobody'] }));
      expect(await refusal(missing)).toBe('LoadBalancerNotFound');
      await peer.elbv2.send(new sdk.SetSubnetsCommand({ LoadBalancerArn: arn, Subnets: subnetIds }));
    },
  },
  {
    name: 'the same load balancer asked for again is the one there is, and with another scheme it is refused',
    async run(peer) {
      const { arn } = await balancing(peer);
      const { subnetIds } = await network(peer);
      const input = { Name: 'contract', Type: 'network' as const, Subnets: subnetIds, Tags: tags };
      const again = await peer.elbv2.send(new sdk.CreateLoadBalancerCommand({ ...input, Scheme: 'internet-facing' }));
      const found = again.LoadBalancers![0]!.LoadBalancerArn;
      // A second one would be in the way of the other checks.
      if (found !== arn) await peer.elbv2.send(new sdk.DeleteLoadBalancerCommand({ LoadBalancerArn: found }));
      expect(found).toBe(arn);
      expect(await refusal(peer.elbv2.send(new sdk.CreateLoadBalancerCommand({ ...input, Scheme: 'internal' })))).toBe('DuplicateLoadBalancerName');
    },
  },
  {
    name: 'attributes of load balancers and target groups have defaults, and are changed',
    async run(peer) {
      const { arn, groupArn } = await balancing(peer);
      const ofBalancer = async () => (await peer.elbv2.send(new sdk.DescribeLoadBalancerAttributesCommand({ LoadBalancerArn: arn }))).Attributes!;
      const ofGroup = async () => (await peer.elbv2.send(new sdk.DescribeTargetGroupAttributesCommand({ TargetGroupArn: groupArn }))).Attributes!;
      expect(await ofBalancer()).toContainEqual({ Key: 'load_balancing.cross_zone.enabled', Value: 'false' });
      expect(await ofGroup()).toContainEqual({ Key: 'deregistration_delay.timeout_seconds', Value: '300' });
      const Attributes = [{ Key: 'load_balancing.cross_zone.enabled', Value: 'true' }];
      await peer.elbv2.send(new sdk.ModifyLoadBalancerAttributesCommand({ LoadBalancerArn: arn, Attributes }));
      const delay = { Key: 'deregistration_delay.timeout_seconds', Value: '30' };
      await peer.elbv2.send(new sdk.ModifyTargetGroupAttributesCommand({ TargetGroupArn: groupArn, Attributes: [delay] }));
      expect(await ofBalancer()).toContainEqual(Attributes[0]);
      expect(await ofGroup()).toContainEqual(delay);
    },
  },
  {
    name: 'a target group has its health check, which is changed, and knows its load balancer',
    async run(peer) {
      const { arn, groupArn } = await balancing(peer);
      const http = { HealthCheckProtocol: 'HTTP' as const, HealthCheckPort: '32000', HealthCheckPath: '/healthz' };
      await peer.elbv2.send(new sdk.ModifyTargetGroupCommand({ TargetGroupArn: groupArn, ...http, ...check }));
      const [found] = (await peer.elbv2.send(new sdk.DescribeTargetGroupsCommand({ Names: ['contract'] }))).TargetGroups!;
      expect(found).toMatchObject({ TargetGroupArn: groupArn, ...http, ...check, LoadBalancerArns: [arn] });
      const byBalancer = await peer.elbv2.send(new sdk.DescribeTargetGroupsCommand({ LoadBalancerArn: arn }));
      expect(byBalancer.TargetGroups!.map((one) => one.TargetGroupArn)).toEqual([groupArn]);
      const missing = peer.elbv2.send(new sdk.DescribeTargetGroupsCommand({ Names: ['nobody'] }));
      expect(await refusal(missing)).toBe('TargetGroupNotFound');
    },
  },
  {
    name: 'a group in use is not deleted, and another listener for a port is refused; the same one again is the one there is',
    async run(peer) {
      const { groupArn, listener, listenerArn } = await balancing(peer);
      expect(await refusal(peer.elbv2.send(new sdk.DeleteTargetGroupCommand({ TargetGroupArn: groupArn })))).toBe('ResourceInUse');
      const again = await peer.elbv2.send(new sdk.CreateListenerCommand(listener));
      const found = again.Listeners![0]!.ListenerArn;
      if (found !== listenerArn) await peer.elbv2.send(new sdk.DeleteListenerCommand({ ListenerArn: found }));
      expect(found).toBe(listenerArn);
      const other = await targetGroup(peer, 'contract-other');
      const DefaultActions = [{ Type: 'forward' as const, TargetGroupArn: other }];
      const code = await refusal(peer.elbv2.send(new sdk.CreateListenerCommand({ ...listener, DefaultActions }))).finally(() =>
        peer.elbv2.send(new sdk.DeleteTargetGroupCommand({ TargetGroupArn: other })),
      );
      expect(code).toBe('DuplicateListener');
    },
  },
  {
    name: 'a listener forwards to another group when it is told so',
    async run(peer) {
      const { arn, groupArn, listenerArn } = await balancing(peer);
      const other = await targetGroup(peer, 'contract-2');
      const forward = (TargetGroupArn: string) => ({ ListenerArn: listenerArn, DefaultActions: [{ Type: 'forward' as const, TargetGroupArn }] });
      await peer.elbv2.send(new sdk.ModifyListenerCommand(forward(other)));
      const { Listeners } = await peer.elbv2.send(new sdk.DescribeListenersCommand({ LoadBalancerArn: arn }));
      expect(Listeners!.map((one) => [one.Port, one.Protocol, one.DefaultActions![0]!.TargetGroupArn])).toEqual([[80, 'TCP', other]]);
      await peer.elbv2.send(new sdk.ModifyListenerCommand(forward(groupArn)));
      await peer.elbv2.send(new sdk.DeleteTargetGroupCommand({ TargetGroupArn: other }));
    },
  },
  {
    name: 'targets are registered once and deregistered',
    async run(peer) {
      const { groupArn } = await balancing(peer);
      const [a, b] = await instances(peer);
      const health = async () => {
        const found = await peer.elbv2.send(new sdk.DescribeTargetHealthCommand({ TargetGroupArn: groupArn }));
        const there = found.TargetHealthDescriptions!.filter((one) => one.TargetHealth?.State !== 'draining');
        return there.map((one) => `${one.Target!.Id}:${one.Target!.Port}`).sort();
      };
      await peer.elbv2.send(new sdk.RegisterTargetsCommand({ TargetGroupArn: groupArn, Targets: [{ Id: a }] }));
      expect(await health()).toEqual([`${a}:30080`, `${b}:30080`].sort());
      await peer.elbv2.send(new sdk.DeregisterTargetsCommand({ TargetGroupArn: groupArn, Targets: [{ Id: b }] }));
      expect(await health()).toEqual([`${a}:30080`]);
    },
  },
  {
    name: 'targets of a group that nothing forwards to are unused',
    async run(peer) {
      const [Id] = await instances(peer);
      const groupArn = await targetGroup(peer, 'contract-unused');
      await peer.elbv2.send(new sdk.RegisterTargetsCommand({ TargetGroupArn: groupArn, Targets: [{ Id }] }));
      const found = await peer.elbv2.send(new sdk.DescribeTargetHealthCommand({ TargetGroupArn: groupArn }));
      await peer.elbv2.send(new sdk.DeleteTargetGroupCommand({ TargetGroupArn: groupArn }));
      expect(found.TargetHealthDescriptions![0]!.TargetHealth).toMatchObject({ State: 'unused', Reason: 'Target.NotInUse' });
    },
  },
  {
    name: 'an instance that does not run cannot be a target',
    async run(peer) {
      const { groupArn } = await balancing(peer);
      const Targets = [{ Id: 'i-0123456789abcdef0' }];
      expect(await refusal(peer.elbv2.send(new sdk.RegisterTargetsCommand({ TargetGroupArn: groupArn, Targets })))).toBe('InvalidTarget');
    },
  },
  {
    name: 'tags of load balancers and groups are shown, put and taken away',
    async run(peer) {
      const { arn, groupArn } = await balancing(peer);
      await peer.elbv2.send(new sdk.AddTagsCommand({ ResourceArns: [arn], Tags: [{ Key: 'a', Value: 'b' }] }));
      const { TagDescriptions } = await peer.elbv2.send(new sdk.DescribeTagsCommand({ ResourceArns: [arn, groupArn] }));
      const of = (one: string) => TagDescriptions!.find((found) => found.ResourceArn === one)!.Tags;
      expect(of(arn)).toEqual(expect.arrayContaining([...tags, { Key: 'a', Value: 'b' }]));
      expect(of(groupArn)).toEqual(tags);
      await peer.elbv2.send(new sdk.RemoveTagsCommand({ ResourceArns: [arn], TagKeys: ['a'] }));
      const after = await peer.elbv2.send(new sdk.DescribeTagsCommand({ ResourceArns: [arn] }));
      expect(after.TagDescriptions![0]!.Tags).toEqual(tags);
    },
  },
];

export const balancingRemoval: Check = {
  name: 'listener, load balancer and target group go, and leave no interface',
  async run(peer) {
    const { arn, groupArn, listenerArn } = await balancing(peer);
    await peer.elbv2.send(new sdk.DeleteListenerCommand({ ListenerArn: listenerArn }));
    await peer.elbv2.send(new sdk.DeleteLoadBalancerCommand({ LoadBalancerArn: arn }));
    const gone = () => refusal(peer.elbv2.send(new sdk.DescribeLoadBalancersCommand({ Names: ['contract'] })));
    expect(await until('its end', () => gone().catch(() => undefined))).toBe('LoadBalancerNotFound');
    const remove = () =>
      peer.elbv2.send(new sdk.DeleteTargetGroupCommand({ TargetGroupArn: groupArn })).then(
        () => true,
        () => false,
      );
    await until('the group to go', remove);
  },
};
