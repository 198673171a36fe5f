import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { readFileSync, readlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { type ExecResult, RuntimeError, type StreamOptions, type StreamSession } from '../cri.ts';
import { finish, start } from './command.ts';

/** Bytes of each stream that execSync keeps, as CRI's 16 MiB limit. */
const mostOutput = 16 * 1024 * 1024;

interface Target {
  runtime: string;
  runtimeRoot: string;
  id: string;
  /** `process` of the container's own configuration. */
  process: Record<string, any>;
}

/** The command's process specification: as the container's own, with other arguments. */
async function specification(target: Target, command: string[], tty: boolean): Promise<{ folder: string; args: string[]; pidFile: string }> {
  if (!command.length) throw new RuntimeError('InvalidArgument', 'exec needs a command');
  const folder = await mkdtemp(join(tmpdir(), 'kumulus-exec-'));
  const pidFile = join(folder, 'pid');
  const env: string[] = target.process['env'] ?? [];
  const spec = {
    ...target.process,
    terminal: tty,
    args: command,
    env: tty && !env.some((one) => one.startsWith('TERM=')) ? [...env, 'TERM=xterm'] : env,
  };
  await writeFile(join(folder, 'process.json'), JSON.stringify(spec), { mode: 0o600 });
  return {
    folder,
    pidFile,
    args: [`--root=${target.runtimeRoot}`, 'exec', '--pid-file', pidFile, '--process', join(folder, 'process.json'), target.id],
  };
}

/** Kills the command itself, not only the OCI runtime that waits for it. */
async function killCommand(pidFile: string): Promise<void> {
  const pid = Number(await readFile(pidFile, 'utf8').catch(() => ''));
  if (pid > 0) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has ended by itself.
    }
  }
}

/** Runs a command in a container and waits for it; with a limit of 0 as long as it takes. */
export async function execSync(target: Target, command: string[], timeoutSeconds: number): Promise<ExecResult> {
  const spec = await specification(target, command, false);
  try {
    return await new Promise<ExecResult>((resolve, reject) => {
      const child = start(target.runtime, spec.args, { stdio: ['ignore', 'pipe', 'pipe'] });
      const streams: Record<'stdout' | 'stderr', { chunks: Buffer[]; size: number }> = {
        stdout: { chunks: [], size: 0 },
        stderr: { chunks: [], size: 0 },
      };
      for (const name of ['stdout', 'stderr'] as const) {
        child[name]?.on('data', (chunk: Buffer) => {
          const kept = streams[name];
          if (kept.size < mostOutput) kept.chunks.push(chunk.subarray(0, mostOutput - kept.size));
          kept.size += chunk.length;
        });
      }
      let late = false;
      const timer =
        timeoutSeconds > 0
          ? setTimeout(() => {
              late = true;
              void killCommand(spec.pidFile).then(() => child.kill('SIGKILL'));
            }, timeoutSeconds * 1000)
          : undefined;
      child.on('error', (error) => reject(new RuntimeError('Internal', `cannot start ${target.runtime}: ${error.message}`)));
      child.on('close', (code) => {
        clearTimeout(timer);
        if (late) reject(new RuntimeError('DeadlineExceeded', `command ${JSON.stringify(command)} timed out: ${timeoutSeconds}s`));
        else resolve({ stdout: Buffer.concat(streams.stdout.chunks), stderr: Buffer.concat(streams.stderr.chunks), exitCode: code ?? 137 });
      });
    });
  } finally {
    await rm(spec.folder, { recursive: true, force: true });
  }
}

/** Starts a command in a container with streams to it; a terminal is one that `script` makes. */
export async function execStream(target: Target, command: string[], o: StreamOptions): Promise<StreamSession> {
  const spec = await specification(target, command, o.tty);
  const quoted = [target.runtime, ...spec.args].map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(' ');
  const child = o.tty
    ? start('script', ['-qefc', quoted, '/dev/null'], { stdio: [o.stdin ? 'pipe' : 'ignore', 'pipe', 'ignore'] }, { TERM: 'xterm', SHELL: '/bin/sh' })
    : start(target.runtime, spec.args, { stdio: [o.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'] });
  const empty = () => {
    const stream = new PassThrough();
    stream.end();
    return stream;
  };
  child.stdin?.on('error', () => {});
  const exitCode = new Promise<number>((resolve, reject) => {
    child.on('error', (error) => reject(new RuntimeError('Internal', `cannot start the command: ${error.message}`)));
    child.on('close', (code) => {
      void rm(spec.folder, { recursive: true, force: true });
      resolve(code ?? 137);
    });
  });
  exitCode.catch(() => {});
  return {
    stdin: child.stdin ?? undefined,
    stdout: child.stdout ?? empty(),
    stderr: o.tty ? undefined : (child.stderr ?? empty()),
    resize(width, height) {
      // The OCI runtime hands the size of its own terminal on.
      const terminal = o.tty ? terminalBelow(child.pid) : undefined;
      if (terminal) void finish('stty', ['-F', terminal, 'rows', String(height), 'cols', String(width)]).catch(() => {});
    },
    exitCode,
    close() {
      void killCommand(spec.pidFile).then(() => child.kill('SIGKILL'));
    },
  };
}

/** The terminal of a process' first child. */
function terminalBelow(pid: number | undefined): string | undefined {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ');
    const terminal = readlinkSync(`/proc/${children[0]}/fd/0`);
    return terminal.startsWith('/dev/pts/') ? terminal : undefined;
  } catch {
    return undefined;
  }
}
