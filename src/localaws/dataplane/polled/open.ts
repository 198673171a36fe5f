import { EC2Client } from '@aws-sdk/client-ec2';
import { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { IAMClient } from '@aws-sdk/client-iam';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
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

const anyKeys = { accessKeyId: 'test', secretAccessKey: 'test' };

/** Connects to an endpoint and reads it once. Throws when it does not answer, or refuses the keys. */
export async function openPolledSource(o: OpenOptions): Promise<{ source: PolledSource; destroy(): void }> {
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
  const destroy = () => {
    for (const client of Object.values(clients)) client.destroy();
  };
  try {
    const files = await readdir(join(o.directory, 'volumes')).catch(() => []);
    const knownVolumes = files.flatMap((name) => /^(vol-[0-9a-f]+)\.img$/.exec(name)?.[1] ?? []);
    const source = await PolledSource.start({ region: o.region, accountId: identity.Account ?? '', clients, knownVolumes, log: o.log });
    return {
      source,
      destroy() {
        source.end();
        destroy();
      },
    };
  } catch (error) {
    destroy();
    throw error;
  }
}
