/** The registry that stands beside an endpoint whose ECR has none: LocalStack's and moto's. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  BatchDeleteImageCommand,
  CreateRepositoryCommand,
  DeleteRepositoryCommand,
  DescribeImagesCommand,
  ECRClient,
  GetAuthorizationTokenCommand,
} from '@aws-sdk/client-ecr';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type HostService, startLocalstack, startMoto } from '../../localstack/host/start.ts';
import { type OpenEndpoint, openEndpoint } from '../../src/localaws/dataplane/polled/open.ts';
import { busyboxImage } from '../../src/runtime/images/busybox.ts';
import { pushImage } from '../../src/runtime/images/push.ts';

const fakes: [string, () => Promise<HostService>][] = [
  ['LocalStack', startLocalstack],
  ['moto', startMoto],
];

describe.each(fakes)("the registry of %s's ECR", (_name, start) => {
  const credentials = { accessKeyId: '100000000006', secretAccessKey: 'test' };
  const log = pino({ level: 'silent' });
  let fake: HostService;
  let ecr: ECRClient;
  let folder: string;
  let opened: OpenEndpoint;
  let registry: string;

  const open = async () => {
    opened = await openEndpoint({ endpoint: fake.url, region: 'us-east-1', credentials, directory: folder, log });
    registry = `http://127.0.0.1:${await opened.gateway.listen(0)}`;
  };

  beforeAll(async () => {
    fake = await start();
    folder = mkdtempSync(join(tmpdir(), 'kumulus-registry-'));
    ecr = new ECRClient({ region: 'us-east-1', endpoint: fake.url, credentials });
    await open();
  }, 900_000);
  afterAll(async () => {
    await opened?.close();
    ecr?.destroy();
    await fake?.stop();
    if (folder) rmSync(folder, { recursive: true });
  }, 60_000);

  const token = async () => (await ecr.send(new GetAuthorizationTokenCommand({}))).authorizationData?.[0]?.authorizationToken as string;
  /** A repository that no earlier try has used. */
  let tries = 0;
  const fresh = (name: string) => `${name}-${++tries}`;
  const imageWith = (content: string) => busyboxImage([{ path: 'www/index.html', content }]);
  const push = async (repository: string, tag: string, auth: string, content = 'a page') => {
    const source = await imageWith(content);
    return pushImage({ registryUrl: registry, repository, tag, auth: { auth }, source }).finally(() => source.close());
  };
  const manifest = (path: string, init?: RequestInit) => fetch(`${registry}/v2/${path}`, init);

  test("takes pushes to repositories of the endpoint, with the endpoint's tokens alone", async () => {
    const app = fresh('app');
    await expect(push(app, '1', await token())).rejects.toMatchObject({ code: 'NAME_UNKNOWN' });
    await ecr.send(new CreateRepositoryCommand({ repositoryName: app }));
    await expect(push(app, '1', Buffer.from('AWS:other').toString('base64'))).rejects.toMatchObject({ status: 401 });
    const { digest } = await push(app, '1', await token());
    const { imageDetails } = await ecr.send(new DescribeImagesCommand({ repositoryName: app }));
    expect(imageDetails).toMatchObject([{ imageDigest: digest, imageTags: ['1'] }]);
    // Nodes pull without a token.
    const pulled = await manifest(`${app}/manifests/1`);
    expect(pulled.headers.get('docker-content-digest')).toBe(digest);
    const { config, layers } = (await pulled.json()) as { config: { digest: string }; layers: { digest: string }[] };
    for (const one of [config, ...layers]) expect((await manifest(`${app}/blobs/${one.digest}`)).status).toBe(200);
  });

  test('a tag that cannot be moved stays where it is', async () => {
    const fixed = fresh('fixed');
    await ecr.send(new CreateRepositoryCommand({ repositoryName: fixed, imageTagMutability: 'IMMUTABLE' }));
    await push(fixed, 'one', await token());
    await expect(push(fixed, 'one', await token(), 'another page')).rejects.toMatchObject({ code: 'TAG_INVALID' });
    await ecr.send(new DeleteRepositoryCommand({ repositoryName: fixed, force: true }));
    await expect.poll(async () => (await manifest(`${fixed}/tags/list`)).status, { timeout: 5000 }).toBe(404);
  });

  test('images outlive the process, and go when the endpoint deletes them', async () => {
    const app = fresh('app');
    await ecr.send(new CreateRepositoryCommand({ repositoryName: app }));
    const { digest: imageDigest } = await push(app, '1', await token());
    await opened.close();
    await open();
    expect((await manifest(`${app}/manifests/1`)).headers.get('docker-content-digest')).toBe(imageDigest);
    await ecr.send(new BatchDeleteImageCommand({ repositoryName: app, imageIds: [{ imageDigest }] }));
    expect((await manifest(`${app}/manifests/1`)).status).toBe(404);
  });

  test('is all that its port on the host has, and is not for web pages', async () => {
    expect((await fetch(`${registry}/`, { method: 'POST', body: 'Action=DescribeVpcs&Version=2016-11-15' })).status).toBe(404);
    expect((await manifest('app/tags/list', { headers: { origin: 'http://example.com' } })).status).toBe(403);
  });
});
