import { execFile } from 'node:child_process';
import { readFile, rmdir, stat } from 'node:fs/promises';

/** Something about a volume that keeps a pod from starting. */
export class MountError extends Error {
  readonly volume: string;
  constructor(volume: string, message: string) {
    super(message);
    this.volume = volume;
  }
}

const commandTimeoutMs = 120_000;

/** Runs a program of the node to its end. Rejects with what it wrote to stderr. */
export function run(program: string, args: string[], signal?: AbortSignal): Promise<{ stdout: string; exitCode: number }> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: commandTimeoutMs, encoding: 'utf8', ...(signal ? { signal } : {}) }, (error, stdout, stderr) => {
      if (!error) return resolve({ stdout, exitCode: 0 });
      const code = typeof error.code === 'number' ? error.code : undefined;
      const failure = new Error(`${program} ${args.join(' ')}: ${stderr.trim() || error.message}`) as Error & { exitCode?: number };
      if (code !== undefined) failure.exitCode = code;
      reject(failure);
    });
  });
}

export interface MountPoint {
  path: string;
  fsType: string;
  source: string;
  options: string[];
}

const unescapeOctal = (s: string) => s.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Every mount of this mount namespace, in mount order. */
export async function listMounts(): Promise<MountPoint[]> {
  const text = await readFile('/proc/self/mountinfo', 'utf8');
  return text
    .split('\n')
    .filter(Boolean)
    .map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const fields = before.split(' ');
      const [fsType = '', source = ''] = after.split(' ');
      return { path: unescapeOctal(fields[4] ?? ''), options: (fields[5] ?? '').split(','), fsType, source: unescapeOctal(source) };
    });
}

export const isMounted = async (path: string): Promise<boolean> => (await listMounts()).some((m) => m.path === path);

export async function mountTmpfs(path: string, options: string[]): Promise<void> {
  await run('mount', ['-t', 'tmpfs', ...(options.length > 0 ? ['-o', options.join(',')] : []), 'tmpfs', path]);
}

export async function bindMount(source: string, target: string, readOnly: boolean): Promise<void> {
  await run('mount', ['--bind', source, target]);
  if (readOnly) await run('mount', ['-o', 'remount,bind,ro', target]);
}

/** Unmounts, also what lies stacked; a path that is no mount is fine. */
export async function unmount(path: string): Promise<void> {
  for (let i = 0; i < 8 && (await isMounted(path)); i++) await run('umount', [path]);
}

/** Unmounts everything at and below a directory, deepest first. */
export async function unmountBelow(directory: string): Promise<void> {
  const below = (await listMounts()).map((m) => m.path).filter((p) => p === directory || p.startsWith(`${directory}/`));
  for (const path of below.sort((a, b) => b.length - a.length)) await run('umount', [path]);
}

export async function removeEmpty(directory: string): Promise<void> {
  await rmdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error;
  });
}

/** What is on a block device: a file system's name, `''` for nothing, `unknown data` for a partition table or the like. */
export async function fileSystemOf(device: string, signal?: AbortSignal): Promise<string> {
  try {
    const { stdout } = await run('blkid', ['-p', '-s', 'TYPE', '-s', 'PTTYPE', '-o', 'export', device], signal);
    const values = new Map(stdout.split('\n').map((line) => [line.split('=')[0]!, line.split('=')[1] ?? '']));
    return values.get('TYPE') || (values.get('PTTYPE') ? 'unknown data' : '');
  } catch (error) {
    // blkid says 2 when it recognises nothing.
    if ((error as { exitCode?: number }).exitCode === 2) return '';
    throw error;
  }
}

/**
 * Whether a device has any room: one that is still coming, or gone, has none. What is then looked for on it is not found, and
 * would be written over.
 */
async function hasRoom(device: string): Promise<boolean> {
  const { rdev } = await stat(device);
  const [major, minor] = [(rdev >> 8) & 0xfff, (rdev & 0xff) | ((rdev >> 12) & 0xfff00)];
  const size = await readFile(`/sys/dev/block/${major}:${minor}/size`, 'utf8').catch(() => '');
  return size.trim() !== '0';
}

/** Mounts a device; an empty one is formatted first, one with another file system is refused. */
export async function formatAndMount(
  device: string,
  target: string,
  fsType: string,
  options: string[],
  readOnly: boolean,
  signal?: AbortSignal,
): Promise<void> {
  if (!(await hasRoom(device))) throw new Error(`device ${device} is not ready: it has no size`);
  const found = await fileSystemOf(device, signal);
  if (found === '') {
    if (readOnly) throw new Error(`cannot mount unformatted disk ${device} read-only`);
    const flags = fsType.startsWith('ext') ? ['-F', '-m0'] : fsType === 'xfs' ? ['-f'] : [];
    await run(`mkfs.${fsType}`, [...flags, device]);
  } else if (found !== fsType) throw new Error(`failed to mount the volume as "${fsType}", it already contains ${found}`);
  const all = [...(readOnly ? ['ro'] : ['rw']), ...(fsType === 'xfs' ? ['nouuid'] : []), ...options];
  await run('mount', ['-t', fsType, '-o', [...new Set(all)].join(','), device, target], signal);
}
