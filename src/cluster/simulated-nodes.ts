import { type Instance, RunInstancesCommand } from '@aws-sdk/client-ec2';
import { createHash } from 'node:crypto';
import type { HandlerContext } from '../aws/handlers/handler.ts';
import { ownershipTags, tagSpecification } from '../aws/tags.ts';
import type { SimulatedNodes } from '../kubelet/simulated/nodes.ts';
import type { CloudSource } from '../localaws/contract.ts';

/** Marks an instance whose node is simulated: no data plane boots it. */
export const simulatedTag = 'kumulus:simulated';

export const isSimulated = (instance: Pick<Instance, 'Tags'>): boolean => instance.Tags?.some((t) => t.Key === simulatedTag) ?? false;

/** Routes that one route table of AWS holds by default; clusters with more nodes keep none. */
export const routesOfTable = 50;
/** Nodes that the usual range of pods has room for, at a /24 each. */
const nodesOfUsualRange = 250;

/** Where a cluster with so many nodes takes its pods' addresses from. */
export const podCidrFor = (nodes: number): string => (nodes > nodesOfUsualRange ? '100.64.0.0/10' : '10.244.0.0/16');

export interface SimulatedGroup {
  name: string;
  size: number;
  instanceType: string;
  imageId: string;
  subnetIds: string[];
  securityGroupIds: string[];
  /** Its name; what runs nothing needs no role. */
  instanceProfile?: string;
  /** Tells one attempt from the next, so that a repeated call makes nothing twice. */
  token: string;
}

/** AWS's RunInstances takes so many at once. */
const batch = 500;

/** Launches a group's instances, the subnets in turn, in as few calls as there can be. */
export async function launchSimulated(context: HandlerContext, group: SimulatedGroup): Promise<void> {
  if (group.size === 0) return;
  const ec2 = await context.clients.ec2();
  const calls: Promise<unknown>[] = [];
  group.subnetIds.forEach((SubnetId, n) => {
    let left = Math.floor(group.size / group.subnetIds.length) + (n < group.size % group.subnetIds.length ? 1 : 0);
    for (let part = 0; left > 0; part++, left -= batch) {
      const count = Math.min(left, batch);
      const token = createHash('sha256').update([context.cluster, group.name, group.token, SubnetId, part].join('\0')).digest('hex').slice(0, 40);
      calls.push(
        ec2.send(
          new RunInstancesCommand({
            ImageId: group.imageId,
            InstanceType: group.instanceType as never,
            SubnetId,
            SecurityGroupIds: group.securityGroupIds,
            ...(group.instanceProfile ? { IamInstanceProfile: { Name: group.instanceProfile } } : {}),
            MinCount: count,
            MaxCount: count,
            ClientToken: token,
            TagSpecifications: tagSpecification(
              'instance',
              ownershipTags(context.cluster, group.name, { 'kumulus:node-group': group.name, [simulatedTag]: 'true' }),
            ),
          }),
          context.signal ? { abortSignal: context.signal } : {},
        ),
      );
    }
  });
  await Promise.all(calls);
}

/** Seconds of a node's lease: it is renewed four times in its life, and has to be within the grace period. */
export const leaseSeconds = (graceMs: number | undefined): { leaseDurationSeconds?: number } =>
  graceMs && graceMs < 40_000 ? { leaseDurationSeconds: Math.max(1, Math.round(graceMs / 1000)) } : {};

export interface FollowOptions {
  source: Pick<CloudSource, 'onChange'> & { read(): Promise<{ instances: (Instance & { silent?: boolean })[] }> };
  /** vCPUs and MiB of an instance type. */
  sizeOf(instanceType: string): { cpu: number; memoryMiB: number; architecture: string };
  labels: Record<string, string>;
  taints: { key: string; value?: string; effect: string }[];
}

/** Keeps one simulated kubelet for every running instance that is marked so, until the returned function is called. */
export function followInstances(nodes: SimulatedNodes, o: FollowOptions): () => void {
  let reading = false;
  let again = false;
  let ended = false;
  const follow = async () => {
    if (reading) {
      again = true;
      return;
    }
    reading = true;
    try {
      do {
        again = false;
        const { instances } = await o.source.read();
        if (ended) return;
        const gone = new Set(nodes.names);
        for (const instance of instances) {
          const name = instance.PrivateDnsName;
          if (!name || instance.State?.Name !== 'running' || !isSimulated(instance)) continue;
          gone.delete(name);
          add(nodes, o, instance, name);
          if (instance.silent !== undefined) nodes.setUp(name, !instance.silent);
        }
        for (const name of gone) nodes.remove(name);
      } while (again);
    } finally {
      reading = false;
    }
  };
  const end = o.source.onChange(() => void follow());
  void follow();
  return () => {
    ended = true;
    end();
  };
}

function add(nodes: SimulatedNodes, o: FollowOptions, instance: Instance, name: string): void {
  const zone = instance.Placement?.AvailabilityZone ?? '';
  const size = o.sizeOf(instance.InstanceType ?? '');
  const id = instance.InstanceId ?? '';
  nodes.add(
    {
      name,
      providerId: `aws:///${zone}/${id}`,
      address: instance.PrivateIpAddress ?? '',
      capacity: { cpu: String(size.cpu), memory: `${size.memoryMiB}Mi` },
      labels: o.labels,
      taints: o.taints,
      architecture: size.architecture,
    },
    [
      {
        name: 'ebs.csi.aws.com',
        nodeId: id,
        topology: { 'topology.kubernetes.io/zone': zone, 'topology.ebs.csi.aws.com/zone': zone },
        allocatable: 25,
      },
    ],
  );
}
