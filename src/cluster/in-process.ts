import { setMaxListeners } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { ApiServer } from '../apiserver/server.ts';
import { type AwsConfig, createAwsClients } from '../aws/clients.ts';
import type { HandlerContext } from '../aws/handlers/handler.ts';
import { ensure } from '../aws/ensure.ts';
import { type Declaration, ids, topology } from '../aws/topology.ts';
import type { Client } from '../client/client.ts';
import { systemClock } from '../client/clock.ts';
import type { BehaviourRule } from '../kubelet/simulated/behaviour.ts';
import { SimulatedNodes } from '../kubelet/simulated/nodes.ts';
import { instanceSize } from '../localaws/api/ec2/instance-types.ts';
import type { Calls } from '../localaws/api/calls.ts';
import { startLocalAws } from '../localaws/api/server.ts';
import { openMemoryStore } from '../store/memory.ts';
import { applyAddons } from './addons.ts';
import { administrator, startApi, startComponents } from './control-plane.ts';
import { ephemeralPki, issue, type KeyPair } from './pki.ts';
import type { ExternalAws } from './external-aws.ts';
import { type FollowOptions, followInstances, launchSimulated, leaseSeconds, podCidrFor, routesOfTable } from './simulated-nodes.ts';
import { nodeImage } from './spec.ts';
import { newBootstrapToken } from './state.ts';

export interface InProcessOptions {
  name: string;
  /** How many simulated nodes. */
  nodes: number;
  instanceType: string;
  region: string;
  /** Whole names: us-east-1a. */
  zones: string[];
  accountId: string;
  /** Instead of the embedded AWS. */
  external?: ExternalAws;
  behaviours: BehaviourRule[];
  nodeLabels: Record<string, string>;
  nodeTaints: { key: string; value?: string; effect: string }[];
  tuning: { nodeMonitorGracePeriodMs?: number; nodeMonitorPeriodMs?: number };
  log: Logger;
  signal?: AbortSignal;
}

export interface InProcessCluster {
  /** https://127.0.0.1:PORT */
  server: string;
  /** PEM. */
  ca: string;
  /** A client certificate of system:masters. */
  admin: KeyPair;
  api: ApiServer;
  /** As administrator, without sockets. */
  client: Client;
  /** What was called of late, and faults to inject. */
  calls: Calls;
  awsConfig: AwsConfig & Required<Pick<AwsConfig, 'endpoint' | 'credentials'>>;
  vpcId: string;
  nodes: SimulatedNodes;
  stop(): Promise<void>;
}

const serviceCidr = '10.96.0.0/16';

/**
 * A whole cluster in this process: API server on a memory store, controllers, scheduler, cloud controllers, the embedded AWS without
 * a data plane, and simulated nodes. Needs no privileges and leaves nothing behind. Resolves when the API is ready and the nodes are
 * being launched.
 */
export async function startInProcess(o: InProcessOptions): Promise<InProcessCluster> {
  const ends: (() => unknown)[] = [];
  const stop = once(async () => {
    for (const end of ends.reverse()) await end();
  });
  try {
    o.signal?.throwIfAborted();
    const directory = mkdtempSync(join(tmpdir(), 'kumulus-'));
    ends.push(() => rmSync(directory, { recursive: true, force: true, maxRetries: 3 }));
    // Both are waited for, also where one fails: what it started has to end with the rest.
    const started = await Promise.allSettled([
      startKubernetes(o, ends),
      o.external ? startElsewhere(o, o.external, ends) : startCloud(o, directory, ends),
    ]);
    const [api, cloud] = started.map((one) => {
      if (one.status === 'rejected') throw one.reason;
      return one.value;
    }) as [Awaited<ReturnType<typeof startKubernetes>>, Cloud];
    o.signal?.throwIfAborted();
    const { awsConfig, network } = cloud;
    const podCidr = podCidrFor(o.nodes);
    const components = startComponents(api.server, {
      name: o.name,
      ca: api.pki.ca,
      serviceAccount: api.pki.serviceAccount,
      podCidr,
      aws: { config: awsConfig, vpcId: network.vpcId, routeTableIds: [network.routeTableId] },
      cloudRoutes: o.nodes <= routesOfTable,
      tuning: o.tuning,
      log: o.log,
    });
    ends.push(() => components.stop());
    const stopped = new AbortController();
    setMaxListeners(0, stopped.signal);
    const nodes = new SimulatedNodes({
      client: api.server.localClient({ name: 'system:simulated-nodes', groups: ['system:masters', 'system:authenticated'] }),
      informers: components.informers,
      clock: systemClock,
      log: o.log.child({ component: 'simulated-nodes' }),
      signal: stopped.signal,
      rules: o.behaviours,
      ...leaseSeconds(o.tuning.nodeMonitorGracePeriodMs),
      keys: {
        clientCa: api.pki.ca.cert,
        clientName: 'kube-apiserver-kubelet-client',
        issue: (node) =>
          issue(api.pki.ca, {
            commonName: `system:node:${node.name}`,
            organizations: ['system:nodes'],
            dnsNames: [node.name],
            ips: [node.address],
            usage: 'server',
          }),
      },
    });
    api.connect.to = nodes;
    const endFollowing = followInstances(nodes, { source: cloud.source, sizeOf: instanceSize, labels: o.nodeLabels, taints: o.nodeTaints });
    ends.push(() => {
      endFollowing();
      stopped.abort(new Error('the cluster stops'));
    });
    await launch(o, cloud);
    return {
      server: `https://127.0.0.1:${api.server.port}`,
      ca: api.pki.ca.cert,
      admin: api.pki.admin,
      api: api.server,
      client: api.server.localClient(administrator),
      calls: cloud.calls,
      awsConfig: cloud.config,
      vpcId: network.vpcId,
      nodes,
      stop,
    };
  } catch (error) {
    await stop();
    throw error;
  }
}

