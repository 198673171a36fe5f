import * as pulumi from '@pulumi/pulumi';
import { Cluster, type Taint } from '../index.ts';

// Settings of the stack, Pulumi.STACK.yaml: `pulumi config set nodes 4`.
const config = new pulumi.Config();
const setting = (name: string) => config.get(name);

const cluster = new Cluster(setting('name') ?? 'quickstart', {
  desiredCapacity: config.getNumber('nodes') ?? 2,
  instanceType: setting('instanceType'),
  nodeAmiId: setting('amiId'),
  labels: config.getObject<Record<string, string>>('labels'),
  taints: config.getObject<Record<string, Taint>>('taints'),
  availabilityZones: config.getObject<string[]>('availabilityZones'),
  publicAccessCidrs: config.getObject<string[]>('publicAccessCidrs'),
  package: setting('package'),
  registry: setting('registry'),
  timeoutSeconds: config.getNumber('timeoutSeconds'),
});

export const kubeconfig = cluster.kubeconfig;
export const endpoint = cluster.endpoint;
export const vpcId = cluster.network.vpcId;
export const instanceIds = cluster.defaultNodeGroup?.instanceIds;
export const nodeNames = cluster.defaultNodeGroup?.nodeNames;
