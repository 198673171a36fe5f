import {
  AddRoleToInstanceProfileCommand,
  AttachRolePolicyCommand,
  CreateAccessKeyCommand,
  CreateInstanceProfileCommand,
  CreateOpenIDConnectProviderCommand,
  CreatePolicyCommand,
  CreatePolicyVersionCommand,
  CreateRoleCommand,
  CreateUserCommand,
  DeleteInstanceProfileCommand,
  DeleteOpenIDConnectProviderCommand,
  DeletePolicyCommand,
  DeletePolicyVersionCommand,
  DeleteRoleCommand,
  DeleteRolePolicyCommand,
  DeleteUserCommand,
  DetachRolePolicyCommand,
  GetInstanceProfileCommand,
  GetOpenIDConnectProviderCommand,
  GetPolicyVersionCommand,
  GetRoleCommand,
  GetRolePolicyCommand,
  GetUserCommand,
  IAMClient,
  ListAttachedRolePoliciesCommand,
  ListEntitiesForPolicyCommand,
  ListInstanceProfilesForRoleCommand,
  ListPoliciesCommand,
  ListRolesCommand,
  ListRoleTagsCommand,
  PutRolePolicyCommand,
  RemoveRoleFromInstanceProfileCommand,
  TagRoleCommand,
  UntagRoleCommand,
  UpdateAccessKeyCommand,
  UpdateAssumeRolePolicyCommand,
  UpdateRoleCommand,
} from '@aws-sdk/client-iam';
import { AssumeRoleCommand, GetAccessKeyInfoCommand, GetCallerIdentityCommand, GetSessionTokenCommand, STSClient } from '@aws-sdk/client-sts';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ClientConfig, codeOf, TestEndpoint } from '../testing.ts';

const account = '111122223333';
let endpoint: TestEndpoint;
let iam: IAMClient;

beforeEach(async () => {
  endpoint = await TestEndpoint.start({ accountId: account });
  iam = endpoint.keep(new IAMClient(endpoint.config()));
});
afterEach(() => endpoint.end());

