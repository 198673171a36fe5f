import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { RuntimeError } from '../cri.ts';

const places = ['/usr/bin', '/usr/sbin', '/usr/local/bin', '/usr/local/sbin', '/bin', '/sbin'];
const find = (name: string) => places.map((place) => `${place}/${name}`).find((path) => existsSync(path));

/**
 * The program that starts containers. crun does it in half of runc's time, but refuses a host with both cgroup versions
 * mounted: there runc is taken, or a script that starts crun in a mount namespace without version 2 (mounts that a
 * container makes in a volume with Bidirectional propagation then stay in that namespace). The script is written to `root`.
 */
export function chooseOciRuntime(root: string): string {
  const hybrid = existsSync('/sys/fs/cgroup/unified/cgroup.procs');
  const [crun, runc] = [find('crun'), find('runc')];
  const found = hybrid ? runc : (crun ?? runc);
  if (found) return found;
  if (!crun) throw new RuntimeError('Unavailable', 'no OCI runtime is installed: install crun or runc');
  const script = join(root, 'crun-without-cgroup2');
  mkdirSync(root, { recursive: true, mode: 0o700 });
  writeFileSync(
    script,
    `#!/bin/sh\nexec unshare --mount --propagation slave sh -c 'umount /sys/fs/cgroup/unified && exec ${crun} "$@"' crun "$@"\n`,
    { mode: 0o700 },
  );
  return script;
}
