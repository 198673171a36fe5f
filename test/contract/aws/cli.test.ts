import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { pino } from 'pino';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ensureEnvironment } from '../../../localstack/host/python.ts';
import { type LocalAws, startLocalAws } from '../../../src/localaws/api/server.ts';

/** The AWS CLI and boto3, which are other implementations of AWS's protocols than the SDK whose schemas the embedded AWS speaks by. */
const account = '100000000004';
let directory: string;
let python: string;
let aws: LocalAws;
let env: Record<string, string>;

beforeAll(async () => {
  python = await ensureEnvironment('awscli', join(import.meta.dirname, '../../../localstack/awscli.lock'));
  directory = mkdtempSync('/tmp/kumulus-cli-');
  aws = await startLocalAws({ directory, port: 0, accountId: account, log: pino({ level: 'silent' }), dataPlane: 'simulated' });
  const { accessKeyId, secretAccessKey } = aws.rootCredentials;
  env = { PATH: process.env['PATH'] ?? '', HOME: directory, AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey };
  Object.assign(env, { AWS_DEFAULT_REGION: 'us-east-1', AWS_ENDPOINT_URL: aws.url, AWS_MAX_ATTEMPTS: '1' });
}, 600_000);
afterAll(async () => {
  await aws?.stop();
  if (directory) rmSync(directory, { recursive: true, force: true });
});

const run = promisify(execFile);
/** What a command prints, as text of one query. */
const cli = async (line: string, query?: string) => {
  const words = [...line.split(' '), '--output', 'text', ...(query ? ['--query', query] : [])];
  return (await run(python, ['-m', 'awscli', ...words], { env, cwd: directory })).stdout.trim();
};
const image = 'resolve:ssm:/aws/service/kumulus/node/recommended/image_id';

test('aws ec2: network, instances with user data, volumes, waiters, errors', async () => {
  const vpc = await cli('ec2 create-vpc --cidr-block 10.0.0.0/16', 'Vpc.VpcId');
  const gateway = await cli('ec2 create-internet-gateway', 'InternetGateway.InternetGatewayId');
  await cli(`ec2 attach-internet-gateway --vpc-id ${vpc} --internet-gateway-id ${gateway}`);
  const subnet = await cli(`ec2 create-subnet --vpc-id ${vpc} --cidr-block 10.0.0.0/20 --availability-zone us-east-1a`, 'Subnet.SubnetId');
  const group = await cli(`ec2 create-security-group --group-name web --description web --vpc-id ${vpc}`, 'GroupId');
  await cli(`ec2 authorize-security-group-ingress --group-id ${group} --protocol tcp --port 80 --cidr 0.0.0.0/0`);
  writeFileSync(join(directory, 'user-data'), '#!/bin/sh\necho hello\n');
  const launch = `ec2 run-instances --image-id ${image} --subnet-id ${subnet} --security-group-ids ${group} --instance-type t3.micro`;
  const id = await cli(
    `${launch} --user-data file://user-data --tag-specifications ResourceType=instance,Tags=[{Key=Name,Value=one}]`,
    'Instances[0].InstanceId',
  );
  await cli(`ec2 wait instance-running --instance-ids ${id}`);
  expect(await cli('ec2 describe-instances --filters Name=tag:Name,Values=one', 'Reservations[].Instances[].[InstanceId,State.Name]')).toBe(
    `${id}\trunning`,
  );
  const data = await cli(`ec2 describe-instance-attribute --instance-id ${id} --attribute userData`, 'UserData.Value');
  expect(Buffer.from(data, 'base64').toString()).toBe('#!/bin/sh\necho hello\n');
  const volume = await cli('ec2 create-volume --size 1 --availability-zone us-east-1a', 'VolumeId');
  await cli(`ec2 wait volume-available --volume-ids ${volume}`);
  await cli(`ec2 attach-volume --volume-id ${volume} --instance-id ${id} --device /dev/sdf`);
  await cli(`ec2 wait volume-in-use --volume-ids ${volume}`);
  await expect(cli('ec2 describe-instances --instance-ids i-0123456789abcdef0')).rejects.toThrow('(InvalidInstanceID.NotFound)');
  await expect(cli(`ec2 run-instances --image-id ${image} --subnet-id ${subnet} --dry-run`)).rejects.toThrow('(DryRunOperation)');

  const balancer = await cli(`elbv2 create-load-balancer --name web --type network --subnets ${subnet}`, 'LoadBalancers[0].LoadBalancerArn');
  const target = `elbv2 create-target-group --name web --protocol TCP --port 80 --vpc-id ${vpc} --target-type instance`;
  const targets = await cli(target, 'TargetGroups[0].TargetGroupArn');
  await cli(`elbv2 register-targets --target-group-arn ${targets} --targets Id=${id}`);
  await cli(
    `elbv2 create-listener --load-balancer-arn ${balancer} --protocol TCP --port 80 --default-actions Type=forward,TargetGroupArn=${targets}`,
  );
  await cli(`elbv2 wait load-balancer-available --load-balancer-arns ${balancer}`);
  await cli(`elbv2 wait target-in-service --target-group-arn ${targets} --targets Id=${id}`);
  const health = await cli(`elbv2 describe-target-health --target-group-arn ${targets}`, 'TargetHealthDescriptions[].[Target.Id,TargetHealth.State]');
  expect(health).toBe(`${id}\thealthy`);
  await expect(cli('elbv2 describe-load-balancers --names nobody')).rejects.toThrow('(LoadBalancerNotFound)');
}, 300_000);

