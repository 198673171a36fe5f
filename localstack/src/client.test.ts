import { mkdtempSync, rmSync } from 'node:fs';
import { DescribeVpcsCommand, EC2Client } from '@aws-sdk/client-ec2';
import { DescribeLoadBalancersCommand, type ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, expect, test } from 'vitest';
import * as localstack from './index.ts';
import { services } from './services.ts';

const names = ['AWS_ENDPOINT_URL', 'LOCALSTACK_HOST', 'USE_SSL', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_SESSION_TOKEN', 'AWS_PROFILE'];
const regions = ['AWS_REGION', 'AWS_DEFAULT_REGION'];
let saved: Record<string, string | undefined>;
let server: Server;
/** Authorization headers of the requests that came. */
let seen: string[];
let host: string;

beforeEach(async () => {
  saved = Object.fromEntries([...names, ...regions].map((name) => [name, process.env[name]]));
  for (const name of [...names, ...regions]) delete process.env[name];
  seen = [];
  server = createServer((request, response) => {
    seen.push(String(request.headers.authorization));
    response.writeHead(200, { 'content-type': 'text/xml' }).end('<Response><requestId>1</requestId></Response>');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterEach(() => {
  localstack.disableLocalEndpoints();
  for (const [name, value] of Object.entries(saved)) {
    if (value === undefined) delete process.env[name];
    else process.env[name] = value;
  }
  server.closeAllConnections();
  server.close();
});

test('hosts are read as host[:port]', () => {
  expect(localstack.parseLocalstackHost('localhost')).toEqual({ hostname: 'localhost', port: 4566 });
  expect(localstack.parseLocalstackHost('stack.example:4577')).toEqual({ hostname: 'stack.example', port: 4577 });
  expect(localstack.parseLocalstackHost(':4577')).toEqual({ hostname: 'localhost', port: 4577 });
  expect(() => localstack.parseLocalstackHost('localhost:http')).toThrow('could not parse localhost:http into <hostname>:<port>');
  expect(() => localstack.parseLocalstackHost('a:1:2')).toThrow('could not parse');
});

test('AWS_ENDPOINT_URL counts before the argument, that before LOCALSTACK_HOST, and that before localhost:4566', () => {
  expect(localstack.getServiceEndpoint('ec2')).toBe('http://localhost:4566');
  process.env['LOCALSTACK_HOST'] = 'stack.example:4577';
  expect(localstack.getServiceEndpoint('ec2')).toBe('http://stack.example:4577');
  expect(localstack.getServiceEndpoint('ec2', 'other:1')).toBe('http://other:1');
  process.env['USE_SSL'] = 'true';
  expect(localstack.getServiceEndpoint('ec2', 'other:1')).toBe('https://other:1');
  process.env['AWS_ENDPOINT_URL'] = ' http://all.example:9 ';
  expect(localstack.getServiceEndpoint('ec2', 'other:1')).toBe('http://all.example:9');
  expect(localstack.getServicePort('ec2')).toBe(9);
  expect(localstack.getServiceEndpoint('nonsense')).toBeUndefined();
  expect(localstack.getServicePort('constructor')).toBeUndefined();
});

test('every service has the same endpoint and port', () => {
  const endpoints = localstack.getServiceEndpoints('stack:1');
  expect(Object.keys(endpoints)).toEqual(Object.keys(services));
  expect(new Set(Object.values(endpoints))).toEqual(new Set(['http://stack:1']));
  expect(new Set(Object.values(localstack.getServicePorts()))).toEqual(new Set([4566]));
  expect(endpoints).toMatchObject({ ec2: 'http://stack:1', elbv2: 'http://stack:1', 'cognito-idp': 'http://stack:1', edge: 'http://stack:1' });
});

test('a session has defaults, and gives clients that speak to LocalStack', async () => {
  const session = new localstack.Session({ localstackHost: host });
  expect(session.getCredentials()).toEqual({ accessKeyId: 'accesskey', secretAccessKey: 'secretkey', sessionToken: 'token' });
  expect(session.region).toBe('us-east-1');
  const ec2 = session.client<EC2Client>('ec2', { maxAttempts: 1, region: 'overridden' });
  const elb = session.client<ElasticLoadBalancingV2Client>('elbv2');
  try {
    expect(ec2.constructor.name).toBe('EC2Client');
    expect(elb.constructor.name).toBe('ElasticLoadBalancingV2Client');
    await ec2.send(new DescribeVpcsCommand({}));
    await elb.send(new DescribeLoadBalancersCommand({}));
    expect(seen[0]).toContain('Credential=accesskey/');
    expect(seen[0]).toContain('/us-east-1/ec2/aws4_request');
    expect(seen[1]).toContain('/us-east-1/elasticloadbalancing/aws4_request');
  } finally {
    ec2.destroy();
    elb.destroy();
  }
});

test('a service that is not known, or whose package is not installed, throws', () => {
  const session = new localstack.Session();
  expect(() => session.client('nonsense')).toThrow('nonsense is not supported by this mock session.');
  expect(() => session.client('toString')).toThrow('not supported');
  expect(() => session.client('edge')).toThrow('not supported');
  expect(() => session.client('qldb')).toThrow('npm install @aws-sdk/client-qldb');
  expect(() => localstack.client('nonsense')).toThrow('not supported');
});

test('local endpoints, while enabled, are those of clients that name none', async () => {
  const folder = mkdtempSync('/tmp/kumulus-localstack-client-');
  process.env['AWS_CONFIG_FILE'] = process.env['AWS_SHARED_CREDENTIALS_FILE'] = `${folder}/none`;
  process.env['LOCALSTACK_HOST'] = host;
  process.env['AWS_PROFILE'] = 'someone';
  localstack.enableLocalEndpoints();
  localstack.enableLocalEndpoints();
  const ec2 = new EC2Client({});
  try {
    await ec2.send(new DescribeVpcsCommand({}));
    expect(seen[0]).toContain('Credential=test/');
    localstack.disableLocalEndpoints();
    expect(process.env['AWS_ENDPOINT_URL']).toBeUndefined();
    expect(process.env['AWS_PROFILE']).toBe('someone');
    localstack.disableLocalEndpoints();
  } finally {
    ec2.destroy();
    delete process.env['AWS_CONFIG_FILE'];
    delete process.env['AWS_SHARED_CREDENTIALS_FILE'];
    rmSync(folder, { recursive: true });
  }
});
