import { Command } from 'commander';
import { awsEndpoint, profileName } from '../cluster/aws-endpoint.ts';
import type { ExamplePage } from '../cluster/example.ts';
import { contextName } from '../cluster/kubeconfig.ts';
import { type ClusterRecord, readRecord, requireRecord, UserError } from '../cluster/state.ts';
import { runningSupervisor } from '../cluster/supervisor-client.ts';
import { checkEndpoint, checkOutput, defaultName, interruption, parseCount, parseDuration, progressFor } from './context.ts';

interface Options {
  name?: string;
  nodes?: string;
  simulatedNodes: string;
  zones: string;
  nodeType: string;
  wait: string;
  kubeconfig?: string;
  retain?: boolean;
  example?: boolean;
  quiet?: boolean;
  output?: string;
  awsEndpoint?: string;
  nodeMonitorGracePeriod?: string;
}

export function createCommand(): Command {
  const create = new Command('create').description('create a cluster');
  create
    .command('cluster [NAME]')
    .description(`create a cluster on the embedded AWS, or on another (default name: ${defaultName})`)
    .option('--name <name>', 'name of the cluster')
    .option('-N, --nodes <n>', 'number of worker instances (default: 2, or 0 with --simulated-nodes)')
    .option('--simulated-nodes <n>', 'number of nodes whose pods report without running; alone they need neither root nor Linux', '0')
    .option('--zones <zones>', 'availability zones of the nodes', 'us-east-1a,us-east-1b')
    .option('-t, --node-type <type>', 'EC2 instance type of the nodes', 't3.medium')
    .option('--aws-endpoint <url>', 'stand on LocalStack, moto or another AWS there instead of the embedded one; keys as for the aws command')
    .option('--wait <duration>', 'how long to wait for the nodes to be Ready; 0s does not wait', '5m')
    .option('--kubeconfig <file>', 'where to write the context (default: $KUBECONFIG or ~/.kube/config)')
    .option('--retain', 'leave what was made when creation fails')
    .option('--example', 'deploy an example page behind a load balancer')
    .option('--node-monitor-grace-period <duration>', 'how long a silent node counts as healthy (default: 50s)')
    .option('-q, --quiet', 'print no progress')
    .option('-o, --output <format>', 'json')
    .action(run);
  return create;
}

async function run(positional: string | undefined, options: Options): Promise<void> {
  checkOutput(options.output, ['json']);
  if (positional && options.name && positional !== options.name) throw new UserError('the name is given twice, and differently', 2);
  const name = positional ?? options.name ?? defaultName;
  const zones = options.zones.split(',').filter(Boolean);
  const badZone = zones.find((z) => !/^us-east-1[a-f]$/.test(z));
  if (!zones.length || badZone) throw new UserError(`unknown zone '${badZone ?? options.zones}': the embedded AWS has us-east-1a to us-east-1f`, 2);
  if (options.awsEndpoint) checkEndpoint('--aws-endpoint', options.awsEndpoint);
  // The AWS SDK takes a while to load: not for --help.
  const { createCluster } = await import('../cluster/create.ts');
  const progress = progressFor(options);
  const simulatedNodes = parseCount(options.simulatedNodes, 5000);
  const grace = options.nodeMonitorGracePeriod ? parseDuration(options.nodeMonitorGracePeriod) : undefined;
  // `npm start` a second time finds the cluster of the first.
  const found = options.example ? readRecord(name) : undefined;
  const existing = found?.phase === 'running' || found?.phase === 'stopped' ? found : undefined;
  progress.line(existing ? `Cluster "${name}" already exists` : `Creating cluster "${name}" ...`);
  let page: ExamplePage | undefined;
  const deploy = async (record: ClusterRecord) => {
    page = await (await import('../cluster/example.ts')).deployExample(record, progress, interruption.signal);
  };
  if (existing) {
    // After a reboot, or "stop cluster".
    if (!runningSupervisor(name)) await (await import('../cluster/lifecycle.ts')).startCluster(name, progress, interruption.signal);
    await deploy(requireRecord(name));
  }
  const record = existing
    ? requireRecord(name)
    : await createCluster({
        name,
        nodes: parseCount(options.nodes ?? (simulatedNodes > 0 ? '0' : '2')),
        simulatedNodes,
        zones,
        instanceType: options.nodeType,
        ...(options.awsEndpoint ? { awsEndpoint: options.awsEndpoint } : {}),
        ...(options.kubeconfig ? { kubeconfig: options.kubeconfig } : {}),
        waitMs: parseDuration(options.wait),
        retain: options.retain ?? false,
        ...(grace ? { tuning: { nodeMonitorGracePeriodMs: grace, nodeMonitorPeriodMs: Math.min(5000, Math.max(500, grace / 8)) } } : {}),
        ...(options.example ? { finish: deploy } : {}),
        progress,
        signal: interruption.signal,
      });
  if (options.output === 'json') {
    console.log(
      JSON.stringify({
        name,
        context: contextName(name),
        kubeconfig: record.kubeconfig,
        server: `https://127.0.0.1:${record.ports.api}`,
        awsEndpoint: awsEndpoint(record),
        awsProfile: profileName(name),
        ...(page ? { url: page.url, hostname: page.hostname } : {}),
      }),
    );
    return;
  }
  const lines = [
    `Set kubectl context to "${contextName(name)}" in ${record.kubeconfig}`,
    ...(page ? ['', 'The page, through the load balancer:', `    ${page.url}`] : []),
    '',
    'Look around:',
    `    kubectl get pods -A --context ${contextName(name)}`,
    `    aws ec2 describe-instances --profile ${profileName(name)}        (endpoint ${awsEndpoint(record)})`,
    'Delete it:',
    `    npx kumulus delete cluster${name === defaultName ? '' : ` ${name}`}`,
  ];
  if (!options.quiet) console.log(lines.join('\n'));
  else if (page) console.log(page.url);
}
