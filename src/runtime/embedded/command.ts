import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { RuntimeError } from '../cri.ts';

/** What children get: nothing of this process' IPC channel, which a grandchild would take for its own. */
export const childEnv: Record<string, string> = { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' };

export interface Finished {
  code: number;
  stdout: Buffer;
  stderr: Buffer;
}

/** Starts a program in the runtime's environment. */
export function start(program: string, args: string[], options: SpawnOptions = {}, env: Record<string, string> = {}): ChildProcess {
  return spawn(program, args, { ...options, env: { ...childEnv, ...env } });
}

/** Runs a program to its end, whatever its exit code. Rejects when it cannot be started, or is killed after timeoutMs. */
export function finish(program: string, args: string[], o: { input?: string; timeoutMs?: number; cwd?: string } = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = start(program, args, { stdio: ['pipe', 'pipe', 'pipe'], ...(o.cwd ? { cwd: o.cwd } : {}) });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    const limit = o.timeoutMs ?? 60_000;
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new RuntimeError('DeadlineExceeded', `${program} ${args[0] ?? ''} did not end within ${limit} ms`));
    }, limit);
    child.stdout?.on('data', (chunk) => stdout.push(chunk));
    child.stderr?.on('data', (chunk) => stderr.push(chunk));
    child.stdin?.on('error', () => {});
    child.stdin?.end(o.input ?? '');
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(new RuntimeError('Internal', `cannot start ${program}: ${error.message}`));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ code: code ?? 137, stdout: Buffer.concat(stdout), stderr: Buffer.concat(stderr) });
    });
  });
}

/** Runs a program that must succeed; a RuntimeError with its words otherwise. */
export async function run(program: string, args: string[], o: { input?: string; timeoutMs?: number; cwd?: string } = {}): Promise<string> {
  const done = await finish(program, args, o);
  if (done.code === 0) return done.stdout.toString();
  const words = done.stderr.toString().trim() || done.stdout.toString().trim();
  throw new RuntimeError('Internal', `${program} ${args[0] ?? ''}: ${words || `exit code ${done.code}`}`);
}

/** Runs a shell script with positional arguments $1, $2 …; each line must succeed. */
export const shell = (script: string, args: string[] = [], o: { timeoutMs?: number; cwd?: string } = {}): Promise<string> =>
  run('sh', ['-ec', script, 'sh', ...args], o);
