/**
 * LocalStack or moto on this machine: `npm run localstack -- start|stop|run [moto] [--port 4566]`. `start` returns when it is healthy, and leaves it
 * running; `run` stays until Ctrl-C.
 */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { isAlive, toolsFolder } from './python.ts';
import { ensureLocalstack, ensureMoto, startLocalstack, startMoto } from './start.ts';

const usage = 'usage: npm run localstack -- start|stop|run [moto] [--port 4566]';
const { positionals, values } = parseArgs({ allowPositionals: true, options: { port: { type: 'string', default: '4566' } } });
const [verb = 'run', name = 'localstack'] = positionals;
const port = Number(values.port);
const folder = join(toolsFolder(), 'run');
const pidFile = join(folder, `${name}-${port}.pid`);
const logFile = join(folder, `${name}-${port}.log`);

/** Of the one that `start` left running. */
function running(): number | undefined {
  const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : 0;
  return pid && isAlive(pid) && readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(import.meta.filename) ? pid : undefined;
}

async function checkFree(): Promise<void> {
  const server = createServer();
  await new Promise<void>((resolve, reject) => {
    server.once('error', () => reject(new Error(`port ${port} of 127.0.0.1 is taken: name another with --port`)));
    server.listen(port, '127.0.0.1', resolve);
  });
  await new Promise((resolve) => server.close(resolve));
}

async function run(): Promise<void> {
  await checkFree();
  const service = await (name === 'moto' ? startMoto : startLocalstack)({ port });
  console.log(`${name} is ready on ${service.url}`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => resolve());
  });
  await service.stop();
}

async function start(): Promise<void> {
  const url = `http://127.0.0.1:${port}`;
  if (running()) return console.log(`${name} runs already, on ${url}`);
  await checkFree();
  // Here, so that what it says is seen.
  await (name === 'moto' ? ensureMoto : ensureLocalstack)();
  mkdirSync(folder, { recursive: true });
  const log = openSync(logFile, 'w');
  const words = ['--disable-warning=ExperimentalWarning', import.meta.filename, 'run', name, '--port', String(port)];
  const child = spawn(process.execPath, words, { stdio: ['ignore', log, log], detached: true });
  closeSync(log);
  let ended = false;
  child.once('exit', () => {
    ended = true;
  });
  writeFileSync(pidFile, String(child.pid));
  while (!readFileSync(logFile, 'utf8').includes('is ready on')) {
    if (ended) throw new Error(readFileSync(logFile, 'utf8').trim());
    await pause(100);
  }
  child.unref();
  console.log(`${name} is ready on ${url}; "npm run localstack -- stop" ends it`);
}

async function stop(): Promise<void> {
  const pid = running();
  if (pid) process.kill(pid, 'SIGTERM');
  while (pid && isAlive(pid)) await pause(50);
  rmSync(pidFile, { force: true });
  console.log(pid ? `${name} on port ${port} has ended` : `no ${name} was started on port ${port}`);
}

try {
  if (!['localstack', 'moto'].includes(name) || !(port > 0 && port < 65_536)) throw new Error(usage);
  if (verb === 'run') await run();
  else if (verb === 'start') await start();
  else if (verb === 'stop') await stop();
  else throw new Error(usage);
} catch (error) {
  console.error((error as Error).message);
  process.exitCode = 1;
}
