import * as pulumi from '@pulumi/pulumi';
import { ControlPlane } from './control-plane.ts';
import { Network } from './network.ts';
import { NodeGroup, type NodeGroupOptions } from './node-group.ts';
import type { ClusterSettingsArgs } from './settings.ts';

/** Named as in @pulumi/eks where they mean the same. */
export interface ClusterArgs extends ClusterSettingsArgs {
  /** EC2 instance type of the nodes. */
  instanceType?: string;
  /** How many nodes the first group has. */
  desiredCapacity?: number;
  /** AMI of all instances: an id, or resolve:ssm:PARAMETER. Debian 12 where left out. */
  nodeAmiId?: string;
  /** No first group of nodes. */
  skipDefaultNodeGroup?: boolean;
  /** Who may reach the API through its load balancer. */
  publicAccessCidrs?: string[];
  controlPlaneInstanceType?: string;
  /** Labels and taints of the first group. */
  labels?: NodeGroupOptions['labels'];
  taints?: NodeGroupOptions['taints'];
  /** How long to wait for the API, and for each node to be Ready. */
  timeoutSeconds?: number;
}

/** Network, control plane and nodes: a working cluster when its outputs are known. */
export class Cluster extends pulumi.ComponentResource {
  declare readonly network: Network;
  declare readonly controlPlane: ControlPlane;
  declare readonly defaultNodeGroup: NodeGroup | undefined;
  /** A secret; also as text, in kubeconfigJson. */
  declare readonly kubeconfig: pulumi.Output<object>;
  declare readonly kubeconfigJson: pulumi.Output<string>;
  /** https://HOST:PORT of the API. */
  declare readonly endpoint: pulumi.Output<string>;

  constructor(name: string, args: ClusterArgs = {}, opts?: pulumi.ComponentResourceOptions) {
    super('kumulus:index:Cluster', name, {}, opts);
    const parent = { parent: this };
    const ami = args.nodeAmiId ? { amiId: args.nodeAmiId } : {};
    const cidrs = args.publicAccessCidrs ? { publicAccessCidrs: args.publicAccessCidrs } : {};
    const timeout = args.timeoutSeconds ? { timeoutSeconds: args.timeoutSeconds } : {};
    this.network = new Network(name, args, parent);
    this.controlPlane = new ControlPlane(
      name,
      { network: this.network, ...ami, ...cidrs, ...timeout, ...(args.controlPlaneInstanceType ? { instanceType: args.controlPlaneInstanceType } : {}) },
      parent,
    );
    this.defaultNodeGroup = args.skipDefaultNodeGroup
      ? undefined
      : this.createNodeGroup('workers', {
          ...ami,
          ...timeout,
          ...(args.instanceType ? { instanceType: args.instanceType } : {}),
          ...(args.desiredCapacity === undefined ? {} : { desiredCapacity: args.desiredCapacity }),
          ...(args.labels ? { labels: args.labels } : {}),
          ...(args.taints ? { taints: args.taints } : {}),
        });
    this.kubeconfig = this.controlPlane.kubeconfig;
    this.kubeconfigJson = this.kubeconfig.apply((config) => JSON.stringify(config));
    this.endpoint = this.controlPlane.endpoint;
    this.registerOutputs({ kubeconfig: this.kubeconfig, endpoint: this.endpoint });
  }

  /** Another group of nodes of this cluster. */
  createNodeGroup(name: string, options: NodeGroupOptions = {}): NodeGroup {
    const names = { network: this.network, controlPlane: this.controlPlane, name };
    return new NodeGroup(`${this.network.settings.name}-${name}`, { ...options, ...names }, { parent: this });
  }
}
