import { CreateRepositoryCommand, GetAuthorizationTokenCommand } from '@aws-sdk/client-ecr';
import { hasCode } from '../aws/clients.ts';
import { type ImageSource, readImageTar } from '../runtime/images/oci-tar.ts';
import { pushImage } from '../runtime/images/push.ts';
import { parseReference } from '../runtime/images/reference.ts';
import { clusterAwsClients, registryUrl } from './aws-endpoint.ts';
import { type ClusterRecord, requireRecord, UserError, writeRecord } from './state.ts';

/** The cluster's ECR, as image names have it. */
export const registryName = (record: ClusterRecord): string => `${record.accountId}.dkr.ecr.${record.region}.amazonaws.com`;

/**
 * Pushes an image to the cluster's ECR, making the repository where it is missing. Resolves to the image's reference.
 * Nodes also ask this registry first for every other name, so that `docker.io/library/app:1` is found where it was
 * pushed as library/app:1.
 */
export async function pushToCluster(
  record: ClusterRecord,
  source: ImageSource,
  repository: string,
  tag: string,
  signal?: AbortSignal,
): Promise<string> {
  const clients = clusterAwsClients(record);
  try {
    const ecr = await clients.ecr();
    const made = await ecr.send(new CreateRepositoryCommand({ repositoryName: repository })).catch((error) => {
      if (!hasCode(error, 'RepositoryAlreadyExistsException')) throw error;
    });
    if (made && record.awsEndpoint) noteRepository(record, repository);
    const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
    const auth = authorizationData?.[0]?.authorizationToken;
    if (!auth) throw new Error("the cluster's ECR gave no authorization token");
    await pushImage({ registryUrl: registryUrl(record), repository, tag, auth: { auth }, source, ...(signal ? { signal } : {}) });
    return `${registryName(record)}/${repository}:${tag}`;
  } finally {
    clients.destroy();
  }
}

function noteRepository(record: ClusterRecord, repository: string): void {
  const current = requireRecord(record.name);
  current.repositories = [...new Set([...(current.repositories ?? []), repository])];
  record.repositories = current.repositories;
  writeRecord(current);
}

/**
 * Pushes an archive (OCI layout or docker save) under every name that it carries, or under the one given. Resolves to the
 * references by which pods name the images. Throws a UserError where the archive holds no image or no name.
 */
export async function loadImage(record: ClusterRecord, archive: string, reference?: string): Promise<string[]> {
  const source = await readImageTar(archive).catch((error) => {
    throw new UserError(`${archive}: ${(error as Error).message}`);
  });
  try {
    const names = reference ? [reference] : source.repoTags;
    if (!names.length) throw new UserError(`${archive} carries no name: give one with --image REPOSITORY:TAG`);
    const pushed: string[] = [];
    for (const name of names) {
      const parsed = parseReference(name);
      if (!parsed.tag) throw new UserError(`'${name}' names no tag`);
      pushed.push(await pushToCluster(record, source, parsed.repository, parsed.tag));
    }
    return pushed;
  } finally {
    await source.close();
  }
}
