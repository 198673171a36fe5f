import { readdirSync, statSync } from 'node:fs';
import { RuntimeError, type ContainerConfig, type LinuxResources, type PodSandboxConfig } from '../cri.ts';
import type { ProcessConfig } from '../images/media-types.ts';
import type { ProcessUser } from './users.ts';

/** Capabilities of a container that asks for nothing, as containerd gives them. */
const defaultCapabilities = [
  'CHOWN',
  'DAC_OVERRIDE',
  'FSETID',
  'FOWNER',
  'MKNOD',
  'NET_RAW',
  'SETGID',
  'SETUID',
  'SETFCAP',
  'SETPCAP',
  'NET_BIND_SERVICE',
  'SYS_CHROOT',
  'KILL',
  'AUDIT_WRITE',
];
const allCapabilities = [
  ...defaultCapabilities,
  'DAC_READ_SEARCH',
  'LINUX_IMMUTABLE',
  'NET_BROADCAST',
  'NET_ADMIN',
  'IPC_LOCK',
  'IPC_OWNER',
  'SYS_MODULE',
  'SYS_RAWIO',
  'SYS_PTRACE',
  'SYS_PACCT',
  'SYS_ADMIN',
  'SYS_BOOT',
  'SYS_NICE',
  'SYS_RESOURCE',
  'SYS_TIME',
  'SYS_TTY_CONFIG',
  'LEASE',
  'AUDIT_CONTROL',
  'MAC_OVERRIDE',
  'MAC_ADMIN',
  'SYSLOG',
  'WAKE_ALARM',
  'BLOCK_SUSPEND',
  'AUDIT_READ',
  'PERFMON',
  'BPF',
  'CHECKPOINT_RESTORE',
];

/** Capabilities this process may give away: those of its own bounding set. */
export function boundingSet(statusText: string): Set<string> {
  const hex = /^CapBnd:\s*([0-9a-f]+)/m.exec(statusText)?.[1] ?? 'ffffffffffffffff';
  const bits = BigInt(`0x${hex}`);
  const numbers: Record<string, number> = {
    CHOWN: 0,
    DAC_OVERRIDE: 1,
    DAC_READ_SEARCH: 2,
    FOWNER: 3,
    FSETID: 4,
    KILL: 5,
    SETGID: 6,
    SETUID: 7,
    SETPCAP: 8,
    LINUX_IMMUTABLE: 9,
    NET_BIND_SERVICE: 10,
    NET_BROADCAST: 11,
    NET_ADMIN: 12,
    NET_RAW: 13,
    IPC_LOCK: 14,
    IPC_OWNER: 15,
    SYS_MODULE: 16,
    SYS_RAWIO: 17,
    SYS_CHROOT: 18,
    SYS_PTRACE: 19,
    SYS_PACCT: 20,
    SYS_ADMIN: 21,
    SYS_BOOT: 22,
    SYS_NICE: 23,
    SYS_RESOURCE: 24,
    SYS_TIME: 25,
    SYS_TTY_CONFIG: 26,
    MKNOD: 27,
    LEASE: 28,
    AUDIT_WRITE: 29,
    AUDIT_CONTROL: 30,
    SETFCAP: 31,
    MAC_OVERRIDE: 32,
    MAC_ADMIN: 33,
    SYSLOG: 34,
    WAKE_ALARM: 35,
    BLOCK_SUSPEND: 36,
    AUDIT_READ: 37,
    PERFMON: 38,
    BPF: 39,
    CHECKPOINT_RESTORE: 40,
  };
  return new Set(
    Object.entries(numbers)
      .filter(([, bit]) => (bits >> BigInt(bit)) & 1n)
      .map(([name]) => name),
  );
}

function capabilitiesOf(config: ContainerConfig, allowed: ReadonlySet<string>): string[] {
  const { privileged, capabilities } = config.linux.securityContext;
  const plain = (name: string) => name.toUpperCase().replace(/^CAP_/, '');
  let set = new Set(privileged ? allCapabilities : defaultCapabilities);
  if (!privileged && capabilities) {
    const add = capabilities.add.map(plain);
    const drop = capabilities.drop.map(plain);
    if (add.includes('ALL')) set = new Set(allCapabilities);
    if (drop.includes('ALL')) set = new Set(add.includes('ALL') ? allCapabilities : []);
    for (const name of add) {
      if (name === 'ALL') continue;
      if (!allCapabilities.includes(name)) throw new RuntimeError('InvalidArgument', `unknown capability to add: "CAP_${name}"`);
      set.add(name);
    }
    for (const name of drop) set.delete(name);
  }
  return [...set].filter((name) => allowed.has(name)).map((name) => `CAP_${name}`);
}

