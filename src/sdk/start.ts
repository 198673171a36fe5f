import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import { checkClusterName, UserError } from '../cluster/state.ts';
import type { Backend } from './backend.ts';
import { startSupervised } from './supervised.ts';
import { RunningCluster } from './cluster.ts';
import type { Cluster, StartClusterOptions } from './types.ts';
import { limitOf, waitForReadyNodes } from './wait.ts';

const defaultZones = ['us-east-1a', 'us-east-1b'];

/**
 * Starts a cluster and resolves when its nodes are Ready. With simulated nodes alone it lives in this process and needs no privileges;
 * with `nodes` it is what `kumulus create cluster` makes, and needs Linux and root. End it with stop(), or by `await using`.
 */
export async function startCluster(options: StartClusterOptions = {}): Promise<Cluster> {
  const name = options.name ?? `test-${randomBytes(4).toString('hex')}`;
  checkClusterName(name);
  const nodes = options.nodes ?? 0;
  const simulated = options.simulatedNodes ?? (nodes > 0 ? 0 : 1);
  for (const count of [nodes, simulated]) if (!Number.isInteger(count) || count < 0) throw new UserError(`${count} is not a number of nodes`);
  const o = options.aws ?? {};
  if (nodes > 0 && o.region && o.region !== 'us-east-1') throw new UserError('instances that run containers are of us-east-1: leave out aws.region');
  const zones = options.zones ?? (o.region ? ['a', 'b'].map((letter) => `${o.region}${letter}`) : defaultZones);
  const badZone = o.endpoint ? undefined : zones.find((zone) => !/^us-east-1[a-f]$/.test(zone));
  if (!zones.length || badZone) throw new UserError(`unknown zone '${badZone ?? ''}': the embedded AWS has us-east-1a to us-east-1f`);
  const limit = limitOf(options.timeoutMs ?? (nodes > 0 ? 300_000 : 60_000), options.signal);
  let backend: Backend | undefined;
  try {
    backend =
      nodes > 0
        ? await startSupervised(name, nodes, simulated, zones, options, limit.signal)
        : await startHere(name, simulated, zones, options, limit.signal);
    for (const fault of options.aws?.faults ?? []) await backend.inject(fault);
    const cluster = new RunningCluster(backend);
    await cluster.waitFor('serviceaccount/default', 'exists', { signal: limit.signal });
    if (options.waitForNodes !== false) await waitForReadyNodes(backend.client, nodes + simulated, limit);
    options.signal?.addEventListener('abort', () => void cluster.stop(), { once: true });
    return cluster;
  } catch (error) {
    await backend?.stop();
    throw error;
  } finally {
    limit.clear();
  }
}

async function startHere(name: string, nodes: number, zones: string[], o: StartClusterOptions, signal: AbortSignal): Promise<Backend> {
  const { startInProcess } = await import('../cluster/in-process.ts');
  const { endpoint, credentials, imageId } = o.aws ?? {};
  // LocalStack and moto take any keys.
  const external = endpoint
    ? { endpoint, credentials: credentials ?? { accessKeyId: 'test', secretAccessKey: 'test' }, ...(imageId ? { imageId } : {}) }
    : undefined;
  const cluster = await startInProcess({
    name,
    nodes,
    instanceType: o.instanceType ?? 'm5.large',
    region: o.aws?.region ?? 'us-east-1',
    zones,
    accountId: o.aws?.accountId ?? '000000000000',
    ...(external ? { external } : {}),
    behaviours: o.behaviours ?? [],
    nodeLabels: o.nodeLabels ?? {},
    nodeTaints: o.nodeTaints ?? [],
    tuning: o.nodeMonitorGracePeriodMs ? { nodeMonitorGracePeriodMs: o.nodeMonitorGracePeriodMs } : {},
    log: pino({ level: o.logLevel ?? 'silent', base: undefined }, pino.destination(2)),
    signal,
  });
  return {
    name,
    server: cluster.server,
    ca: cluster.ca,
    admin: cluster.admin,
    client: cluster.client,
    awsConfig: cluster.awsConfig,
    vpcId: cluster.vpcId,
    waitMs: external ? 60_000 : 30_000,
    calls: async () => cluster.calls.recent(),
    inject: async (fault) => {
      const end = cluster.calls.inject(fault);
      return async () => void end();
    },
    disturb: async (node, _what, broken) => {
      if (!cluster.nodes.setUp(node, !broken)) throw new Error(`no simulated node ${node} runs`);
    },
    stop: () => cluster.stop(),
  };
}
