import type { Logger } from 'pino';
import type { AwsClients } from '../../aws/clients.ts';
import type { CloudProvider } from '../provider.ts';
import { AwsInstances } from './instances.ts';
import { AwsLoadBalancers } from './load-balancers.ts';
import { AwsRoutes } from './routes.ts';
import { AwsVolumes } from './volumes.ts';

export interface AwsProviderOptions {
  clients: AwsClients;
  /** The cluster's name, as in the tag kubernetes.io/cluster/NAME. */
  cluster: string;
  vpcId: string;
  /** Where routes to pods are kept. */
  routeTableIds: string[];
  log: Logger;
}

/** The cloud contract on EC2 and ELBv2. Names, tags, annotations and provider ids are those of cloud-provider-aws and the EBS CSI driver. */
export function createAwsProvider(o: AwsProviderOptions): CloudProvider {
  const instances = new AwsInstances(o);
  return {
    name: 'aws',
    instances,
    routes: new AwsRoutes(o, instances),
    loadBalancers: new AwsLoadBalancers(o),
    volumes: new AwsVolumes(o, instances),
  };
}
