import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { mkdir } from 'node:fs/promises';
import type { Logger } from 'pino';
import { resources } from '../api/generated/resources.ts';
import type { Node, Pod, Taint } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';
import { type Clock, sleep, systemClock } from '../client/clock.ts';
import { type ClientConfig, createHttpClient } from '../client/http.ts';
import { createInformerFactory } from '../client/informers.ts';
import { createEventRecorder } from '../client/recorder.ts';
import type { ContainerStatus, Runtime } from '../runtime/cri.ts';
import { admitPod, resizeProblem } from './admission.ts';
import { DynamicResources } from './dynamic-resources/manager.ts';
import { Backoff } from './backoff.ts';
import { bootstrap } from './bootstrap.ts';
import { CertificateStore, keepRotated } from './certificates.ts';
import { Cgroups } from './cgroups.ts';
import type { PodContext } from './context.ts';
import { type CsiNodeDriver, registerCsiDrivers } from './csi-node.ts';
import { newKey, requestCertificate } from './csr.ts';
import { keepHouse } from './housekeeping.ts';
import { ImageManager } from './images.ts';
import { podNameLabel, podNamespaceLabel, podUidLabel } from './labels.ts';
import { keepLease } from './lease.ts';
import { readMachine, readPressure } from './machine.ts';
import { nodeResolvConf } from './network-identity.ts';
import { NodeRegistration } from './node-registration.ts';
import { allocatableOf, capacityOf, nodeStatus } from './node-status.ts';
import { makePaths, type Paths } from './paths.ts';
import { PodManager } from './pod-manager.ts';
import { containerNameOf, PodStateReader, restartCountOf } from './pod-state.ts';
import { isStaticPod } from './pods.ts';
import { ProbeManager } from './probes/manager.ts';
import { RuntimeHealth } from './runtime-health.ts';
import { KubeletServer } from './server/server.ts';
import { ServingCertificate } from './serving-certificate.ts';
import { StatusManager } from './status-manager.ts';
import { terminationMessage } from './termination-message.ts';
import { VolumeManager } from './volumes/manager.ts';

export interface KubeletOptions {
  nodeName: string;
  /** Pods' files, as upstream's /var/lib/kubelet. */
  rootDir: string;
  /** Client and serving certificates; they outlive a restart. */
  certDirectory: string;
  runtime: Runtime;
  /** token and caCertHashes are needed until there is a client certificate; caCert (PEM) saves the discovery. */
  client: { server: string; token?: string; caCertHashes?: string[]; caCert?: string };
  /** external: the cloud's controllers set addresses, zone and type, and take the uninitialized taint away. */
  cloudProvider?: 'external';
  providerId?: string;
  nodeIp: string;
  nodeLabels?: Record<string, string>;
  registerWithTaints?: Taint[];
  clusterDns: string[];
  clusterDomain: string;
  /** Between two looks for what is to be taken away or to grow; a minute by default. */
  housekeepingPeriodMs?: number;
  csiDrivers?: CsiNodeDriver[];
  /** Where drivers of dynamic resources put their registration sockets; plugins_registry below rootDir by default. */
  pluginsRegistry?: string;
  /** 0.0.0.0 and 10250 by default; port 0 takes any. */
  address?: string;
  port?: number;
  /** 110 by default. */
  maxPods?: number;
  /** The cgroup below which kubepods lies; the root by default. */
  cgroupRoot?: string;
  /** /var/log/pods and /var/log/containers by default. */
  podLogsDir?: string;
  containerLogsDir?: string;
  /** 10 s by default. */
  nodeStatusUpdateFrequencyMs?: number;
  /** 40 s by default. */
  nodeLeaseDurationSeconds?: number;
  log: Logger;
  clock?: Clock;
  /** Ends a start that still waits, and the kubelet. */
  signal?: AbortSignal;
}

export interface Kubelet {
  /** How this node reaches the API server; the certificate in it rotates. */
  clientConfig: ClientConfig;
  /** Where the kubelet's own API listens. */
  port: number;
  /** Lets go of everything; containers run on, and the next kubelet of this node takes them over. */
  stop(): Promise<void>;
}

