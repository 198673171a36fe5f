import type { Logger } from 'pino';
import { startApiServer } from '../apiserver/server.ts';
import type { Client } from '../client/client.ts';
import { systemClock } from '../client/clock.ts';
import { createInformerFactory } from '../client/informers.ts';
import { createEventRecorder } from '../client/recorder.ts';
import { createAwsClients, type AwsConfig } from '../aws/clients.ts';
import { createAwsProvider } from '../cloud/aws/provider.ts';
import { startCloudControllers } from '../cloud/index.ts';
import type { ControllerContext } from '../controllers/controller.ts';
import { startControllers } from '../controllers/index.ts';
import { startScheduler } from '../scheduler/index.ts';
import { openLmdbStore } from '../store/lmdb.ts';
import { dialVpc } from './dial.ts';
import { createConnection } from 'node:net';

export interface ControlPlaneOptions {
  name: string;
  storePath: string;
  ca: { cert: string; key: string };
  tls: { cert: string; key: string };
  kubeletClient: { cert: string; key: string };
  serviceAccount: { privateKey: string; publicKey: string };
  port: number;
  unixSockets: string[];
  advertise: { address: string; port: number };
  serviceCidr: string;
  podCidr: string;
  /** The VPC agent's Unix socket; connections go straight out where left out (the control plane stands in the VPC). */
  dialVpc?: string;
  aws: { config: AwsConfig; vpcId: string; routeTableIds: string[] };
  tuning: { nodeMonitorGracePeriodMs?: number; nodeMonitorPeriodMs?: number };
  log: Logger;
}

export interface ControlPlane {
  port: number;
  admin: Client;
  stop(): Promise<void>;
}

/** API server, controllers, scheduler and cloud controllers in this process; resolves when the API is ready. */
export async function startControlPlane(o: ControlPlaneOptions): Promise<ControlPlane> {
  const store = await openLmdbStore(o.storePath);
  const agentSocket = o.dialVpc;
  const server = await startApiServer({
    store,
    tls: o.tls,
    clientCa: o.ca.cert,
    host: '127.0.0.1',
    port: o.port,
    unixSockets: o.unixSockets,
    serviceAccount: {
      issuer: 'https://kubernetes.default.svc.cluster.local',
      privateKey: o.serviceAccount.privateKey,
      publicKeys: [o.serviceAccount.publicKey],
    },
    serviceCidr: o.serviceCidr,
    kubeletClient: { ...o.kubeletClient, ca: o.ca.cert },
    dial: agentSocket ? (host, port, signal) => dialVpc(agentSocket, host, port, signal) : async (host, port) => createConnection({ host, port }),
    advertise: o.advertise,
    log: o.log.child({ component: 'apiserver' }),
  });
  await server.ready;

  const stopped = new AbortController();
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
  const running = [
    ...startControllers(component('kube-controller-manager', 'system:kube-controller-manager'), {
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
      { clusterName: o.name, clusterCidr: o.podCidr },
    ),
  ];
  return {
    port: server.port,
    admin: server.localClient({ name: 'kubernetes-admin', groups: ['system:masters', 'system:authenticated'] }),
    async stop() {
      stopped.abort(new Error('the control plane stops'));
      await Promise.allSettled(running.map((c) => c.done));
      await server.stop(3000);
      aws.destroy();
      await store.close();
    },
  };
}
