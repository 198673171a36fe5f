import { readFileSync } from 'node:fs';

/** Names one process for good: a pid alone is given again. */
export interface ProcessIdentity {
  pid: number;
  /** Clock ticks since boot at which it began. */
  start: string;
}

/** When a process began; undefined when it is gone or only waits to be reaped. */
export function processStart(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

export function identify(pid: number): ProcessIdentity | undefined {
  const start = processStart(pid);
  return start === undefined ? undefined : { pid, start };
}

export const isAlive = (process: ProcessIdentity | undefined): process is ProcessIdentity =>
  process !== undefined && processStart(process.pid) === process.start;

/** Sends a signal to this very process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity | undefined, signal: NodeJS.Signals | number): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Changes when the machine, or the container or instance that is one to us, has been started anew. */
export function bootIdentity(): string {
  return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${processStart(1) ?? ''}`;
}
