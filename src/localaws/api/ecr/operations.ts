import type * as ecr from '@aws-sdk/client-ecr';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import type { ManifestRecord, RepositoryRecord } from '../state/records.ts';
import { registryOf } from '../../registry/registry.ts';

/** Seconds that a token of GetAuthorizationToken is good for. */
const tokenSeconds = 12 * 3600;

function findRepository(call: CallContext, name: string | undefined): RepositoryRecord {
  const found = call.tables.repositories.get(name);
  if (!found)
    throw new AwsError(
      'RepositoryNotFoundException',
      `The repository with name '${name ?? ''}' does not exist in the registry with id '${call.accountId}'`,
    );
  return found;
}

function view(record: RepositoryRecord): ecr.Repository {
  const { policy: _, ...shape } = record;
  return shape;
}

function pageOf<T>(items: T[], input: { maxResults?: number; nextToken?: string }): { items: T[]; nextToken?: string } {
  const start = input.nextToken ? Number(input.nextToken) : 0;
  if (!Number.isInteger(start) || start < 0) throw new AwsError('InvalidParameterException', 'Invalid nextToken');
  const end = start + Math.min(input.maxResults ?? 100, 1000);
  return { items: items.slice(start, end), ...(end < items.length ? { nextToken: String(end) } : {}) };
}

function findImage(call: CallContext, repository: string, id: ecr.ImageIdentifier): ManifestRecord | undefined {
  const { manifests } = call.tables;
  if (id.imageDigest) {
    const found = manifests.get(`${repository} ${id.imageDigest}`);
    return found && (!id.imageTag || found.tags.includes(id.imageTag)) ? found : undefined;
  }
  return manifests.by('tag', `${repository}:${id.imageTag ?? ''}`)[0];
}

const missing = (imageId: ecr.ImageIdentifier): ecr.ImageFailure => ({
  imageId,
  failureCode: 'ImageNotFound',
  failureReason: 'Requested image not found',
});

const detail = (call: CallContext, one: ManifestRecord): ecr.ImageDetail => ({
  registryId: call.accountId,
  repositoryName: one.repository,
  imageDigest: one.digest,
  ...(one.tags.length ? { imageTags: one.tags } : {}),
  imageSizeInBytes: one.imageSize,
  imagePushedAt: one.pushedAt,
  imageManifestMediaType: one.mediaType,
  ...(one.artifactType ? { artifactMediaType: one.artifactType } : {}),
});

