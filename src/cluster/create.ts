import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { resources } from '../api/generated/resources.ts';
import type { Node } from '../api/generated/types.ts';
import type { Ensured } from '../aws/ensure.ts';
import { ids } from '../aws/topology.ts';
import type { Client } from '../client/client.ts';
import { createHttpClient } from '../client/http.ts';
import { applyAddons } from './addons.ts';
import { type AwsCredentials, clusterAwsClients, writeAwsProfile } from './aws-endpoint.ts';
import { removeCluster } from './delete.ts';
import { checkKubeconfigWritable, clusterKubeconfig, kubeconfigPath, mergeKubeconfig } from './kubeconfig.ts';
import { ensurePki, ensureServiceAccountKey } from './pki.ts';
import { freePort } from './ports.ts';
import { installMissing, requireHost } from './preflight.ts';
import type { Progress } from './progress.ts';
import { launchSimulated, podCidrFor } from './simulated-nodes.ts';
import { networkTopology, nodeImage, wholeTopology } from './spec.ts';
import {
  type ClusterRecord,
  checkClusterName,
  clusterId,
  hasDataPlane,
  lockCluster,
  newBootstrapToken,
  pathsOf,
  readRecord,
  requireRecord,
  stateFormat,
  takenPorts,
  UserError,
  writeRecord,
} from './state.ts';
import { PortTakenError, startSupervisor, stopChild, waitForChild } from './supervisor-client.ts';

export interface CreateOptions {
  name: string;
  /** Instances that run containers. */
  nodes: number;
  simulatedNodes?: number;
  zones: string[];
  instanceType: string;
  /** URL of LocalStack, moto or another AWS to stand on instead of the embedded one. */
  awsEndpoint?: string;
  /** For that AWS: the SDK's default chain where left out. */
  awsCredentials?: AwsCredentials;
  /** The image of nodes there, where it is not to be found. */
  imageId?: string;
  kubeconfig?: string;
  /** Milliseconds to wait for nodes to be Ready; 0 does not wait. */
  waitMs: number;
  /** Leave everything in place when creation fails. */
  retain: boolean;
  tuning?: ClusterRecord['tuning'];
  /** false: no profile is written for the aws command. */
  awsProfile?: boolean;
  /** The last part of the creation, such as the example; rolled back with the rest when it fails. */
  finish?: (record: ClusterRecord) => Promise<void>;
  progress: Progress;
  signal: AbortSignal;
}

const region = 'us-east-1';

/** Creates a cluster; rolls back (unless retain) when it fails or signal aborts. Errors are UserErrors where people can act. */
export async function createCluster(o: CreateOptions): Promise<ClusterRecord> {
  checkClusterName(o.name);
  if (hasDataPlane(o)) requireHost();
  const unlock = lockCluster(o.name, `create cluster ${o.name}`);
  try {
    if (readRecord(o.name)) throw new UserError(`cluster '${o.name}' already exists; "kumulus delete cluster ${o.name}" removes it`);
    const kubeconfig = kubeconfigPath(o.kubeconfig);
    await o.progress.step('Checking this machine', async () => preflight(o, kubeconfig));
    const record = o.awsEndpoint ? await elsewhere(o, o.awsEndpoint) : await newRecord(o);
    record.kubeconfig = kubeconfig;
    try {
      await build(o, record);
      await o.finish?.(record);
      return record;
    } catch (error) {
      const text = o.signal.aborted ? 'Interrupted' : 'Failed';
      if (o.retain) {
        o.progress.line(`${text}; what was made stays (--retain). Logs: ${pathsOf(o.name).logs}`);
      } else {
        await o.progress.step(`${text}: rolling back`, () => removeCluster(o.name, undefined, o.progress.line));
      }
      throw o.signal.aborted ? new UserError(`creation of cluster '${o.name}' was interrupted`, 130) : error;
    }
  } finally {
    unlock();
  }
}

function preflight(o: CreateOptions, kubeconfig: string): void {
  const longest = join(pathsOf(o.name).run, 'vpc-00000000000000000.sock');
  if (longest.length > 107)
    throw new UserError(`the state folder's path is too long for Unix sockets (${longest}); set KUMULUS_STATE to a shorter one`);
  checkKubeconfigWritable(kubeconfig);
  if (hasDataPlane(o)) installMissing(o.progress.line);
}

async function elsewhere(o: CreateOptions, endpoint: string): Promise<ClusterRecord> {
  const { greetEndpoint, keepCredentials } = await import('./foreign-aws.ts');
  const { accountId, credentials } = await o.progress.step(`Reaching the AWS at ${endpoint}`, () => greetEndpoint(endpoint, region, o.awsCredentials));
  const record = await newRecord(o, accountId);
  keepCredentials(record, credentials);
  return record;
}

