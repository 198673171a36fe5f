import { readdir, readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';

/** A process that cannot be mistaken for a later one with the same number. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since boot, field 22 of /proc/PID/stat. */
  startTime: string;
  /** /proc/sys/kernel/random/boot_id when it was started. */
  bootId: string;
}

export async function bootId(): Promise<string> {
  return (await readFile('/proc/sys/kernel/random/boot_id', 'utf8')).trim();
}

/** Undefined where no such process lives; a zombie counts as none, unless threads of it still end, and hold what it had open. */
export async function startTimeOf(pid: number): Promise<string | undefined> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    const ended = fields[0] === 'X' || (fields[0] === 'Z' && (await readdir(`/proc/${pid}/task`)).length <= 1);
    return ended ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export async function identify(pid: number): Promise<ProcessIdentity | undefined> {
  const startTime = await startTimeOf(pid);
  return startTime === undefined ? undefined : { pid, startTime, bootId: await bootId() };
}

export async function isAlive(identity: ProcessIdentity | undefined): Promise<boolean> {
  return identity !== undefined && (await startTimeOf(identity.pid)) === identity.startTime && (await bootId()) === identity.bootId;
}

/** Sends a signal if it is still that process; true if it was. */
export async function signal(identity: ProcessIdentity | undefined, name: NodeJS.Signals): Promise<boolean> {
  if (!identity || !(await isAlive(identity))) return false;
  try {
    process.kill(identity.pid, name);
    return true;
  } catch {
    return false;
  }
}

/** Resolves to true as soon as it has ended, false after `timeout` milliseconds. */
export async function waitForEnd(identity: ProcessIdentity | undefined, timeout: number): Promise<boolean> {
  for (const end = Date.now() + timeout; await isAlive(identity); ) {
    if (Date.now() > end) return false;
    await delay(5);
  }
  return true;
}

/** Ids of the processes in a network namespace, given by its path under /run/netns. */
export async function processesInNamespace(path: string): Promise<number[]> {
  let inode: number;
  try {
    inode = (await stat(path)).ino;
  } catch {
    return [];
  }
  const found: number[] = [];
  for (const name of await readdir('/proc')) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if ((await stat(`/proc/${name}/ns/net`)).ino === inode) found.push(Number(name));
    } catch {
      // It ended meanwhile.
    }
  }
  return found;
}
