import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import {
  AuthorizeSecurityGroupIngressCommand,
  CreateTagsCommand,
  DeleteTagsCommand,
  DeleteVpcCommand,
  DescribeSecurityGroupsCommand,
  DescribeVpcsCommand,
  DetachInternetGatewayCommand,
  RevokeSecurityGroupIngressCommand,
} from '@aws-sdk/client-ec2';
import messages from '@pulumi/pulumi/proto/provider_pb.js';
import statuses from '@pulumi/pulumi/proto/status_pb.js';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type AwsClients, createAwsClients, waitUntil } from '../../src/aws/clients.ts';
import { processStart } from '../../src/cluster/state.ts';
import { credentials } from './cluster/credentials.ts';
import { kinds } from './kinds.ts';
import { type Bench, type Engine, startBench } from './testing.ts';
import { type Properties, unknown } from './values.ts';

const secretMark = '4dabf18193072939515e22adb298388d';
const unknownMark = '04da6b54-80e4-46f7-96ec-b56ff0331ba9';

let bench: Bench;
let engine: Engine;
let clients: AwsClients;
beforeAll(async () => {
  bench = await startBench();
  engine = bench.engine;
  clients = createAwsClients({ region: 'us-east-1', endpoint: bench.aws.url, credentials: bench.aws.rootCredentials });
});
afterAll(async () => {
  clients.destroy();
  await bench[Symbol.asyncDispose]();
});

const vpcType = 'kumulus:ec2:Vpc';
const vpcInputs = (logicalId: string, more: Properties = {}): Properties => ({
  cluster: 'unit',
  logicalId,
  cidrBlock: '10.0.0.0/16',
  enableDnsHostnames: true,
  ...more,
});
const vpcs = async () => (await (await clients.ec2()).send(new DescribeVpcsCommand({}))).Vpcs ?? [];

/** A VPC and a security group in it with these rules. */
async function groupWith(logicalId: string, ingress: Properties[]) {
  const { id: vpcId } = await engine.create(vpcType, vpcInputs(`${logicalId}-vpc`));
  const inputs = { cluster: 'unit', logicalId, vpcId, groupName: logicalId, description: 'test', ingress };
  return { inputs, ...(await engine.create('kumulus:ec2:SecurityGroup', inputs)) };
}

const tcp = (port: number, cidrIp: string) => ({ ipProtocol: 'tcp', fromPort: port, toPort: port, cidrIp });

describe('check', () => {
  test('says what is wrong and where, and fills in defaults', async () => {
    const { inputs, failures } = await engine.check(vpcType, { cluster: 'unit', logicalId: 'vpc', cidrBlok: '10.0.0.0/16' });
    expect(failures.sort()).toEqual(['cidrBlock: missing', 'cidrBlok: no such property']);
    expect(inputs['enableDnsHostnames']).toBe(true);
    const group = await engine.check('kumulus:ec2:SecurityGroup', {
      cluster: 'unit',
      logicalId: 'sg',
      vpcId: unknown,
      groupName: 'g',
      description: 'd',
      ingress: [tcp(1, '10.0.0.0/8'), { ipProtocol: 6, fromPort: 'x' }],
    });
    expect(group.failures.sort()).toEqual(['ingress[1].fromPort: expected an integer, got string', 'ingress[1].ipProtocol: expected a string, got number']);
    expect(group.inputs['vpcId']).toBe(unknownMark);
  });

  test('refuses a type that it has not', async () => {
    await expect(engine.check('kumulus:ec2:Moon', {})).rejects.toThrow(/there is no resource type kumulus:ec2:Moon/);
  });
});

describe('create', () => {
  test('in a preview makes nothing and tells what is known', async () => {
    const before = (await vpcs()).length;
    const made = await engine.create(vpcType, vpcInputs('preview'), { preview: true });
    expect(made).toEqual({ id: '', properties: vpcInputs('preview') });
    const instance = { cluster: 'unit', logicalId: 'i', launchTemplateId: 'lt-1', launchTemplateVersion: '1', subnetId: unknown, privateIpAddress: '10.0.0.9' };
    const { properties } = await engine.create('kumulus:ec2:Instance', instance, { preview: true });
    expect(properties).toMatchObject({ subnetId: unknownMark, privateIpAddress: '10.0.0.9', publicIpAddress: unknownMark });
    expect((await vpcs()).length).toBe(before);
  });

  test('repeated, it finds what is there by its tags', async () => {
    const first = await engine.create(vpcType, vpcInputs('twice'));
    const second = await engine.create(vpcType, vpcInputs('twice'));
    expect(second.id).toBe(first.id);
    expect((await engine.create(vpcType, vpcInputs('twice', { cluster: 'other' }))).id).not.toBe(first.id);
    const tags = (await vpcs()).find((one) => one.VpcId === first.id)?.Tags;
    expect(tags).toContainEqual({ Key: 'kubernetes.io/cluster/unit', Value: 'owned' });
  });

  test('that fails half way keeps the id, and the next one goes on', async () => {
    const failure = await groupWith('half', [tcp(443, '10.0.0.0/99')]).catch((error) => error);
    const status = statuses.Status.deserializeBinary(failure.metadata.get('grpc-status-details-bin')[0]);
    const detail = messages.ErrorResourceInitFailed.deserializeBinary((status.getDetailsList()[0] as any).getValue_asU8());
    expect(detail.getId()).toMatch(/^sg-/);
    expect(detail.getReasonsList()[0]).toMatch(/10\.0\.0\.0\/99/);
    const again = await groupWith('half', [tcp(443, '10.0.0.0/8')]);
    expect(again.id).toBe(detail.getId());
  });
});

