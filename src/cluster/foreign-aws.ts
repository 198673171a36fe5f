import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { DescribeImagesCommand, paginateDescribeInstances, TerminateInstancesCommand } from '@aws-sdk/client-ec2';
import { DeleteRepositoryCommand } from '@aws-sdk/client-ecr';
import { GetParameterCommand } from '@aws-sdk/client-ssm';
import { GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { type AwsClients, hasCode, ignore, waitUntil } from '../aws/clients.ts';
import { handlers, remove } from '../aws/ensure.ts';
import type { HandlerContext } from '../aws/handlers/handler.ts';
import { sweep } from '../aws/sweep.ts';
import { clusterTag } from '../aws/tags.ts';
import { ids } from '../aws/topology.ts';
import { anyKeys } from '../localaws/dataplane/polled/open.ts';
import { type AwsCredentials, awsEndpoint, clusterAwsClients, readRootCredentials } from './aws-endpoint.ts';
import { nodeImage, removalTopology } from './spec.ts';
import { type ClusterRecord, pathsOf, UserError } from './state.ts';

/** Who the caller is at an endpoint: with the keys of the SDK's default chain, or where that has none with those that LocalStack and moto take. */
export async function greetEndpoint(
  endpoint: string,
  region: string,
  given?: AwsCredentials,
): Promise<{ accountId: string; credentials: AwsCredentials }> {
  const ask = async (credentials?: AwsCredentials) => {
    const sts = new STSClient({ region, endpoint, maxAttempts: 2, ...(credentials ? { credentials } : {}) });
    try {
      const { accessKeyId, secretAccessKey, sessionToken } = await sts.config.credentials();
      if (sessionToken)
        throw new UserError(`the AWS keys that are set are of a session, which would end before the cluster does: use an access key for ${endpoint}`);
      const { Account = '' } = await sts.send(new GetCallerIdentityCommand({}));
      return { accountId: Account, credentials: { accessKeyId, secretAccessKey } };
    } finally {
      sts.destroy();
    }
  };
  try {
    return await ask(given).catch((error) => {
      if (error.name === 'CredentialsProviderError') return ask(anyKeys);
      throw error;
    });
  } catch (error) {
    if (error instanceof UserError) throw error;
    throw new UserError(`${endpoint} does not answer as an AWS: ${(error as Error).message || (error as NodeJS.ErrnoException).code}`);
  }
}

/** Keeps the keys where the embedded AWS keeps its own, mode 0600. */
export function keepCredentials(record: ClusterRecord, credentials: AwsCredentials): void {
  const directory = pathsOf(record.name).aws;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  writeFileSync(join(directory, 'credentials.json'), JSON.stringify(credentials), { mode: 0o600 });
}

/** The image of nodes: what the endpoint's Systems Manager names, or any of its own, for all boot the same here. */
export async function findNodeImage(clients: AwsClients): Promise<string> {
  const named = await (await clients.ssm())
    .send(new GetParameterCommand({ Name: nodeImage.replace('resolve:ssm:', '') }))
    .then((answer) => answer.Parameter?.Value)
    .catch((error) => {
      if (hasCode(error, 'ParameterNotFound')) return undefined;
      throw error;
    });
  if (named) return named;
  const { Images = [] } = await (await clients.ec2()).send(new DescribeImagesCommand({}));
  const architecture = process.arch === 'arm64' ? 'arm64' : 'x86_64';
  const usual = Images.find((image) => image.Architecture === architecture && image.Platform === undefined) ?? Images[0];
  if (!usual?.ImageId) throw new UserError('the endpoint has no image that an instance could be launched from');
  return usual.ImageId;
}

/**
 * Deletes at the endpoint what a cluster made there: instances, what its controllers made, repositories of its images, the network.
 * To be called when its processes have ended. Where the endpoint is gone, so is all that; resolves to a line that says so.
 */
export async function leaveEndpoint(record: ClusterRecord): Promise<string | undefined> {
  const endpoint = awsEndpoint(record);
  const credentials = readRootCredentials(pathsOf(record.name).aws);
  if (!(await answers(endpoint, record.region, credentials)))
    return `${endpoint} does not answer: what cluster "${record.name}" made there is left to it`;
  const clients = clusterAwsClients(record);
  const context: HandlerContext = { clients, cluster: record.name };
  try {
    await terminateInstances(context);
    const network = await handlers['ec2:Vpc'].find(context, ids.vpc, {});
    if (network) await sweep(context, network.id);
    await remove(context, removalTopology(record));
    await removeRepositories(context, record.repositories ?? []);
    return undefined;
  } finally {
    clients.destroy();
  }
}

/** All of the cluster's, also those that a fake launched twice. */
async function terminateInstances({ clients, cluster }: HandlerContext): Promise<void> {
  const ec2 = await clients.ec2();
  const alive = async () => {
    const ids: string[] = [];
    const Filters = [{ Name: `tag:${clusterTag(cluster)}`, Values: ['owned'] }];
    for await (const page of paginateDescribeInstances({ client: ec2 }, { Filters }))
      for (const one of (page.Reservations ?? []).flatMap((r) => r.Instances ?? [])) if (one.State?.Name !== 'terminated') ids.push(one.InstanceId as string);
    return ids;
  };
  const ids = await alive();
  for (let at = 0; at < ids.length; at += 500) await ec2.send(new TerminateInstancesCommand({ InstanceIds: ids.slice(at, at + 500) }));
  await waitUntil('the instances to be terminated', async () => (await alive()).length === 0 || undefined, { timeoutMs: 120_000 });
}

/** Those that images were loaded into, for which none was there before. */
async function removeRepositories({ clients }: HandlerContext, names: string[]): Promise<void> {
  for (const repositoryName of names)
    await (await clients.ecr()).send(new DeleteRepositoryCommand({ repositoryName, force: true })).catch(ignore('RepositoryNotFoundException'));
}

async function answers(endpoint: string, region: string, credentials: AwsCredentials): Promise<boolean> {
  const sts = new STSClient({ region, endpoint, credentials, maxAttempts: 2 });
  try {
    await sts.send(new GetCallerIdentityCommand({}), { abortSignal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  } finally {
    sts.destroy();
  }
}
