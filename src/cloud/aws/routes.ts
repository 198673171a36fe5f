import { DescribeRouteTablesCommand, ModifyInstanceAttributeCommand, type RouteTable } from '@aws-sdk/client-ec2';
import type { HandlerContext } from '../../aws/handlers/handler.ts';
import { dropRoute, putRoute } from '../../aws/handlers/route-table.ts';
import type { Node } from '../../api/generated/types.ts';
import type { Route, Routes } from '../provider.ts';
import { type AwsInstances, instanceIdOf } from './instances.ts';
import type { AwsProviderOptions } from './provider.ts';

/** Routes to pods in the VPC's route tables, each to the instance of a node. */
export class AwsRoutes implements Routes {
  private readonly o: AwsProviderOptions;
  private readonly context: HandlerContext;
  private readonly instances: AwsInstances;
  /** Instances whose source/destination check is known to be off: they send for addresses that are not theirs. */
  private readonly forwarding = new Set<string>();

  constructor(o: AwsProviderOptions, instances: AwsInstances) {
    this.o = o;
    this.context = { clients: o.clients, cluster: o.cluster };
    this.instances = instances;
  }

  private async tables(): Promise<RouteTable[]> {
    const answer = await (await this.o.clients.ec2()).send(new DescribeRouteTablesCommand({ RouteTableIds: this.o.routeTableIds }));
    return answer.RouteTables ?? [];
  }

  /** A route that is not the same in every table, or whose instance drops what is not its own, counts as leading nowhere, so that it is made anew. */
  async list(): Promise<Route[]> {
    const tables = await this.tables();
    const byDestination = new Map<string, { instanceId: string | undefined; blackhole: boolean; tables: number }>();
    for (const table of tables) {
      for (const route of table.Routes ?? []) {
        if (!route.DestinationCidrBlock || route.GatewayId !== undefined || route.NatGatewayId !== undefined) continue;
        const known = byDestination.get(route.DestinationCidrBlock);
        const blackhole = route.State === 'blackhole' || !route.InstanceId || (known !== undefined && known.instanceId !== route.InstanceId);
        byDestination.set(route.DestinationCidrBlock, {
          instanceId: route.InstanceId,
          blackhole: blackhole || (known?.blackhole ?? false),
          tables: (known?.tables ?? 0) + 1,
        });
      }
    }
    const ids = [...new Set([...byDestination.values()].map((one) => one.instanceId).filter((one) => one !== undefined))];
    const found = ids.length ? await this.instances.describe([{ Name: 'instance-id', Values: ids }]) : [];
    const byId = new Map(found.map((one) => [one.InstanceId, one]));
    return [...byDestination].map(([destinationCidr, one]) => {
      const instance = byId.get(one.instanceId);
      // With the check on again, what pods send is dropped: as good as no route.
      const checked = instance?.SourceDestCheck === true;
      if (checked && one.instanceId) this.forwarding.delete(one.instanceId);
      return {
        destinationCidr,
        targetNode: instance?.PrivateDnsName ?? '',
        blackhole: one.blackhole || checked || one.tables < tables.length,
      };
    });
  }

  async create({ node, destinationCidr }: { node: Node; destinationCidr: string }): Promise<void> {
    const instanceId = instanceIdOf(node.spec.providerID);
    if (!instanceId) throw new Error(`node ${node.metadata.name} has no instance: ${node.spec.providerID ?? 'no provider id'}`);
    const ec2 = await this.o.clients.ec2();
    if (!this.forwarding.has(instanceId)) {
      await ec2.send(new ModifyInstanceAttributeCommand({ InstanceId: instanceId, SourceDestCheck: { Value: false } }));
      this.forwarding.add(instanceId);
    }
    for (const table of this.o.routeTableIds) await putRoute(this.context, table, destinationCidr, { InstanceId: instanceId });
  }

  async delete(route: Route): Promise<void> {
    for (const table of this.o.routeTableIds) await dropRoute(this.context, table, route.destinationCidr);
  }
}
