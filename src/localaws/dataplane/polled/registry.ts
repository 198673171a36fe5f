import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import {
  BatchDeleteImageCommand,
  DescribeImagesCommand,
  DescribeRepositoriesCommand,
  type ECRClient,
  GetAuthorizationTokenCommand,
  PutImageCommand,
  paginateDescribeRepositories,
} from '@aws-sdk/client-ecr';
import type { Logger } from 'pino';
import { systemClock } from '../../api/clock.ts';
import { lockDirectory } from '../../api/state/lock.ts';
import { State } from '../../api/state/state.ts';
import { Registry, type RegistryOwner } from '../../registry/registry.ts';

/** For how long an endpoint's answer is believed, milliseconds: a push asks for its repository with every blob. */
const believedMs = 1000;

const named = (error: unknown, ...names: string[]) => names.includes((error as Error).name);

/**
 * What an endpoint's ECR says, for a registry that stands beside it: LocalStack's and moto's ECR have repositories and images, and no place to
 * push to. Their tokens are the same for everyone of the account, and so as good here as they are there.
 */
export class EndpointEcr implements RegistryOwner {
  private readonly client: ECRClient;
  private readonly answers = new Map<string, { until: number; answer: Promise<unknown> }>();

  constructor(client: ECRClient) {
    this.client = client;
  }

  private believed<T>(key: string, ask: () => Promise<T>): Promise<T> {
    const known = this.answers.get(key);
    if (known && known.until > Date.now()) return known.answer as Promise<T>;
    const answer = ask();
    this.answers.set(key, { until: Date.now() + believedMs, answer });
    // What is not there may be made at once.
    answer.then(
      (value) => value === undefined && this.answers.delete(key),
      () => this.answers.delete(key),
    );
    if (this.answers.size > 1000) for (const [one, { until }] of this.answers) if (until < Date.now()) this.answers.delete(one);
    return answer;
  }

  async login(user: string, password: string): Promise<boolean> {
    const { authorizationData = [] } = await this.believed('token', () => this.client.send(new GetAuthorizationTokenCommand({})));
    const given = Buffer.from(`${user}:${password}`).toString('base64');
    return authorizationData.some((one) => one.authorizationToken === given);
  }

  repository(name: string): Promise<{ imageTagMutability?: string } | undefined> {
    return this.believed(`repository ${name}`, async () => {
      try {
        return (await this.client.send(new DescribeRepositoriesCommand({ repositoryNames: [name] }))).repositories?.[0];
      } catch (error) {
        if (named(error, 'RepositoryNotFoundException', 'InvalidParameterException')) return undefined;
        throw error;
      }
    });
  }

  async repositoryNames(): Promise<string[]> {
    const names: string[] = [];
    for await (const page of paginateDescribeRepositories({ client: this.client }, {}))
      names.push(...(page.repositories ?? []).map((one) => one.repositoryName as string));
    return names;
  }

  async has(repositoryName: string, imageDigest: string): Promise<boolean> {
    try {
      const { imageDetails = [] } = await this.client.send(new DescribeImagesCommand({ repositoryName, imageIds: [{ imageDigest }] }));
      return imageDetails.length > 0;
    } catch (error) {
      if (named(error, 'ImageNotFoundException', 'RepositoryNotFoundException')) return false;
      throw error;
    }
  }

  async pushed(image: { repository: string; digest: string; mediaType: string; tag?: string; text: string }): Promise<void> {
    const put = {
      repositoryName: image.repository,
      imageManifest: image.text,
      imageManifestMediaType: image.mediaType,
      imageDigest: image.digest,
      ...(image.tag === undefined ? {} : { imageTag: image.tag }),
    };
    await this.client.send(new PutImageCommand(put)).catch((error) => {
      if (!named(error, 'ImageAlreadyExistsException')) throw error;
    });
  }

  async removed(repositoryName: string, reference: string): Promise<void> {
    const id = reference.includes(':') ? { imageDigest: reference } : { imageTag: reference };
    await this.client.send(new BatchDeleteImageCommand({ repositoryName, imageIds: [id] }));
  }
}

export interface EndpointRegistryOptions {
  ecr: ECRClient;
  region: string;
  accountId: string;
  /** The data plane's folder; images are kept in registry/ of it. */
  directory: string;
  log: Logger;
}

/** Opens the registry of an endpoint that has none of its own. One process at a time can. */
export async function openEndpointRegistry(o: EndpointRegistryOptions): Promise<{ registry: Registry; close(): Promise<void> }> {
  const folder = join(o.directory, 'registry');
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const unlock = await lockDirectory(folder);
  try {
    const state = await State.open(join(folder, 'state.log'));
    const cloud = { region: o.region, accountId: o.accountId, tables: state.tables, state, clock: systemClock, log: o.log, directory: o.directory };
    const registry = await Registry.open(cloud, new EndpointEcr(o.ecr));
    return {
      registry,
      async close() {
        await state.close();
        await unlock();
      },
    };
  } catch (error) {
    await unlock();
    throw error;
  }
}
