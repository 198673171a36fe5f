import { Command } from 'commander';
import { pino } from 'pino';
import { UserError } from '../cluster/state.ts';
import { interruption } from './context.ts';

interface Options {
  cluster: string;
  vpcId: string;
  routeTableIds: string;
  serviceClusterIpRange: string;
  clusterCidr: string;
  clusterDns: string;
  clusterDomain: string;
  apiserverCertExtraSans?: string;
  dataDir: string;
  dataVolume?: string;
}

const words = (text: string | undefined) => (text ?? '').split(',').filter(Boolean);

export const controlPlaneCommand = () =>
  new Command('control-plane')
    .description('run a control plane on this EC2 instance: API server, controllers, scheduler, cloud controllers (user data calls this)')
    .requiredOption('--cluster <name>', 'name of the cluster; its keys are in Systems Manager under /kumulus/NAME')
    .requiredOption('--vpc-id <id>', 'the VPC of the nodes')
    .requiredOption('--route-table-ids <ids>', 'route tables that get the routes to pods')
    .option('--service-cluster-ip-range <cidr>', 'range of the services', '10.96.0.0/16')
    .option('--cluster-cidr <cidr>', 'range of the pods', '10.244.0.0/16')
    .option('--cluster-dns <address>', 'address of the cluster DNS', '10.96.0.10')
    .option('--cluster-domain <domain>', 'domain of the cluster', 'cluster.local')
    .option('--apiserver-cert-extra-sans <names>', "names and addresses beside the instance's own by which the API is called")
    .option('--data-dir <directory>', 'where the store and the keys live', '/var/lib/kumulus-control-plane')
    .option('--data-volume <id>', 'EBS volume to attach and mount there, so that they outlive this instance')
    .action(async (o: Options) => {
      if (process.getuid?.() !== 0) throw new UserError('a control plane needs root');
      const { runInstanceControlPlane } = await import('../cluster/instance-control-plane.ts');
      const log = pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'info', base: undefined, timestamp: pino.stdTimeFunctions.isoTime });
      process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled rejection'));
      await runInstanceControlPlane({
        cluster: o.cluster,
        vpcId: o.vpcId,
        routeTableIds: words(o.routeTableIds),
        serviceCidr: o.serviceClusterIpRange,
        podCidr: o.clusterCidr,
        clusterDns: o.clusterDns,
        clusterDomain: o.clusterDomain,
        certificateNames: words(o.apiserverCertExtraSans),
        dataDirectory: o.dataDir,
        ...(o.dataVolume ? { dataVolume: o.dataVolume } : {}),
        log,
        signal: interruption.signal,
      });
    });
