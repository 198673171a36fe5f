import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { scriptPath } from './package.ts';
import { isRunning, pathsOf, UserError } from './state.ts';
import type { SupervisorRequest, SupervisorStatus } from './supervisor-protocol.ts';

/** The supervisor's process, or undefined when none runs. */
export function runningSupervisor(name: string): { pid: number; start: string } | undefined {
  const file = join(pathsOf(name).run, 'supervisor.json');
  if (!existsSync(file)) return undefined;
  try {
    const found = JSON.parse(readFileSync(file, 'utf8'));
    return isRunning(found) ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Starts the cluster's supervisor (which outlives this process) with these children, where none runs yet. */
export async function startSupervisor(name: string, children: string[], signal?: AbortSignal): Promise<void> {
  const paths = pathsOf(name);
  if (!runningSupervisor(name)) {
    mkdirSync(paths.logs, { recursive: true, mode: 0o700 });
    mkdirSync(paths.run, { recursive: true, mode: 0o700 });
    const out = openSync(join(paths.logs, 'supervisor.log'), 'a', 0o600);
    const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', scriptPath('supervisor'), name], {
      stdio: ['ignore', out, out],
      detached: true,
      cwd: '/',
    });
    child.unref();
    const end = Date.now() + 20_000;
    try {
      while (!runningSupervisor(name)) {
        signal?.throwIfAborted();
        if (Date.now() > end || child.exitCode !== null)
          throw new UserError(`the supervisor of cluster '${name}' did not start; see ${join(paths.logs, 'supervisor.log')}`);
        await new Promise((r) => setTimeout(r, 20));
      }
    } catch (error) {
      // Nobody would find it by its file yet.
      child.kill('SIGKILL');
      throw error;
    }
  }
  for (const child of children) await send(name, { command: 'start', child });
}

function send(name: string, request: SupervisorRequest): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(pathsOf(name).supervisorSocket);
    socket.on('error', reject);
    socket.on('connect', () => socket.end(`${JSON.stringify(request)}\n`));
    socket.on('close', () => resolve());
    socket.resume();
  });
}

/** Calls back with every status until it returns true; rejects with a UserError after timeoutMs or when the supervisor goes. */
export function watchSupervisor(
  name: string,
  until: (status: SupervisorStatus) => boolean | string,
  options: { what: string; timeoutMs: number; signal?: AbortSignal | undefined },
): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(pathsOf(name).supervisorSocket);
    let last = '';
    const finish = (error?: Error) => {
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      socket.destroy();
      if (error) reject(error);
      else resolve();
    };
    const onAbort = () => finish(options.signal?.reason ?? new Error('aborted'));
    const timer = setTimeout(
      () => finish(new UserError(`timed out after ${options.timeoutMs / 1000} s waiting for ${options.what}${last ? ` (${last})` : ''}`)),
      options.timeoutMs,
    );
    options.signal?.addEventListener('abort', onAbort, { once: true });
    socket.on('error', (e) => finish(new UserError(`lost the supervisor of cluster '${name}' while waiting for ${options.what}: ${e.message}`)));
    socket.on('connect', () => socket.write(`${JSON.stringify({ command: 'watch' })}\n`));
    createInterface({ input: socket })
      .on('line', (line) => {
        try {
          const answer = until(JSON.parse(line));
          if (answer === true) finish();
          else if (typeof answer === 'string') last = answer;
        } catch (error) {
          finish(error as Error);
        }
      })
      .on('error', () => {});
    socket.on('close', () => finish(new UserError(`the supervisor of cluster '${name}' ended while waiting for ${options.what}`)));
  });
}

/** A child found its port in use. */
export class PortTakenError extends UserError {}

/** Ends a child of the supervisor; it stays ended until it is started. */
export const stopChild = (name: string, child: string): Promise<void> => send(name, { command: 'stop', child });

/** Resolves when this child of the supervisor is ready, rejects with a PortTakenError where its port is not free. A child that keeps failing ends the wait with its last words. */
export function waitForChild(name: string, child: string, timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const logFile = join(pathsOf(name).logs, `${child}.log`);
  return watchSupervisor(
    name,
    (s) => {
      const c = s.children[child];
      if (c?.state !== 'ready' && c?.lastError?.includes('EADDRINUSE')) throw new PortTakenError(`${child} does not start: ${c.lastError}`);
      if (c && c.restarts >= 3 && c.state !== 'ready') throw new UserError(`${child} does not start: ${c.lastError}; see ${logFile}`);
      return c?.state === 'ready' || (c?.lastError ?? '');
    },
    { what: `${child} to become ready (log: ${logFile})`, timeoutMs, signal },
  );
}

/** Ends the supervisor and its children; instances go on. Resolves when it is gone. */
export async function stopSupervisor(name: string): Promise<void> {
  const running = runningSupervisor(name);
  if (!running) return;
  process.kill(running.pid, 'SIGTERM');
  const end = Date.now() + 40_000;
  while (isRunning(running)) {
    if (Date.now() > end) {
      process.kill(running.pid, 'SIGKILL');
      return;
    }
    await new Promise((r) => setTimeout(r, 50));
  }
}

/** Ends children that outlived their supervisor. */
export async function endChildren(name: string): Promise<void> {
  const file = join(pathsOf(name).run, 'children.json');
  if (!existsSync(file)) return;
  let found: { pid: number; start: string }[] = [];
  try {
    found = JSON.parse(readFileSync(file, 'utf8'));
  } catch {
    return;
  }
  for (const child of found.filter(isRunning)) {
    process.kill(child.pid, 'SIGTERM');
    const end = Date.now() + 10_000;
    while (isRunning(child) && Date.now() < end) await new Promise((r) => setTimeout(r, 50));
    if (isRunning(child)) process.kill(child.pid, 'SIGKILL');
  }
}
