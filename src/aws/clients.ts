import type { EC2Client } from '@aws-sdk/client-ec2';
import type { ECRClient } from '@aws-sdk/client-ecr';
import type { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import type { IAMClient } from '@aws-sdk/client-iam';
import type { SSMClient } from '@aws-sdk/client-ssm';
import { limitRate } from './rate-limit.ts';

export interface AwsConfig {
  region: string;
  /** Another endpoint than AWS's own: the embedded AWS, LocalStack, moto. */
  endpoint?: string;
  /** The SDK's default chain (environment, profile, instance metadata) where left out. */
  credentials?: { accessKeyId: string; secretAccessKey: string; sessionToken?: string };
  /** true: calls are held to no rate. For an endpoint of one's own. */
  unlimited?: boolean;
  /** Stands around every attempt of every call. `service` is as in a signature's scope. */
  around?(service: string, operation: string, input: unknown, run: () => Promise<any>): Promise<any>;
}

/**
 * The SDK's clients, each loaded when first asked for: the EC2 client alone takes 200 to 600 ms and 80 MB. By modules that name what is
 * used (sdk/), so that a bundle has nothing else of them.
 */
export interface AwsClients {
  config: AwsConfig;
  ec2(): Promise<EC2Client>;
  elbv2(): Promise<ElasticLoadBalancingV2Client>;
  iam(): Promise<IAMClient>;
  ecr(): Promise<ECRClient>;
  ssm(): Promise<SSMClient>;
  destroy(): void;
}

const once = <T>(make: () => Promise<T>): (() => Promise<T>) => {
  let made: Promise<T> | undefined;
  return () => (made ??= make());
};

export function createAwsClients(config: AwsConfig): AwsClients {
  const common = {
    region: config.region,
    // Throttled calls are made again, with growing pauses.
    maxAttempts: 8,
    ...(config.endpoint ? { endpoint: config.endpoint } : {}),
    ...(config.credentials ? { credentials: config.credentials } : {}),
  };
  const opened: { destroy(): void }[] = [];
  const keep = <T extends { destroy(): void; middlewareStack: { add(middleware: any, options: any): void } }>(service: string, client: T): T => {
    if (!config.unlimited) limitRate(client);
    if (config.around) {
      const { around } = config;
      client.middlewareStack.add(
        (next: any, context: { commandName?: string }) => (args: { input: unknown }) =>
          around(service, (context.commandName ?? '').replace(/Command$/, ''), args.input, () => next(args)),
        // Inside the retries.
        { step: 'deserialize', priority: 'high', name: 'kumulusAround' },
      );
    }
    opened.push(client);
    return client;
  };
  return {
    config,
    ec2: once(async () => keep('ec2', new (await import('./sdk/ec2.ts')).EC2Client(common))),
    elbv2: once(async () =>
      keep('elasticloadbalancing', new (await import('./sdk/elbv2.ts')).ElasticLoadBalancingV2Client(common)),
    ),
    iam: once(async () => keep('iam', new (await import('./sdk/iam.ts')).IAMClient(common))),
    ecr: once(async () => keep('ecr', new (await import('./sdk/ecr.ts')).ECRClient(common))),
    ssm: once(async () => keep('ssm', new (await import('./sdk/ssm.ts')).SSMClient(common))),
    destroy: () => {
      for (const client of opened) client.destroy();
    },
  };
}

/** Whether an SDK error carries one of these AWS error codes. */
export function hasCode(error: unknown, ...codes: string[]): boolean {
  const e = error as { name?: string; Code?: string };
  return codes.includes(e?.name ?? '') || codes.includes(e?.Code ?? '');
}

/** Swallows these AWS error codes, for calls whose aim is already reached. */
export function ignore(...codes: string[]): (error: unknown) => undefined {
  return (error) => {
    if (!hasCode(error, ...codes)) throw error;
    return undefined;
  };
}

/**
 * Deletes what may be held for a while by what was deleted just before: asks again while AWS refuses with one of these codes.
 * Other errors are the caller's, and go on.
 */
export async function removeWhenFree(
  what: string,
  remove: () => Promise<unknown>,
  held: string[],
  options: { timeoutMs?: number; signal?: AbortSignal | undefined },
): Promise<void> {
  const attempt = () =>
    remove().then(
      () => true,
      (error) => {
        if (hasCode(error, ...held)) return undefined;
        throw error;
      },
    );
  await waitUntil(what, attempt, options);
}

/**
 * Calls until ready answers something, or throws naming what it waited for.
 * AWS has no notifications for resource states, so this one asks again, with growing pauses from 100 ms to 2 s.
 */
export async function waitUntil<T>(
  what: string,
  ready: () => Promise<T | undefined>,
  options: { timeoutMs?: number; signal?: AbortSignal | undefined } = {},
): Promise<T> {
  const end = Date.now() + (options.timeoutMs ?? 300_000);
  for (let pause = 100; ; pause = Math.min(pause * 1.5, 2000)) {
    options.signal?.throwIfAborted();
    const found = await ready();
    if (found !== undefined) return found;
    if (Date.now() > end) throw new Error(`timed out after ${Math.round((options.timeoutMs ?? 300_000) / 1000)} s waiting for ${what}`);
    await new Promise<void>((resolve) => {
      const timer = setTimeout(done, pause);
      function done() {
        clearTimeout(timer);
        options.signal?.removeEventListener('abort', done);
        resolve();
      }
      options.signal?.addEventListener('abort', done, { once: true });
    });
  }
}
