import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import os from 'node:os';
import { join } from 'node:path';

/** What the node is made of. Bytes, milli-CPUs. */
export interface Machine {
  cpuMilli: number;
  memoryBytes: number;
  /** Page size suffix, as `2Mi`, to bytes in such pages. */
  hugePages: Record<string, number>;
  diskBytes: number;
  machineId: string;
  systemUuid: string;
  bootId: string;
  kernelVersion: string;
  osImage: string;
  architecture: string;
  hostname: string;
}

const read = (file: string): string => {
  try {
    return readFileSync(file, 'utf8').trim();
  } catch {
    return '';
  }
};

const architectures: Record<string, string> = { x64: 'amd64', ia32: '386' };

/** Limits of the cgroup that this process lives in: what an instance may use of its machine. */
function cgroupLimits(mount = '/sys/fs/cgroup'): { cpuMilli?: number; memoryBytes?: number } {
  const limits: { cpuMilli?: number; memoryBytes?: number } = {};
  const own = new Map(
    read('/proc/self/cgroup')
      .split('\n')
      .flatMap((line) => {
        const [, controllers = '', path = '/'] = line.split(':');
        return (controllers || 'v2').split(',').map((c): [string, string] => [c, path]);
      }),
  );
  const cpu = join(mount, 'cpu', own.get('cpu') ?? '/');
  const memory = join(mount, 'memory', own.get('memory') ?? '/');
  const unified = join(mount, own.get('v2') ?? '/');
  const quota = Number(read(join(cpu, 'cpu.cfs_quota_us')));
  const period = Number(read(join(cpu, 'cpu.cfs_period_us')));
  if (quota > 0 && period > 0) limits.cpuMilli = Math.floor((quota * 1000) / period);
  const [max, maxPeriod] = read(join(unified, 'cpu.max')).split(' ');
  if (Number(max) > 0 && Number(maxPeriod) > 0) limits.cpuMilli = Math.floor((Number(max) * 1000) / Number(maxPeriod));
  for (const text of [read(join(memory, 'memory.limit_in_bytes')), read(join(unified, 'memory.max'))]) {
    const bytes = Number(text);
    // Without a limit v1 says nearly 2^63.
    if (bytes > 0 && bytes < 2 ** 62) limits.memoryBytes = bytes;
  }
  return limits;
}

function hugePages(): Record<string, number> {
  const pages: Record<string, number> = {};
  const directory = '/sys/kernel/mm/hugepages';
  if (!existsSync(directory)) return pages;
  for (const name of readdirSync(directory)) {
    const kb = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    if (!kb) continue;
    const suffix = kb % (1024 * 1024) === 0 ? `${kb / 1024 / 1024}Gi` : kb % 1024 === 0 ? `${kb / 1024}Mi` : `${kb}Ki`;
    pages[suffix] = Number(read(join(directory, name, 'nr_hugepages'))) * kb * 1024;
  }
  return pages;
}

/** rootDirectory: the file system that pods' files lie on. */
export async function readMachine(rootDirectory: string): Promise<Machine> {
  const limits = cgroupLimits();
  const disk = await statfs(rootDirectory);
  const total = Number(/MemTotal:\s+(\d+) kB/.exec(read('/proc/meminfo'))?.[1] ?? 0) * 1024 || os.totalmem();
  return {
    cpuMilli: Math.min(limits.cpuMilli ?? Number.POSITIVE_INFINITY, os.availableParallelism() * 1000),
    memoryBytes: Math.min(limits.memoryBytes ?? Number.POSITIVE_INFINITY, total),
    hugePages: hugePages(),
    diskBytes: disk.blocks * disk.bsize,
    machineId: read('/etc/machine-id'),
    systemUuid: read('/sys/class/dmi/id/product_uuid') || read('/etc/machine-id'),
    bootId: read('/proc/sys/kernel/random/boot_id'),
    kernelVersion: os.release(),
    osImage: /^PRETTY_NAME="?([^"\n]*)"?$/m.exec(read('/etc/os-release'))?.[1] ?? 'Linux',
    architecture: architectures[process.arch] ?? process.arch,
    hostname: os.hostname(),
  };
}

export interface Pressure {
  memory: boolean;
  disk: boolean;
  pid: boolean;
}

/** The default hard eviction thresholds: 100Mi of memory, a tenth of the disk or a twentieth of its inodes; and a tenth of the process ids. */
export async function readPressure(rootDirectory: string): Promise<Pressure> {
  const disk = await statfs(rootDirectory);
  const available = Number(/MemAvailable:\s+(\d+) kB/.exec(read('/proc/meminfo'))?.[1] ?? Number.POSITIVE_INFINITY) * 1024;
  const pidMax = Number(read('/proc/sys/kernel/pid_max')) || 4_194_304;
  const pids = Number(/\/(\d+) /.exec(read('/proc/loadavg'))?.[1] ?? 0);
  return {
    memory: available < 100 * 1024 * 1024,
    disk: disk.bavail < disk.blocks * 0.1 || (disk.files > 0 && disk.ffree < disk.files * 0.05),
    pid: pids > pidMax * 0.9,
  };
}
