import type { EC2Client } from '@aws-sdk/client-ec2';
import { Command } from 'commander';
import { resources } from '../api/generated/resources.ts';
import { clusterTag, fromTags, logicalIdTag } from '../aws/tags.ts';
import { awsEndpoint, clusterAwsClients } from '../cluster/aws-endpoint.ts';
import { kubeconfigText } from '../cluster/kubeconfig.ts';
import { listClusters, readRecord, requireRecord } from '../cluster/state.ts';
import { runningSupervisor } from '../cluster/supervisor-client.ts';
import { checkOutput, defaultName, table } from './context.ts';

interface Common {
  output?: string;
  name?: string;
}

export function getCommand(): Command {
  const get = new Command('get').description('show clusters, nodes, kubeconfig');
  get
    .command('clusters')
    .description('list the clusters on this machine')
    .option('-o, --output <format>', 'json')
    .action((options: Common) => {
      checkOutput(options.output, ['json']);
      const clusters = listClusters().map((name) => {
        let record: ReturnType<typeof readRecord>;
        try {
          record = readRecord(name);
        } catch (error) {
          console.error(`ERROR: ${(error as Error).message}`);
          process.exitCode = 1;
          return { name, phase: 'unreadable' };
        }
        return {
          name,
          phase: record?.phase,
          running: runningSupervisor(name) !== undefined,
          nodes: record?.nodes,
          simulatedNodes: record?.simulatedNodes ?? 0,
          server: `https://127.0.0.1:${record?.ports.api}`,
          awsEndpoint: record && awsEndpoint(record),
          createdAt: record?.createdAt,
        };
      });
      if (options.output === 'json') console.log(JSON.stringify(clusters));
      else if (!clusters.length) console.error('No kumulus clusters found.');
      else console.log(clusters.map((c) => c.name).join('\n'));
    });
  get
    .command('nodes')
    .description('list the instances of a cluster and the nodes that run on them')
    .option('--name <name>', 'name of the cluster', defaultName)
    .option('-o, --output <format>', 'json')
    .action(nodes);
  get
    .command('kubeconfig')
    .description('print the kubeconfig of a cluster')
    .option('--name <name>', 'name of the cluster', defaultName)
    .option('--internal', 'with the address that instances and pods use')
    .action(async (options: Common & { internal?: boolean }) => {
      const { kubeconfigOf } = await import('../cluster/create.ts');
      process.stdout.write(kubeconfigText(kubeconfigOf(requireRecord(options.name as string), options.internal ?? false)));
    });
  return get;
}

/** One row an instance, whether its node has come up or not: an instance whose user data failed shows here. */
async function nodes(options: Common): Promise<void> {
  checkOutput(options.output, ['json']);
  const name = options.name as string;
  const record = requireRecord(name);
  const { DescribeInstancesCommand } = await import('../aws/sdk/ec2.ts');
  const { withAdmin } = await import('../cluster/create.ts');
  const clients = clusterAwsClients(record);
  try {
    const ec2 = await clients.ec2();
    const answer = await ec2.send(
      new DescribeInstancesCommand({ Filters: [{ Name: `tag:${clusterTag(name)}`, Values: ['owned'] }] }),
    );
    const instances = (answer.Reservations ?? []).flatMap((r) => r.Instances ?? []);
    const kubeNodes = await withAdmin(record, (admin) => admin.list(resources.nodes)).then(
      (l) => l.items,
      () => [],
    );
    const rows = instances
      .filter((i) => i.State?.Name !== 'terminated')
      .map((i) => {
        const node = kubeNodes.find((n) => n.spec.providerID?.endsWith(`/${i.InstanceId}`));
        const ready = node?.status?.conditions?.find((c) => c.type === 'Ready')?.status;
        return {
          name: node?.metadata.name ?? i.PrivateDnsName ?? '',
          status: node ? (ready === 'True' ? 'Ready' : 'NotReady') : 'NotJoined',
          instance: i.InstanceId ?? '',
          state: i.State?.Name ?? '',
          zone: i.Placement?.AvailabilityZone ?? '',
          address: i.PrivateIpAddress ?? '',
          logicalId: fromTags(i.Tags)[logicalIdTag] ?? '',
          reason: '',
        };
      });
    for (const row of rows.filter((r) => r.status === 'NotJoined')) row.reason = await lastWords(ec2, row.instance);
    if (options.output === 'json') console.log(JSON.stringify(rows));
    else
      console.log(
        table([
          ['NAME', 'STATUS', 'INSTANCE', 'STATE', 'ZONE', 'ADDRESS'],
          ...rows.map((r) => [r.name, r.status, r.instance, r.state, r.zone, r.address]),
        ]),
      );
    for (const row of rows) {
      if (row.reason && options.output !== 'json')
        console.error(`${row.instance} has not joined: ${row.reason} (all of it: aws ec2 get-console-output --instance-id ${row.instance})`);
    }
  } finally {
    clients.destroy();
  }
}

/** What an instance said last on its console, such as how its user data failed. */
async function lastWords(ec2: EC2Client, instanceId: string): Promise<string> {
  const { GetConsoleOutputCommand } = await import('../aws/sdk/ec2.ts');
  const answer = await ec2.send(new GetConsoleOutputCommand({ InstanceId: instanceId, Latest: true })).catch(() => undefined);
  const text = Buffer.from(answer?.Output ?? '', 'base64').toString('utf8');
  return text.trim().split('\n').at(-1) || 'its console shows nothing yet';
}
