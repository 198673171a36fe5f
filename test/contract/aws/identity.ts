import { createHash } from 'node:crypto';
import {
  BatchDeleteImageCommand,
  CreateRepositoryCommand,
  DeleteRepositoryCommand,
  DescribeImagesCommand,
  DescribeRepositoriesCommand,
  GetAuthorizationTokenCommand,
  PutImageCommand,
} from '@aws-sdk/client-ecr';
import * as iam from '@aws-sdk/client-iam';
import * as ssm from '@aws-sdk/client-ssm';
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from '@aws-sdk/client-sts';
import { expect } from 'vitest';
import { type Check, refusal } from './peer.ts';

const document = (statement: object) => JSON.stringify({ Version: '2012-10-17', Statement: [statement] });
const byService = document({ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' });
const policy = document({ Effect: 'Allow', Action: 'ec2:Describe*', Resource: '*' });

export const identityChecks: Check[] = [
  {
    name: 'the caller is of the account that its keys belong to',
    async run(peer) {
      expect((await peer.sts.send(new GetCallerIdentityCommand({}))).Account).toBe(peer.account);
    },
  },
  {
    name: 'calls that are signed with wrong keys are refused',
    async run(peer) {
      const { region, endpoint } = { region: 'us-east-1', endpoint: await peer.sts.config.endpoint!() };
      const url = `${endpoint.protocol}//${endpoint.hostname}:${endpoint.port}`;
      const client = new STSClient({
        region,
        endpoint: url,
        maxAttempts: 1,
        credentials: { accessKeyId: 'AKIAIOSFODNN7EXAMPLE', secretAccessKey: 'wrong' },
      });
      try {
        expect(await refusal(client.send(new GetCallerIdentityCommand({})))).toBe('InvalidClientTokenId');
      } finally {
        client.destroy();
      }
    },
  },
  {
    name: 'a role with its policies and profile: made, shown, changed, and gone in its order',
    async run({ iam: client, account }) {
      const RoleName = 'contract';
      const { Role } = await client.send(new iam.CreateRoleCommand({ RoleName, AssumeRolePolicyDocument: byService }));
      expect(Role!.Arn).toBe(`arn:aws:iam::${account}:role/contract`);
      expect(decodeURIComponent(Role!.AssumeRolePolicyDocument!)).toBe(byService);
      expect(await refusal(client.send(new iam.CreateRoleCommand({ RoleName, AssumeRolePolicyDocument: byService })))).toBe('EntityAlreadyExists');
      await client.send(new iam.TagRoleCommand({ RoleName, Tags: [{ Key: 'a', Value: 'b' }] }));
      await client.send(new iam.UntagRoleCommand({ RoleName, TagKeys: ['a'] }));
      const { Policy } = await client.send(new iam.CreatePolicyCommand({ PolicyName: 'contract', PolicyDocument: policy }));
      const PolicyArn = Policy!.Arn!;
      await client.send(new iam.CreatePolicyVersionCommand({ PolicyArn, PolicyDocument: policy, SetAsDefault: true }));
      expect((await client.send(new iam.GetPolicyCommand({ PolicyArn }))).Policy!.DefaultVersionId).toBe('v2');
      const { PolicyVersion } = await client.send(new iam.GetPolicyVersionCommand({ PolicyArn, VersionId: 'v2' }));
      expect(decodeURIComponent(PolicyVersion!.Document!)).toBe(policy);
      expect((await client.send(new iam.ListPolicyVersionsCommand({ PolicyArn }))).Versions).toHaveLength(2);
      await client.send(new iam.DeletePolicyVersionCommand({ PolicyArn, VersionId: 'v1' }));
      await client.send(new iam.AttachRolePolicyCommand({ RoleName, PolicyArn }));
      const attached = await client.send(new iam.ListAttachedRolePoliciesCommand({ RoleName }));
      expect(attached.AttachedPolicies).toEqual([{ PolicyName: 'contract', PolicyArn }]);

      const InstanceProfileName = 'contract';
      await client.send(new iam.CreateInstanceProfileCommand({ InstanceProfileName }));
      await client.send(new iam.AddRoleToInstanceProfileCommand({ InstanceProfileName, RoleName }));
      await client.send(new iam.TagInstanceProfileCommand({ InstanceProfileName, Tags: [{ Key: 'a', Value: 'b' }] }));
      await client.send(new iam.UntagInstanceProfileCommand({ InstanceProfileName, TagKeys: ['a'] }));
      const { InstanceProfile } = await client.send(new iam.GetInstanceProfileCommand({ InstanceProfileName }));
      expect(InstanceProfile!.Roles!.map((one) => one.RoleName)).toEqual([RoleName]);
      expect(await refusal(client.send(new iam.DeleteRoleCommand({ RoleName })))).toBe('DeleteConflict');
      await client.send(new iam.RemoveRoleFromInstanceProfileCommand({ InstanceProfileName, RoleName }));
      await client.send(new iam.DeleteInstanceProfileCommand({ InstanceProfileName }));
      await client.send(new iam.DetachRolePolicyCommand({ RoleName, PolicyArn }));
      await client.send(new iam.DeleteRoleCommand({ RoleName }));
      await client.send(new iam.DeletePolicyCommand({ PolicyArn }));
      expect(await refusal(client.send(new iam.GetInstanceProfileCommand({ InstanceProfileName })))).toBe('NoSuchEntity');
    },
  },
  {
    name: 'malformed policy documents are refused',
    async run({ iam: client }) {
      const create = client.send(new iam.CreateRoleCommand({ RoleName: 'malformed', AssumeRolePolicyDocument: '{"Statement": 1' }));
      const code = await refusal(create).catch(async (error) => {
        await client.send(new iam.DeleteRoleCommand({ RoleName: 'malformed' }));
        throw error;
      });
      expect(code).toBe('MalformedPolicyDocument');
    },
  },
  {
    name: 'a role is not assumed by whom its trust policy does not name',
    async run({ iam: client, sts, account }) {
      await client.send(new iam.CreateRoleCommand({ RoleName: 'machines', AssumeRolePolicyDocument: byService }));
      try {
        const assume = sts.send(new AssumeRoleCommand({ RoleArn: `arn:aws:iam::${account}:role/machines`, RoleSessionName: 'session' }));
        expect(await refusal(assume)).toBe('AccessDenied');
      } finally {
        await client.send(new iam.DeleteRoleCommand({ RoleName: 'machines' }));
      }
    },
  },
  {
    name: 'parameters: put, read one or several, tagged, versions that count, secrets in the clear only when asked for',
    async run({ ssm: client }) {
      const Name = '/contract/secret';
      await client.send(new ssm.PutParameterCommand({ Name, Value: 'one', Type: 'SecureString' }));
      const again = client.send(new ssm.PutParameterCommand({ Name, Value: 'two', Type: 'SecureString' }));
      expect(await refusal(again)).toBe('ParameterAlreadyExists');
      await client.send(new ssm.PutParameterCommand({ Name, Value: 'two', Type: 'SecureString', Overwrite: true }));
      const get = async (WithDecryption: boolean) => (await client.send(new ssm.GetParameterCommand({ Name, WithDecryption }))).Parameter!;
      expect(await get(true)).toMatchObject({ Value: 'two', Version: 2 });
      expect((await get(false)).Value).not.toBe('two');
      const several = await client.send(new ssm.GetParametersCommand({ Names: [Name, '/contract/none'], WithDecryption: true }));
      expect([several.Parameters!.map((one) => one.Value), several.InvalidParameters]).toEqual([['two'], ['/contract/none']]);
      const resource = { ResourceType: 'Parameter' as const, ResourceId: Name };
      await client.send(new ssm.AddTagsToResourceCommand({ ...resource, Tags: [{ Key: 'a', Value: 'b' }] }));
      expect((await client.send(new ssm.ListTagsForResourceCommand(resource))).TagList).toEqual([{ Key: 'a', Value: 'b' }]);
      await client.send(new ssm.RemoveTagsFromResourceCommand({ ...resource, TagKeys: ['a'] }));
      await client.send(new ssm.DeleteParameterCommand({ Name }));
      expect(await refusal(client.send(new ssm.GetParameterCommand({ Name })))).toBe('ParameterNotFound');
    },
  },
  {
    name: 'a repository has a URI of the account, is there once, and is logged in to with a token',
    async run({ ecr, account }) {
      const create = () => ecr.send(new CreateRepositoryCommand({ repositoryName: 'contract' }));
      expect((await create()).repository!.repositoryUri).toBe(`${account}.dkr.ecr.us-east-1.amazonaws.com/contract`);
      expect(await refusal(create())).toBe('RepositoryAlreadyExistsException');
      const { authorizationData } = await ecr.send(new GetAuthorizationTokenCommand({}));
      expect(Buffer.from(authorizationData![0]!.authorizationToken!, 'base64').toString()).toMatch(/^AWS:.+/);
    },
  },
  {
    name: 'an image is put under its digest and a tag, shown, keeps its repository, and goes with it',
    async run({ ecr }) {
      const repositoryName = 'contract/images';
      const imageManifestMediaType = 'application/vnd.oci.image.index.v1+json';
      const imageManifest = JSON.stringify({ schemaVersion: 2, mediaType: imageManifestMediaType, manifests: [] });
      const imageDigest = `sha256:${createHash('sha256').update(imageManifest).digest('hex')}`;
      await ecr.send(new CreateRepositoryCommand({ repositoryName }));
      const { repositories } = await ecr.send(new DescribeRepositoriesCommand({ repositoryNames: [repositoryName] }));
      expect(repositories).toMatchObject([{ repositoryName, imageTagMutability: 'MUTABLE' }]);
      await ecr.send(new PutImageCommand({ repositoryName, imageManifest, imageManifestMediaType, imageDigest, imageTag: '1' }));
      const describe = () => ecr.send(new DescribeImagesCommand({ repositoryName, imageIds: [{ imageDigest }] }));
      expect((await describe()).imageDetails).toMatchObject([{ imageDigest, imageTags: ['1'] }]);
      expect(await refusal(ecr.send(new DeleteRepositoryCommand({ repositoryName })))).toBe('RepositoryNotEmptyException');
      await ecr.send(new BatchDeleteImageCommand({ repositoryName, imageIds: [{ imageDigest }] }));
      expect(await refusal(describe())).toBe('ImageNotFoundException');
      await ecr.send(new PutImageCommand({ repositoryName, imageManifest, imageManifestMediaType, imageDigest, imageTag: '2' }));
      await ecr.send(new DeleteRepositoryCommand({ repositoryName, force: true }));
      expect(await refusal(ecr.send(new DescribeRepositoriesCommand({ repositoryNames: [repositoryName] })))).toBe('RepositoryNotFoundException');
    },
  },
];
