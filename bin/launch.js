import { spawn } from 'node:child_process';
import { existsSync, mkdirSync } from 'node:fs';
import module from 'node:module';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

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

/**
 * Where Node keeps compiled code between runs, so that a start takes a third of the time and 30 MB less (no types to strip).
 * Of the user who runs it alone: whoever can write there can run code. An empty KUMULUS_COMPILE_CACHE turns it off.
 */
function compileCache() {
  const wanted = process.env.KUMULUS_COMPILE_CACHE;
  if (wanted !== undefined) return wanted;
  if (process.getuid?.() === 0) return '/var/cache/kumulus/compiled';
  return join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kumulus/compiled');
}

/** Sets the cache for this process and those it starts. A cache that cannot be had is no reason to fail. */
function useCompileCache() {
  const directory = process.env.NODE_COMPILE_CACHE ?? compileCache();
  if (!directory) return;
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    process.env.NODE_COMPILE_CACHE = directory;
    module.enableCompileCache?.(directory);
  } catch {
    // Slower then.
  }
}

/** Runs the command in this process where its Node can, else in one that can. */
export async function runCommand(script, args) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (script.endsWith('.js') && (major < 22 || (major === 22 && minor < 12))) {
    console.error(`kumulus needs Node.js 22.12 or newer; this is ${process.versions.node}`);
    return 1;
  }
  useCompileCache();
  // Node 22 warns of types that it strips, and can be told not to only when it starts.
  if (script.endsWith('.ts') && major < 24) return runScript(script, args);
  await import(pathToFileURL(script).href);
  return process.exitCode;
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