test('what has a name that is unique, but is not of the cluster, is left alone', async () => {
  const inputs = { cluster: 'unit', logicalId: 'role', name: 'unit-mine', managedPolicies: [] };
  const { id } = await engine.create('kumulus:iam:InstanceProfile', inputs);
  expect((await engine.create('kumulus:iam:InstanceProfile', inputs)).id).toBe(id);
  await expect(engine.create('kumulus:iam:InstanceProfile', { ...inputs, cluster: 'other' })).rejects.toThrow(/exists already and is not of cluster other/);
  const parameter = { cluster: 'unit', logicalId: 'p', name: '/mine', type: 'String', value: 'a' };
  await engine.create('kumulus:ssm:Parameter', parameter);
  await expect(engine.create('kumulus:ssm:Parameter', { ...parameter, cluster: 'other', value: 'b' })).rejects.toThrow(/not of cluster other/);
});

describe('diff', () => {
  const state = vpcInputs('diff', { tags: { a: '1', b: '2' } });
  test('tells updates from replacements, place by place', async () => {
    expect(await engine.diff(vpcType, 'vpc-1', state, state, state)).toMatchObject({ changes: false, detailed: {} });
    const news = { ...state, cidrBlock: '10.1.0.0/16', enableDnsHostnames: false, tags: { a: '1', 'c.d': '3' } };
    expect(await engine.diff(vpcType, 'vpc-1', state, state, news)).toEqual({
      changes: true,
      replaces: ['cidrBlock'],
      deleteBeforeReplace: true,
      detailed: { cidrBlock: 'UPDATE_REPLACE', enableDnsHostnames: 'UPDATE', 'tags.b': 'DELETE', 'tags["c.d"]': 'ADD' },
    });
  });

  test('takes what is not known for a change', async () => {
    const subnet = { cluster: 'unit', logicalId: 's', vpcId: 'vpc-1', cidrBlock: '10.0.0.0/20', availabilityZone: 'us-east-1a' };
    expect((await engine.diff('kumulus:ec2:Subnet', 'subnet-1', subnet, subnet, { ...subnet, vpcId: unknown })).detailed).toEqual({ vpcId: 'UPDATE_REPLACE' });
  });
});

