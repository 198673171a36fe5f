/** `create cluster --aws-endpoint` where the endpoint checks signatures, has a registry of its own, is not there, or goes away. Needs no root. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createAwsClients } from '../../src/aws/clients.ts';
import { type LocalAws, startLocalAws } from '../../src/localaws/api/server.ts';
import { Machine } from './command.ts';
import { inventory } from './pulumi-stack.ts';

let machine: Machine;
let directory: string;
let aws: LocalAws;

beforeEach(async () => {
  machine = new Machine();
  directory = mkdtempSync(join(tmpdir(), 'kumulus-endpoint-'));
  aws = await startLocalAws({ directory, port: 0, accountId: '100000000007', log: pino({ level: 'silent' }), dataPlane: 'simulated' });
  const { accessKeyId, secretAccessKey } = aws.rootCredentials;
  Object.assign(machine.env, { AWS_ACCESS_KEY_ID: accessKeyId, AWS_SECRET_ACCESS_KEY: secretAccessKey });
});
afterEach(async () => {
  await machine.end();
  await aws.stop();
  rmSync(directory, { recursive: true });
}, 60_000);

const create = (...words: string[]) => machine.kumulus(['create', 'cluster', 'there', '--simulated-nodes', '2', '--aws-endpoint', ...words]);

describe('a cluster on an AWS elsewhere', { timeout: 180_000 }, () => {
  it('is made of its resources, is found again after a stop, and leaves nothing', async () => {
    const clients = createAwsClients({ region: 'us-east-1', endpoint: aws.url, credentials: aws.rootCredentials });
    try {
      const empty = await inventory(clients);
      const made = await create(aws.url, '-o', 'json');
      expect(made.code, made.err).toBe(0);
      expect(JSON.parse(made.out)).toMatchObject({ awsEndpoint: aws.url });
      expect(readFileSync(machine.env['AWS_CONFIG_FILE'] as string, 'utf8')).toContain(`endpoint_url = ${aws.url}\n`);
      expect((await inventory(clients))['instances']).toBe(2);
      for (const verb of ['stop', 'start']) {
        const ran = await machine.kumulus([verb, 'cluster', 'there']);
        expect(ran.code, ran.err).toBe(0);
      }
      const listed = await machine.kumulus(['get', 'nodes', '--name', 'there', '-o', 'json']);
      expect(JSON.parse(listed.out).map((one: { status: string }) => one.status)).toEqual(['Ready', 'Ready']);
      expect((await machine.kumulus(['delete', 'cluster', 'there'])).code).toBe(0);
      expect(await inventory(clients)).toEqual(empty);
    } finally {
      clients.destroy();
    }
  });

  it('goes without it where that is gone', async () => {
    const made = await create(aws.url);
    expect(made.code, made.err).toBe(0);
    await aws.stop();
    const ran = await machine.kumulus(['delete', 'cluster', 'there']);
    expect(ran.code, ran.err).toBe(0);
    expect(ran.err).toContain(`${aws.url} does not answer: what cluster "there" made there is left to it`);
    expect((await machine.kumulus(['get', 'clusters'])).err).toContain('No kumulus clusters found.');
  });

  it('is refused in a line where nothing answers, keys are wrong, or the address is that of AWS', async () => {
    const nobody = await create('http://127.0.0.1:1');
    expect([nobody.code, nobody.err]).toEqual([1, expect.stringContaining('http://127.0.0.1:1 does not answer as an AWS: ')]);
    expect(await create('https://ec2.us-east-1.amazonaws.com')).toMatchObject({ code: 2 });
    expect(await create('nowhere')).toMatchObject({ code: 2, err: expect.stringContaining("--aws-endpoint 'nowhere' is not a URL") });
    machine.env['AWS_SECRET_ACCESS_KEY'] = 'other';
    expect(await create(aws.url)).toMatchObject({ code: 1, err: expect.stringContaining('does not answer as an AWS: ') });
    expect((await machine.kumulus(['get', 'clusters'])).err).toContain('No kumulus clusters found.');
  });
});
