/** What runs on a cluster of `create cluster` runs on one of Pulumi's quickstart, whose control plane is on an instance of its own. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { EC2Client } from '@aws-sdk/client-ec2';
import { ElasticLoadBalancingV2Client } from '@aws-sdk/client-elastic-load-balancing-v2';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AwsClients, createAwsClients } from '../../src/aws/clients.ts';
import { clusterId } from '../../src/cluster/state.ts';
import { destroyEverything } from '../../src/localaws/dataplane/cleanup.ts';
import { whatRuns } from './cluster.steps.ts';
import { eventually, Machine } from './command.ts';
import { ExampleCluster } from './example.ts';
import { findPulumi, inventory, PulumiStack, type ServedAws, serveEmbeddedAws } from './pulumi-stack.ts';
import { deployExample, examplePage, pushExample } from './quickstart-page.ts';

const minutes = 60_000;

/** The example on infra/quickstart. */
class QuickstartCluster extends ExampleCluster {
  clients!: AwsClients;
  stack!: PulumiStack;
  private provider!: ServedAws;

  override get awsConfig() {
    const { accessKeyId, secretAccessKey } = JSON.parse(readFileSync(join(this.machine.folder, 'aws/aws/credentials.json'), 'utf8'));
    return { region: this.provider.region, endpoint: this.provider.endpoint, credentials: { accessKeyId, secretAccessKey } };
  }

  async open(): Promise<void> {
    this.provider = await serveEmbeddedAws(this.machine.folder, this.machine.env);
    this.clients = createAwsClients(this.awsConfig);
    this.ec2 = new EC2Client(this.awsConfig);
    this.elb = new ElasticLoadBalancingV2Client(this.awsConfig);
    this.stack = new PulumiStack(this.machine.folder, `kumulus-cluster-${process.pid}`, this.machine.env);
    const { endpoint, profile, region } = this.provider;
    const settings = { 'kumulus:endpoint': endpoint, 'kumulus:profile': profile, 'kumulus:region': region, nodes: '3', timeoutSeconds: '300' };
    await this.stack.init(settings);
  }

  async up(): Promise<void> {
    await this.stack.up();
    writeFileSync(this.machine.kubeconfig, JSON.stringify((await this.stack.outputs())['kubeconfig']), { mode: 0o600 });
    await deployExample(this.machine, await pushExample(this.clients, this.provider.endpoint));
    const { address } = await examplePage(this.machine, this.clients);
    const hostname = await this.machine.kubectl('get service hello -o jsonpath={.status.loadBalancer.ingress[0].hostname}');
    this.created = { url: `http://${address}/`, hostname, awsEndpoint: this.provider.endpoint, context: '' };
  }

  override async end(): Promise<void> {
    await this.stack?.destroy().catch((error) => console.error(error));
    await this.stack?.remove();
    this.clients?.destroy();
    await this.provider?.stop();
    const directory = join(this.machine.folder, 'aws');
    await destroyEverything({ directory, id: clusterId(directory), log: pino({ level: 'silent' }) });
    await super.end();
  }
}

const probe = new Machine();
afterAll(() => probe.end());
const missing = [
  ...(findPulumi() ? [] : ['the pulumi command (https://www.pulumi.com/docs/install/)']),
  ...(probe.kubectlPath ? [] : ['kubectl']),
  ...(process.getuid?.() === 0 ? [] : ['root, for instances']),
];
if (missing.length) console.warn(`what runs on a cluster is not tested on Pulumi's: this machine lacks ${missing.join(', ')}`);

describe.skipIf(missing.length > 0)('a cluster of Pulumi', { timeout: 6 * minutes }, () => {
  const cluster = new QuickstartCluster('quickstart');
  let empty: Record<string, number>;
  beforeAll(async () => {
    await cluster.open();
    empty = await inventory(cluster.clients);
  }, 2 * minutes);
  afterAll(() => cluster.end(), 5 * minutes);

  it('pulumi up, and the example', () => cluster.up());

  whatRuns(cluster);

  it('an update with a refresh replaces the terminated instance', async () => {
    await cluster.stack.up('--refresh');
    expect(await cluster.readyNodes()).toHaveLength(3);
    await eventually('three targets', async () => (await cluster.healthyTargets()).length === 3, 90_000);
    expect(await cluster.page()).toContain('Hello from Kumulus');
  });

  it('destroy leaves nothing', async () => {
    await cluster.stack.destroy();
    expect(await inventory(cluster.clients)).toEqual(empty);
  });
});
