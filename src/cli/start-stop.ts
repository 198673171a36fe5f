import { Command } from 'commander';
import { defaultName, interruption, progressFor } from './context.ts';

interface Options {
  name?: string;
  quiet?: boolean;
}

export function startCommand(): Command {
  const start = new Command('start').description('start a cluster again');
  start
    .command('cluster [NAME]')
    .description('start a stopped cluster, or what was killed of a running one; after a reboot everything is rebuilt from state')
    .option('--name <name>', 'name of the cluster')
    .option('-q, --quiet', 'print no progress')
    .action(async (name: string | undefined, options: Options) => {
      const { startCluster } = await import('../cluster/lifecycle.ts');
      await startCluster(name ?? options.name ?? defaultName, progressFor(options), interruption.signal);
    });
  return start;
}

export function stopCommand(): Command {
  const stop = new Command('stop').description('stop a cluster and keep its state');
  stop
    .command('cluster [NAME]')
    .description('end every process of a cluster; its state, volumes and instances stay for "start cluster"')
    .option('--name <name>', 'name of the cluster')
    .option('-q, --quiet', 'print no progress')
    .action(async (name: string | undefined, options: Options) => {
      const { stopCluster } = await import('../cluster/lifecycle.ts');
      await stopCluster(name ?? options.name ?? defaultName, progressFor(options));
    });
  return stop;
}