/** Limits in the words of the OCI runtime specification. */
export function ociResources(resources: LinuxResources): Record<string, unknown> {
  const cpu = {
    ...(resources.cpuShares === undefined ? {} : { shares: resources.cpuShares }),
    ...(resources.cpuQuota === undefined ? {} : { quota: resources.cpuQuota }),
    ...(resources.cpuPeriod === undefined ? {} : { period: resources.cpuPeriod }),
    ...(resources.cpusetCpus ? { cpus: resources.cpusetCpus } : {}),
  };
  return {
    ...(Object.keys(cpu).length ? { cpu } : {}),
    ...(resources.memoryLimitInBytes ? { memory: { limit: resources.memoryLimitInBytes } } : {}),
    ...(resources.pidsLimit ? { pids: { limit: resources.pidsLimit } } : {}),
  };
}

const maskedPaths = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export interface BundleInput {
  id: string;
  config: ContainerConfig;
  sandbox: PodSandboxConfig;
  image: ProcessConfig;
  user: ProcessUser;
  /** The namespaces to join, by their files; undefined is the host's own. */
  namespaces: { network?: string; ipc?: string; uts?: string; pid?: string | 'new' };
  /** Files of the sandbox that are seen in each of its containers. */
  files: { resolvConf?: string; hostname: string; shm: string };
  hostname: string;
  cgroupsPath: string;
  capabilities: ReadonlySet<string>;
}

interface OciMount {
  destination: string;
  type?: string;
  source: string;
  options: string[];
}

/** The configuration of an OCI runtime for a container (opencontainers/runtime-spec 1.0.2). Throws InvalidArgument for what cannot be run. */
export function ociConfig(o: BundleInput): Record<string, unknown> {
  const { config, image } = o;
  const security = config.linux.securityContext;
  const args = [
    ...(config.command.length ? config.command : (image.Entrypoint ?? [])),
    ...(config.args.length ? config.args : config.command.length ? [] : (image.Cmd ?? [])),
  ];
  if (!args.length) throw new RuntimeError('InvalidArgument', 'no command specified');
  const env = new Map<string, string>([
    ['PATH', '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'],
    ['HOSTNAME', o.hostname],
  ]);
  if (config.tty) env.set('TERM', 'xterm');
  for (const line of image.Env ?? []) {
    const at = line.indexOf('=');
    if (at > 0) env.set(line.slice(0, at), line.slice(at + 1));
  }
  for (const { key, value } of config.envs) env.set(key, value);
  const capabilities = capabilitiesOf(config, o.capabilities);
  const mounts = containerMounts(o);
  const propagation = mounts.some((one) => one.options.includes('rshared'))
    ? 'rshared'
    : mounts.some((one) => one.options.includes('rslave'))
      ? 'rslave'
      : undefined;
  const deviceRules = security.privileged ? [{ allow: true, access: 'rwm' }] : [{ allow: false, access: 'rwm' }];
  const devices = security.privileged ? hostDevices() : config.devices.map((one) => deviceNode(one.containerPath, one.hostPath));
  if (!security.privileged) for (const one of config.devices) deviceRules.push({ ...deviceRule(one.hostPath), access: one.permissions || 'rwm' });
  const ns = (type: string, path: string | undefined): Record<string, string>[] =>
    path === undefined ? [] : [path === 'new' ? { type } : { type, path }];
  return {
    ociVersion: '1.0.2',
    process: {
      terminal: config.tty,
      user: { uid: o.user.uid, gid: o.user.gid, additionalGids: o.user.additionalGids },
      args,
      env: [...env].map(([key, value]) => `${key}=${value}`),
      cwd: config.workingDir || image.WorkingDir || '/',
      // A process that is not root keeps nothing of these but by file capabilities.
      capabilities: {
        bounding: capabilities,
        effective: capabilities,
        permitted: capabilities,
        ...(o.user.uid === 0 ? {} : { effective: [], permitted: [] }),
      },
      noNewPrivileges: security.noNewPrivs,
      ...(config.linux.resources.oomScoreAdj === undefined || config.linux.resources.oomScoreAdj < 0
        ? {}
        : { oomScoreAdj: config.linux.resources.oomScoreAdj }),
    },
    root: { path: 'rootfs', readonly: security.readonlyRootfs },
    // With the host's UTS namespace the name must not be set.
    ...(o.namespaces.uts === undefined ? {} : { hostname: o.hostname }),
    mounts,
    annotations: config.annotations,
    linux: {
      namespaces: [
        { type: 'mount' },
        ...ns('network', o.namespaces.network),
        ...ns('ipc', o.namespaces.ipc),
        ...ns('uts', o.namespaces.uts),
        ...ns('pid', o.namespaces.pid),
      ],
      cgroupsPath: o.cgroupsPath,
      resources: { ...ociResources(config.linux.resources), devices: deviceRules },
      devices,
      maskedPaths: security.privileged ? [] : [...new Set([...maskedPaths, ...security.maskedPaths])],
      readonlyPaths: security.privileged ? [] : [...new Set([...readonlyPaths, ...security.readonlyPaths])],
      ...(propagation ? { rootfsPropagation: propagation } : {}),
    },
  };
}

