import { createRequire } from 'node:module';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { getServiceEndpoints } from './config.ts';
import { services } from './services.ts';

export interface SessionOptions {
  accessKeyId?: string;
  secretAccessKey?: string;
  sessionToken?: string;
  region?: string;
  /** `host[:port]` of LocalStack; AWS_ENDPOINT_URL counts before it, LOCALSTACK_HOST after. */
  localstackHost?: string;
}

/** The SDK's packages are the caller's own: they are looked for from the working directory, then from here. */
function load(name: string): Record<string, any> {
  let failure: unknown;
  for (const from of [join(process.cwd(), 'package.json'), import.meta.url]) {
    try {
      return createRequire(from)(name) as Record<string, any>;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw error;
      failure ??= error;
    }
  }
  throw new Error(`the AWS SDK's package ${name} is not installed: npm install ${name}`, { cause: failure });
}

/** EC2Client of EC2 and EC2Client: the client, not the class that has a method for each operation. */
function clientClass(exported: Record<string, any>): new (config: object) => any {
  const name = Object.keys(exported).find((one) => /^[A-Z]\w*Client$/.test(one) && typeof exported[one.slice(0, -'Client'.length)] === 'function');
  if (!name) throw new Error('the package has no client');
  return exported[name];
}

/** What boto3's Session is for LocalStack: keys, region and endpoints, and clients that have them. */
export class Session {
  readonly env = 'local';
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
  readonly sessionToken: string;
  readonly region: string;
  private readonly endpoints: Record<string, string>;

  constructor(options: SessionOptions = {}) {
    this.accessKeyId = options.accessKeyId ?? 'accesskey';
    this.secretAccessKey = options.secretAccessKey ?? 'secretkey';
    this.sessionToken = options.sessionToken ?? 'token';
    this.region = options.region ?? 'us-east-1';
    this.endpoints = getServiceEndpoints(options.localstackHost);
  }

  getCredentials(): { accessKeyId: string; secretAccessKey: string; sessionToken: string } {
    return { accessKeyId: this.accessKeyId, secretAccessKey: this.secretAccessKey, sessionToken: this.sessionToken };
  }

  /**
   * A client of the AWS SDK v3 for a service by boto3's name, such as `ec2`, `elbv2` or `logs`: `client<EC2Client>('ec2')`. Other settings
   * pass through; the session's own come first. Throws for a service that LocalStack does not know, and where the SDK's package is not installed.
   */
  client<T = any>(service: string, config: Record<string, unknown> = {}): T {
    const endpoint = Object.hasOwn(this.endpoints, service) ? this.endpoints[service]! : undefined;
    if (endpoint === undefined || service === 'edge') throw new Error(`${service} is not supported by this mock session.`);
    const Client = clientClass(load(`@aws-sdk/client-${services[service] ?? service}`));
    return new Client({
      // LocalStack's certificate is nobody's; as in Python's client it is not verified.
      ...(endpoint.startsWith('https:') ? { requestHandler: { httpsAgent: new Agent({ rejectUnauthorized: false }) } } : {}),
      ...(service === 's3' ? { forcePathStyle: true } : {}),
      ...config,
      endpoint,
      region: this.region,
      credentials: this.getCredentials(),
    });
  }
}

let defaultSession: Session | undefined;

/** A client of the default session. The environment is read at its first use. */
export function client<T = any>(service: string, options?: SessionOptions): T {
  if (options && Object.keys(options).length) return new Session(options).client<T>(service);
  return (defaultSession ??= new Session()).client<T>(service);
}
