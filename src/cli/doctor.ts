import { Command } from 'commander';
import { checkOutput } from './context.ts';

const marks = { ok: '✓', warning: '!', error: '✗' };

export const doctorCommand = () =>
  new Command('doctor')
    .description('look whether this machine can run clusters, whether those on it are well, and what deleted ones left behind; exit code 1 when not')
    .option('--clean', 'remove what clusters that are no more left behind')
    .option('-o, --output <format>', 'json')
    .action(async (options: { clean?: boolean; output?: string }) => {
      checkOutput(options.output, ['json']);
      const { examine, removeLeavings } = await import('../cluster/doctor.ts');
      const { findings, leavings } = await examine();
      const removed = options.clean ? await removeLeavings(leavings) : [];
      const left = options.clean ? (await examine()).leavings : leavings;
      if (options.output === 'json') console.log(JSON.stringify({ findings, leavings: left, removed }));
      else {
        for (const f of findings) console.log(` ${marks[f.severity]} ${f.about}: ${f.text}`);
        for (const line of removed) console.log(` removed ${line}`);
        for (const one of left) console.log(` ! left behind: ${one.kind} ${one.name}`);
        if (left.length && !options.clean) console.log('"kumulus doctor --clean" removes what was left behind');
      }
      if (left.length || findings.some((f) => f.severity === 'error')) process.exitCode = 1;
    });
