/** Kumulus clusters in Pulumi programs. */
export { Cluster, type ClusterArgs } from './components/cluster.ts';
export { ControlPlane, type ControlPlaneArgs } from './components/control-plane.ts';
export { Network, type NetworkArgs } from './components/network.ts';
export { NodeGroup, type NodeGroupArgs, type NodeGroupOptions, type Taint } from './components/node-group.ts';
export * from './resources.ts';
