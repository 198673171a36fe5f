import { spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readFileSync, statfsSync } from 'node:fs';
import { dirname } from 'node:path';
import { stateRoot, UserError } from './state.ts';

/** Programs that instances, volumes and containers need, with the Debian package of each. One of several names is enough. */
const programs: { names: string[]; package: string; optional?: true }[] = [
  { names: ['crun', 'runc'], package: 'crun' },
  { names: ['conmon'], package: 'conmon' },
  { names: ['ip'], package: 'iproute2' },
  { names: ['nft'], package: 'nftables' },
  { names: ['mkfs.xfs'], package: 'xfsprogs' },
  { names: ['mkfs.ext4'], package: 'e2fsprogs' },
  { names: ['losetup', 'nsenter', 'unshare'], package: 'util-linux' },
  { names: ['busybox'], package: 'busybox-static' },
  // kube-proxy ends stale flows of UDP with it; without it they end in time. Alone it is not worth an installation.
  { names: ['conntrack'], package: 'conntrack', optional: true },
];

const searchPath = () =>
  [...new Set([...(process.env['PATH'] ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin', '/usr/local/sbin', '/usr/local/bin'])].filter(
    Boolean,
  );

export function findProgram(name: string): string | undefined {
  for (const directory of searchPath()) {
    const path = `${directory}/${name}`;
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next directory.
    }
  }
  return undefined;
}

export function missingPackages(): string[] {
  return missing(false);
}

function missing(optional: boolean): string[] {
  return programs
    .filter((p) => (optional || !p.optional) && !(p.package === 'crun' ? p.names.some(findProgram) : p.names.every(findProgram)))
    .map((p) => p.package);
}

const managers: { program: string; command: (packages: string[]) => string[][] }[] = [
  {
    program: 'apt-get',
    command: (p) => [
      ['apt-get', '-q', '-o', 'DPkg::Lock::Timeout=120', 'update'],
      ['apt-get', '-q', '-y', '-o', 'DPkg::Lock::Timeout=120', 'install', '--no-install-recommends', ...p],
    ],
  },
  {
    program: 'dnf',
    command: (p) => [['dnf', '-y', 'install', ...p.map((n) => (n === 'busybox-static' ? 'busybox' : n === 'iproute2' ? 'iproute' : n))]],
  },
  { program: 'zypper', command: (p) => [['zypper', '--non-interactive', 'install', ...p]] },
  { program: 'apk', command: (p) => [['apk', 'add', ...p]] },
];

/**
 * Installs what the host lacks through its package manager, after saying so. Throws a UserError with the line to run
 * by hand where that fails.
 */
export function installMissing(say: (line: string) => void): void {
  if (!missingPackages().length) return;
  const wanted = missing(true);
  const manager = managers.find((m) => findProgram(m.program));
  if (!manager) throw new UserError(`this machine lacks ${wanted.join(', ')}, and no known package manager is here to install them`);
  const commands = manager.command(wanted);
  const byHand = (commands.at(-1) as string[]).join(' ');
  say(`Installing ${wanted.join(', ')} with ${manager.program} (the host lacks them)`);
  // A list of packages that cannot be refreshed may still be good enough: the last command decides.
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  let output = '';
  for (const [program, ...args] of commands) {
    const run = spawnSync(program as string, args, { env: environment, encoding: 'utf8', timeout: 600_000 });
    output = `${run.stdout ?? ''}${run.stderr ?? ''}`;
  }
  const still = missingPackages();
  if (!still.length) return;
  const lastLines = output.trim().split('\n').slice(-3).join('\n  ');
  throw new UserError(`could not install ${still.join(', ')}:\n  ${lastLines}\nInstall them by hand (${byHand}) and try again.`);
}

/** What keeps a cluster from running here; each entry says what to do. Empty when nothing does. */
export function hostProblems(): string[] {
  const problems: string[] = [];
  if (process.platform !== 'linux') return [`kumulus clusters run on Linux; this is ${process.platform}`];
  if (process.getuid?.() !== 0) problems.push('creating instances needs root: run the command with sudo');
  const root = existingParent(stateRoot());
  const disk = statfsSync(root);
  const free = disk.bavail * disk.bsize;
  if (free < 1024 ** 3)
    problems.push(
      `only ${Math.round(free / 1024 ** 2)} MiB are free under ${root}; a cluster needs 1 GiB: free some, or set KUMULUS_STATE to a folder on another disk`,
    );
  const filesystems = readFileSync('/proc/filesystems', 'utf8');
  if (!/\boverlay\b/.test(filesystems) && spawnSync('modprobe', ['overlay']).status !== 0)
    problems.push('the kernel has no overlay file system (CONFIG_OVERLAY_FS)');
  for (const ns of ['net', 'mnt', 'pid', 'uts', 'ipc', 'cgroup']) {
    if (!existsSync(`/proc/self/ns/${ns}`)) problems.push(`the kernel has no ${ns} namespaces`);
  }
  if (!existsSync('/sys/fs/cgroup')) problems.push('no cgroup hierarchy is mounted at /sys/fs/cgroup');
  if (!existsSync('/dev/loop-control')) problems.push('/dev/loop-control is missing: load the loop module (modprobe loop); volumes need it');
  const instances = Number(readFileSync('/proc/sys/fs/inotify/max_user_instances', 'utf8'));
  if (instances < 64)
    problems.push(`fs.inotify.max_user_instances is ${instances}; set it to 128 or more (sysctl fs.inotify.max_user_instances=512)`);
  const files = Number(/^Max open files\s+\S+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1] ?? Number.POSITIVE_INFINITY);
  if (files < 4096) problems.push(`a process may open only ${files} files; allow 4096 or more (ulimit -Hn 65536, or LimitNOFILE of the unit)`);
  return problems;
}

/** Throws a UserError that names everything that is in the way. */
export function requireHost(): void {
  const problems = hostProblems();
  if (problems.length) throw new UserError(`this machine cannot run a cluster:\n${problems.map((p) => `  - ${p}`).join('\n')}`);
}

function existingParent(path: string): string {
  while (!existsSync(path)) path = dirname(path);
  return path;
}
