/** The `control-plane` process of a cluster. Argument: the cluster's name. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { superviseThis } from './process.ts';
import { startControlPlane } from './control-plane.ts';
import { routesOfTable } from './simulated-nodes.ts';
import { type ClusterRecord, hasDataPlane, pathsOf, requireRecord } from './state.ts';
import { awsEndpoint, readRootCredentials } from './aws-endpoint.ts';

const name = process.argv[2] as string;
const paths = pathsOf(name);
const self = superviseThis('control-plane');
const record = await recordWithNetwork();
const pem = (file: string) => readFileSync(join(paths.pki, file), 'utf8');

const simulated = record.simulatedNodes ? await import('./simulated-process.ts') : undefined;
const controlPlane = await startControlPlane({
  name,
  storePath: paths.store,
  ca: { cert: pem('ca.crt'), key: pem('ca.key') },
  tls: { cert: pem('apiserver.crt'), key: pem('apiserver.key') },
  kubeletClient: { cert: pem('apiserver-kubelet-client.crt'), key: pem('apiserver-kubelet-client.key') },
  serviceAccount: { privateKey: pem('sa.key'), publicKey: pem('sa.pub') },
  port: record.ports.api,
  unixSockets: [paths.apiSocket],
  advertise: { address: record.network.apiAddress, port: 6443 },
  serviceCidr: record.serviceCidr,
  podCidr: record.podCidr,
  ...(hasDataPlane(record) ? { dialVpc: join(paths.run, `${record.network.vpcId}.sock`) } : {}),
  ...(simulated ? { dialFirst: simulated.dial, cloudRoutes: record.nodes + (record.simulatedNodes ?? 0) <= routesOfTable } : {}),
  aws: {
    config: { region: record.region, endpoint: awsEndpoint(record), credentials: readRootCredentials(paths.aws) },
    vpcId: record.network.vpcId,
    routeTableIds: [record.network.routeTableId],
  },
  tuning: record.tuning ?? {},
  log: self.log,
});
self.onStop(() => controlPlane.stop());
simulated?.start(record, controlPlane, self.log);
self.ready();

/** While a cluster is being created, this process begins before its network is there. */
async function recordWithNetwork(): Promise<ClusterRecord & { network: NonNullable<ClusterRecord['network']> }> {
  for (;;) {
    const found = requireRecord(name);
    if (found.network) return { ...found, network: found.network };
    if (found.phase !== 'creating') throw new Error(`cluster '${name}' has no network`);
    await setTimeout(20);
  }
}
