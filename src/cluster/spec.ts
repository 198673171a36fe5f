import { caCertHash } from './pki.ts';
import { workerUserData } from './user-data.ts';
import { controlPlaneAddress, topology, type Declaration } from '../aws/topology.ts';
import { type ClusterRecord, pathsOf } from './state.ts';

/** The AMI of the embedded AWS with the kumulus command in it. */
export const nodeImage = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';

const spec = (record: ClusterRecord, nodeGroups: Parameters<typeof topology>[0]['nodeGroups']) => ({
  cluster: record.name,
  region: record.region,
  zones: record.zones,
  vpcCidr: record.vpcCidr,
  podCidr: record.podCidr,
  controlPlane: {
    type: 'hosted' as const,
    socket: pathsOf(record.name).apiSocket,
    port: 6443,
    ...(record.awsEndpoint ? { address: controlPlaneAddress(record.vpcCidr) } : {}),
  },
  nodeGroups,
});

/** Everything but the nodes: what the control plane needs before it can start. */
export const networkTopology = (record: ClusterRecord): Declaration[] => topology(spec(record, []));

/** A node has to be heard of several times within the grace period, or it would count as silent while it is well. */
function nodeFlags(record: ClusterRecord): string[] {
  const grace = record.tuning?.nodeMonitorGracePeriodMs;
  return grace && grace < 40_000 ? [`--node-lease-duration=${Math.max(1, Math.round(grace / 1000))}s`] : [];
}

/** Everything, with user data that joins this control plane. */
export async function wholeTopology(record: ClusterRecord, ca: string): Promise<Declaration[]> {
  if (!record.network) throw new Error(`cluster '${record.name}' has no network yet`);
  const userData = workerUserData({
    server: `https://${record.network.apiAddress}:6443`,
    token: record.bootstrapToken,
    caCertHash: caCertHash(ca),
    clusterDns: record.clusterDns,
    clusterDomain: record.clusterDomain,
    podCidr: record.podCidr,
    flags: nodeFlags(record),
  });
  return topology(spec(record, [{ name: 'workers', size: record.nodes, instanceType: record.instanceType, imageId: record.imageId ?? nodeImage, userData }]));
}

/** Everything, to be found by its tags and names and deleted. */
export const removalTopology = (record: ClusterRecord): Declaration[] =>
  topology(spec(record, [{ name: 'workers', size: record.nodes, instanceType: record.instanceType, imageId: '', userData: '' }]));
