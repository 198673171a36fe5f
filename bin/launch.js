import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');

/** The path of a Node that runs TypeScript as it is (22.18 or newer), or undefined. */
export function findNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major >= 24 || (major === 22 && minor >= 18)) return process.execPath;
  for (let dir = root; ; dir = dirname(dir)) {
    const candidate = join(dir, 'node_modules', `node-linux-${process.arch}`, 'bin', 'node');
    if (existsSync(candidate)) return candidate;
    if (dirname(dir) === dir) return undefined;
  }
}

/** Runs script with args in a suitable Node and resolves to its exit code; signals are passed on. */
export async function runScript(script, args) {
  const node = findNode();
  if (!node) {
    console.error(
      `kumulus needs Node.js 22.18 or newer (this is ${process.versions.node}), or its optional package node-linux-${process.arch}: run "npm ci" without --omit=optional`,
    );
    return 1;
  }
  const child = spawn(node, ['--disable-warning=ExperimentalWarning', script, ...args], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
  return new Promise((resolve) => {
    child.on('exit', (code, signal) => {
      resolve(signal ? 128 + ({ SIGINT: 2, SIGTERM: 15, SIGHUP: 1, SIGKILL: 9 }[signal] ?? 0) : (code ?? 1));
    });
    child.on('error', (error) => {
      console.error(`cannot start ${node}: ${error.message}`);
      resolve(1);
    });
  });
}