const sts = (more: Partial<ClientConfig> = {}) => endpoint.keep(new STSClient(endpoint.config(more)));
const document = (...Statement: object[]) => JSON.stringify({ Version: '2012-10-17', Statement });
const byService = document({ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' });
const allowAll = document({ Effect: 'Allow', Action: '*', Resource: '*' });
const createRole = (RoleName: string, AssumeRolePolicyDocument = byService, more: object = {}) =>
  iam.send(new CreateRoleCommand({ RoleName, AssumeRolePolicyDocument, ...more }));

async function refusal(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return `${(error as Error).name}: ${(error as Error).message}`;
  }
  throw new Error('the call succeeded');
}

test('documents are read as IAM reads them, and malformed ones refused', async () => {
  const trust = (text: string) => refusal(createRole('role', text));
  const allow = { Effect: 'Allow', Principal: { AWS: '*' }, Action: 'sts:AssumeRole' };
  expect(await trust('{')).toMatch(/^MalformedPolicyDocument/);
  expect(await trust('[]')).toMatch(/^MalformedPolicyDocument/);
  expect(await trust(document())).toMatch(/^MalformedPolicyDocument/);
  expect(await trust(JSON.stringify({ Version: '2020-01-01', Statement: [allow] }))).toContain('valid version string');
  expect(await trust(document({ ...allow, Effect: 'Maybe' }))).toContain('Effect');
  expect(await trust(document({ ...allow, Principal: undefined }))).toContain('Principal');
  expect(await trust(document({ ...allow, Principal: { AWS: 'someone' } }))).toContain('Invalid principal in policy: "AWS":"someone"');
  expect(await trust(document({ ...allow, Principal: { Robot: '*' } }))).toContain('Invalid principal in policy');
  expect(await trust(document({ ...allow, Action: 'ec2:RunInstances' }))).toContain('AssumeRole');
  expect(await trust(document({ ...allow, Resource: '*' }))).toContain('prohibited field Resource');
  expect(await trust(document({ ...allow, Colour: 'blue' }))).toContain('Syntax errors in policy.');
  expect(await trust(document({ ...allow, Sid: 'x'.repeat(5000) }))).toMatch(/^LimitExceeded/);
  await createRole('role', document(allow));
  const permit = (text: string) => refusal(iam.send(new PutRolePolicyCommand({ RoleName: 'role', PolicyName: 'p', PolicyDocument: text })));
  const statement = { Effect: 'Allow', Action: 'ec2:*', Resource: '*' };
  expect(await permit(document({ ...statement, Resource: undefined }))).toContain('must contain resources');
  expect(await permit(document({ ...statement, Resource: 'everything' }))).toContain('must be in ARN format');
  expect(await permit(document({ ...statement, Action: 'RunInstances' }))).toContain('vendor');
  expect(await permit(document({ ...statement, NotAction: 'ec2:*' }))).toContain('Syntax errors');
  expect(await permit(document({ ...statement, Principal: '*' }))).toContain('principal');
  expect(await permit(document({ ...statement, NotPrincipal: { AWS: '*' } }))).toContain('principal');
  expect(await permit(document({ ...statement, Condition: [] }))).toContain('Syntax errors');
  expect(await permit(document({ ...statement, Sid: 'x'.repeat(11_000) }))).toMatch(/^LimitExceeded/);
});

test('roles: names, paths, pages, tags, changes, and what must go before them', async () => {
  const { Role } = await createRole('Node', byService, { Path: '/cluster/', Tags: [{ Key: 'team', Value: 'a' }], Description: 'of nodes' });
  expect(Role).toMatchObject({ Arn: `arn:aws:iam::${account}:role/cluster/Node`, Path: '/cluster/', MaxSessionDuration: 3600 });
  expect(Role!.RoleId).toMatch(/^AROA[A-Z2-7]{17}$/);
  expect(decodeURIComponent(Role!.AssumeRolePolicyDocument!)).toBe(byService);
  expect(await codeOf(createRole('node'))).toBe('EntityAlreadyExistsException');
  expect(await codeOf(createRole('no good'))).toBe('ValidationError');
  expect(await codeOf(createRole('x'.repeat(65)))).toBe('ValidationError');
  expect(await codeOf(createRole('path', byService, { Path: 'cluster' }))).toBe('ValidationError');
  expect(await codeOf(createRole('long', byService, { MaxSessionDuration: 60 }))).toBe('ValidationError');
  for (let i = 0; i < 7; i++) await createRole(`role-${i}`);
  const seen: string[] = [];
  let Marker: string | undefined;
  do {
    const page = await iam.send(new ListRolesCommand({ MaxItems: 3, ...(Marker ? { Marker } : {}) }));
    seen.push(...page.Roles!.map((one) => one.RoleName!));
    Marker = page.Marker;
    expect(page.IsTruncated).toBe(Marker !== undefined);
  } while (Marker);
  expect(seen.sort()).toEqual(['Node', ...Array.from({ length: 7 }, (_, i) => `role-${i}`)].sort());
  expect((await iam.send(new ListRolesCommand({ PathPrefix: '/cluster/' }))).Roles).toHaveLength(1);
  expect(await codeOf(iam.send(new ListRolesCommand({ MaxItems: 1001 })))).toBe('ValidationError');

  await iam.send(new TagRoleCommand({ RoleName: 'Node', Tags: [{ Key: 'TEAM', Value: 'b' }, { Key: 'x', Value: '' }] }));
  expect((await iam.send(new ListRoleTagsCommand({ RoleName: 'Node' }))).Tags).toEqual([
    { Key: 'TEAM', Value: 'b' },
    { Key: 'x', Value: '' },
  ]);
  await iam.send(new UntagRoleCommand({ RoleName: 'Node', TagKeys: ['X'] }));
  expect((await iam.send(new GetRoleCommand({ RoleName: 'Node' }))).Role!.Tags).toEqual([{ Key: 'TEAM', Value: 'b' }]);
  expect(await codeOf(iam.send(new TagRoleCommand({ RoleName: 'Node', Tags: [{ Key: 'aws:x', Value: '' }] })))).toBe('InvalidInputException');
  await iam.send(new UpdateRoleCommand({ RoleName: 'Node', Description: 'other', MaxSessionDuration: 7200 }));
  expect((await iam.send(new GetRoleCommand({ RoleName: 'Node' }))).Role).toMatchObject({ Description: 'other', MaxSessionDuration: 7200 });

  const managed = 'arn:aws:iam::aws:policy/AmazonEC2FullAccess';
  await iam.send(new AttachRolePolicyCommand({ RoleName: 'Node', PolicyArn: managed }));
  await iam.send(new AttachRolePolicyCommand({ RoleName: 'Node', PolicyArn: managed }));
  await iam.send(new PutRolePolicyCommand({ RoleName: 'Node', PolicyName: 'inline', PolicyDocument: allowAll }));
  const shown = (await iam.send(new GetRolePolicyCommand({ RoleName: 'Node', PolicyName: 'inline' }))).PolicyDocument!;
  expect(decodeURIComponent(shown)).toBe(allowAll);
  expect((await iam.send(new ListAttachedRolePoliciesCommand({ RoleName: 'Node' }))).AttachedPolicies).toEqual([
    { PolicyName: 'AmazonEC2FullAccess', PolicyArn: managed },
  ]);
  expect(await codeOf(iam.send(new AttachRolePolicyCommand({ RoleName: 'Node', PolicyArn: 'arn:aws:iam::aws:policy/Nonsense' })))).toBe(
    'NoSuchEntityException',
  );
  const remove = () => iam.send(new DeleteRoleCommand({ RoleName: 'Node' }));
  expect(await refusal(remove())).toContain('detach all policies first');
  await iam.send(new DetachRolePolicyCommand({ RoleName: 'Node', PolicyArn: managed }));
  expect(await refusal(remove())).toContain('delete policies first');
  await iam.send(new DeleteRolePolicyCommand({ RoleName: 'Node', PolicyName: 'inline' }));
  await remove();
  expect(await codeOf(iam.send(new GetRoleCommand({ RoleName: 'Node' })))).toBe('NoSuchEntityException');
});

test('an instance profile holds one role, and neither goes before the other lets go', async () => {
  await createRole('node');
  await createRole('other');
  const { InstanceProfile } = await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: 'node', Path: '/k/' }));
  expect(InstanceProfile).toMatchObject({ Arn: `arn:aws:iam::${account}:instance-profile/k/node`, Roles: [] });
  const add = (RoleName: string) => iam.send(new AddRoleToInstanceProfileCommand({ InstanceProfileName: 'node', RoleName }));
  await add('node');
  expect(await codeOf(add('other'))).toBe('LimitExceededException');
  expect(await codeOf(add('missing'))).toBe('NoSuchEntityException');
  const found = await iam.send(new GetInstanceProfileCommand({ InstanceProfileName: 'node' }));
  expect(found.InstanceProfile!.Roles!.map((one) => one.RoleName)).toEqual(['node']);
  expect((await iam.send(new ListInstanceProfilesForRoleCommand({ RoleName: 'node' }))).InstanceProfiles).toHaveLength(1);
  expect(await codeOf(iam.send(new DeleteRoleCommand({ RoleName: 'node' })))).toBe('DeleteConflictException');
  expect(await codeOf(iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName: 'node' })))).toBe('DeleteConflictException');
  await iam.send(new RemoveRoleFromInstanceProfileCommand({ InstanceProfileName: 'node', RoleName: 'node' }));
  await iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName: 'node' }));
  await iam.send(new DeleteRoleCommand({ RoleName: 'node' }));
});

