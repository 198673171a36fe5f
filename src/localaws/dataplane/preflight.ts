import { access, constants, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { hierarchies } from './cgroups.ts';
import { run } from './command.ts';

const PROGRAMS: [program: string, debianPackage: string][] = [
  ['ip', 'iproute2'],
  ['nft', 'nftables'],
  ['nsenter', 'util-linux'],
  ['unshare', 'util-linux'],
  ['losetup', 'mount'],
  ['mkfs.xfs', 'xfsprogs'],
  ['pivot_root', 'util-linux'],
  ['mkfifo', 'coreutils'],
];

/** What instances need of this host, looked at by trying. Each problem is one line that says what to do. Changes nothing. */
export async function preflight(directory: string): Promise<{ ok: boolean; problems: string[] }> {
  const problems: string[] = [];
  if (process.getuid?.() !== 0) {
    problems.push('instances are Linux namespaces with devices of their own, which only root can make: run it with sudo');
    return { ok: false, problems };
  }
  for (const [program, debianPackage] of PROGRAMS) {
    await run('sh', ['-c', 'command -v "$1"', 'sh', program]).catch(() =>
      problems.push(`${program} is missing: install the package ${debianPackage}`),
    );
  }
  if (problems.length) return { ok: false, problems };
  await tryNamespaces(problems);
  await tryOverlay(directory, problems);
  await access('/dev/loop-control', constants.R_OK | constants.W_OK).catch(() =>
    problems.push('volumes need loop devices, and /dev/loop-control cannot be opened: run "modprobe loop" (in a container: pass the device in)'),
  );
  if (!(await readFile('/proc/filesystems', 'utf8')).includes('\txfs') && !(await run('modprobe', ['xfs']).catch(() => undefined))) {
    if (!(await readFile('/proc/filesystems', 'utf8')).includes('\txfs'))
      problems.push('the kernel has no xfs: load its module, or volumes cannot be mounted');
  }
  if ((await hierarchies()).length === 0) problems.push('no cgroup file system is mounted under /sys/fs/cgroup: mount one there');
  for (const [name, least] of [
    ['max_user_instances', 64],
    ['max_user_watches', 8192],
  ] as const) {
    const value = Number(await readFile(`/proc/sys/fs/inotify/${name}`, 'utf8').catch(() => least));
    if (value < least)
      problems.push(`fs.inotify.${name} is ${value}, and at least ${least} are needed: run "sysctl fs.inotify.${name}=${least * 8}"`);
  }
  return { ok: problems.length === 0, problems };
}

/** Everything here happens in a network namespace that has no name and ends with the command. */
async function tryNamespaces(problems: string[]): Promise<void> {
  try {
    await run('unshare', ['--net', '--mount', '--uts', '--ipc', '--cgroup', '--pid', '--fork', 'true']);
  } catch (error) {
    problems.push(`namespaces cannot be made (${reason(error)}): a privileged machine or container is needed`);
    return;
  }
  const tries: [what: string, script: string, remedy: string][] = [
    ['veth pairs', 'ip link add kumulus0 type veth peer name kumulus1', 'load the kernel module veth'],
    ['policy routing', 'ip rule add pref 1000 lookup 1000', 'a kernel with CONFIG_IP_MULTIPLE_TABLES is needed'],
    [
      'nftables with connection tracking',
      'printf "table inet kumulus {\\n chain c {\\n type filter hook forward priority 0\\n ct state established accept\\n }\\n}\\n" | nft -f -',
      'load the kernel modules nf_tables and nf_conntrack',
    ],
  ];
  for (const [what, script, remedy] of tries) {
    await run('unshare', ['--net', 'sh', '-c', script]).catch((error) => problems.push(`the kernel offers no ${what} (${reason(error)}): ${remedy}`));
  }
}

async function tryOverlay(directory: string, problems: string[]): Promise<void> {
  const folder = join(directory, `.preflight-${process.pid}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(join(folder, 'try'), '');
    await run(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-ec',
        'mkdir u w m; mount -t overlay overlay -o lowerdir=/,upperdir=u,workdir=w m; ls m >/dev/null',
      ],
      {
        cwd: folder,
      },
    );
  } catch (error) {
    problems.push(
      `${directory} cannot hold an instance's files (${reason(error)}): set KUMULUS_STATE to a folder on a disk's own file system such as ext4 or xfs`,
    );
  } finally {
    await rm(folder, { recursive: true, force: true }).catch(() => {});
  }
}

function reason(error: unknown): string {
  const text = (error as { stderr?: string }).stderr || (error as Error).message;
  return text.trim().split('\n').pop() ?? '';
}
