import { statSync } from 'node:fs';
import { request } from 'node:http';
import { join } from 'node:path';
import {
  CreateSubnetCommand,
  CreateTagsCommand,
  CreateVpcCommand,
  DescribeTagsCommand,
  DescribeVpcPeeringConnectionsCommand,
  DescribeVpcsCommand,
  DeleteVpcCommand,
  RunInstancesCommand,
} from '@aws-sdk/client-ec2';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { codeOf, TestEndpoint } from './testing.ts';

let endpoint: TestEndpoint;

beforeEach(async () => {
  endpoint = await TestEndpoint.start();
});
afterEach(() => endpoint.end());

const image = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';

/** Sends a request as it is, and gives status and body. */
function send(
  headers: Record<string, string>,
  body = 'Action=DescribeVpcs&Version=2016-11-15',
  path = '/',
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const message = request(endpoint.aws.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', ...headers },
    });
    message.on('error', reject);
    message.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    message.end(body);
  });
}

test('a request that is unsigned, signed with other keys, or for another region is refused', async () => {
  const unsigned = await send({});
  expect(unsigned.status).toBe(403);
  expect(unsigned.body).toContain('<Code>MissingAuthenticationToken</Code>');
  const { accessKeyId } = endpoint.aws.rootCredentials;
  const describe = (more: object) => codeOf(endpoint.ec2(more).send(new DescribeVpcsCommand({})));
  expect(await describe({ credentials: { accessKeyId, secretAccessKey: 'wrong' } })).toBe('AuthFailure');
  expect(await describe({ credentials: { accessKeyId: 'AKIAUNKNOWN', secretAccessKey: 'x' } })).toBe('AuthFailure');
  expect(await describe({ region: 'eu-west-1' })).toBe('AuthFailure');
  expect(
    await describe({ credentials: { ...endpoint.aws.rootCredentials, sessionToken: 'bm90IG91cnMsIG5vdCBvdXJzLCBub3Qgb3VycywgYW5kIGxvbmc=' } }),
  ).toBe('AuthFailure');
  expect((await send({ authorization: 'AWS4-HMAC-SHA256 nonsense' })).body).toContain('IncompleteSignature');
});

test('a signed request that was changed on its way is refused', async () => {
  const client = endpoint.ec2();
  let signed: { headers: Record<string, string>; body: string } | undefined;
  client.middlewareStack.addRelativeTo(
    (next: (args: any) => Promise<any>) => async (args: any) => {
      signed = args.request;
      return next(args);
    },
    { relation: 'after', toMiddleware: 'httpSigningMiddleware', name: 'capture' },
  );
  await client.send(new DescribeVpcsCommand({}));
  expect((await send(signed!.headers, signed!.body)).status).toBe(200);
  const changed = signed!.body.replace('DescribeVpcs', 'DescribeTags');
  const refused = await send({ ...signed!.headers, 'content-length': String(changed.length) }, changed);
  expect(refused.status).toBe(401);
  expect(refused.body).toContain('AuthFailure');
});

test('requests of web pages, and those for another host, are not answered', async () => {
  expect((await send({ origin: 'http://127.0.0.1:4566' })).status).toBe(403);
  expect((await send({ host: 'attacker.example' })).status).toBe(403);
  expect((await send({}, 'Action=DescribeVpcs&Version=2016-11-15')).body).toContain('MissingAuthenticationToken');
});

test('bodies that are too large, too deep, or make no sense', async () => {
  expect((await send({}, 'x'.repeat(1024 * 1024 + 1))).status).toBe(413);
  expect((await send({}, '\u0000%%%&=&Action')).status).toBe(403);
  expect((await send({ 'x-amz-target': 'AmazonSSM.Nonsense' }, '{')).status).toBe(400);
  const client = endpoint.ec2();
  /** Sends a form as it is, signed. */
  const form = (body: string) => {
    const replace = (next: (args: any) => Promise<any>) => async (args: any) => {
      Object.assign(args.request, { body, headers: { ...args.request.headers, 'content-length': String(Buffer.byteLength(body)) } });
      return next(args);
    };
    client.middlewareStack.add(replace, { step: 'build', priority: 'low', name: 'body', override: true });
    return codeOf(client.send(new DescribeVpcsCommand({})));
  };
  const head = 'Action=DescribeVpcs&Version=2016-11-15&';
  expect(await form(`${head}${'a.'.repeat(40)}b=1`)).toBe('InvalidParameterValue');
  expect(await form(`${head}Colour=blue`)).toBe('UnknownParameter');
  expect(await form(`${head}MaxResults=many`)).toBe('InvalidParameterValue');
  expect(await form(`${head}VpcId.x=1`)).toBe('InvalidParameterValue');
  expect(await form(`${head}__proto__.x=1`)).toBe('UnknownParameter');
  expect(await form('Action=constructor&Version=2016-11-15')).toBe('InvalidAction');
  expect(await form('Version=2016-11-15')).toBe('InvalidAction');
});

