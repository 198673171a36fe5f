import { Command, CommanderError } from 'commander';
import { UserError } from '../cluster/state.ts';
import { apiserverCommand } from './apiserver.ts';
import { interruption } from './context.ts';
import { version, versionCommand } from './version.ts';

const program = new Command('kumulus').description('A Kubernetes control plane in TypeScript, with an AWS of its own').version(version, '-V, --version', 'print the version');

for (const command of [apiserverCommand(), versionCommand()]) program.addCommand(command);
const strict = (command: Command) => {
  command.exitOverride();
  command.showHelpAfterError('(run with --help for the words of this command)');
  command.commands.forEach(strict);
};
strict(program);

/** 0 done, 1 failed, 2 wrong words, 130 interrupted. */
async function main(): Promise<number> {
  try {
    await program.parseAsync();
    return 0;
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
    console.error(process.env['KUMULUS_DEBUG'] ? error : `ERROR: ${(error as Error).message}`);
    return 1;
  }
}

process.exit(await main());
