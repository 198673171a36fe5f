/**
 * The supervisor of one cluster: `supervisor.ts NAME`. Starts the cluster's processes, restarts them with backoff, and
 * answers on run/supervisor.sock in JSON lines. It ends with SIGTERM, which stops its children first.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { scriptPath } from './package.ts';
import { isRunning, pathsOf, processStart, requireRecord, writeAtomically } from './state.ts';
import type { ChildMessage, ChildStatus, SupervisorRequest, SupervisorStatus } from './supervisor-protocol.ts';

const name = process.argv[2] as string;
requireRecord(name);
const paths = pathsOf(name);
mkdirSync(paths.run, { recursive: true, mode: 0o700 });
mkdirSync(paths.logs, { recursive: true, mode: 0o700 });
const log = (text: string) => console.log(`${new Date().toISOString()} ${text}`);

interface Child {
  status: ChildStatus;
  process?: ChildProcess;
  restartTimer?: NodeJS.Timeout;
  wanted: boolean;
  failures: number;
  startedAt: number;
}

const scripts: Record<string, string> = { aws: 'aws-process', 'control-plane': 'control-plane-process' };
const children = new Map<string, Child>();
const watchers = new Set<Socket>();
let stopping = false;

const status = (): SupervisorStatus => ({ pid: process.pid, children: Object.fromEntries([...children].map(([n, c]) => [n, c.status])) });
function publish(): void {
  const line = `${JSON.stringify(status())}\n`;
  for (const socket of watchers) socket.write(line);
  const running = [...children]
    .filter(([, c]) => c.process?.pid)
    .map(([n, c]) => ({ name: n, pid: c.process?.pid as number, start: processStart(c.process?.pid as number) ?? '' }));
  writeAtomically(join(paths.run, 'children.json'), JSON.stringify(running));
}

function start(childName: string): void {
  const script = scripts[childName];
  if (!script) return;
  const child: Child = children.get(childName) ?? { status: { state: 'starting', restarts: 0 }, wanted: true, failures: 0, startedAt: 0 };
  children.set(childName, child);
  child.wanted = true;
  if (child.process || stopping) return;
  clearTimeout(child.restartTimer);
  const out = openSync(join(paths.logs, `${childName}.log`), 'a', 0o600);
  const started = fork(scriptPath(script), [name], {
    stdio: ['ignore', out, out, 'ipc'],
    // A third less memory, for some more collections.
    execArgv: ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=8', '--heap-growing-percent=100'],
  });
  child.process = started;
  child.startedAt = Date.now();
  child.status = { state: 'starting', restarts: child.status.restarts, pid: started.pid };
  started.on('message', (message: ChildMessage) => {
    if (message.type === 'ready') {
      child.failures = 0;
      child.status = { ...child.status, state: 'ready' };
    } else {
      child.status = { ...child.status, lastError: message.message };
    }
    publish();
  });
  started.on('exit', (code, signal) => {
    delete child.process;
    const how = signal ? `killed by ${signal}` : `exit code ${code}`;
    log(`${childName} ended: ${how}`);
    child.status = { state: 'ended', restarts: child.status.restarts, lastError: child.status.lastError ?? how };
    if (child.wanted && !stopping) {
      child.failures = Date.now() - child.startedAt > 60_000 ? 0 : child.failures + 1;
      const delay = child.failures <= 1 ? 100 : Math.min(30_000, 250 * 2 ** child.failures);
      child.status.restarts++;
      child.restartTimer = setTimeout(() => start(childName), delay);
    }
    publish();
  });
  log(`${childName} started, pid ${started.pid}`);
  publish();
}

async function stop(childName: string): Promise<void> {
  const child = children.get(childName);
  if (!child) return;
  child.wanted = false;
  clearTimeout(child.restartTimer);
  const running = child.process;
  if (running)
    await new Promise<void>((resolve) => {
      const force = setTimeout(() => running.kill('SIGKILL'), 15_000);
      running.once('exit', () => {
        clearTimeout(force);
        resolve();
      });
      running.kill('SIGTERM');
    });
  child.status = { state: 'stopped', restarts: child.status.restarts };
  publish();
}

async function stopAll(): Promise<void> {
  if (stopping) return;
  stopping = true;
  log('stopping');
  // The control plane first: it still needs AWS to finish its calls.
  await stop('control-plane');
  await stop('aws');
  rmSync(paths.supervisorSocket, { force: true });
  rmSync(join(paths.run, 'supervisor.json'), { force: true });
  process.exit(0);
}

/** Children of a supervisor that was killed go on; they are replaced, so that this one hears of their ends. */
async function endStrays(): Promise<void> {
  const file = join(paths.run, 'children.json');
  if (!existsSync(file)) return;
  const strays: { name: string; pid: number; start: string }[] = JSON.parse(readFileSync(file, 'utf8'));
  for (const stray of strays.filter(isRunning)) {
    log(`ending ${stray.name}, pid ${stray.pid}, of an earlier supervisor`);
    process.kill(stray.pid, 'SIGTERM');
    for (let i = 0; i < 150 && isRunning(stray); i++) await new Promise((r) => setTimeout(r, 100));
    if (isRunning(stray)) process.kill(stray.pid, 'SIGKILL');
  }
}

await endStrays();
rmSync(paths.supervisorSocket, { force: true });
const server = createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {});
  socket.on('close', () => watchers.delete(socket));
  createInterface({ input: socket }).on('line', (line) => {
    const request: SupervisorRequest = JSON.parse(line);
    if (request.command === 'watch') {
      watchers.add(socket);
      socket.write(`${JSON.stringify(status())}\n`);
      socket.on('end', () => socket.end());
    } else if (request.command === 'start') {
      start(request.child);
      socket.end();
    } else if (request.command === 'stop') void stop(request.child).then(() => socket.end(`${JSON.stringify(status())}\n`));
  });
});
server.listen(paths.supervisorSocket, () => {
  writeAtomically(join(paths.run, 'supervisor.json'), JSON.stringify({ pid: process.pid, start: processStart(process.pid) }));
  log(`supervisor of cluster ${name}, pid ${process.pid}`);
  for (const child of process.argv.slice(3)) start(child);
});
process.on('SIGTERM', () => void stopAll());
process.on('SIGINT', () => void stopAll());
process.on('SIGHUP', () => {});
