import { existsSync } from 'node:fs';
import { Command } from 'commander';
import { checkClusterName, listClusters, lockCluster, pathsOf } from '../cluster/state.ts';
import { defaultName, progressFor } from './context.ts';

export function deleteCommand(): Command {
  const remove = new Command('delete').description('delete clusters');
  remove
    .command('cluster [NAME]')
    .description(`delete a cluster and everything it put on this machine (default name: ${defaultName})`)
    .option('--name <name>', 'name of the cluster')
    .option('--all', 'delete all clusters')
    .option('--kubeconfig <file>', 'where the context was written')
    .option('-q, --quiet', 'print no progress')
    .action(async (positional: string | undefined, options: { name?: string; all?: boolean; kubeconfig?: string; quiet?: boolean }) => {
      const { removeCluster } = await import('../cluster/delete.ts');
      const progress = progressFor(options);
      const names = options.all ? listClusters() : [positional ?? options.name ?? defaultName];
      for (const name of names) {
        checkClusterName(name);
        // As kind: deleting what is not there is no error.
        if (!existsSync(pathsOf(name).root)) {
          progress.line(`Deleting cluster "${name}" ... there is none`);
          continue;
        }
        const unlock = lockCluster(name, `delete cluster ${name}`);
        try {
          await progress.step(`Deleting cluster "${name}"`, () => removeCluster(name, options.kubeconfig, progress.line));
        } finally {
          unlock();
        }
      }
    });
  return remove;
}
