import { mkdirSync, realpathSync } from 'node:fs';
import { isIP } from 'node:net';
import { join, resolve } from 'node:path';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { removeProfile, writeProfile } from '../cluster/aws-endpoint.ts';
import { freePort } from '../cluster/ports.ts';
import { packageRoot } from '../cluster/package.ts';
import { clusterId, stateRoot, UserError } from '../cluster/state.ts';
import type { CloudReports, CloudSource } from '../localaws/contract.ts';
import { checkEndpoint, checkOutput, interruption } from './context.ts';

interface ServeOptions {
  host: string;
  port?: string;
  state?: string;
  region: string;
  accountId: string;
  dataplane?: true;
  profile: string;
  output?: string;
}

interface DataplaneOptions {
  endpoint: string;
  region: string;
  state?: string;
  registryPort?: string;
}

const logger = (): Logger => pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'warn', base: undefined }, pino.destination(2));

function parsePort(text: string): number {
  const port = Number(text);
  if (!/^\d+$/.test(text) || port > 65_535) throw new UserError(`'${text}' is not a port`, 2);
  return port;
}

const interrupted = () =>
  new Promise<void>((done) => {
    if (interruption.signal.aborted) done();
    else interruption.signal.addEventListener('abort', () => done(), { once: true });
  });

/** A folder of its own, which no cluster's name can be. */
function stateFolder(option: string | undefined, name: string): string {
  const directory = option ? resolve(option) : join(stateRoot(), name);
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  return realpathSync(directory);
}

async function checkHost(directory: string): Promise<void> {
  const { preflight } = await import('../localaws/dataplane/preflight.ts');
  const { problems } = await preflight(directory);
  if (problems.length) throw new UserError(problems.join('\n'));
}

/** Makes an endpoint's state real until the command is interrupted; instances then stop, and boot again at the next start. */
async function startPlane(o: {
  directory: string;
  source: CloudSource;
  reports: CloudReports;
  handle: (socket: import('node:net').Socket) => void;
  log: Logger;
}): Promise<{ stop(): Promise<void> }> {
  const { startDataPlane } = await import('../localaws/dataplane/dataplane.ts');
  const plane = await startDataPlane({
    source: o.source,
    reports: o.reports,
    directory: o.directory,
    id: clusterId(o.directory),
    packageRoot,
    nodeBinary: process.execPath,
    awsHandleConnection: o.handle,
    log: o.log,
  });
  return { stop: () => plane.stop() };
}

async function serve(o: ServeOptions): Promise<void> {
  checkOutput(o.output, ['json']);
  if (!(isIP(o.host) === 4 && o.host.startsWith('127.')) && o.host !== '::1') {
    throw new UserError(`--host ${o.host}: the embedded AWS listens on loopback only, since who may call it runs code as root`, 2);
  }
  if (!/^[a-z]{2}(-[a-z]+)+-\d$/.test(o.region)) throw new UserError(`--region '${o.region}' is not a region such as us-east-1`, 2);
  if (!/^\d{12}$/.test(o.accountId)) throw new UserError(`--account-id '${o.accountId}' is not of 12 digits`, 2);
  const port = o.port === undefined ? await freePort(4566, new Set()) : parsePort(o.port);
  const directory = stateFolder(o.state, '.aws');
  const log = logger();
  if (o.dataplane) await checkHost(directory);
  const { startLocalAws } = await import('../localaws/api/server.ts');
  const aws = await startLocalAws({
    directory: join(directory, 'aws'),
    host: o.host,
    port,
    region: o.region,
    accountId: o.accountId,
    log,
    dataPlane: o.dataplane ? 'external' : 'simulated',
  }).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EADDRINUSE' ? new UserError(`port ${port} on ${o.host} is taken: name another with --port`) : error;
  });
  try {
    const handle = (socket: import('node:net').Socket) => aws.handleConnection(socket);
    const plane = o.dataplane ? await startPlane({ directory, source: aws.source, reports: aws.reports, handle, log }) : undefined;
    writeProfile(o.profile, o.region, aws.url, aws.rootCredentials);
    try {
      const facts = {
        endpoint: aws.url,
        region: o.region,
        accountId: o.accountId,
        profile: o.profile,
        credentialsFile: join(directory, 'aws/credentials.json'),
      };
      if (o.output === 'json') console.log(JSON.stringify(facts));
      else {
        const what = o.dataplane
          ? 'instances boot, volumes mount and load balancers listen on this machine'
          : 'states only: nothing runs (see --dataplane)';
        console.log(`AWS ready on ${aws.url} (account ${o.accountId}; ${what})\n`);
        console.log(`    export AWS_PROFILE=${o.profile} AWS_REGION=${o.region} AWS_ENDPOINT_URL=${aws.url}\n    aws ec2 describe-vpcs`);
      }
      await interrupted();
    } finally {
      removeProfile(o.profile);
      await plane?.stop();
    }
  } finally {
    await aws.stop();
  }
}

