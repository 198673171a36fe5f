import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { RuntimeError } from '../cri.ts';
import { start } from './command.ts';

export interface ConmonOptions {
  id: string;
  name: string;
  /** The bundle; also where conmon runs, and so where it notes that the kernel ran out of memory. */
  folder: string;
  runtime: string;
  runtimeRoot: string;
  exitDirectory: string;
  logPath: string;
  tty: boolean;
  stdin: boolean;
  stdinOnce: boolean;
}

/**
 * Starts conmon, which has the OCI runtime create the container, keeps its log in CRI's form and writes its exit code when it ends.
 * Resolves to the process id of the created (not yet started) container; rejects with the OCI runtime's words.
 */
export async function createWithConmon(o: ConmonOptions, timeoutMs = 60_000): Promise<number> {
  const args = [
    '--api-version',
    '1',
    '-c',
    o.id,
    '-n',
    o.name,
    '-u',
    o.id,
    '-r',
    o.runtime,
    '--runtime-arg',
    `--root=${o.runtimeRoot}`,
    '-b',
    o.folder,
    '-p',
    join(o.folder, 'pid'),
    '-P',
    join(o.folder, 'conmon.pid'),
    '-0',
    o.folder,
    '--exit-dir',
    o.exitDirectory,
    '--socket-dir-path',
    o.folder,
    '--full-attach',
    '-l',
    `k8s-file:${o.logPath}`,
    '--log-level',
    'error',
    ...(o.tty ? ['-t'] : []),
    ...(o.stdin ? ['-i'] : []),
    ...(o.stdin && !o.stdinOnce ? ['--leave-stdin-open'] : []),
  ];
  // conmon's own words go to a file: it lives on, and a pipe of ours would break.
  const errors = await open(join(o.folder, 'conmon.log'), 'a', 0o600);
  try {
    return await new Promise<number>((resolve, reject) => {
      const child = start('conmon', args, { cwd: o.folder, detached: true, stdio: ['ignore', errors.fd, errors.fd, 'pipe'] }, { _OCI_SYNCPIPE: '3' });
      const pipe = child.stdio[3] as NodeJS.ReadableStream;
      let text = '';
      let settled = false;
      const settle = (act: () => void) => {
        if (settled) return;
        settled = true;
        clearTimeout(timer);
        act();
        (pipe as unknown as { destroy(): void }).destroy();
      };
      const timer = setTimeout(() => {
        child.kill('SIGKILL');
        settle(() => reject(new RuntimeError('DeadlineExceeded', `container ${o.id} was not created within ${timeoutMs} ms`)));
      }, timeoutMs);
      const answer = () => {
        const line = text.split('\n').find((one) => one.trim() !== '');
        if (line === undefined)
          return settle(() =>
            reject(new RuntimeError('Internal', `conmon ended without creating container ${o.id}; see ${join(o.folder, 'conmon.log')}`)),
          );
        try {
          const said = JSON.parse(line) as { pid?: number; data?: number; message?: string };
          const pid = said.pid ?? said.data ?? -1;
          if (pid > 0) settle(() => resolve(pid));
          else settle(() => reject(new RuntimeError('Internal', said.message?.trim() || `the OCI runtime could not create container ${o.id}`)));
        } catch {
          settle(() => reject(new RuntimeError('Internal', `conmon said: ${line.slice(0, 500)}`)));
        }
      };
      pipe.on('data', (chunk) => {
        text += chunk;
        if (text.includes('\n')) answer();
      });
      pipe.on('end', answer);
      pipe.on('error', () => answer());
      child.on('error', (error) => settle(() => reject(new RuntimeError('Internal', `cannot start conmon: ${error.message}`))));
      child.unref();
    });
  } finally {
    await errors.close();
  }
}