export const ecrOperations = {
  GetAuthorizationToken(_input: ecr.GetAuthorizationTokenRequest, call: CallContext): ecr.GetAuthorizationTokenResponse {
    const password = call.keys.registryPassword(call.principal, tokenSeconds);
    return {
      authorizationData: [
        {
          authorizationToken: Buffer.from(`AWS:${password}`).toString('base64'),
          expiresAt: new Date(now(call).getTime() + tokenSeconds * 1000),
          proxyEndpoint: `https://${call.accountId}.dkr.ecr.${call.region}.amazonaws.com`,
        },
      ],
    };
  },

  CreateRepository(input: ecr.CreateRepositoryRequest, call: CallContext): ecr.CreateRepositoryResponse {
    const name = input.repositoryName ?? '';
    if (name.length < 2 || name.length > 256 || !/^(?:[a-z0-9]+(?:[._-][a-z0-9]+)*\/)*[a-z0-9]+(?:[._-][a-z0-9]+)*$/.test(name)) {
      throw new AwsError(
        'InvalidParameterException',
        `Invalid parameter at 'repositoryName' failed to satisfy constraint: 'must satisfy regular expression'`,
      );
    }
    if (call.tables.repositories.has(name)) {
      throw new AwsError(
        'RepositoryAlreadyExistsException',
        `The repository with name '${name}' already exists in the registry with id '${call.accountId}'`,
      );
    }
    const record = call.tables.repositories.put(name, {
      repositoryName: name,
      repositoryArn: `arn:aws:ecr:${call.region}:${call.accountId}:repository/${name}`,
      repositoryUri: `${call.accountId}.dkr.ecr.${call.region}.amazonaws.com/${name}`,
      registryId: call.accountId,
      createdAt: now(call),
      imageTagMutability: input.imageTagMutability ?? 'MUTABLE',
      imageScanningConfiguration: input.imageScanningConfiguration ?? { scanOnPush: false },
      encryptionConfiguration: input.encryptionConfiguration ?? { encryptionType: 'AES256' },
    });
    return { repository: view(record) };
  },

  DescribeRepositories(input: ecr.DescribeRepositoriesRequest, call: CallContext): ecr.DescribeRepositoriesResponse {
    const found = input.repositoryNames?.length ? input.repositoryNames.map((name) => findRepository(call, name)) : call.tables.repositories.values();
    const { items, nextToken } = pageOf(found, input);
    return { repositories: items.map(view), ...(nextToken ? { nextToken } : {}) };
  },

  DeleteRepository(input: ecr.DeleteRepositoryRequest, call: CallContext): ecr.DeleteRepositoryResponse {
    const record = findRepository(call, input.repositoryName);
    const name = record.repositoryName;
    const images = call.tables.manifests.by('repository', name);
    if (images.length && !input.force) {
      throw new AwsError(
        'RepositoryNotEmptyException',
        `The repository with name '${name}' in registry with id '${call.accountId}' cannot be deleted because it still contains images`,
      );
    }
    const digests = call.tables.repositoryBlobs.by('repository', name).map((one) => one.digest);
    for (const one of images) call.tables.manifests.delete(`${name} ${one.digest}`);
    for (const digest of digests) call.tables.repositoryBlobs.delete(`${name} ${digest}`);
    call.tables.repositories.delete(name);
    const registry = registryOf(call);
    setImmediate(
      () =>
        void registry
          .collect(name, [...digests, ...images.map((one) => one.digest)])
          .catch((error) => call.log.warn({ err: error }, 'blobs cannot be removed')),
    );
    return { repository: view(record) };
  },

  ListImages(input: ecr.ListImagesRequest, call: CallContext): ecr.ListImagesResponse {
    const { repositoryName } = findRepository(call, input.repositoryName);
    const status = input.filter?.tagStatus ?? 'ANY';
    const all = call.tables.manifests
      .by('repository', repositoryName)
      .flatMap((one): ecr.ImageIdentifier[] =>
        one.tags.length ? one.tags.map((imageTag) => ({ imageDigest: one.digest, imageTag })) : [{ imageDigest: one.digest }],
      )
      .filter((one) => status === 'ANY' || (status === 'TAGGED') === (one.imageTag !== undefined));
    const { items, nextToken } = pageOf(all, input);
    return { imageIds: items, ...(nextToken ? { nextToken } : {}) };
  },

  DescribeImages(input: ecr.DescribeImagesRequest, call: CallContext): ecr.DescribeImagesResponse {
    const { repositoryName } = findRepository(call, input.repositoryName);
    const found = input.imageIds?.length
      ? input.imageIds.map((id) => {
          const image = findImage(call, repositoryName, id);
          if (!image)
            throw new AwsError(
              'ImageNotFoundException',
              `The image with imageId {imageDigest:'${id.imageDigest ?? 'null'}', imageTag:'${id.imageTag ?? 'null'}'} does not exist within the repository with name '${repositoryName}' in the registry with id '${call.accountId}'`,
            );
          return image;
        })
      : call.tables.manifests.by('repository', repositoryName);
    const { items, nextToken } = pageOf(found, input);
    return { imageDetails: items.map((one) => detail(call, one)), ...(nextToken ? { nextToken } : {}) };
  },

  async BatchGetImage(input: ecr.BatchGetImageRequest, call: CallContext): Promise<ecr.BatchGetImageResponse> {
    const { repositoryName } = findRepository(call, input.repositoryName);
    const answer: Required<ecr.BatchGetImageResponse> = { images: [], failures: [] };
    for (const id of input.imageIds ?? []) {
      const image = findImage(call, repositoryName, id);
      if (!image) answer.failures.push(missing(id));
      else
        answer.images.push({
          registryId: call.accountId,
          repositoryName,
          imageId: { imageDigest: image.digest, ...(id.imageTag ? { imageTag: id.imageTag } : {}) },
          imageManifest: await registryOf(call).manifestText(image.digest),
          imageManifestMediaType: image.mediaType,
        });
    }
    return answer;
  },

  async BatchDeleteImage(input: ecr.BatchDeleteImageRequest, call: CallContext): Promise<ecr.BatchDeleteImageResponse> {
    const { repositoryName } = findRepository(call, input.repositoryName);
    const answer: Required<ecr.BatchDeleteImageResponse> = { imageIds: [], failures: [] };
    for (const id of input.imageIds ?? []) {
      const image = findImage(call, repositoryName, id);
      if (!image) {
        answer.failures.push(missing(id));
        continue;
      }
      await registryOf(call).removeImage(repositoryName, id.imageDigest ?? (id.imageTag as string));
      answer.imageIds.push({ imageDigest: image.digest, ...(id.imageTag ? { imageTag: id.imageTag } : {}) });
    }
    return answer;
  },

  BatchCheckLayerAvailability(input: ecr.BatchCheckLayerAvailabilityRequest, call: CallContext): ecr.BatchCheckLayerAvailabilityResponse {
    const { repositoryName } = findRepository(call, input.repositoryName);
    return {
      layers: (input.layerDigests ?? []).map((layerDigest) => {
        const blob = call.tables.repositoryBlobs.get(`${repositoryName} ${layerDigest}`);
        return {
          layerDigest,
          layerAvailability: blob ? ('AVAILABLE' as const) : ('UNAVAILABLE' as const),
          ...(blob ? { layerSize: blob.size } : {}),
        };
      }),
      failures: [],
    };
  },

  async PutImage(input: ecr.PutImageRequest, call: CallContext): Promise<ecr.PutImageResponse> {
    const repository = findRepository(call, input.repositoryName);
    const { repositoryName } = repository;
    const bytes = Buffer.from(input.imageManifest ?? '');
    const reference = input.imageTag ?? input.imageDigest;
    if (!reference) throw new AwsError('InvalidParameterException', 'imageTag or imageDigest must be given');
    const digest = await registryOf(call)
      .storeManifest(repositoryName, bytes, input.imageManifestMediaType, reference, repository)
      .catch((error) => {
        throw new AwsError(error.code === 'MANIFEST_BLOB_UNKNOWN' ? 'LayersNotFoundException' : 'InvalidParameterException', error.message);
      });
    return {
      image: {
        registryId: call.accountId,
        repositoryName,
        imageId: { imageDigest: digest, ...(input.imageTag ? { imageTag: input.imageTag } : {}) },
        imageManifest: input.imageManifest as string,
      },
    };
  },

  SetRepositoryPolicy(input: ecr.SetRepositoryPolicyRequest, call: CallContext): ecr.SetRepositoryPolicyResponse {
    const record = findRepository(call, input.repositoryName);
    call.tables.repositories.change(record.repositoryName, { policy: input.policyText ?? '' });
    return { registryId: call.accountId, repositoryName: record.repositoryName, policyText: input.policyText };
  },

  GetRepositoryPolicy(input: ecr.GetRepositoryPolicyRequest, call: CallContext): ecr.GetRepositoryPolicyResponse {
    const record = findRepository(call, input.repositoryName);
    if (record.policy === undefined) {
      throw new AwsError(
        'RepositoryPolicyNotFoundException',
        `Repository policy does not exist for the repository with name '${record.repositoryName}' in the registry with id '${call.accountId}'`,
      );
    }
    return { registryId: call.accountId, repositoryName: record.repositoryName, policyText: record.policy };
  },
} satisfies Operations;
