import { EC2Client } from '@aws-sdk/client-ec2';
import { ECRClient } from '@aws-sdk/client-ecr';
import { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { IAMClient } from '@aws-sdk/client-iam';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { Gateway, hasRegistry } from './gateway.ts';
import { openEndpointRegistry } from './registry.ts';
import { PolledSource } from './source.ts';

export interface OpenOptions {
  endpoint: string;
  region: string;
  /** The SDK's default chain where left out, and where that has none the keys that LocalStack and moto take. */
  credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
  /** The data plane's folder. */
  directory: string;
  log: Logger;
}

export interface OpenEndpoint {
  source: PolledSource;
  /** What instances reach at the endpoint's address in their VPC. */
  gateway: Gateway;
  /** Ends the looking; to be called when the data plane has stopped. */
  close(): Promise<void>;
}

/** What LocalStack and moto take, where there are no keys. */
export const anyKeys = { accessKeyId: 'test', secretAccessKey: 'test' };

/** Connects to an endpoint, reads it once and opens its registry. Throws when it does not answer, or refuses the keys. */
export async function openEndpoint(o: OpenOptions): Promise<OpenEndpoint> {
  const config = (credentials: OpenOptions['credentials']) => ({
    region: o.region,
    endpoint: o.endpoint,
    maxAttempts: 2,
    ...(credentials ? { credentials } : {}),
  });
  let credentials = o.credentials;
  const ask = async () => {
    const sts = new STSClient(config(credentials));
    try {
      return await sts.send(new GetCallerIdentityCommand({}));
    } finally {
      sts.destroy();
    }
  };
  const identity = await ask().catch((error) => {
    if (credentials || error.name !== 'CredentialsProviderError') throw error;
    o.log.warn("no AWS keys are set: using 'test', which LocalStack and moto take");
    credentials = anyKeys;
    return ask();
  });
  const clients = {
    ec2: new EC2Client(config(credentials)),
    elbv2: new ElasticLoadBalancingV2Client(config(credentials)),
    iam: new IAMClient(config(credentials)),
    sts: new STSClient(config(credentials)),
  };
  const ecr = new ECRClient(config(credentials));
  const ends: (() => unknown)[] = [...Object.values(clients), ecr].map((client) => () => client.destroy());
  const close = async () => {
    for (const end of ends.reverse()) await end();
  };
  try {
    const files = await readdir(join(o.directory, 'volumes')).catch(() => []);
    const knownVolumes = files.flatMap((name) => /^(vol-[0-9a-f]+)\.img$/.exec(name)?.[1] ?? []);
    const accountId = identity.Account ?? '';
    const source = await PolledSource.start({ region: o.region, accountId, clients, knownVolumes, log: o.log });
    ends.push(() => source.end());
    let registry: Awaited<ReturnType<typeof openEndpointRegistry>> | undefined;
    if (!(await hasRegistry(o.endpoint))) {
      registry = await openEndpointRegistry({ ecr, region: o.region, accountId, directory: o.directory, log: o.log });
      ends.push(registry.close);
    }
    const gateway = new Gateway({ endpoint: o.endpoint, ...(registry ? { registry: registry.registry } : {}), log: o.log });
    ends.push(() => gateway.stop());
    return { source, gateway, close };
  } catch (error) {
    await close();
    throw error;
  }
}
