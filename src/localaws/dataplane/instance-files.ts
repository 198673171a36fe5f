import { createHash } from 'node:crypto';
import { access, glob, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { run } from './command.ts';
import { INIT_SCRIPT, MOUNT_SCRIPT } from './instance-scripts.ts';
import { AWS_ADDRESS, AWS_PORT } from './names.ts';
import { bootScripts } from './user-data.ts';

/** Of the host's files, what an instance must not see: secrets, other runtimes' state, people's homes. Made as whiteouts in its upper layer. */
const MASKED = [
  'root',
  'home',
  'mnt',
  'media',
  'etc/rc.local',
  'etc/kubernetes',
  'etc/rancher',
  'etc/crontab',
  'etc/ssl/private',
  'etc/docker',
  'var/log',
  'var/tmp',
  'var/spool/cron',
  'var/lib/cloud',
  'var/lib/kumulus',
  'var/lib/kumulus-node',
  'var/lib/kubelet',
  'var/lib/docker',
  'var/lib/containerd',
  'var/lib/containers',
  'var/lib/cni',
  'var/lib/etcd',
  'var/lib/rancher',
  'var/lib/lxc',
  'var/lib/libvirt',
  'var/lib/postgresql',
  'var/lib/mysql',
];

/** Masked folders that a system needs nevertheless, empty. */
export const EMPTY_FOLDERS = ['root', 'home', 'var/log', 'var/tmp', 'var/lib/cloud/instance', 'var/lib/cloud/instance/sem'];

/** Host folders that are looked at for a mount of their own: an overlay's lower layer ends at mount points. */
const LAYER_CANDIDATES = ['usr', 'usr/local', 'usr/share', 'var', 'var/lib', 'opt', 'etc', 'srv', 'boot'];

const WRAPPER = `#!/bin/sh
[ ! -d /opt/kumulus-node/compiled ] || export NODE_COMPILE_CACHE=/opt/kumulus-node/compiled
exec /opt/kumulus-node/node --disable-warning=ExperimentalWarning --max-semi-space-size=4 /opt/kumulus/bin/kumulus.js "$@"
`;

/** There is no systemd inside that could be told. `shutdown -r` boots again. */
const POWER_OFF = `#!/bin/sh
case " $* " in *" -r "* | *" --reboot "*) kill -INT 1 ;; *) kill -USR1 1 ;; esac
`;

/** What every instance of a cluster starts from, under dataplane/ of its state. */
export interface InstanceFiles {
  template: string;
  mount: string;
  init: string;
  /** Host folders, relative to /, that need an overlay of their own. */
  layers: string[];
}

/** Prepares the scripts and the template of an upper layer; repeated at every start, since the host may have changed. */
export async function prepareInstanceFiles(directory: string): Promise<InstanceFiles> {
  const folder = join(directory, 'dataplane');
  const template = join(folder, 'template');
  const fresh = `${template}.new`;
  await rm(fresh, { recursive: true, force: true });
  const put = async (path: string, text: string, mode: number) => {
    await mkdir(dirname(join(fresh, path)), { recursive: true, mode: 0o755 });
    await writeFile(join(fresh, path), text, { mode });
  };
  await put('usr/local/bin/kumulus', WRAPPER, 0o755);
  for (const name of ['poweroff', 'halt', 'shutdown']) await put(`usr/local/sbin/${name}`, POWER_OFF, 0o755);
  await put('usr/local/sbin/reboot', '#!/bin/sh\nkill -INT 1\n', 0o755);
  const masked = [...MASKED, ...(await Array.fromAsync(glob('etc/ssh/ssh_host_*_key', { cwd: '/' })))];
  if (!masked.some((one) => directory.startsWith(`/${one}/`))) masked.push(directory.slice(1));
  const whiteouts: string[] = [];
  for (const path of masked) {
    if (!(await exists(`/${path}`))) continue;
    await mkdir(dirname(join(fresh, path)), { recursive: true, mode: 0o755 });
    whiteouts.push(path);
  }
  const commands = whiteouts.map((path) => `mknod ${shellQuote(path)} c 0 0`);
  const nodeVersion = await run('sh', ['-c', 'node --version']).catch(() => '');
  const [, major, minor] = /^v(\d+)\.(\d+)/.exec(nodeVersion) ?? [];
  if (!(Number(major) > 22 || (Number(major) === 22 && Number(minor) >= 18))) commands.push('ln -s /opt/kumulus-node/node usr/local/bin/node');
  await run('sh', ['-es'], { cwd: fresh, input: commands.join('\n') + '\n' });
  await rm(template, { recursive: true, force: true });
  await rename(fresh, template);
  const files = { mount: join(folder, 'mount.sh'), init: join(folder, 'init.sh') };
  await writeFile(files.mount, MOUNT_SCRIPT);
  await writeFile(files.init, INIT_SCRIPT);
  const mountinfo = await readFile('/proc/self/mountinfo', 'utf8');
  const mountpoints = new Set(mountinfo.split('\n').map((line) => line.split(' ')[4]));
  return { template, ...files, layers: LAYER_CANDIDATES.filter((path) => mountpoints.has(`/${path}`)) };
}

export interface Identity {
  instanceId: string;
  /** ip-10-0-1-5.ec2.internal */
  privateDnsName: string;
  address: string;
  region: string;
  resolver: string;
}

/** Fills an instance's upper layer before its first boot. */
export async function fillUpperLayer(folder: string, template: string, who: Identity, userData: string | undefined): Promise<string[]> {
  const upper = join(folder, 'upper');
  await run('cp', ['-a', template, upper]);
  const put = async (path: string, text: string, mode = 0o644) => {
    await mkdir(dirname(join(upper, path)), { recursive: true, mode: 0o755 });
    await rm(join(upper, path), { force: true });
    await writeFile(join(upper, path), text, { mode });
  };
  const short = who.privateDnsName.split('.')[0];
  const domain = who.privateDnsName.slice(short.length + 1);
  await put('etc/hostname', `${short}\n`);
  await put('etc/hosts', `127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n${who.address} ${who.privateDnsName} ${short}\n`);
  await put('etc/resolv.conf', `${domain ? `search ${domain}\n` : ''}nameserver ${who.resolver}\n`);
  await put('etc/machine-id', `${createHash('sha256').update(who.instanceId).digest('hex').slice(0, 32)}\n`, 0o444);
  const endpoint = `http://${AWS_ADDRESS}:${AWS_PORT}`;
  const environment = {
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    LANG: 'C.UTF-8',
    AWS_ENDPOINT_URL: endpoint,
    AWS_REGION: who.region,
    AWS_DEFAULT_REGION: who.region,
    // ECR by its own names, and images that were loaded into it by theirs; what it does not have is asked of its own registry.
    KUMULUS_REGISTRY_MIRRORS: `*=${endpoint}`,
  };
  await put(
    'etc/environment',
    Object.entries(environment)
      .map(([name, value]) => `${name}="${value}"\n`)
      .join(''),
  );
  const { scripts, ignored } = bootScripts(userData ?? '');
  // Copied to /var/lib/cloud/instance at boot: here it would merge with the host's own.
  await mkdir(join(folder, 'user-data/scripts'), { recursive: true, mode: 0o755 });
  if (userData !== undefined) await writeFile(join(folder, 'user-data/user-data.txt'), userData, { mode: 0o600 });
  for (const script of scripts) await writeFile(join(folder, 'user-data/scripts', script.name), script.text, { mode: 0o700 });
  return ignored;
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function shellQuote(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}
