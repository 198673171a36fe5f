import { DescribeImagesCommand, type Instance, paginateDescribeInstances, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import {
  DeleteLoadBalancerCommand,
  DeleteTargetGroupCommand,
  DescribeLoadBalancersCommand,
  DescribeTagsCommand,
  DescribeTargetGroupsCommand,
} from '@aws-sdk/client-elastic-load-balancing-v2';
import { type AwsConfig, type AwsClients, createAwsClients, hasCode, waitUntil } from '../aws/clients.ts';
import { ensure, remove } from '../aws/ensure.ts';
import type { HandlerContext } from '../aws/handlers/handler.ts';
import { clusterTag } from '../aws/tags.ts';
import { type Declaration, ids } from '../aws/topology.ts';
import { Calls } from '../localaws/api/calls.ts';
import { AwsError } from '../localaws/api/errors.ts';
import { simulatedTag } from './simulated-nodes.ts';
import { nodeImage } from './spec.ts';

/** An AWS that runs elsewhere: LocalStack, moto, `kumulus aws serve`. */
export interface ExternalAws {
  endpoint: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** Of simulated nodes; any that the endpoint knows where left out. */
  imageId?: string;
}

export interface ExternalOptions {
  name: string;
  region: string;
  zones: string[];
  declarations: Declaration[];
  external: ExternalAws;
  signal?: AbortSignal;
}

/** How often an endpoint that tells nothing by itself is asked for its instances, milliseconds. */
const pollMs = 1000;

/** The calls of this process, recorded and made to fail on its side of the wire: others' endpoints do neither. */
function watched(config: AwsConfig, calls: Calls): AwsConfig {
  return {
    ...config,
    async around(service, operation, input, run) {
      const at = Date.now();
      const call = { at, service, operation, input, caller: config.credentials?.accessKeyId ?? '' };
      try {
        const output = await calls.under(service, operation, run);
        calls.record({ ...call, durationMs: Date.now() - at });
        return output;
      } catch (error) {
        const { name, message } = error as Error;
        const injected = error instanceof AwsError ? error : undefined;
        calls.record({ ...call, code: injected?.code ?? name, message, durationMs: Date.now() - at });
        if (!injected) throw error;
        throw Object.assign(new Error(message), { name: injected.code, $fault: 'client', $metadata: { httpStatusCode: injected.status } });
      }
    },
  };
}

/** Makes the cluster's network on the endpoint. stop() takes away everything that the cluster's tags name. */
export async function startExternalCloud(o: ExternalOptions) {
  const calls = new Calls();
  const plain = { region: o.region, endpoint: o.external.endpoint, credentials: o.external.credentials };
  const awsConfig = watched(plain, calls);
  const clients = createAwsClients(awsConfig);
  const context: HandlerContext = { clients, cluster: o.name, ...(o.signal ? { signal: o.signal } : {}) };
  const stopping = new AbortController();
  const stop = async () => {
    stopping.abort();
    try {
      await clear({ clients, cluster: o.name }, o.declarations);
    } finally {
      clients.destroy();
    }
  };
  try {
    const known = await ensure(context, o.declarations);
    const idOf = (id: string) => known.get(id)?.id ?? '';
    return {
      calls,
      config: plain,
      awsConfig,
      context,
      source: pollInstances(clients, o.name, stopping.signal),
      imageId: o.external.imageId ?? (await anyImage(clients)),
      network: {
        vpcId: idOf(ids.vpc),
        routeTableId: idOf(ids.routeTable),
        securityGroupId: idOf(ids.nodeSecurityGroup),
        subnetIds: o.zones.map((zone) => idOf(ids.subnet(zone))),
      },
      stop,
    };
  } catch (error) {
    await stop().catch(() => undefined);
    throw error;
  }
}

/** The embedded AWS's node image, or the first that the endpoint has. */
async function anyImage(clients: AwsClients): Promise<string> {
  const { Images = [] } = await (await clients.ec2()).send(new DescribeImagesCommand({ Owners: ['amazon', 'self'] }));
  const usual = Images.find((image) => image.Architecture === 'x86_64') ?? Images[0];
  return usual?.ImageId ?? nodeImage;
}

async function describe(clients: AwsClients, cluster: string): Promise<Instance[]> {
  const client = await clients.ec2();
  const Filters = [
    { Name: `tag:${clusterTag(cluster)}`, Values: ['owned'] },
    { Name: 'tag-key', Values: [simulatedTag] },
  ];
  const found: Instance[] = [];
  for await (const page of paginateDescribeInstances({ client }, { Filters }))
    found.push(...(page.Reservations ?? []).flatMap((r) => r.Instances ?? []));
  return found;
}

/** The cluster's simulated instances, asked for again and again. */
function pollInstances(clients: AwsClients, cluster: string, signal: AbortSignal) {
  let instances: Instance[] = [];
  const callbacks = new Set<() => void>();
  const ask = async () => {
    // An endpoint that is away for a while is asked again.
    instances = await describe(clients, cluster).catch(() => instances);
    if (signal.aborted) return;
    for (const callback of callbacks) callback();
    setTimeout(() => void ask(), pollMs).unref();
  };
  setTimeout(() => void ask(), 100).unref();
  return {
    read: async () => ({ instances }),
    onChange(callback: () => void) {
      callbacks.add(callback);
      return () => callbacks.delete(callback);
    },
  };
}

/** Instances, load balancers that workloads left, then the network, whose parts let go of each other with delays. */
async function clear(context: HandlerContext, declarations: Declaration[]): Promise<void> {
  const { clients, cluster } = context;
  const alive = (await describe(clients, cluster)).filter((i) => i.State?.Name !== 'terminated').map((i) => i.InstanceId as string);
  for (let at = 0; at < alive.length; at += 500)
    await (await clients.ec2()).send(new TerminateInstancesCommand({ InstanceIds: alive.slice(at, at + 500) }));
  await waitUntil(
    'the instances to be terminated',
    async () => (await describe(clients, cluster)).every((i) => i.State?.Name === 'terminated') || undefined,
    { timeoutMs: 120_000 },
  );
  await clearLoadBalancers(context);
  let last: unknown;
  await waitUntil(
    'the network to be deleted',
    async () => {
      try {
        await remove(context, declarations);
        return true;
      } catch (error) {
        last = error;
        return undefined;
      }
    },
    { timeoutMs: 60_000 },
  ).catch((error) => {
    throw last ?? error;
  });
}

async function clearLoadBalancers({ clients, cluster }: HandlerContext): Promise<void> {
  const client = await clients.elbv2();
  const mine = async (arns: string[]) => {
    const found: string[] = [];
    for (let at = 0; at < arns.length; at += 20) {
      const { TagDescriptions } = await client.send(new DescribeTagsCommand({ ResourceArns: arns.slice(at, at + 20) }));
      for (const one of TagDescriptions ?? []) if (one.Tags?.some((t) => t.Key === clusterTag(cluster))) found.push(one.ResourceArn as string);
    }
    return found;
  };
  try {
    const balancers = (await client.send(new DescribeLoadBalancersCommand({}))).LoadBalancers ?? [];
    for (const LoadBalancerArn of await mine(balancers.map((lb) => lb.LoadBalancerArn as string)))
      await client.send(new DeleteLoadBalancerCommand({ LoadBalancerArn }));
    const groups = (await client.send(new DescribeTargetGroupsCommand({}))).TargetGroups ?? [];
    for (const TargetGroupArn of await mine(groups.map((g) => g.TargetGroupArn as string)))
      await client.send(new DeleteTargetGroupCommand({ TargetGroupArn }));
  } catch (error) {
    // An endpoint without ELBv2, as LocalStack's free edition, has no load balancers to leave.
    if (!hasCode(error, 'InternalFailure', 'NotImplemented', 'UnknownOperationException', 'InvalidAction', 'UnknownService')) throw error;
  }
}
