import { existsSync } from 'node:fs';
import { readdir, readFile, rmdir } from 'node:fs/promises';
import { join } from 'node:path';

const mount = '/sys/fs/cgroup';
const unified = existsSync(join(mount, 'cgroup.controllers'));

const read = async (path: string): Promise<string> => readFile(path, 'utf8').catch(() => '');

const folder = (controller: string, path: string) => join(mount, unified ? '' : controller, path);

/** What a cgroup uses; zeroes where it is gone. Working set: usage without inactive page cache, as cAdvisor's. */
export async function cgroupUsage(path: string): Promise<{ cpuNanoseconds: number; memoryBytes: number; workingSetBytes: number }> {
  const [cpu, memory, stat] = await Promise.all([
    read(join(folder('cpuacct', path), unified ? 'cpu.stat' : 'cpuacct.usage')),
    read(join(folder('memory', path), unified ? 'memory.current' : 'memory.usage_in_bytes')),
    read(join(folder('memory', path), 'memory.stat')),
  ]);
  const cpuNanoseconds = unified ? Number(/usage_usec (\d+)/.exec(cpu)?.[1] ?? 0) * 1000 : Number(cpu.trim() || 0);
  const memoryBytes = Number(memory.trim() || 0);
  const inactive = Number(new RegExp(`^${unified ? '' : 'total_'}inactive_file (\\d+)`, 'm').exec(stat)?.[1] ?? 0);
  return { cpuNanoseconds, memoryBytes, workingSetBytes: Math.max(0, memoryBytes - inactive) };
}

/** Processes in a cgroup and those below it. */
export async function cgroupProcesses(path: string): Promise<number[]> {
  const top = folder('pids', path);
  const found: number[] = [];
  const walk = async (directory: string): Promise<void> => {
    for (const line of (await read(join(directory, 'cgroup.procs'))).split('\n')) if (line) found.push(Number(line));
    for (const entry of await readdir(directory, { withFileTypes: true }).catch(() => []))
      if (entry.isDirectory()) await walk(join(directory, entry.name));
  };
  await walk(top);
  return found;
}

/** Removes an empty cgroup in every hierarchy. Busy for a moment after its last process: tried again. */
export async function removeCgroup(path: string): Promise<void> {
  const hierarchies = unified
    ? [mount]
    : (await readdir(mount, { withFileTypes: true })).filter((one) => one.isDirectory()).map((one) => join(mount, one.name));
  for (const hierarchy of hierarchies) {
    for (let attempt = 0; attempt < 20; attempt++) {
      try {
        await rmdir(join(hierarchy, path));
        break;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EBUSY') break;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }
  }
}