test('aws sts, iam, ssm and ecr', async () => {
  expect(await cli('sts get-caller-identity', 'Arn')).toBe(`arn:aws:iam::${account}:root`);
  const trust = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: { AWS: account }, Action: 'sts:AssumeRole' }] };
  writeFileSync(join(directory, 'trust.json'), JSON.stringify(trust));
  const role = await cli('iam create-role --role-name people --assume-role-policy-document file://trust.json', 'Role.Arn');
  expect(role).toBe(`arn:aws:iam::${account}:role/people`);
  const shown = JSON.parse((await run(python, ['-m', 'awscli', 'iam', 'get-role', '--role-name', 'people'], { env })).stdout);
  expect(shown.Role.AssumeRolePolicyDocument).toEqual(trust);
  expect(await cli(`sts assume-role --role-arn ${role} --role-session-name me`, 'AssumedRoleUser.Arn')).toBe(
    `arn:aws:sts::${account}:assumed-role/people/me`,
  );
  await expect(cli('iam delete-role --role-name nobody')).rejects.toThrow('(NoSuchEntity)');
  await cli('ssm put-parameter --name /a/b --value secret --type SecureString');
  expect(await cli('ssm get-parameter --name /a/b --with-decryption', 'Parameter.Value')).toBe('secret');
  expect(await cli('ssm get-parameters-by-path --path /a', 'Parameters[].Name')).toBe('/a/b');
  await expect(cli('ssm get-parameter --name /none')).rejects.toThrow('(ParameterNotFound)');
  const repository = await cli('ecr create-repository --repository-name web', 'repository.repositoryUri');
  expect(repository).toBe(`${account}.dkr.ecr.us-east-1.amazonaws.com/web`);
  expect(await cli('ecr get-login-password')).toMatch(/^\S{40,}$/);
}, 300_000);

test('keys that are wrong, or of another account, are refused', async () => {
  const other = { ...env, AWS_ACCESS_KEY_ID: 'AKIAIOSFODNN7EXAMPLE', AWS_SECRET_ACCESS_KEY: 'wrong' };
  const call = (words: string[], given: Record<string, string>) => run(python, ['-m', 'awscli', ...words], { env: given });
  await expect(call(['ec2', 'describe-vpcs'], other)).rejects.toThrow('(AuthFailure)');
  await expect(call(['sts', 'get-caller-identity'], other)).rejects.toThrow('(InvalidClientTokenId)');
  const wrong = { ...env, AWS_SECRET_ACCESS_KEY: 'wrong' };
  await expect(call(['iam', 'list-roles'], wrong)).rejects.toThrow('(SignatureDoesNotMatch)');
}, 60_000);

test('boto3: resources, paginators, waiters and presigned URLs', async () => {
  const script = `
import boto3, json, urllib.request
ec2 = boto3.resource("ec2")
vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")
vpc.create_tags(Tags=[{"Key": "Name", "Value": "boto"}])
subnet = vpc.create_subnet(CidrBlock="10.7.0.0/20")
made = subnet.create_instances(ImageId="${image}", InstanceType="t3.micro", MinCount=12, MaxCount=12)
made[0].wait_until_running()
client = boto3.client("ec2")
pages = list(client.get_paginator("describe_instances").paginate(Filters=[{"Name": "vpc-id", "Values": [vpc.id]}], PaginationConfig={"PageSize": 5}))
ids = [i["InstanceId"] for page in pages for r in page["Reservations"] for i in r["Instances"]]
url = boto3.client("sts").generate_presigned_url("get_caller_identity", HttpMethod="GET")
who = urllib.request.urlopen(url).read().decode()
zones = [z["ZoneName"] for z in client.describe_availability_zones()["AvailabilityZones"]]
print(json.dumps({"pages": len(pages), "ids": len(set(ids)), "tags": vpc.tags, "who": "${account}" in who, "zones": zones}))
`;
  const { stdout } = await run(python, ['-c', script], { env });
  expect(JSON.parse(stdout)).toMatchObject({ ids: 12, tags: [{ Key: 'Name', Value: 'boto' }], who: true });
  expect(JSON.parse(stdout).pages).toBeGreaterThanOrEqual(3);
}, 120_000);