test('policies: versions, which are not numbered twice, whom they are attached to, and those of AWS', async () => {
  const { Policy } = await iam.send(new CreatePolicyCommand({ PolicyName: 'mine', PolicyDocument: allowAll }));
  const PolicyArn = Policy!.Arn!;
  const version = (SetAsDefault = false) =>
    iam.send(new CreatePolicyVersionCommand({ PolicyArn, PolicyDocument: allowAll, SetAsDefault })).then((one) => one.PolicyVersion!.VersionId);
  expect([await version(), await version(true), await version(), await version()]).toEqual(['v2', 'v3', 'v4', 'v5']);
  expect(await codeOf(version())).toBe('LimitExceededException');
  const drop = (VersionId: string) => iam.send(new DeletePolicyVersionCommand({ PolicyArn, VersionId }));
  expect(await codeOf(drop('v3'))).toBe('DeleteConflictException');
  await drop('v5');
  expect(await version()).toBe('v6');
  const shown = (await iam.send(new GetPolicyVersionCommand({ PolicyArn, VersionId: 'v6' }))).PolicyVersion;
  expect(shown).toMatchObject({ IsDefaultVersion: false });
  expect(decodeURIComponent(shown!.Document!)).toBe(allowAll);

  await createRole('node');
  await iam.send(new AttachRolePolicyCommand({ RoleName: 'node', PolicyArn }));
  expect((await iam.send(new ListEntitiesForPolicyCommand({ PolicyArn }))).PolicyRoles!.map((one) => one.RoleName)).toEqual(['node']);
  const attached = (await iam.send(new ListPoliciesCommand({ OnlyAttached: true }))).Policies!;
  expect(attached.map((one) => [one.PolicyName, one.AttachmentCount])).toEqual([['mine', 1]]);
  expect((await iam.send(new ListPoliciesCommand({ Scope: 'AWS' }))).Policies!.length).toBeGreaterThan(10);
  expect(await codeOf(iam.send(new DeletePolicyCommand({ PolicyArn })))).toBe('DeleteConflictException');
  await iam.send(new DetachRolePolicyCommand({ RoleName: 'node', PolicyArn }));
  for (const id of ['v1', 'v2', 'v4', 'v6']) await drop(id);
  await iam.send(new DeletePolicyCommand({ PolicyArn }));
  expect(await codeOf(iam.send(new DeletePolicyCommand({ PolicyArn })))).toBe('NoSuchEntityException');
});

