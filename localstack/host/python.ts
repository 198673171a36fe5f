import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The version that the lock files were made for: LocalStack imports what 3.12 does not have, and one of its parts does not take 3.14 yet. */
const versions = ['3.13'];

function candidates(): string[] {
  const own = process.env['KUMULUS_PYTHON'];
  if (own) return [own];
  const pyenv = join(homedir(), '.pyenv/versions');
  const built = existsSync(pyenv) ? readdirSync(pyenv).map((name) => join(pyenv, name, 'bin/python3')) : [];
  return [...versions.map((version) => `python${version}`), 'python3', ...built.filter((path) => versions.some((v) => path.includes(`/${v}.`)))];
}

/** A Python that LocalStack runs on. Throws with what to install where there is none. */
export async function findPython(): Promise<string> {
  const script = 'import sys, venv, ensurepip; print("%d.%d %s" % (*sys.version_info[:2], sys.executable))';
  for (const candidate of candidates()) {
    const answer = await run(candidate, ['-c', script]).catch(() => undefined);
    const [version = '', path = ''] = answer?.stdout.trim().split(' ') ?? [];
    if (versions.includes(version)) return path;
  }
  throw new Error(
    `LocalStack and moto run on Python ${versions.join(' or ')}, and none was found: install python3.13 and python3.13-venv, or run ` +
      '"pip install uv && uv python install 3.13", and name it in KUMULUS_PYTHON',
  );
}

const toolsFolder = () => process.env['KUMULUS_TOOLS'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'kumulus-tools');
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

/** Runs work while no other process does so for the same path. */
async function exclusively<T>(path: string, work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      writeFileSync(path, String(process.pid), { flag: 'wx' });
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
      const holder = Number(readFileSync(path, { encoding: 'utf8', flag: 'a+' }));
      // Left by a process that was killed; an empty one is just being written.
      if ((holder && !isAlive(holder)) || Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > 1_200_000)
        rmSync(path, { force: true });
      else await pause(500);
    }
  }
  try {
    return await work();
  } finally {
    rmSync(path, { force: true });
  }
}

/**
 * An environment with exactly what a lock file names, checked by its hashes: made once (minutes the first time, some 500 MB for LocalStack) in
 * $KUMULUS_TOOLS or ~/.cache/kumulus-tools. Resolves to its Python.
 */
export async function ensureEnvironment(name: string, lockFile: string): Promise<string> {
  const python = await findPython();
  const hash = createHash('sha256').update(readFileSync(lockFile)).update(python).digest('hex').slice(0, 12);
  const folder = join(toolsFolder(), 'python', `${name}-${hash}`);
  const done = join(folder, 'complete');
  const own = join(folder, 'bin/python');
  if (existsSync(done)) return own;
  mkdirSync(join(toolsFolder(), 'python'), { recursive: true });
  return exclusively(`${folder}.lock`, async () => {
    if (existsSync(done)) return own;
    rmSync(folder, { recursive: true, force: true });
    await run(python, ['-m', 'venv', folder]);
    const install = ['-m', 'pip', 'install', '--quiet', '--disable-pip-version-check', '--require-hashes', '--no-deps', '-r', lockFile];
    await run(own, install, { maxBuffer: 64 * 1024 * 1024 }).catch((error) => {
      throw new Error(`${name} could not be installed: ${String(error.stderr).trim().split('\n').slice(-3).join('; ')}`);
    });
    writeFileSync(done, '');
    return own;
  });
}