test('keys are for their owner only to read, and state and keys outlive the endpoint', async () => {
  const { Vpc } = await endpoint.ec2().send(new CreateVpcCommand({ CidrBlock: '10.7.0.0/16' }));
  await endpoint.ec2().send(new CreateTagsCommand({ Resources: [Vpc!.VpcId!], Tags: [{ Key: 'Name', Value: 'it <stays> & "stays"' }] }));
  expect(statSync(join(endpoint.directory, 'credentials.json')).mode & 0o777).toBe(0o600);
  const { accessKeyId, secretAccessKey } = endpoint.aws.rootCredentials;
  await expect(endpoint.open()).rejects.toThrow('in use');
  await endpoint.aws.stop();
  await endpoint.open();
  expect(endpoint.aws.rootCredentials).toMatchObject({ accessKeyId, secretAccessKey });
  const found = await endpoint.ec2().send(new DescribeVpcsCommand({ VpcIds: [Vpc!.VpcId!] }));
  expect(found.Vpcs?.[0]?.Tags).toEqual([{ Key: 'Name', Value: 'it <stays> & "stays"' }]);
});

test('the same client token makes nothing twice, also after a restart, and other parameters with it are an error', async () => {
  const { Vpc } = await endpoint.ec2().send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16' }));
  const { Subnet } = await endpoint.ec2().send(new CreateSubnetCommand({ VpcId: Vpc!.VpcId!, CidrBlock: '10.0.0.0/20' }));
  const input = { ImageId: image, InstanceType: 't3.micro' as const, SubnetId: Subnet!.SubnetId!, MinCount: 1, MaxCount: 1, ClientToken: 'once' };
  const run = (more = {}) => endpoint.ec2().send(new RunInstancesCommand({ ...input, ...more }));
  const [a, b] = await Promise.all([run(), run()]);
  await endpoint.aws.stop();
  await endpoint.open();
  const c = await run();
  const ids = [a, b, c].map((answer) => answer.Instances?.[0]?.InstanceId);
  expect(new Set(ids).size).toBe(1);
  expect(await codeOf(run({ MaxCount: 2 }))).toBe('IdempotentParameterMismatch');
  expect((await run({ ClientToken: 'twice' })).Instances?.[0]?.InstanceId).not.toBe(ids[0]);
});

test('DryRun changes nothing and says whether it would have worked', async () => {
  const ec2 = endpoint.ec2();
  expect(await codeOf(ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/16', DryRun: true })))).toBe('DryRunOperation');
  expect(await codeOf(ec2.send(new CreateVpcCommand({ CidrBlock: '10.0.0.0/8', DryRun: true })))).toBe('InvalidVpc.Range');
  expect((await ec2.send(new DescribeVpcsCommand({}))).Vpcs).toEqual([]);
});

test('pages follow one another without gaps while things come and go', async () => {
  const ec2 = endpoint.ec2();
  const made: string[] = [];
  for (let i = 0; i < 12; i++) made.push((await ec2.send(new CreateVpcCommand({ CidrBlock: `10.${i}.0.0/16` }))).Vpc!.VpcId!);
  const first = await ec2.send(new DescribeVpcsCommand({ MaxResults: 5 }));
  expect(first.Vpcs).toHaveLength(5);
  await ec2.send(new DeleteVpcCommand({ VpcId: first.Vpcs![0]!.VpcId! }));
  const second = await ec2.send(new DescribeVpcsCommand({ MaxResults: 5, NextToken: first.NextToken! }));
  const third = await ec2.send(new DescribeVpcsCommand({ MaxResults: 5, NextToken: second.NextToken! }));
  expect(third.NextToken).toBeUndefined();
  const seen = [first, second, third].flatMap((page) => page.Vpcs!.map((one) => one.VpcId!));
  expect(seen.sort()).toEqual([...made].sort());
  expect(await codeOf(ec2.send(new DescribeVpcsCommand({ MaxResults: 1 })))).toBe('InvalidParameterValue');
  expect(await codeOf(ec2.send(new DescribeVpcsCommand({ NextToken: 'nonsense' })))).toBe('InvalidParameterValue');
});

test('filters: several values, wildcards, tags, and names that do not exist', async () => {
  const ec2 = endpoint.ec2();
  const tags = (name: string) => [{ ResourceType: 'vpc' as const, Tags: [{ Key: 'Name', Value: name }] }];
  for (const [i, name] of ['blue-1', 'blue-2', 'green*'].entries()) {
    await ec2.send(new CreateVpcCommand({ CidrBlock: `10.${i}.0.0/16`, TagSpecifications: tags(name) }));
  }
  const names = async (Values: string[]) =>
    (await ec2.send(new DescribeVpcsCommand({ Filters: [{ Name: 'tag:Name', Values }] }))).Vpcs!.map((one) => one.Tags![0]!.Value);
  expect(await names(['blue-*'])).toEqual(['blue-1', 'blue-2']);
  expect(await names(['blue-?', 'none'])).toEqual(['blue-1', 'blue-2']);
  expect(await names(['green\\*'])).toEqual(['green*']);
  expect((await ec2.send(new DescribeTagsCommand({ Filters: [{ Name: 'value', Values: ['blue-1'] }] }))).Tags).toHaveLength(1);
  expect(await codeOf(ec2.send(new DescribeVpcsCommand({ Filters: [{ Name: 'colour', Values: ['x'] }] })))).toBe('InvalidParameterValue');
});

test('operations that AWS has and this endpoint has not, and those that nobody has', async () => {
  const unknown = endpoint.ec2().send(new DescribeVpcPeeringConnectionsCommand({}));
  expect(await codeOf(unknown)).toBe('UnsupportedOperation');
});
