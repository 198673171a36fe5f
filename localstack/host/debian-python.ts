import { execFile } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** The Debian release whose Python is 3.13, for machines whose own release has another. */
const release = 'trixie';
const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';

/** The interpreter, all that its modules load, pip, and what makes it run where it lies. */
const packages = [
  ...['python3.13-minimal', 'libpython3.13-minimal', 'libpython3.13-stdlib', 'python3.13-venv', 'python3-pip-whl', 'patchelf'],
  ...['libc6', 'libgcc-s1', 'libstdc++6', 'libexpat1', 'zlib1g', 'libssl3t64', 'libzstd1', 'libbz2-1.0', 'libdb5.3t64', 'libffi8', 'liblzma5'],
  ...['libncursesw6', 'libreadline8t64', 'libsqlite3-0', 'libtinfo6', 'libuuid1'],
];

const says = async (program: string, ...args: string[]) => (await run(program, args, { maxBuffer: 64 * 1024 * 1024 })).stdout.trim();

const pythonOf = (folder: string): string => join(folder, 'usr/bin/python3.13');
const complete = (folder: string): string => join(folder, 'complete');

/** The Python that was unpacked into a folder, if one was. */
export const debianPython = (folder: string): string | undefined => (existsSync(complete(folder)) ? pythonOf(folder) : undefined);

const install = async (...names: string[]): Promise<void> => {
  const words = ['-q', '-y', '-o', 'DPkg::Lock::Timeout=300', 'install', '--no-install-recommends', ...names];
  await run('apt-get', words, { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } });
};

/** Whether python3.13 was installed by the machine's own apt: asked only where that has it, and this is root. */
export async function installByApt(say: (line: string) => void): Promise<boolean> {
  if (process.getuid?.() !== 0) return false;
  await run('apt-get', ['-q', '-o', 'DPkg::Lock::Timeout=300', 'update']).catch(() => undefined);
  // Debian's pip believes the authorities of the machine, which a bare container lacks.
  if (!existsSync('/etc/ssl/certs/ca-certificates.crt')) await install('ca-certificates');
  if (!/Candidate: 3\.13\./.test(await says('apt-cache', 'policy', 'python3.13'))) return false;
  say('installing python3.13 with apt-get (LocalStack and moto run on it, and this machine lacks it)');
  await install('python3.13', 'python3.13-venv');
  return true;
}

/**
 * A Python 3.13 unpacked from Debian's packages into a folder of its own, with its own C library: made once, some 60 MB, for machines whose
 * release has an older one. Nothing is installed; apt's lists and sources stay as they are. Throws where packages cannot be had.
 */
export async function unpackDebianPython(folder: string, say: (line: string) => void): Promise<string> {
  const root = resolve(folder);
  const python = pythonOf(root);
  if (debianPython(root)) return python;
  say(`unpacking Python 3.13 of Debian ${release} into ${root} (LocalStack and moto run on it, and this machine lacks it)`);
  rmSync(root, { recursive: true, force: true });
  const downloads = join(root, 'downloads');
  mkdirSync(downloads, { recursive: true });
  await download(join(root, 'apt'), downloads);
  for (const name of readdirSync(downloads)) await run('dpkg', ['-x', join(downloads, name), root]);
  await makeRunnable(root, python);
  for (const name of ['apt', 'downloads']) rmSync(join(root, name), { recursive: true });
  writeFileSync(complete(root), '');
  return python;
}

/** Fetches the packages with lists and a cache of their own; signatures are checked by Debian's keys. */
async function download(state: string, into: string): Promise<void> {
  for (const name of ['lists/partial', 'archives/partial', 'sources.list.d']) mkdirSync(join(state, name), { recursive: true });
  writeFileSync(join(state, 'status'), '');
  const architecture = await says('dpkg', '--print-architecture');
  const signed = existsSync(keyring) ? keyring : await anyKeyring();
  writeFileSync(join(state, 'sources.list'), `deb [signed-by=${signed}] ${await mirror()} ${release} main\n`);
  const settings = {
    'Dir::State': state,
    'Dir::State::status': join(state, 'status'),
    'Dir::Cache': state,
    'Dir::Etc::sourcelist': join(state, 'sources.list'),
    'Dir::Etc::sourceparts': join(state, 'sources.list.d'),
    'APT::Architectures': architecture,
    'APT::Architecture': architecture,
    'APT::Sandbox::User': 'root',
    'Acquire::Languages': 'none',
    'Acquire::Retries': '3',
  };
  const options = Object.entries(settings).flatMap(([key, value]) => ['-o', `${key}=${value}`]);
  await run('apt-get', [...options, '-q', '--error-on=any', 'update'], { cwd: into });
  await run('apt-get', [...options, '-q', 'download', ...packages], { cwd: into, maxBuffer: 64 * 1024 * 1024 });
}

/** The mirror that this machine's own apt uses for Debian, or everyone's. */
async function mirror(): Promise<string> {
  const uris = await says('apt-get', 'indextargets', '--format', '$(REPO_URI)').catch(() => '');
  return uris.split('\n').find((uri) => /\/debian\/?$/.test(uri)) ?? 'http://deb.debian.org/debian';
}

/** Debian's keys, for machines of another distribution: their own apt has them as a package. */
async function anyKeyring(): Promise<string> {
  if (process.getuid?.() === 0) await install('debian-archive-keyring').catch(() => undefined);
  if (!existsSync(keyring)) throw new Error(`Debian's keys are missing: install debian-archive-keyring (${keyring})`);
  return keyring;
}

/** Points the interpreter to the C library and the libraries beside it, and ensurepip to the pip beside it. */
async function makeRunnable(root: string, python: string): Promise<void> {
  const libraries = join(root, 'usr/lib', readdirSync(join(root, 'usr/lib')).find((name) => name.endsWith('-linux-gnu')) as string);
  const loader = join(libraries, readdirSync(libraries).find((name) => /^ld-linux.*\.so\.\d+$/.test(name)) as string);
  const patch = (...words: string[]) => run(loader, ['--library-path', libraries, join(root, 'usr/bin/patchelf'), ...words, python]);
  // RPATH, unlike RUNPATH, also serves what the libraries load; two steps, since patchelf 0.18 breaks the file in one.
  await patch('--force-rpath', '--set-rpath', libraries);
  await patch('--page-size', String(process.arch === 'arm64' ? 65_536 : 4096), '--set-interpreter', loader);
  const modules = join(root, 'usr/lib/python3.13');
  for (const name of readdirSync(modules).filter((one) => one.startsWith('_sysconfigdata_'))) {
    const file = join(modules, name);
    if (statSync(file).isFile()) writeFileSync(file, readFileSync(file, 'utf8').replaceAll("'/usr/share/python-wheels/'", `'${root}/usr/share/python-wheels/'`));
  }
  await run(python, ['-c', 'import bz2, ctypes, ensurepip, hashlib, lzma, pyexpat, sqlite3, ssl, venv, zlib']);
}