async function dataplane(o: DataplaneOptions): Promise<void> {
  checkEndpoint('--endpoint', o.endpoint);
  const directory = stateFolder(o.state, '.dataplane');
  await checkHost(directory);
  const log = logger();
  const { openEndpoint } = await import('../localaws/dataplane/polled/open.ts');
  const { source, gateway, close } = await openEndpoint({ endpoint: o.endpoint, region: o.region, directory, log }).catch((error: Error) => {
    throw new UserError(`${o.endpoint} cannot be read: ${error.message || (error as NodeJS.ErrnoException).code || error.name}`);
  });
  try {
    const wanted = o.registryPort === undefined ? await freePort(5000, new Set()) : parsePort(o.registryPort);
    const registryPort = await gateway.listen(wanted).catch((error: NodeJS.ErrnoException) => {
      throw error.code === 'EADDRINUSE' ? new UserError(`port ${wanted} is taken: name another with --registry-port`) : error;
    });
    const plane = await startPlane({ directory, source, reports: source.reports, handle: (socket) => gateway.handleConnection(socket), log });
    console.log(`data plane of ${o.endpoint} ready (account ${source.accountId}); ends with Ctrl-C`);
    console.log(`    images for its ECR repositories are pushed to 127.0.0.1:${registryPort}`);
    await interrupted();
    await plane.stop();
  } finally {
    await close();
  }
}

const defaultRegion = process.env['AWS_REGION'] ?? process.env['AWS_DEFAULT_REGION'] ?? 'us-east-1';

export function awsCommand(): Command {
  const command = new Command('aws').description('the embedded AWS alone, and the data plane for any AWS endpoint');
  command
    .command('serve')
    .description('serve EC2, ELBv2, IAM, STS, SSM and ECR on this machine; ends with Ctrl-C, and goes on from its state')
    .option('--host <address>', 'loopback address to listen on', '127.0.0.1')
    .option('--port <port>', 'port to listen on (default: 4566, or the next free one)')
    .option('--state <directory>', 'where state and keys live (default: .aws in the state folder)')
    .option('--region <region>', 'region to be', defaultRegion)
    .option('--account-id <digits>', 'account to be', '000000000000')
    .option('--dataplane', 'boot instances, mount volumes and serve load balancers (needs root)')
    .option('--profile <name>', 'AWS profile to write while it runs', 'kumulus-aws')
    .option('-o, --output <format>', 'json: endpoint, region, account and profile as one line')
    .action(serve);
  command
    .command('dataplane')
    .description('boot the instances, mount the volumes and serve the load balancers that an endpoint holds (needs root); ends with Ctrl-C')
    .requiredOption('--endpoint <url>', 'the endpoint: LocalStack, moto, kumulus aws serve')
    .option('--region <region>', 'region to look at', defaultRegion)
    .option('--state <directory>', 'where instances and volumes live (default: .dataplane in the state folder)')
    .option('--registry-port <port>', 'port on loopback where images are pushed (default: 5000, or the next free one)')
    .action(dataplane);
  return command;
}