async function newRecord(o: CreateOptions, accountId = '000000000000'): Promise<ClusterRecord> {
  const taken = takenPorts(o.name);
  const paths = pathsOf(o.name);
  mkdirSync(paths.root, { recursive: true, mode: 0o711 });
  const record: ClusterRecord = {
    format: stateFormat,
    name: o.name,
    id: clusterId(paths.root),
    createdAt: new Date().toISOString(),
    phase: 'creating',
    region,
    zones: o.zones,
    accountId,
    ...(o.awsEndpoint ? { awsEndpoint: o.awsEndpoint } : {}),
    nodes: o.nodes,
    ...(o.simulatedNodes ? { simulatedNodes: o.simulatedNodes } : {}),
    instanceType: o.instanceType,
    ports: { api: await freePort(6443, taken), aws: await freePort(o.awsEndpoint ? 5000 : 4566, taken) },
    vpcCidr: '10.0.0.0/16',
    podCidr: podCidrFor(o.nodes + (o.simulatedNodes ?? 0)),
    serviceCidr: '10.96.0.0/16',
    clusterDns: '10.96.0.10',
    clusterDomain: 'cluster.local',
    bootstrapToken: newBootstrapToken(),
    ...(o.tuning ? { tuning: o.tuning } : {}),
  };
  writeRecord(record);
  return record;
}

async function build(o: CreateOptions, record: ClusterRecord): Promise<void> {
  const { signal, progress } = o;
  const paths = pathsOf(record.name);
  // Begun now, needed later: the control plane's process loads its code and waits for the network.
  const loading = import('../aws/ensure.ts');
  const key = ensureServiceAccountKey(paths.pki);
  for (const early of [loading, key]) early.catch(() => {});
  await progress.step(record.awsEndpoint ? `Starting the data plane of ${record.awsEndpoint}` : 'Starting the embedded AWS', async () => {
    await startSupervisor(record.name, ['aws', 'control-plane'], signal);
    await waitOnPort(record, 'aws', signal);
    if (o.awsProfile !== false) writeAwsProfile(record);
  });
  const clients = clusterAwsClients(record);
  try {
    if (record.awsEndpoint) record.imageId = o.imageId ?? (await (await import('./foreign-aws.ts')).findNodeImage(clients));
    const context = { clients, cluster: record.name, signal };
    let known: Ensured = new Map();
    await progress.step('Creating the VPC', async () => {
      const { ensure } = await loading;
      known = await ensure(context, networkTopology(record));
      const idOf = (id: string) => known.get(id)?.id ?? '';
      record.network = {
        vpcId: idOf(ids.vpc),
        routeTableId: idOf(ids.routeTable),
        nodeSecurityGroupId: idOf(ids.nodeSecurityGroup),
        apiAddress: known.get(ids.controlPlaneInterface)?.attributes['PrivateIpAddress'] ?? '',
      };
    });
    await progress.step('Starting the control plane', async () => {
      await ensurePki(paths.pki, apiServerNames(record));
      // For this the control plane's process waits.
      writeRecord(record);
      await waitOnPort(record, 'control-plane', signal);
      await withAdmin(record, (admin) =>
        applyAddons(
          admin,
          {
            ca: readFileSync(join(paths.pki, 'ca.crt'), 'utf8'),
            server: `https://${record.network?.apiAddress}:6443`,
            bootstrapToken: record.bootstrapToken,
            clusterDns: record.clusterDns,
          },
          signal,
        ),
      );
    });
    const count = record.nodes + (record.simulatedNodes ?? 0);
    await progress.step(`Launching ${count} instance${count === 1 ? '' : 's'}${hasDataPlane(record) ? '' : ' (simulated)'}`, async () => {
      const { ensure } = await loading;
      const all = await wholeTopology(record, readFileSync(join(paths.pki, 'ca.crt'), 'utf8'));
      await ensure(
        context,
        all.filter((d) => !known.has(d.id)),
        known,
      );
      await launchSimulated(context, {
        name: 'simulated',
        size: record.simulatedNodes ?? 0,
        instanceType: record.instanceType,
        imageId: record.imageId ?? nodeImage,
        subnetIds: record.zones.map((zone) => known.get(ids.subnet(zone))?.id ?? ''),
        securityGroupIds: [record.network?.nodeSecurityGroupId ?? ''],
        instanceProfile: `${record.name}-node`,
        token: record.createdAt,
      });
    });
    if (o.waitMs > 0 && count > 0) {
      await progress.step('Waiting for the nodes to be Ready', () => withAdmin(record, (admin) => waitForNodes(admin, count, o.waitMs, signal)));
    }
    record.phase = 'running';
    writeRecord(record);
    mergeKubeconfig(record.kubeconfig as string, kubeconfigOf(record));
  } finally {
    clients.destroy();
  }
}

