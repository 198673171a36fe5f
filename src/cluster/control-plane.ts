import { setMaxListeners } from 'node:events';
import type { Logger } from 'pino';
import { issue } from './pki.ts';
import { type ApiServer, type Dial, startApiServer } from '../apiserver/server.ts';
import type { Client } from '../client/client.ts';
import { systemClock } from '../client/clock.ts';
import type { InformerFactory } from '../client/informer.ts';
import { createInformerFactory } from '../client/informers.ts';
import { createEventRecorder } from '../client/recorder.ts';
import { createAwsClients, type AwsConfig } from '../aws/clients.ts';
import { createAwsProvider } from '../cloud/aws/provider.ts';
import { startCloudControllers } from '../cloud/index.ts';
import type { ControllerContext } from '../controllers/controller.ts';
import { startControllers } from '../controllers/index.ts';
import { startScheduler } from '../scheduler/index.ts';
import type { Store } from '../store/store.ts';
import { dialVpc } from './dial.ts';
import { createConnection } from 'node:net';

export interface ControlPlaneOptions {
  name: string;
  /** Of the embedded store; a store that is given instead is the caller's to close. */
  storePath?: string;
  store?: Store;
  ca: { cert: string; key: string };
  tls: { cert: string; key: string };
  kubeletClient: { cert: string; key: string };
  serviceAccount: { privateKey: string; publicKey: string };
  /** Loopback where left out. */
  host?: string;
  port: number;
  unixSockets: string[];
  advertise: { address: string; port: number };
  serviceCidr: string;
  podCidr: string;
  /** The VPC agent's Unix socket; connections go straight out where left out (the control plane stands in the VPC). */
  dialVpc?: string;
  /** Asked first; undefined where the address is none of its own. */
  dialFirst?: (host: string, port: number) => ReturnType<Dial> | undefined;
  aws: { config: AwsConfig; vpcId: string; routeTableIds: string[] };
  /** false: no routes to pods are kept in AWS, as upstream's --configure-cloud-routes. */
  cloudRoutes?: boolean;
  tuning: { nodeMonitorGracePeriodMs?: number; nodeMonitorPeriodMs?: number };
  log: Logger;
}

export interface ControlPlane {
  port: number;
  admin: Client;
  /** Shared by the controllers. */
  informers: InformerFactory;
  /** In-process client of a user. */
  clientOf(user: { name: string; groups: string[] }): Client;
  stop(): Promise<void>;
}

/** API server, controllers, scheduler and cloud controllers in this process; resolves when the API is ready. */
export async function startControlPlane(o: ControlPlaneOptions): Promise<ControlPlane> {
  const store = o.store ?? (await (await import('../store/lmdb.ts')).openLmdbStore(o.storePath as string));
  const server = await startApi(store, o);
  const components = startComponents(server, o);
  return {
    port: server.port,
    admin: server.localClient(administrator),
    informers: components.informers,
    clientOf: (user) => server.localClient(user),
    async stop() {
      await components.stop();
      await server.stop(3000);
      if (!o.store) await store.close();
    },
  };
}

export const administrator = { name: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] };

type ApiOptions = Omit<ControlPlaneOptions, 'aws' | 'name' | 'podCidr' | 'tuning' | 'advertise'> & Partial<Pick<ControlPlaneOptions, 'advertise'>>;

/** The API server alone; resolves when it is ready. */
export async function startApi(store: Store, o: ApiOptions): Promise<ApiServer> {
  const agentSocket = o.dialVpc;
  const onward: Dial = agentSocket
    ? (host, port, signal) => dialVpc(agentSocket, host, port, signal)
    : async (host, port) => createConnection({ host, port });
  const frontProxy = await issue(o.ca, { commonName: 'front-proxy-client', usage: 'client' });
  const server = await startApiServer({
    store,
    tls: o.tls,
    clientCa: o.ca.cert,
    host: o.host ?? '127.0.0.1',
    port: o.port,
    unixSockets: o.unixSockets,
    serviceAccount: {
      issuer: 'https://kubernetes.default.svc.cluster.local',
      privateKey: o.serviceAccount.privateKey,
      publicKeys: [o.serviceAccount.publicKey],
    },
    serviceCidr: o.serviceCidr,
    kubeletClient: { ...o.kubeletClient, ca: o.ca.cert },
    frontProxy: { ...frontProxy, ca: o.ca.cert },
    dial: (host, port, signal) => o.dialFirst?.(host, port) ?? onward(host, port, signal),
    ...(o.advertise ? { advertise: o.advertise } : {}),
    log: o.log.child({ component: 'apiserver' }),
  });
  await server.ready;
  return server;
}

/** What stands beside an API server: controllers, scheduler and cloud controllers. stop() resolves when their workers have ended. */
export function startComponents(
  server: ApiServer,
  o: Pick<ControlPlaneOptions, 'name' | 'ca' | 'serviceAccount' | 'podCidr' | 'aws' | 'cloudRoutes' | 'tuning' | 'log'>,
): { informers: InformerFactory; stop(): Promise<void> } {
  const stopped = new AbortController();
  // Every controller listens; Node before 24 takes eleven listeners for a leak.
  setMaxListeners(0, stopped.signal);
  const component = (name: string, user: string): ControllerContext => {
    const client = server.localClient({ name: user, groups: ['system:masters', 'system:authenticated'] });
    const log = o.log.child({ component: name });
    return {
      client,
      informers: createInformerFactory(client, { log, clock: systemClock, signal: stopped.signal }),
      clock: systemClock,
      events: createEventRecorder(client, { component: name, clock: systemClock, log }),
      log,
      signal: stopped.signal,
    };
  };
  const aws = createAwsClients(o.aws.config);
  const controllerManager = component('kube-controller-manager', 'system:kube-controller-manager');
  const running = [
    ...startControllers(controllerManager, {
      clusterCidr: o.podCidr,
      nodeCidrMaskSize: 24,
      ca: o.ca,
      rootCa: o.ca.cert,
      serviceAccountKey: o.serviceAccount.privateKey,
      ...o.tuning,
    }),
    startScheduler(component('default-scheduler', 'system:kube-scheduler')),
    ...startCloudControllers(
      component('cloud-controller-manager', 'system:cloud-controller-manager'),
      createAwsProvider({
        clients: aws,
        cluster: o.name,
        vpcId: o.aws.vpcId,
        routeTableIds: o.aws.routeTableIds,
        log: o.log.child({ component: 'aws-provider' }),
      }),
      { clusterName: o.name, clusterCidr: o.podCidr, routes: o.cloudRoutes ?? true },
    ),
  ];
  return {
    informers: controllerManager.informers,
    async stop() {
      stopped.abort(new Error('the control plane stops'));
      await Promise.allSettled(running.map((c) => c.done));
      aws.destroy();
    },
  };
}
