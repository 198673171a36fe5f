import { DescribeImagesCommand, EC2Client } from '@aws-sdk/client-ec2';
import { ECRClient } from '@aws-sdk/client-ecr';
import { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { IAMClient } from '@aws-sdk/client-iam';
import { SSMClient } from '@aws-sdk/client-ssm';
import { STSClient } from '@aws-sdk/client-sts';

export interface Credentials {
  accessKeyId: string;
  secretAccessKey: string;
}

/** An endpoint as the checks see it: clients whose calls are noted, and what checks made so far. */
export class Peer {
  readonly account: string;
  readonly ec2: EC2Client;
  readonly elbv2: ElasticLoadBalancingV2Client;
  readonly iam: IAMClient;
  readonly sts: STSClient;
  readonly ssm: SSMClient;
  readonly ecr: ECRClient;
  /** Commands that were sent. */
  readonly called = new Set<string>();
  private readonly made = new Map<string, Promise<unknown>>();

  constructor(endpoint: string, account: string, credentials: Credentials) {
    const config = { region: 'us-east-1', endpoint, credentials, maxAttempts: 1 };
    this.account = account;
    this.ec2 = new EC2Client(config);
    this.elbv2 = new ElasticLoadBalancingV2Client(config);
    this.iam = new IAMClient(config);
    this.sts = new STSClient(config);
    this.ssm = new SSMClient(config);
    this.ecr = new ECRClient(config);
    for (const client of this.clients as { middlewareStack: { add(middleware: any, options: any): void } }[]) {
      const note = (next: any, context: any) => (args: any) => {
        this.called.add(context.commandName.replace(/Command$/, ''));
        return next(args);
      };
      client.middlewareStack.add(note, { step: 'initialize', name: 'note' });
    }
  }

  private get clients() {
    return [this.ec2, this.elbv2, this.iam, this.sts, this.ssm, this.ecr];
  }

  /** What several checks stand on: made by the first that asks. */
  once<T>(name: string, make: () => Promise<T>): Promise<T> {
    const known = this.made.get(name) ?? make();
    this.made.set(name, known);
    return known as Promise<T>;
  }

  image(): Promise<string> {
    return this.once('image', async () => {
      const { Images = [] } = await this.ec2.send(new DescribeImagesCommand({ Filters: [{ Name: 'architecture', Values: ['x86_64'] }] }));
      return Images[0]!.ImageId!;
    });
  }

  destroy(): void {
    for (const client of this.clients) client.destroy();
  }
}

/** One thing that AWS's documentation says, with what it takes to see it. Throws where an endpoint does otherwise. */
export interface Check {
  name: string;
  run(peer: Peer): Promise<void>;
}

/** The code with which a call is refused; throws when it is carried out. */
export async function refusal(call: Promise<unknown>): Promise<string> {
  try {
    await call;
  } catch (error) {
    return (error as { Code?: string; name: string }).Code ?? (error as Error).name;
  }
  throw new Error('the call was carried out');
}

/** Looks until there is something; throws with `what` after 20 seconds. */
export async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  for (const end = Date.now() + 20_000; ; ) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