describe('read', () => {
  test('finds drift in what is declared, and leaves alone what others added', async () => {
    const { id, inputs } = await groupWith('drift', [tcp(80, '10.0.0.0/8'), tcp(443, '10.0.0.0/8')]);
    const type = 'kumulus:ec2:SecurityGroup';
    const ec2 = await clients.ec2();
    const permission = (port: number) => [{ IpProtocol: 'tcp', FromPort: port, ToPort: port, IpRanges: [{ CidrIp: '10.0.0.0/8' }] }];
    await ec2.send(new RevokeSecurityGroupIngressCommand({ GroupId: id, IpPermissions: permission(80) }));
    await ec2.send(new AuthorizeSecurityGroupIngressCommand({ GroupId: id, IpPermissions: permission(30_080) }));
    const found = await engine.read(type, id, inputs, inputs);
    expect(found.inputs['ingress']).toEqual([tcp(443, '10.0.0.0/8')]);
    await engine.update(type, id, found.properties, found.inputs, inputs);
    const [group] = (await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [id] }))).SecurityGroups ?? [];
    expect(group?.IpPermissions?.map((p) => p.FromPort).sort()).toEqual([30_080, 443, 80]);
    await engine.update(type, id, inputs, inputs, { ...inputs, ingress: [tcp(443, '10.0.0.0/8')] });
    const [less] = (await ec2.send(new DescribeSecurityGroupsCommand({ GroupIds: [id] }))).SecurityGroups ?? [];
    expect(less?.IpPermissions?.map((p) => p.FromPort).sort()).toEqual([30_080, 443]);
  });

  test('finds tags that were taken away; those of others are no drift', async () => {
    const inputs = vpcInputs('tags', { tags: { team: 'a' } });
    const { id } = await engine.create(vpcType, inputs);
    const ec2 = await clients.ec2();
    await ec2.send(new CreateTagsCommand({ Resources: [id], Tags: [{ Key: 'mine', Value: 'x' }] }));
    expect((await engine.read(vpcType, id, inputs, inputs)).inputs).toEqual(inputs);
    await ec2.send(new DeleteTagsCommand({ Resources: [id], Tags: [{ Key: 'team' }] }));
    const found = await engine.read(vpcType, id, inputs, inputs);
    expect(found.inputs['tags']).toEqual({});
    await engine.update(vpcType, id, found.properties, found.inputs, inputs);
    expect((await engine.read(vpcType, id, inputs, inputs)).inputs).toEqual(inputs);
  });

  test('finds a gateway that was detached, which is attached again and not made anew', async () => {
    const { id: vpcId } = await engine.create(vpcType, vpcInputs('gateway-vpc'));
    const inputs = { cluster: 'unit', logicalId: 'gateway', vpcId };
    const { id } = await engine.create('kumulus:ec2:InternetGateway', inputs);
    await (await clients.ec2()).send(new DetachInternetGatewayCommand({ InternetGatewayId: id, VpcId: vpcId }));
    const found = await engine.read('kumulus:ec2:InternetGateway', id, inputs, inputs);
    const diff = await engine.diff('kumulus:ec2:InternetGateway', id, found.properties, found.inputs, inputs);
    expect(diff).toMatchObject({ changes: true, replaces: [] });
    await engine.update('kumulus:ec2:InternetGateway', id, found.properties, found.inputs, inputs);
    expect((await engine.read('kumulus:ec2:InternetGateway', id, inputs, inputs)).inputs).toEqual(inputs);
  });

  test('imports with inputs and ownership, and tells that something is gone', async () => {
    const inputs = vpcInputs('imported', { tags: { team: 'b' } });
    const { id } = await engine.create(vpcType, inputs);
    expect(await engine.read(vpcType, id)).toEqual({ id, properties: inputs, inputs });
    await (await clients.ec2()).send(new DeleteVpcCommand({ VpcId: id }));
    expect(await engine.read(vpcType, id, inputs, inputs)).toEqual({ id: '', properties: {}, inputs: {} });
  });
});

describe('update and delete', () => {
  const template = (userData: string) => ({
    cluster: 'unit',
    logicalId: 'template',
    name: 'unit-template',
    imageId: 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id',
    instanceType: 't3.medium',
    instanceProfile: 'unit',
    userData,
  });

  test('a preview knows what stays; the real update makes a version', async () => {
    const type = 'kumulus:ec2:LaunchTemplate';
    const { id, properties } = await engine.create(type, template('one'));
    expect(properties['version']).toBe('1');
    const state = { ...template('one'), version: '1' };
    expect(await engine.update(type, id, state, template('one'), { ...template('one'), tags: { a: 'b' } }, true)).toMatchObject({ version: '1' });
    expect(await engine.update(type, id, state, template('one'), template('two'), true)).toMatchObject({ version: unknownMark });
    expect(await engine.update(type, id, state, template('one'), template('two'))).toMatchObject({ version: '2' });
    expect(await engine.update(type, id, state, template('one'), template('two'))).toMatchObject({ version: '2' });
    await engine.delete(type, id, state);
    await engine.delete(type, id, state);
    expect((await engine.read(type, id, template('two'), state)).id).toBe('');
  });
});

