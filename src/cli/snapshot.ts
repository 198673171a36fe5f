import { join } from 'node:path';
import { Command } from 'commander';
import type { StoreLocation } from '../cluster/store.ts';
import { pathsOf, requireRecord, stateRoot } from '../cluster/state.ts';
import type { SnapshotStatus } from '../store/snapshot.ts';
import { checkOutput, defaultName, table } from './context.ts';

interface Options {
  name?: string;
  dataDir?: string;
  etcdServers?: string;
  etcdCafile?: string;
  etcdCertfile?: string;
  etcdKeyfile?: string;
  output?: string;
}

const withStore = (command: Command): Command =>
  command
    .option('--name <name>', `name of the cluster (default: ${defaultName})`)
    .option('--data-dir <directory>', 'data folder of a "kumulus apiserver" instead of a cluster')
    .option('--etcd-servers <urls>', 'etcd instead: http(s)://HOST:PORT of each member, separated by commas')
    .option('--etcd-cafile <file>', 'PEM of the authority that signed the certificates of etcd')
    .option('--etcd-certfile <file>', 'PEM certificate that etcd knows this command by')
    .option('--etcd-keyfile <file>', 'PEM key of that certificate')
    .option('-o, --output <format>', 'json');

function locate(o: Options): StoreLocation {
  if (o.etcdServers) return { directory: '', ...o };
  if (o.dataDir) return { directory: join(o.dataDir, 'store') };
  const name = o.name ?? defaultName;
  requireRecord(name);
  return { directory: pathsOf(name).store };
}

function print(status: SnapshotStatus, output: string | undefined): void {
  if (output === 'json') console.log(JSON.stringify(status));
  else
    console.log(
      table([
        ['REVISION', 'TOTAL KEYS', 'TOTAL SIZE', 'CREATED'],
        [String(status.revision), String(status.keys), `${status.size} B`, status.createdAt],
      ]),
    );
}

export function snapshotCommand(): Command {
  const snapshot = new Command('snapshot').description('save and restore everything that an API server has stored');
  withStore(snapshot.command('save <FILE>'))
    .description('write a snapshot to FILE; the cluster may be running')
    .action(async (file: string, o: Options) => {
      checkOutput(o.output, ['json']);
      const { save } = await import('../cluster/snapshot.ts');
      const status = await save(locate(o), file);
      if (o.output === 'json') print(status, o.output);
      else console.log(`Snapshot saved at ${file} (revision ${status.revision}, ${status.keys} keys)`);
    });
  withStore(snapshot.command('restore <FILE>'))
    .description('put a snapshot in the place of what is stored; the cluster must be stopped, an etcd must be empty')
    .addHelpText('after', `\nThe API server's own folder is ${join(stateRoot(), 'apiserver')} unless it was started with --data-dir.`)
    .action(async (file: string, o: Options) => {
      checkOutput(o.output, ['json']);
      const { restore } = await import('../cluster/snapshot.ts');
      const status = await restore(locate(o), file);
      if (o.output === 'json') return print(status, o.output);
      console.log(`Snapshot restored from ${file} (${status.keys} keys)`);
      if (status.kept) console.log(`What was stored before is kept in ${status.kept}`);
    });
  snapshot
    .command('status <FILE>')
    .description('check a snapshot and say what it holds')
    .option('-o, --output <format>', 'json')
    .action(async (file: string, o: Options) => {
      checkOutput(o.output, ['json']);
      const { status } = await import('../cluster/snapshot.ts');
      print(await status(file), o.output);
    });
  return snapshot;
}