test('users: their keys work until they are made inactive, and a namesake made later is somebody else', async () => {
  await iam.send(new CreateUserCommand({ UserName: 'kim' }));
  const key = (await iam.send(new CreateAccessKeyCommand({ UserName: 'kim' }))).AccessKey!;
  await iam.send(new CreateAccessKeyCommand({ UserName: 'kim' }));
  expect(await codeOf(iam.send(new CreateAccessKeyCommand({ UserName: 'kim' })))).toBe('LimitExceededException');
  const credentials = { accessKeyId: key.AccessKeyId!, secretAccessKey: key.SecretAccessKey! };
  const who = (given: ClientConfig['credentials']) => sts({ credentials: given }).send(new GetCallerIdentityCommand({}));
  expect(await who(credentials)).toMatchObject({ Account: account, Arn: `arn:aws:iam::${account}:user/kim` });
  const own = endpoint.keep(new IAMClient(endpoint.config({ credentials })));
  expect((await own.send(new GetUserCommand({}))).User!.UserName).toBe('kim');
  const { Credentials } = await sts({ credentials }).send(new GetSessionTokenCommand({}));
  const session = { accessKeyId: Credentials!.AccessKeyId!, secretAccessKey: Credentials!.SecretAccessKey!, sessionToken: Credentials!.SessionToken! };
  expect((await who(session)).Arn).toBe(`arn:aws:iam::${account}:user/kim`);
  expect(await codeOf(sts({ credentials: session }).send(new GetSessionTokenCommand({})))).toBe('AccessDenied');
  expect((await sts().send(new GetAccessKeyInfoCommand({ AccessKeyId: key.AccessKeyId! }))).Account).toBe(account);
  await iam.send(new UpdateAccessKeyCommand({ UserName: 'kim', AccessKeyId: key.AccessKeyId!, Status: 'Inactive' }));
  expect(await codeOf(who(credentials))).toBe('InvalidClientTokenId');
  expect(await codeOf(iam.send(new DeleteUserCommand({ UserName: 'kim' })))).toBe('DeleteConflictException');
});

