import {
  DescribeInstancesCommand,
  DescribeInternetGatewaysCommand,
  DescribeNetworkInterfacesCommand,
  DescribeRouteTablesCommand,
  DescribeSecurityGroupsCommand,
  DescribeSubnetsCommand,
  DescribeVolumesCommand,
  DescribeVpcsCommand,
  type EC2Client,
  type Filter,
} from '@aws-sdk/client-ec2';
import {
  DescribeListenersCommand,
  DescribeLoadBalancersCommand,
  DescribeTargetGroupAttributesCommand,
  DescribeTargetGroupsCommand,
  DescribeTargetHealthCommand,
  type ElasticLoadBalancingV2Client,
  type TargetGroup,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CloudState } from '../../contract.ts';

export interface ReadClients {
  ec2: EC2Client;
  elbv2: ElasticLoadBalancingV2Client;
}

/** Calls at once to an endpoint; fakes answer some of more with 500. */
const atOnce = 4;

/** Runs tasks a few at a time, in order. */
async function several<T>(tasks: (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = new Array(tasks.length);
  let next = 0;
  const worker = async () => {
    while (next < tasks.length) {
      const at = next++;
      results[at] = await tasks[at]!();
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, tasks.length) }, worker));
  return results;
}

/** Everything that pages give, one after another. */
async function pages<P, T>(
  call: (token: string | undefined) => Promise<P>,
  items: (page: P) => T[] | undefined,
  next: (page: P) => string | undefined,
) {
  const found: T[] = [];
  let token: string | undefined;
  do {
    const page = await call(token);
    found.push(...(items(page) ?? []));
    const following = next(page);
    // An endpoint that gives the same token again would never end.
    token = following === token ? undefined : following;
  } while (token);
  return found;
}

/** Reads all of an endpoint's state that a data plane makes real, with Describe calls alone. Endpoints without ELBv2 have no load balancers. */
export async function readEndpoint({ ec2, elbv2 }: ReadClients): Promise<CloudState> {
  const describe = <T>(Command: new (input: any) => any, field: string, Filters?: Filter[]) =>
    pages<any, T>(
      (NextToken) => ec2.send(new Command({ ...(Filters ? { Filters } : {}), ...(NextToken ? { NextToken } : {}) })),
      (page) => page[field],
      (page) => page.NextToken,
    );
  const [vpcs, subnets, routeTables, internetGateways, securityGroups, networkInterfaces, reservations, volumes, balancing] = (await several<any>([
    () => describe(DescribeVpcsCommand, 'Vpcs'),
    () => describe(DescribeSubnetsCommand, 'Subnets'),
    () => describe(DescribeRouteTablesCommand, 'RouteTables'),
    () => describe(DescribeInternetGatewaysCommand, 'InternetGateways'),
    () => describe(DescribeSecurityGroupsCommand, 'SecurityGroups'),
    () => describe(DescribeNetworkInterfacesCommand, 'NetworkInterfaces'),
    () => describe(DescribeInstancesCommand, 'Reservations'),
    () => describe(DescribeVolumesCommand, 'Volumes'),
    () => readBalancing(elbv2),
  ])) as any[];
  const instances = reservations.flatMap((one: { Instances?: unknown[] }) => one.Instances ?? []);
  return { vpcs, subnets, routeTables, internetGateways, securityGroups, networkInterfaces, instances, volumes, ...balancing };
}

type Balancing = Pick<CloudState, 'loadBalancers' | 'listeners' | 'targetGroups'>;

const absent = /not (yet )?(implemented|supported|included)|UnknownOperation|InvalidAction|InternalFailure.*elbv2/i;

async function readBalancing(elbv2: ElasticLoadBalancingV2Client): Promise<Balancing> {
  const marker = (page: { NextMarker?: string | undefined }) => page.NextMarker;
  try {
    const loadBalancers = await pages(
      (Marker) => elbv2.send(new DescribeLoadBalancersCommand(Marker ? { Marker } : {})),
      (page) => page.LoadBalancers,
      marker,
    );
    const listeners = await several(
      loadBalancers.map(
        ({ LoadBalancerArn }) =>
          () =>
            pages(
              (Marker) => elbv2.send(new DescribeListenersCommand({ LoadBalancerArn, ...(Marker ? { Marker } : {}) })),
              (page) => page.Listeners,
              marker,
            ),
      ),
    );
    const groups = await pages(
      (Marker) => elbv2.send(new DescribeTargetGroupsCommand(Marker ? { Marker } : {})),
      (page) => page.TargetGroups,
      marker,
    );
    const targetGroups = await several(
      groups.map((group: TargetGroup) => async () => {
        const { TargetGroupArn } = group;
        const health = await elbv2.send(new DescribeTargetHealthCommand({ TargetGroupArn }));
        const attributes = await elbv2.send(new DescribeTargetGroupAttributesCommand({ TargetGroupArn }));
        const targets = (health.TargetHealthDescriptions ?? []).filter((one) => one.TargetHealth?.State !== 'draining');
        return { group, targets: targets.map((one) => one.Target!), attributes: attributes.Attributes ?? [] };
      }),
    );
    return { loadBalancers, listeners: listeners.flat(), targetGroups };
  } catch (error) {
    // What was deleted between two calls is looked at again, as a failure; a service that is not there is no failure.
    if (!absent.test(`${(error as Error).name} ${(error as Error).message}`)) throw error;
    return { loadBalancers: [], listeners: [], targetGroups: [] };
  }
}
