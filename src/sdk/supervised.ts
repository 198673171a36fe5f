import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { resources } from '../api/generated/resources.ts';
import { createHttpClient } from '../client/http.ts';
import { pathsOf, UserError } from '../cluster/state.ts';
import type { CallFault } from '../localaws/api/calls.ts';
import type { Backend } from './backend.ts';
import type { StartClusterOptions } from './types.ts';

/** A cluster in processes of its own, as `kumulus create cluster` makes it; the user's kubeconfig and AWS profiles are left alone. */
export async function startSupervised(
  name: string,
  nodes: number,
  simulatedNodes: number,
  zones: string[],
  o: StartClusterOptions,
  signal: AbortSignal,
): Promise<Backend> {
  if (o.behaviours?.length || o.nodeLabels || o.nodeTaints)
    throw new UserError(
      'behaviours, nodeLabels and nodeTaints are for clusters of simulated nodes alone; pods can carry the annotation kumulus.dev/behaviour',
    );
  const [{ createCluster }, { removeCluster }, { readRootCredentials, awsEndpoint }, { askAws }] = await Promise.all([
    import('../cluster/create.ts'),
    import('../cluster/delete.ts'),
    import('../cluster/aws-endpoint.ts'),
    import('../cluster/aws-control-client.ts'),
  ]);
  const paths = pathsOf(name);
  if (existsSync(paths.record)) throw new UserError(`a cluster '${name}' exists already`);
  const grace = o.nodeMonitorGracePeriodMs;
  const record = await createCluster({
    name,
    nodes,
    simulatedNodes,
    zones,
    instanceType: o.instanceType ?? 't3.medium',
    ...(o.aws?.endpoint ? { awsEndpoint: o.aws.endpoint, awsCredentials: o.aws.credentials ?? { accessKeyId: 'test', secretAccessKey: 'test' } } : {}),
    ...(o.aws?.imageId ? { imageId: o.aws.imageId } : {}),
    kubeconfig: join(paths.root, 'kubeconfig'),
    awsProfile: false,
    waitMs: 0,
    retain: false,
    ...(grace ? { tuning: { nodeMonitorGracePeriodMs: grace, nodeMonitorPeriodMs: Math.min(5000, Math.max(500, grace / 8)) } } : {}),
    progress: { line: () => {}, step: (_, work) => work() },
    signal,
  });
  const pem = (file: string) => readFileSync(join(paths.pki, file), 'utf8');
  const server = `https://127.0.0.1:${record.ports.api}`;
  const admin = { cert: pem('admin.crt'), key: pem('admin.key') };
  const ca = pem('ca.crt');
  const client = createHttpClient({ server, ca, ...admin, userAgent: 'kumulus-sdk' });
  return {
    name,
    server,
    ca,
    admin,
    client,
    awsConfig: { region: record.region, endpoint: awsEndpoint(record), credentials: readRootCredentials(paths.aws) },
    vpcId: record.network?.vpcId ?? '',
    waitMs: 120_000,
    // An AWS elsewhere tells of none.
    calls: async () => (o.aws?.endpoint ? [] : (await askAws(paths.awsSocket, { do: 'calls' })).calls),
    inject: async (fault: CallFault) => {
      const { id } = await askAws(paths.awsSocket, { do: 'inject', fault });
      return async () => void (await askAws(paths.awsSocket, { do: 'remove', id }));
    },
    disturb: async (node, what, broken) => {
      const instanceId = (await client.get(resources.nodes, { name: node })).spec.providerID?.split('/').at(-1);
      if (!instanceId) throw new Error(`node ${node} has no instance`);
      await askAws(paths.awsSocket, { do: 'disturb', instanceId, what, broken });
    },
    stop: async () => {
      client.close();
      await removeCluster(name, join(paths.root, 'kubeconfig'));
    },
  };
}
