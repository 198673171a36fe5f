import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { debianPython, installByApt, unpackDebianPython } from './debian-python.ts';

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

/** A Python that LocalStack runs on, where this machine has one. */
async function findPython(): Promise<string | undefined> {
  const script = 'import sys, venv, ensurepip; print("%d.%d %s" % (*sys.version_info[:2], sys.executable))';
  for (const candidate of candidates()) {
    const answer = await run(candidate, ['-c', script]).catch(() => undefined);
    const [version = '', path = ''] = answer?.stdout.trim().split(' ') ?? [];
    if (versions.includes(version)) return path;
  }
  return undefined;
}

const say = (line: string) => console.error(line);

/** A Python that LocalStack runs on: what this machine has, or else Debian's. Throws with what to do where neither can be had. */
export async function ensurePython(): Promise<string> {
  const named = process.env['KUMULUS_PYTHON'];
  const found = (await findPython()) ?? (named ? undefined : debianPython(debianFolder()));
  if (found) return found;
  const advice =
    `LocalStack and moto run on Python ${versions.join(' or ')}, and none was found: install python3.13 and python3.13-venv, or run ` +
    '"pip install uv && uv python install 3.13", and name it in KUMULUS_PYTHON';
  if (named) throw new Error(`${advice} (it names ${named})`);
  if (!(await run('apt-get', ['--version']).catch(() => undefined))) throw new Error(advice);
  mkdirSync(join(toolsFolder(), 'python'), { recursive: true });
  return exclusively(`${debianFolder()}.lock`, async () => {
    try {
      const installed = (await installByApt(say)) ? await findPython() : undefined;
      return installed ?? (await unpackDebianPython(debianFolder(), say));
    } catch (error) {
      const { message, stderr } = error as Error & { stderr?: string };
      throw new Error(`${advice} (apt's packages could not be had: ${(stderr || message).trim().split('\n').slice(-3).join('; ')})`);
    }
  });
}

/** Where what is installed once is kept. */
export const toolsFolder = (): string => process.env['KUMULUS_TOOLS'] ?? join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'kumulus-tools');
const debianFolder = () => join(toolsFolder(), 'python/debian-3.13');

export function isAlive(pid: number): boolean {
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
      // Left by a process that was killed, whose number another may have by now; an empty one is just being written.
      if ((holder && !isAlive(holder)) || Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0) > 300_000)
        rmSync(path, { force: true });
      else await pause(500);
    }
  }
  const beat = setInterval(() => utimesSync(path, new Date(), new Date()), 30_000);
  try {
    return await work();
  } finally {
    clearInterval(beat);
    rmSync(path, { force: true });
  }
}

/**
 * An environment with exactly what a lock file names, checked by its hashes: made once (minutes the first time, some 500 MB for LocalStack) in
 * $KUMULUS_TOOLS or ~/.cache/kumulus-tools. Resolves to its Python.
 */
export async function ensureEnvironment(name: string, lockFile: string): Promise<string> {
  const python = await ensurePython();
  const hash = createHash('sha256').update(readFileSync(lockFile)).update(python).digest('hex').slice(0, 12);
  const folder = join(toolsFolder(), 'python', `${name}-${hash}`);
  const done = join(folder, 'complete');
  const own = join(folder, 'bin/python');
  if (existsSync(done)) return own;
  mkdirSync(join(toolsFolder(), 'python'), { recursive: true });
  return exclusively(`${folder}.lock`, async () => {
    if (existsSync(done)) return own;
    say(`installing ${name} into ${folder} (once; it may take some minutes)`);
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