function containerMounts(o: BundleInput): OciMount[] {
  const { privileged, readonlyRootfs } = o.config.linux.securityContext;
  const sys = privileged ? 'rw' : 'ro';
  const mounts: OciMount[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    o.namespaces.network === undefined
      ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'nosuid', 'noexec', 'nodev', sys] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', sys] },
    ...(o.namespaces.network === undefined
      ? []
      : [{ destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'relatime', sys] }]),
    { destination: '/dev/shm', type: 'bind', source: o.files.shm, options: ['rbind', 'rw'] },
  ];
  const own = readonlyRootfs ? 'ro' : 'rw';
  const given = new Set(o.config.mounts.map((one) => one.containerPath));
  if (o.files.resolvConf && !given.has('/etc/resolv.conf'))
    mounts.push({ destination: '/etc/resolv.conf', type: 'bind', source: o.files.resolvConf, options: ['bind', own] });
  if (!given.has('/etc/hostname')) mounts.push({ destination: '/etc/hostname', type: 'bind', source: o.files.hostname, options: ['bind', own] });
  const propagations = { PROPAGATION_PRIVATE: 'rprivate', PROPAGATION_HOST_TO_CONTAINER: 'rslave', PROPAGATION_BIDIRECTIONAL: 'rshared' };
  // A folder before what lies in it.
  const volumes = [...o.config.mounts].sort((a, b) => depth(a.containerPath) - depth(b.containerPath));
  for (const one of volumes) {
    mounts.push({
      destination: one.containerPath,
      type: 'bind',
      source: one.hostPath,
      options: ['rbind', propagations[one.propagation], one.readonly ? 'ro' : 'rw'],
    });
  }
  const replaced = new Set(o.config.mounts.map((one) => one.containerPath.replace(/\/+$/, '')));
  return mounts.filter((one, i) => i >= mounts.length - volumes.length || !replaced.has(one.destination));
}

const depth = (path: string) => path.split('/').filter(Boolean).length;

function deviceNode(path: string, hostPath: string) {
  const found = statSync(hostPath);
  const type = found.isBlockDevice() ? 'b' : found.isCharacterDevice() ? 'c' : undefined;
  if (!type) throw new RuntimeError('InvalidArgument', `${hostPath} is not a device`);
  const { major, minor } = numbers(found.rdev);
  return { path, type, major, minor, fileMode: found.mode & 0o777, uid: found.uid, gid: found.gid };
}

function deviceRule(hostPath: string) {
  const { type, major, minor } = deviceNode(hostPath, hostPath);
  return { allow: true, type, major, minor };
}

/** Linux's own coding of device numbers. */
const numbers = (device: number) => ({
  major: Math.floor(device / 256) % 4096,
  minor: (device % 256) + Math.floor(device / 2 ** 20) * 256,
});

/** Every device of the machine, for privileged containers. */
function hostDevices() {
  const skip = new Set(['pts', 'shm', 'fd', 'mqueue', 'console', 'null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx']);
  return readdirSync('/dev', { withFileTypes: true })
    .filter((one) => (one.isBlockDevice() || one.isCharacterDevice()) && !skip.has(one.name))
    .map((one) => deviceNode(`/dev/${one.name}`, `/dev/${one.name}`));
}