describe('secrets', () => {
  const isSecret = (value: unknown) => typeof value === 'object' && value !== null && secretMark in value;

  test('are never in plain text in what goes back, neither by schema nor where the program says so', async () => {
    const type = 'kumulus:ssm:Parameter';
    const inputs = { cluster: 'unit', logicalId: 'p', name: '/kumulus/unit/p', type: 'SecureString', value: 'hush' };
    expect(isSecret((await engine.check(type, inputs)).inputs['value'])).toBe(true);
    const made = await engine.create(type, inputs, { secrets: new Set(['value']) });
    expect(isSecret(made.properties['value'])).toBe(true);
    const found = await engine.read(type, made.id, inputs, inputs);
    expect([found.properties, found.inputs].every((p) => isSecret(p['value']))).toBe(true);
    expect(isSecret((await engine.read(type, made.id)).inputs['value'])).toBe(true);
    expect(isSecret((await engine.update(type, made.id, inputs, inputs, { ...inputs, value: 'still' }))['value'])).toBe(true);
    // Found again, as after an up that was killed, it is tagged once more.
    expect((await engine.create(type, { ...inputs, tags: { a: 'b' } })).id).toBe(made.id);
    expect((await engine.read(type, made.id)).inputs).toMatchObject({ cluster: 'unit', logicalId: 'p', tags: { a: 'b' } });
    const vpc = await engine.create(vpcType, vpcInputs('secret', { tags: { token: 'hush' } }), { secrets: new Set(['tags']) });
    expect(isSecret(vpc.properties['tags'])).toBe(true);
  });

  test('a cluster has its keys from the first moment, and the administrator is renewed before the certificate ends', async () => {
    const type = 'kumulus:cluster:Credentials';
    const { id, properties } = await engine.create(type, { cluster: 'unit' });
    expect(['caKey', 'serviceAccountKey', 'bootstrapToken', 'adminKey'].filter((name) => !isSecret(properties[name]))).toEqual([]);
    expect(properties['caCertHash']).toMatch(/^sha256:[0-9a-f]{64}$/);
    const plain = Object.fromEntries(Object.entries(properties).map(([k, v]) => [k, isSecret(v) ? (v as Properties)['value'] : v]));
    expect(plain['bootstrapToken']).toMatch(/^[a-z0-9]{6}\.[a-z0-9]{16}$/);
    expect((await engine.diff(type, id, plain, { cluster: 'unit' }, { cluster: 'unit' })).changes).toBe(false);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 340 * 24 * 3600 * 1000 });
    try {
      const renewed = credentials.stale?.(plain);
      expect(renewed).toEqual(['adminCertificate', 'adminKey']);
      const { attributes } = await credentials.update({} as never, id, {}, {}, plain);
      expect(attributes['adminCertificate']).not.toBe(plain['adminCertificate']);
      expect(attributes['caCertificate']).toBe(plain['caCertificate']);
      expect(credentials.stale?.(attributes)).toEqual([]);
    } finally {
      vi.useRealTimers();
    }
    expect((await engine.read(type, id, { cluster: 'unit' }, plain)).properties['caCertificate']).toBe(plain['caCertificate']);
  });
});

test('cancel ends what waits', async () => {
  const own = await startBench();
  const { id: vpcId } = await own.engine.create(vpcType, vpcInputs('vpc'));
  const subnet = { cluster: 'unit', logicalId: 's', vpcId, cidrBlock: '10.0.0.0/20', availabilityZone: 'us-east-1a' };
  const { id: subnetId } = await own.engine.create('kumulus:ec2:Subnet', subnet);
  await own.engine.create('kumulus:ec2:InternetGateway', { cluster: 'unit', logicalId: 'gateway', vpcId });
  const balancer = { cluster: 'unit', logicalId: 'api', name: 'unit-api', scheme: 'internet-facing', subnetIds: [subnetId] };
  const { id: loadBalancerArn } = await own.engine.create('kumulus:elbv2:LoadBalancer', balancer);
  const waiting = own.engine.create('kumulus:cluster:Endpoint', { loadBalancerArn, port: 6443, caCertificate: '', timeoutSeconds: 600 });
  const ended = expect(waiting).rejects.toThrow(/cancelled/);
  await own.engine.cancel();
  await ended;
  await own[Symbol.asyncDispose]();
});

test('the schema has every kind, with what is required and what is secret', async () => {
  const response = await engine.call('getSchema', new messages.GetSchemaRequest());
  const schema = JSON.parse(response.getSchema());
  expect(Object.keys(schema.resources).sort()).toEqual(kinds.map((kind) => kind.token).sort());
  expect(schema.resources['kumulus:ssm:Parameter'].inputProperties.value.secret).toBe(true);
  expect(schema.resources['kumulus:ec2:Vpc'].requiredInputs).toEqual(['cluster', 'logicalId', 'cidrBlock']);
});

test('the plugin prints its port and nothing else, and ends with the engine', async () => {
  const engineProcess = spawn('sh', ['-c', `"${join(import.meta.dirname, '../bin/pulumi-resource-kumulus')}" 127.0.0.1:1 & echo "pid $!"; wait`], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const lines = createInterface({ input: engineProcess.stdout });
  const read: string[] = [];
  for await (const line of lines) {
    read.push(line);
    if (read.length === 2) break;
  }
  const pid = Number(read.find((line) => line.startsWith('pid '))?.slice(4));
  const port = Number(read.find((line) => /^\d+$/.test(line)));
  const own = new (engine.constructor as typeof Engine)(port);
  expect((await own.check(vpcType, {})).failures).toContain('cidrBlock: missing');
  own.close();
  engineProcess.kill('SIGKILL');
  await once(engineProcess, 'exit');
  // The plugin holds the pipe's other end: the pipe closes when it is gone.
  await once(engineProcess.stdout.resume(), 'close');
  await waitUntil('the process to be gone', async () => (processStart(pid) === undefined ? true : undefined), { timeoutMs: 10_000 });
});
