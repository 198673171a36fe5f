import { spawn } from 'node:child_process';

export const SYSTEM_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export class CommandError extends Error {
  readonly status: number | null;
  readonly stderr: string;
  constructor(command: string, status: number | null, stderr: string) {
    super(`${command}: ${stderr.trim() || `exited with status ${status}`}`);
    this.status = status;
    this.stderr = stderr;
  }
}

export interface RunOptions {
  input?: string;
  /** Milliseconds until it is killed; 30,000 where not given. */
  timeout?: number;
  /** Added to the minimal environment; nothing of our own is inherited, NODE_CHANNEL_FD least of all. */
  env?: Record<string, string>;
  cwd?: string;
}

/** Runs a program to its end and resolves to what it printed. Rejects with a CommandError that carries its stderr. */
export function run(command: string, args: string[], options: RunOptions = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? '/',
      env: { PATH: SYSTEM_PATH, LC_ALL: 'C', ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    let stdout = '';
    let stderr = '';
    const timeout = options.timeout ?? 30_000;
    const timer = setTimeout(() => {
      stderr += `no answer within ${timeout / 1000} s`;
      child.kill('SIGKILL');
    }, timeout);
    child.stdout.setEncoding('utf8').on('data', (text) => (stdout += text));
    child.stderr.setEncoding('utf8').on('data', (text) => (stderr += text));
    // A program that ends without reading its input is judged by its exit status.
    child.stdin.on('error', () => {});
    child.stdin.end(options.input ?? '');
    child.on('error', (error: NodeJS.ErrnoException) => {
      clearTimeout(timer);
      reject(new CommandError(command, null, error.code === 'ENOENT' ? 'not installed' : error.message));
    });
    child.on('close', (status) => {
      clearTimeout(timer);
      if (status === 0) resolve(stdout);
      else reject(new CommandError(`${command} ${args.join(' ')}`.slice(0, 200), status, stderr));
    });
  });
}