/**
 * Waits for a child of the supervisor; where its port was taken since it was looked at, by another creation say, it gets
 * another one.
 */
export async function waitOnPort(record: ClusterRecord, child: 'aws' | 'control-plane', signal: AbortSignal): Promise<void> {
  const key = child === 'aws' ? 'aws' : 'api';
  for (let attempt = 0; ; attempt++) {
    try {
      return await waitForChild(record.name, child, 60_000, signal);
    } catch (error) {
      if (!(error instanceof PortTakenError) || attempt >= 10) throw error;
      await stopChild(record.name, child);
      record.ports[key] = await freePort(record.ports[key] + 1, takenPorts(record.name));
      writeRecord(record);
      await startSupervisor(record.name, [child], signal);
    }
  }
}

export function apiServerNames(record: ClusterRecord): { dnsNames: string[]; ips: string[] } {
  const service = `${record.serviceCidr.split('.').slice(0, 3).join('.')}.1`;
  return {
    dnsNames: ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', `kubernetes.default.svc.${record.clusterDomain}`, 'localhost'],
    ips: ['127.0.0.1', service, ...(record.network?.apiAddress ? [record.network.apiAddress] : [])],
  };
}

export function kubeconfigOf(record: ClusterRecord, internal = false) {
  const { pki } = pathsOf(record.name);
  const pem = (file: string) => readFileSync(join(pki, file), 'utf8');
  const server = internal ? `https://${record.network?.apiAddress}:6443` : `https://127.0.0.1:${record.ports.api}`;
  return clusterKubeconfig(record.name, server, pem('ca.crt'), { cert: pem('admin.crt'), key: pem('admin.key') });
}

/** A client with the administrator's certificate, over HTTPS as kubectl would. */
export async function withAdmin<T>(record: ClusterRecord, use: (client: Client) => Promise<T>): Promise<T> {
  const { pki } = pathsOf(record.name);
  const pem = (file: string) => readFileSync(join(pki, file), 'utf8');
  const client = createHttpClient({
    server: `https://127.0.0.1:${record.ports.api}`,
    ca: pem('ca.crt'),
    cert: pem('admin.crt'),
    key: pem('admin.key'),
    userAgent: 'kumulus',
  });
  try {
    return await use(client);
  } finally {
    client.close();
  }
}

const isReady = (node: Node) => node.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True') ?? false;

/** Resolves when this many nodes are Ready; names those that are not when time is up. */
export async function waitForNodes(admin: Client, count: number, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const limit = AbortSignal.timeout(timeoutMs);
  const both = signal ? AbortSignal.any([signal, limit]) : limit;
  const nodes = new Map<string, Node>();
  const enough = () =>
    [...nodes.values()].filter((n) => isReady(n) && !n.spec.taints?.some((t) => t.key === 'node.cloudprovider.kubernetes.io/uninitialized')).length >=
    count;
  try {
    for (;;) {
      const list = await admin.list(resources.nodes, { signal: both });
      nodes.clear();
      for (const node of list.items) nodes.set(node.metadata.name, node);
      if (enough()) return;
      for await (const event of admin.watch(resources.nodes, { resourceVersion: list.metadata.resourceVersion, signal: both })) {
        if (event.type === 'ERROR') break;
        if (event.type === 'DELETED') nodes.delete(event.object.metadata.name);
        else if (event.type !== 'BOOKMARK') nodes.set(event.object.metadata.name, event.object);
        if (enough()) return;
      }
      both.throwIfAborted();
    }
  } catch (error) {
    if (!limit.aborted || signal?.aborted) throw error;
    const names = [...nodes.values()].map((n) => `${n.metadata.name} ${isReady(n) ? 'Ready' : 'NotReady'}`);
    throw new UserError(
      `timed out after ${timeoutMs / 1000} s waiting for ${count} Ready nodes; there are: ${names.join(', ') || 'none'} (the console output of an instance: aws ec2 get-console-output)`,
    );
  }
}

/** Removes the half-made state of a creation that never wrote a usable record. */
export function forgetState(name: string): void {
  rmSync(pathsOf(name).root, { recursive: true, force: true });
}

export { requireRecord };
