import * as pulumi from '@pulumi/pulumi';
import { ids, networkTopology } from '../../src/aws/topology.ts';
import { Leavings, RouteTable, Subnet, Vpc } from '../resources.ts';
import { type Declared, declare, pick } from './declare.ts';
import { type ClusterSettings, type ClusterSettingsArgs, settingsOf } from './settings.ts';

export interface NetworkArgs extends ClusterSettingsArgs {
  /** Who may reach the API through a load balancer, as in @pulumi/eks. */
  publicAccessCidrs?: string[];
}

/** VPC, a public subnet a zone, internet gateway, route table, security groups, and the nodes' role. */
export class Network extends pulumi.ComponentResource {
  declare readonly vpcId: pulumi.Output<string>;
  declare readonly subnetIds: pulumi.Output<string[]>;
  declare readonly routeTableId: pulumi.Output<string>;
  /** What the other components refer to. */
  declare readonly declared: Declared;
  declare readonly settings: ClusterSettings;
  /** Every machine depends on it, so that what the cluster's controllers made goes after them and before the network. */
  declare readonly leavings: Leavings;

  constructor(name: string, args: NetworkArgs = {}, opts?: pulumi.ComponentResourceOptions) {
    super('kumulus:index:Network', name, {}, opts);
    const settings = settingsOf(name, args);
    const { name: cluster, availabilityZones: zones, vpcCidr, podCidr, tags } = settings;
    const publicAccessCidrs = args.publicAccessCidrs ?? ['0.0.0.0/0'];
    const declared = declare(networkTopology({ cluster, zones, vpcCidr, podCidr, publicAccessCidrs }), { cluster, parent: this, tags });
    this.settings = settings;
    this.declared = declared;
    this.vpcId = pick(declared, ids.vpc, Vpc).id;
    this.subnetIds = pulumi.all(zones.map((zone) => pick(declared, ids.subnet(zone), Subnet).id));
    this.routeTableId = pick(declared, ids.routeTable, RouteTable).id;
    this.leavings = new Leavings(`${cluster}-leavings`, { cluster, vpcId: this.vpcId }, { parent: this, dependsOn: [...declared.values()] });
    this.registerOutputs({ vpcId: this.vpcId, subnetIds: this.subnetIds });
  }
}