function once(work: () => Promise<void>): () => Promise<void> {
  let done: Promise<void> | undefined;
  return () => (done ??= work());
}

async function startKubernetes(o: InProcessOptions, ends: (() => unknown)[]) {
  const pki = await ephemeralPki({
    dnsNames: ['kubernetes', 'kubernetes.default', 'kubernetes.default.svc', 'kubernetes.default.svc.cluster.local', 'localhost'],
    ips: ['127.0.0.1', '10.96.0.1'],
  });
  const store = openMemoryStore();
  ends.push(() => store.close());
  // The nodes come later than the server that reaches them.
  const connect: { to?: SimulatedNodes } = {};
  const server = await startApi(store, {
    ca: pki.ca,
    tls: pki.apiserver,
    kubeletClient: pki.kubeletClient,
    serviceAccount: pki.serviceAccount,
    port: 0,
    unixSockets: [],
    serviceCidr,
    dialFirst: (host, port) => connect.to?.connect(host, port) as never,
    log: o.log,
  });
  ends.push(() => server.stop(500));
  await applyAddons(server.localClient(administrator), {
    ca: pki.ca.cert,
    server: `https://127.0.0.1:${server.port}`,
    bootstrapToken: newBootstrapToken(),
    clusterDns: '10.96.0.10',
  });
  return { server, pki, connect };
}

/** The AWS that the cluster lives on. */
interface Cloud {
  calls: Calls;
  /** For others' clients. */
  config: InProcessCluster['awsConfig'];
  /** For the cluster's own. */
  awsConfig: AwsConfig;
  context: HandlerContext;
  source: FollowOptions['source'];
  imageId: string;
  network: { vpcId: string; routeTableId: string; securityGroupId: string; subnetIds: string[] };
}

async function startElsewhere(o: InProcessOptions, external: ExternalAws, ends: (() => unknown)[]): Promise<Cloud> {
  const { startExternalCloud } = await import('./external-aws.ts');
  const { name, region, zones, signal } = o;
  const cloud = await startExternalCloud({ name, region, zones, declarations: network(o), external, ...(signal ? { signal } : {}) });
  ends.push(() => cloud.stop());
  return cloud;
}

async function startCloud(o: InProcessOptions, directory: string, ends: (() => unknown)[]): Promise<Cloud> {
  const aws = await startLocalAws({
    directory,
    durable: false,
    port: 0,
    region: o.region,
    zones: ['a', 'b', 'c', 'd', 'e', 'f'],
    accountId: o.accountId,
    log: o.log.child({ component: 'aws' }),
    dataPlane: 'simulated',
  });
  ends.push(() => aws.stop());
  const config = { region: o.region, endpoint: aws.url, credentials: aws.rootCredentials };
  const awsConfig = { ...config, unlimited: true };
  const clients = createAwsClients(awsConfig);
  ends.push(() => clients.destroy());
  const context = { clients, cluster: o.name, ...(o.signal ? { signal: o.signal } : {}) };
  const known = await ensure(context, network(o));
  const idOf = (id: string) => known.get(id)?.id ?? '';
  return {
    calls: aws.calls,
    config,
    awsConfig,
    context,
    source: aws.source,
    imageId: nodeImage,
    network: {
      vpcId: idOf(ids.vpc),
      routeTableId: idOf(ids.routeTable),
      securityGroupId: idOf(ids.nodeSecurityGroup),
      subnetIds: o.zones.map((zone) => idOf(ids.subnet(zone))),
    },
  };
}

/** The cluster's network. Nothing inside the VPC runs, so that no interface stands for the API server and nodes have no role. */
function network(o: InProcessOptions): Declaration[] {
  const all = topology({
    cluster: o.name,
    region: o.region,
    zones: o.zones,
    vpcCidr: '10.0.0.0/16',
    podCidr: podCidrFor(o.nodes),
    controlPlane: { type: 'hosted', socket: '', port: 6443 },
    nodeGroups: [],
  });
  return all.filter((d) => d.id !== ids.controlPlaneInterface && d.kind !== 'iam:InstanceProfile');
}

async function launch(o: InProcessOptions, cloud: Cloud): Promise<void> {
  await launchSimulated(cloud.context, {
    name: 'workers',
    size: o.nodes,
    instanceType: o.instanceType,
    imageId: cloud.imageId,
    subnetIds: cloud.network.subnetIds,
    securityGroupIds: [cloud.network.securityGroupId],
    token: 'first',
  });
}
