import { mkdtempSync, rmSync } from 'node:fs';
import { EC2Client } from '@aws-sdk/client-ec2';
import { pino } from 'pino';
import { type LocalAws, type LocalAwsOptions, startLocalAws } from './server.ts';

export interface ClientConfig {
  region: string;
  endpoint: string;
  credentials: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
  maxAttempts: number;
}

/** An endpoint in a folder of its own for a test, which can be stopped and started again. */
export class TestEndpoint {
  readonly directory = mkdtempSync('/tmp/kumulus-localaws-');
  aws!: LocalAws;
  private readonly clients: { destroy(): void }[] = [];

  static async start(options: Partial<LocalAwsOptions> = {}): Promise<TestEndpoint> {
    const endpoint = new TestEndpoint();
    await endpoint.open(options);
    return endpoint;
  }

  async open(options: Partial<LocalAwsOptions> = {}): Promise<void> {
    const log = pino({ level: process.env['KUMULUS_LOG'] ?? 'silent' });
    this.aws = await startLocalAws({ directory: this.directory, port: 0, log, dataPlane: 'simulated', ...options });
  }

  /** What an SDK client needs to be root here. Nothing is tried twice. */
  config(more: Partial<ClientConfig> = {}): ClientConfig {
    return { region: this.aws.source.region, endpoint: this.aws.url, credentials: this.aws.rootCredentials, maxAttempts: 1, ...more };
  }

  ec2(more: Partial<ClientConfig> = {}): EC2Client {
    return this.keep(new EC2Client(this.config(more)));
  }

  /** A client that is destroyed with the endpoint. */
  keep<T extends { destroy(): void }>(client: T): T {
    this.clients.push(client);
    return client;
  }

  async end(): Promise<void> {
    for (const client of this.clients) client.destroy();
    await this.aws.stop();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The AWS error code with which a call fails; throws when it succeeds. */
export async function codeOf(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return (error as Error).name;
  }
  throw new Error('the call succeeded');
}

/** Looks again and again until there is something; throws with `what` after `timeout` milliseconds. */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>, timeout = 15_000): Promise<T> {
  for (const end = Date.now() + timeout; ; ) {
    const value = await look();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited ${timeout / 1000} s in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
