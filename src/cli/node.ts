import { readFileSync } from 'node:fs';
import { Command } from 'commander';
import { pino } from 'pino';
import { UserError } from '../cluster/state.ts';
import { interruption, parseDuration } from './context.ts';

interface Options {
  server: string;
  token: string;
  discoveryTokenCaCertHash: string;
  clusterDns: string;
  clusterDomain: string;
  clusterCidr: string;
  dataDir: string;
  nodeLabels?: string;
  nodeLeaseDuration: string;
  registerWithTaints?: string;
}

/** As the kubelet's flag of this name: KEY=VALUE:EFFECT, the value may be left out. */
function parseTaints(text: string): { key: string; value: string; effect: string }[] {
  return text
    .split(',')
    .filter(Boolean)
    .map((one) => {
      const match = /^([^=:]+)(?:=([^:]*))?:(NoSchedule|PreferNoSchedule|NoExecute)$/.exec(one);
      if (!match) throw new UserError(`--register-with-taints: '${one}' is not KEY=VALUE:EFFECT with NoSchedule, PreferNoSchedule or NoExecute`, 2);
      return { key: match[1] as string, value: match[2] ?? '', effect: match[3] as string };
    });
}

export const nodeCommand = () =>
  new Command('node')
    .description('run a node on this EC2 instance: kubelet, kube-proxy, cluster DNS and the container runtime (user data calls this)')
    .requiredOption('--server <url>', 'the API server, as https://ADDRESS:6443')
    .requiredOption('--token <token>', 'bootstrap token, or @FILE')
    .requiredOption('--discovery-token-ca-cert-hash <hash>', "sha256:HEX of the authority's public key")
    .option('--cluster-dns <address>', 'address of the cluster DNS', '10.96.0.10')
    .option('--cluster-domain <domain>', 'domain of the cluster', 'cluster.local')
    .option('--cluster-cidr <cidr>', 'range of the pods', '10.244.0.0/16')
    .option('--data-dir <directory>', 'where containers and volumes live', '/var/lib/kumulus-node')
    .option('--node-labels <labels>', 'labels of the node, as a=b,c=d')
    .option('--register-with-taints <taints>', 'taints that the node registers with, as KEY=VALUE:EFFECT,...')
    .option('--node-lease-duration <duration>', 'life of the lease that says that this node lives; renewed four times within', '40s')
    .action(async (o: Options) => {
      if (process.getuid?.() !== 0) throw new UserError('a node needs root');
      const { runNode } = await import('../cluster/node.ts');
      const log = pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'info', base: undefined, timestamp: pino.stdTimeFunctions.isoTime });
      process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled rejection'));
      await runNode({
        server: o.server,
        token: o.token.startsWith('@') ? readFileSync(o.token.slice(1), 'utf8').trim() : o.token,
        caCertHash: o.discoveryTokenCaCertHash,
        clusterDns: o.clusterDns,
        clusterDomain: o.clusterDomain,
        clusterCidr: o.clusterCidr,
        dataDirectory: o.dataDir,
        nodeLeaseDurationSeconds: Math.ceil(parseDuration(o.nodeLeaseDuration) / 1000),
        taints: parseTaints(o.registerWithTaints ?? ''),
        nodeLabels: Object.fromEntries(
          (o.nodeLabels ?? '')
            .split(',')
            .filter(Boolean)
            .map((l) => l.split('=', 2) as [string, string]),
        ),
        log,
        signal: interruption.signal,
      });
    });