test('a role is assumed by whom its trust policy names, under its conditions, for as long as it allows', async () => {
  const assume = (RoleName: string, more: object = {}, config: Partial<ClientConfig> = {}) =>
    sts(config).send(new AssumeRoleCommand({ RoleArn: `arn:aws:iam::${account}:role/${RoleName}`, RoleSessionName: 'session', ...more }));
  const sessionOf = async (call: ReturnType<typeof assume>) => {
    const { Credentials: c } = await call;
    return { accessKeyId: c!.AccessKeyId!, secretAccessKey: c!.SecretAccessKey!, sessionToken: c!.SessionToken! };
  };
  await createRole('machines');
  expect(await refusal(assume('machines'))).toContain('AccessDenied');
  expect(await refusal(assume('missing'))).toContain('AccessDenied');
  const byAccount = { Effect: 'Allow', Principal: { AWS: `arn:aws:iam::${account}:root` }, Action: 'sts:AssumeRole' };
  await createRole('people', document({ ...byAccount, Condition: { StringEquals: { 'sts:ExternalId': 'secret' } } }));
  expect(await codeOf(assume('people'))).toBe('AccessDenied');
  const people = await sessionOf(assume('people', { ExternalId: 'secret' }));
  const identity = await sts({ credentials: people }).send(new GetCallerIdentityCommand({}));
  expect(identity.Arn).toBe(`arn:aws:sts::${account}:assumed-role/people/session`);
  expect(identity.UserId).toMatch(/^AROA[A-Z2-7]{17}:session$/);
  expect(await codeOf(assume('people', { ExternalId: 'secret', DurationSeconds: 7200 }))).toBe('ValidationError');
  expect(await codeOf(assume('people', { ExternalId: 'secret', RoleSessionName: 'not good' }))).toBe('ValidationError');

  await createRole('chained', document({ ...byAccount, Principal: { AWS: `arn:aws:iam::${account}:role/people` } }));
  expect(await codeOf(assume('chained'))).toBe('AccessDenied');
  await assume('chained', {}, { credentials: people });
  const deny = { ...byAccount, Effect: 'Deny', Condition: { StringLike: { 'sts:RoleSessionName': 'bad-*' } } };
  await iam.send(new UpdateAssumeRolePolicyCommand({ RoleName: 'chained', PolicyDocument: document(byAccount, deny) }));
  await assume('chained');
  expect(await codeOf(assume('chained', { RoleSessionName: 'bad-one' }))).toBe('AccessDenied');
  // A condition that this endpoint cannot judge counts against the caller.
  const unknown = { ...byAccount, Condition: { IpAddress: { 'aws:SourceIp': '0.0.0.0/0' } } };
  await iam.send(new UpdateAssumeRolePolicyCommand({ RoleName: 'chained', PolicyDocument: document(unknown) }));
  expect(await codeOf(assume('chained'))).toBe('AccessDenied');

  await iam.send(new DeleteRoleCommand({ RoleName: 'people' }));
  await createRole('people', document(byAccount));
  expect(await codeOf(sts({ credentials: people }).send(new GetCallerIdentityCommand({})))).toBe('InvalidClientTokenId');
});

test('session credentials end when their time is over', async () => {
  let time = Date.now();
  await endpoint.aws.stop();
  await endpoint.open({ accountId: account, clock: { ...(await import('../clock.ts')).systemClock, now: () => time } });
  const client = (config: Partial<ClientConfig> = {}) => {
    const one = sts(config);
    one.config.systemClockOffset = time - Date.now();
    return one;
  };
  const { Credentials: c } = await client().send(new GetSessionTokenCommand({ DurationSeconds: 900 }));
  const credentials = { accessKeyId: c!.AccessKeyId!, secretAccessKey: c!.SecretAccessKey!, sessionToken: c!.SessionToken! };
  await client({ credentials }).send(new GetCallerIdentityCommand({}));
  time += 901_000;
  expect(await codeOf(client({ credentials }).send(new GetCallerIdentityCommand({})))).toBe('ExpiredToken');
});

test('OpenID Connect providers', async () => {
  const Url = 'https://oidc.example.com/id/1';
  const { OpenIDConnectProviderArn } = await iam.send(
    new CreateOpenIDConnectProviderCommand({ Url, ClientIDList: ['sts.amazonaws.com'], ThumbprintList: ['a'.repeat(40)] }),
  );
  expect(OpenIDConnectProviderArn).toBe(`arn:aws:iam::${account}:oidc-provider/oidc.example.com/id/1`);
  const again = iam.send(new CreateOpenIDConnectProviderCommand({ Url }));
  expect(await codeOf(again)).toBe('EntityAlreadyExistsException');
  expect(await codeOf(iam.send(new CreateOpenIDConnectProviderCommand({ Url: 'http://oidc.example.com' })))).toBe('ValidationError');
  expect(await iam.send(new GetOpenIDConnectProviderCommand({ OpenIDConnectProviderArn }))).toMatchObject({
    Url: 'oidc.example.com/id/1',
    ClientIDList: ['sts.amazonaws.com'],
  });
  await iam.send(new DeleteOpenIDConnectProviderCommand({ OpenIDConnectProviderArn }));
  expect(await codeOf(iam.send(new GetOpenIDConnectProviderCommand({ OpenIDConnectProviderArn })))).toBe('NoSuchEntityException');
});
