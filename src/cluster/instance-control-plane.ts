import { GetParametersCommand } from '@aws-sdk/client-ssm';
import { createPublicKey } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type AwsClients, createAwsClients } from '../aws/clients.ts';
import { apiPort, parameterPath } from '../aws/topology.ts';
import { applyAddons } from './addons.ts';
import { startControlPlane } from './control-plane.ts';
import { mountDataVolume } from './data-volume.ts';
import { readInstanceFacts } from './instance-metadata.ts';
import { ensurePki } from './pki.ts';

export interface InstanceControlPlaneOptions {
  cluster: string;
  vpcId: string;
  routeTableIds: string[];
  serviceCidr: string;
  podCidr: string;
  clusterDns: string;
  clusterDomain: string;
  /** Names and addresses beside this instance's own by which the API is called, such as its load balancer's. */
  certificateNames: string[];
  /** Where the store and the keys live. */
  dataDirectory: string;
  /** Id of the EBS volume to mount there. */
  dataVolume?: string;
  log: Logger;
  signal: AbortSignal;
}

/** What an instance takes from Systems Manager: the cluster's keys were made before it and outlive it. */
export const secretNames = { caCertificate: 'ca.crt', caKey: 'ca.key', serviceAccountKey: 'sa.key', bootstrapToken: 'bootstrap-token' } as const;

/**
 * A whole control plane on this EC2 instance: API server, controllers, scheduler and cloud controllers, with the role's
 * credentials. Resolves when signal aborts and all has stopped; throws where the instance's role may not read the keys.
 */
export async function runInstanceControlPlane(o: InstanceControlPlaneOptions): Promise<void> {
  const facts = await readInstanceFacts(o.signal);
  const clients = createAwsClients({ region: facts.region });
  if (o.dataVolume) await mountDataVolume(clients, o.dataVolume, facts.instanceId, o.dataDirectory, o.signal);
  const pkiDirectory = join(o.dataDirectory, 'pki');
  mkdirSync(pkiDirectory, { recursive: true, mode: 0o700 });
  const bootstrapToken = await fetchSecrets(clients, o.cluster, pkiDirectory).finally(() => clients.destroy());
  const isAddress = (name: string) => /^[\d.]+$|:/.test(name);
  const pki = await ensurePki(pkiDirectory, {
    dnsNames: [
      'kubernetes',
      'kubernetes.default',
      'kubernetes.default.svc',
      `kubernetes.default.svc.${o.clusterDomain}`,
      'localhost',
      facts.hostname,
      ...o.certificateNames.filter((name) => !isAddress(name)),
    ],
    ips: ['127.0.0.1', `${o.serviceCidr.split('.').slice(0, 3).join('.')}.1`, facts.privateIp, ...o.certificateNames.filter(isAddress)],
  });
  const controlPlane = await startControlPlane({
    name: o.cluster,
    storePath: join(o.dataDirectory, 'store'),
    ca: pki.ca,
    tls: pki.apiserver,
    kubeletClient: pki.kubeletClient,
    serviceAccount: pki.serviceAccount,
    host: '0.0.0.0',
    port: apiPort,
    unixSockets: [],
    advertise: { address: facts.privateIp, port: apiPort },
    serviceCidr: o.serviceCidr,
    podCidr: o.podCidr,
    aws: { config: { region: facts.region }, vpcId: o.vpcId, routeTableIds: o.routeTableIds },
    tuning: {},
    log: o.log,
  });
  const server = `https://${facts.privateIp}:${apiPort}`;
  await applyAddons(controlPlane.admin, { ca: pki.ca.cert, server, bootstrapToken, clusterDns: o.clusterDns }, o.signal);
  o.log.info({ server }, 'control plane ready');
  await new Promise<void>((resolve) => {
    if (o.signal.aborted) resolve();
    else o.signal.addEventListener('abort', () => resolve(), { once: true });
  });
  await controlPlane.stop();
}

/** Writes the cluster's keys where ensurePki looks for them; it makes the certificates that are missing. Resolves to the bootstrap token. */
async function fetchSecrets(clients: AwsClients, cluster: string, directory: string): Promise<string> {
  const ssm = await clients.ssm();
  const names = Object.values(secretNames).map((name) => `${parameterPath(cluster)}/${name}`);
  const answer = await ssm.send(new GetParametersCommand({ Names: names, WithDecryption: true }));
  if (answer.InvalidParameters?.length) throw new Error(`Systems Manager has no ${answer.InvalidParameters.join(', ')}`);
  const values = new Map(answer.Parameters?.map((p) => [p.Name?.split('/').at(-1), p.Value ?? '']));
  const write = (name: string, text: string, mode: number) => {
    const path = join(directory, name);
    if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text, { mode });
  };
  const known = join(directory, 'ca.crt');
  // Certificates of another authority are worth nothing; they are made anew.
  if (existsSync(known) && readFileSync(known, 'utf8') !== values.get(secretNames.caCertificate)) {
    for (const file of readdirSync(directory)) rmSync(join(directory, file));
  }
  write('ca.crt', values.get(secretNames.caCertificate) as string, 0o644);
  write('ca.key', values.get(secretNames.caKey) as string, 0o600);
  const serviceAccountKey = values.get(secretNames.serviceAccountKey) as string;
  write('sa.key', serviceAccountKey, 0o600);
  write('sa.pub', createPublicKey(serviceAccountKey).export({ type: 'spki', format: 'pem' }).toString(), 0o644);
  return values.get(secretNames.bootstrapToken) as string;
}
