import { Command, CommanderError } from 'commander';
import { UserError } from '../cluster/state.ts';
import { apiserverCommand } from './apiserver.ts';
import { awsCommand } from './aws.ts';
import { interruption } from './context.ts';
import { controlPlaneCommand } from './control-plane.ts';
import { createCommand } from './create.ts';
import { deleteCommand } from './delete.ts';
import { doctorCommand } from './doctor.ts';
import { getCommand } from './get.ts';
import { loadCommand } from './load.ts';
import { nodeCommand } from './node.ts';
import { snapshotCommand } from './snapshot.ts';
import { startCommand, stopCommand } from './start-stop.ts';
import { version, versionCommand } from './version.ts';

const program = new Command('kumulus')
  .description('Kubernetes clusters on AWS, or on the AWS inside this package, on one Linux machine')
  .version(version, '-V, --version', 'print the version')
  .showHelpAfterError('(run with --help for the words of this command)')
  .exitOverride();

for (const command of [
  createCommand(),
  deleteCommand(),
  getCommand(),
  startCommand(),
  stopCommand(),
  loadCommand(),
  snapshotCommand(),
  doctorCommand(),
  versionCommand(),
  apiserverCommand(),
  awsCommand(),
  nodeCommand(),
  controlPlaneCommand(),
])
  program.addCommand(command);
const inherit = (command: Command) => {
  command.exitOverride();
  command.showHelpAfterError('(run with --help for the words of this command)');
  command.commands.forEach(inherit);
};
inherit(program);

/** 0 done, 1 failed, 2 wrong words, 130 interrupted. */
async function main(): Promise<number> {
  try {
    await program.parseAsync();
    return Number(process.exitCode ?? 0);
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (error instanceof UserError) {
      console.error(`ERROR: ${error.message}`);
      return error.exitCode;
    }
    if (interruption.signal.aborted) {
      console.error('interrupted');
      return 130;
    }
    const known = error as NodeJS.ErrnoException;
    if (known.code === 'ENOSPC') console.error(`ERROR: the disk is full: ${known.message}`);
    else console.error(process.env['KUMULUS_DEBUG'] ? error : `ERROR: ${(error as Error).message}`);
    return 1;
  }
}

process.exit(await main());