const userAgent = 'kumulus-kubelet/v1.37.0';

/**
 * Starts the kubelet of this node. Resolves when the Node is registered and the node's pods are known; until the API server answers it
 * tries again, for as long as the signal allows.
 */
export async function startKubelet(o: KubeletOptions): Promise<Kubelet> {
  const stopping = new AbortController();
  const signal = o.signal ? AbortSignal.any([o.signal, stopping.signal]) : stopping.signal;
  const ends: (() => unknown)[] = [];
  const stop = async () => {
    stopping.abort(new Error('the kubelet is stopping'));
    for (const end of ends.splice(0).reverse()) await end();
  };
  try {
    return { ...(await run(o, signal, ends)), stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function run(o: KubeletOptions, signal: AbortSignal, ends: (() => unknown)[]): Promise<Omit<Kubelet, 'stop'>> {
  const { nodeName, runtime, log } = o;
  const clock = o.clock ?? systemClock;
  await mkdir(o.rootDir, { recursive: true, mode: 0o750 });
  const paths = makePaths(o.rootDir, o.podLogsDir, o.containerLogsDir, (text) => createHash('sha256').update(text).digest('hex'));

  const { ca, pair } = await bootstrap({ ...o.client, certDirectory: o.certDirectory, nodeName, log, clock, signal });
  let credentials = pair;
  const clientConfig: ClientConfig = { server: o.client.server, ca, credentials: () => credentials, userAgent };
  const client = createHttpClient(clientConfig);
  ends.push(() => client.close());
  const store = new CertificateStore(o.certDirectory, 'kubelet-client');
  const rotation = keepRotated(
    {
      store,
      request: async (until) => {
        const key = await newKey();
        const cert = await requestCertificate({ client, signerName: 'kubernetes.io/kube-apiserver-client-kubelet', nodeName, key, signal: until });
        return { cert, key: key.pem };
      },
      onChange: (next) => {
        credentials = next;
      },
      log,
      clock,
      signal,
    },
    pair,
  );
  ends.push(() => rotation);

  const recorder = createEventRecorder(client, { component: 'kubelet', host: nodeName, clock, log });
  ends.push(() => recorder.close());
  const [machine, version, nodeDns] = await Promise.all([readMachine(o.rootDir), runtime.version(), nodeResolvConf()]);
  const maxPods = o.maxPods ?? 110;
  const capacity = capacityOf(machine, maxPods);
  const allocatable = allocatableOf(machine, maxPods, { cpuMilli: 0, memoryBytes: 0 });
  const cgroups = new Cgroups(log, o.cgroupRoot);
  await cgroups.setup();

  const informers = createInformerFactory(client, { log, clock, signal });
  const health = new RuntimeHealth(runtime);
  const pods = new PodManager({ log });
  const statuses = new StatusManager({ client, log, clock, signal });
  const states = new PodStateReader(runtime, (container) => messageOf(paths, container));
  const probes = new ProbeManager({ runtime, recorder, log, clock, onChange: (uid) => pods.trigger(uid) });
  ends.push(() => probes.stop());
  const images = new ImageManager({ runtime, client, recorder, log, clock });

  let server: KubeletServer | undefined;
  let port = 0;
  const nodeAddresses = [
    { type: 'InternalIP', address: o.nodeIp },
    { type: 'Hostname', address: nodeName },
  ];
  const hostIPs = (): string[] => {
    const internal = (registration.current?.status?.addresses ?? []).filter((a) => a.type === 'InternalIP').map((a) => a.address);
    return internal.length > 0 ? internal : [o.nodeIp];
  };
  const volumes = new VolumeManager({
    client,
    clock,
    log,
    recorder,
    paths,
    nodeName,
    signal,
    tmpfsForSecrets: process.getuid?.() === 0,
    addresses: (pod) => ({ podIPs: (statuses.get(pod.metadata.uid)?.podIPs ?? pod.status?.podIPs ?? []).map((p) => p.ip), hostIPs: hostIPs() }),
    allocatable: () => allocatable,
    onChange: (uid) => pods.refreshVolumes(uid),
    reportInUse: () => registration.update(),
    nodeUid: () => registration.current?.metadata.uid,
  });
  await volumes.csi.restore();
  ends.push(() => volumes.stop());

  const registration = new NodeRegistration({
    client,
    clock,
    log,
    signal,
    nodeName,
    labels: nodeLabels(o, machine.architecture),
    annotations: { 'alpha.kubernetes.io/provided-node-ip': o.nodeIp },
    taints: [
      ...(o.registerWithTaints ?? []),
      ...(o.cloudProvider === 'external' ? [{ key: 'node.cloudprovider.kubernetes.io/uninitialized', value: 'true', effect: 'NoSchedule' }] : []),
    ],
    ...(o.providerId ? { providerId: o.providerId } : {}),
    updateFrequencyMs: o.nodeStatusUpdateFrequencyMs ?? 10_000,
    status: async (node) => {
      const [problems, pressure, present] = await Promise.all([health.problems(), readPressure(o.rootDir), runtime.listImages().catch(() => [])]);
      return nodeStatus(node, {
        machine,
        pressure,
        runtime: { name: version.runtimeName, version: version.runtimeVersion },
        notReady: problems,
        addresses: nodeAddresses,
        externalCloud: o.cloudProvider === 'external',
        port,
        maxPods,
        reserved: {},
        images: present,
        volumesInUse: volumes.csi.inUse(),
        now: clock.now(),
        capacity,
        allocatable,
      });
    },
  });

  server = new KubeletServer({
    client,
    runtime,
    pods,
    states,
    statuses,
    paths,
    nodeName,
    clientCa: ca,
    address: o.address ?? '0.0.0.0',
    port: o.port ?? 10250,
    configuration: { clusterDNS: o.clusterDns, clusterDomain: o.clusterDomain, maxPods, cgroupDriver: 'cgroupfs', serverTLSBootstrap: true },
    log,
    clock,
    signal,
  });
  port = await server.listen();
  ends.push(() => server.stop());

  await registration.register();
  const background: Promise<unknown>[] = [
    keepLease({
      client,
      clock,
      log,
      signal,
      nodeName,
      durationSeconds: o.nodeLeaseDurationSeconds ?? 40,
      node: () => registration.current,
    }),
    registration.run(),
  ];
  ends.push(() => Promise.all(background));

  const serving = new ServingCertificate({
    client,
    directory: o.certDirectory,
    nodeName,
    log,
    clock,
    signal,
    onChange: (next) => server.useCertificate(next),
  });
  await serving.load();
  ends.push(() => serving.stop());
  const services = informers.informer(resources.services);
  const podInformer = informers.informer(resources.pods, { fieldSelector: `spec.nodeName=${nodeName}` });
  let podCidr = '';
  const followNode = (node: Node) => {
    registration.observe(node);
    serving.wanted(node.status?.addresses ?? []);
    volumes.csi.nodeChanged(node.status?.volumesAttached ?? []);
    const assigned = node.spec?.podCIDR ?? '';
    if (!assigned || assigned === podCidr) return;
    podCidr = assigned;
    background.push(
      runtime
        .updateRuntimeConfig({ podCidr: assigned })
        .then(() => registration.update())
        .then(() => pods.triggerAll())
        .catch((error: unknown) => {
          // Asked again when the Node changes next, which its heartbeat does.
          podCidr = '';
          if (!signal.aborted) log.error({ err: error, podCidr: assigned }, 'cannot set up the network of pods');
        }),
    );
  };
  informers
    .informer(resources.nodes, { fieldSelector: `metadata.name=${nodeName}` })
    .addHandlers({ onAdd: followNode, onUpdate: (_, node) => followNode(node), onDelete: () => registration.observe(undefined) });

  background.push(registerDrivers(client, registration, o.csiDrivers ?? [], { log, clock, signal }));

  const dynamicResources = new DynamicResources({
    directory: o.pluginsRegistry ?? join(o.rootDir, 'plugins_registry'),
    root: o.rootDir,
    client,
    nodeName,
    clock,
    log,
    signal,
    onRegistered: () => pods.triggerAll(),
  });
  await dynamicResources.start();

  const context: PodContext = {
    nodeName,
    nodeHostname: machine.hostname,
    clusterDomain: o.clusterDomain,
    clusterDns: o.clusterDns,
    nodeDns,
    memoryCapacity: machine.memoryBytes,
    runtime,
    runtimeName: version.runtimeName,
    client,
    recorder,
    log,
    clock,
    paths,
    cgroups,
    images,
    probes,
    volumes,
    dynamicResources,
    statuses,
    states,
    env: (pod, until) => ({
      configMap: (namespace, name) => volumes.objects.get('configmaps', namespace, name, pod.metadata.uid, until),
      secret: (namespace, name) => volumes.objects.get('secrets', namespace, name, pod.metadata.uid, until),
      services: () => services.list(),
      allocatable,
    }),
    resized: new Map(),
    crashBackoff: new Backoff(clock, 10_000, 300_000),
    hostIPs,
    networkError: () => health.networkProblem(),
    admit: (pod: Pod) => admitPod(pod, pods.active(), registration.current, allocatable),
    resizeProblem: (pod: Pod) =>
      resizeProblem(
        pod,
        pods.active().filter((other) => other.metadata.uid !== pod.metadata.uid),
        allocatable,
      ),
    apiPod: (pod) => (isStaticPod(pod) ? pods.mirrorOf(pod) : pod),
  };
  await Promise.all([podInformer.synced(signal), services.synced(signal)]);
  await pods.start(context, podInformer);
  ends.push(() => pods.stop());
  runtime.containerEvents((event) => pods.trigger(event.podSandboxMetadata.uid), signal);
  background.push(
    keepHouse({
      runtime,
      pods,
      paths,
      log,
      clock,
      signal,
      nodeName,
      volumes,
      dynamicResources,
      states,
      ...(o.housekeepingPeriodMs ? { periodMs: o.housekeepingPeriodMs } : {}),
    }),
  );
  log.info({ node: nodeName, port, pods: pods.list().length }, 'the kubelet runs');
  return { clientConfig, port };
}

function nodeLabels(o: KubeletOptions, architecture: string): Record<string, string> {
  return {
    'kubernetes.io/hostname': o.nodeName,
    'kubernetes.io/os': 'linux',
    'kubernetes.io/arch': architecture,
    'beta.kubernetes.io/os': 'linux',
    'beta.kubernetes.io/arch': architecture,
    ...o.nodeLabels,
  };
}

function messageOf(paths: Paths, container: ContainerStatus): Promise<string> {
  const { labels } = container;
  const metadata = { name: labels[podNameLabel] ?? '', namespace: labels[podNamespaceLabel] ?? '', uid: labels[podUidLabel] ?? '' };
  const name = containerNameOf(container);
  const attempt = restartCountOf(container);
  return terminationMessage(container, paths.terminationLog(metadata.uid, name, attempt), `${paths.podLogs({ metadata })}/${name}/${attempt}.log`);
}

/** Tries until CSINode and Node say what drivers there are: the scheduler sends no volume here before. Never rejects. */
async function registerDrivers(
  client: Client,
  registration: NodeRegistration,
  drivers: CsiNodeDriver[],
  o: { log: Logger; clock: Clock; signal: AbortSignal },
): Promise<void> {
  for (let wait = 200; !o.signal.aborted; wait = Math.min(wait * 2, 10_000)) {
    try {
      if (registration.current) return await registerCsiDrivers(client, registration.current, drivers, o.signal);
    } catch (error) {
      if (o.signal.aborted) return;
      o.log.warn({ err: error }, 'cannot register CSI drivers, will retry');
    }
    await sleep(o.clock, wait, o.signal).catch(() => {});
  }
}
