import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Taint } from '../api/generated/types.ts';
import { systemClock } from '../client/clock.ts';
import { createHttpClient } from '../client/http.ts';
import { createInformerFactory } from '../client/informers.ts';
import { startKubelet } from '../kubelet/kubelet.ts';
import { startClusterDns } from '../network/dns.ts';
import { createPodNetwork } from '../network/pod-network.ts';
import { startProxy } from '../proxy/proxy.ts';
import { createEmbeddedRuntime } from '../runtime/embedded/runtime.ts';
import { readInstanceFacts } from './instance-metadata.ts';

export interface NodeOptions {
  server: string;
  token: string;
  caCertHash: string;
  clusterDns: string;
  clusterDomain: string;
  clusterCidr: string;
  /** Runtime data, on the real disk. */
  dataDirectory: string;
  nodeLabels: Record<string, string>;
  nodeLeaseDurationSeconds: number;
  /** Put on the node when it registers, so that nothing is placed there before. */
  taints: { key: string; value: string; effect: string }[];
  log: Logger;
  signal: AbortSignal;
}

/** One node: container runtime, kubelet, kube-proxy and cluster DNS in this process. Resolves when stopped; containers run on. */
export async function runNode(o: NodeOptions): Promise<void> {
  const facts = await readInstanceFacts(o.signal);
  const kubeletDirectory = join(o.dataDirectory, 'kubelet');
  mkdirSync(kubeletDirectory, { recursive: true, mode: 0o750 });
  const network = createPodNetwork({
    stateDir: join(o.dataDirectory, 'network'),
    log: o.log.child({ component: 'network' }),
    nonMasqueradeCidrs: [o.clusterCidr, '10.0.0.0/8'],
  });
  const mirrors = process.env['KUMULUS_REGISTRY_MIRRORS'];
  const runtime = await createEmbeddedRuntime({
    root: join(o.dataDirectory, 'containers'),
    network,
    ...(mirrors ? { registryMirrors: mirrors } : {}),
    log: o.log.child({ component: 'runtime' }),
  });
  const kubelet = await startKubelet({
    nodeName: facts.hostname,
    rootDir: kubeletDirectory,
    certDirectory: join(kubeletDirectory, 'pki'),
    runtime,
    client: { server: o.server, token: o.token, caCertHashes: [o.caCertHash] },
    cloudProvider: 'external',
    providerId: `aws:///${facts.zone}/${facts.instanceId}`,
    nodeIp: facts.privateIp,
    nodeLabels: o.nodeLabels,
    nodeLeaseDurationSeconds: o.nodeLeaseDurationSeconds,
    registerWithTaints: o.taints as Taint[],
    clusterDns: [o.clusterDns],
    clusterDomain: o.clusterDomain,
    // Where drivers for upstream's kubelet look for it.
    pluginsRegistry: '/var/lib/kubelet/plugins_registry',
    csiDrivers: [
      {
        name: 'ebs.csi.aws.com',
        nodeId: facts.instanceId,
        topology: { 'topology.kubernetes.io/zone': facts.zone, 'topology.ebs.csi.aws.com/zone': facts.zone },
        allocatable: 25,
      },
    ],
    log: o.log.child({ component: 'kubelet' }),
    clock: systemClock,
  });
  const client = createHttpClient({ ...kubelet.clientConfig, userAgent: 'kumulus-node' });
  const informers = createInformerFactory(client, { log: o.log.child({ component: 'informers' }), clock: systemClock, signal: o.signal });
  const parts = [
    startProxy({
      informers,
      nodeName: facts.hostname,
      nodeIps: [facts.privateIp],
      metricsPort: 10_249,
      ownNamespace: true,
      clusterCidr: o.clusterCidr,
      clock: systemClock,
      log: o.log.child({ component: 'proxy' }),
      signal: o.signal,
    }),
    startClusterDns({ informers, domain: o.clusterDomain, address: o.clusterDns, log: o.log.child({ component: 'dns' }), signal: o.signal }),
  ];
  await new Promise<void>((resolve) => {
    if (o.signal.aborted) resolve();
    else o.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await Promise.allSettled(parts.map((p) => p.done));
  informers.stop();
  await kubelet.stop();
  client.close();
  await runtime.close();
}
