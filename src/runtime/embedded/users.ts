import { readFileSync } from 'node:fs';
import { RuntimeError, type SecurityContext } from '../cri.ts';
import { resolveIn } from '../images/safe-path.ts';

export interface ProcessUser {
  uid: number;
  gid: number;
  additionalGids: number[];
  /** From /etc/passwd; / where it does not say. */
  home: string;
}

function table(rootfs: string, file: string): string[][] {
  try {
    return readFileSync(resolveIn(rootfs, file), 'utf8')
      .split('\n')
      .map((line) => line.split(':'));
  } catch {
    return [];
  }
}

/**
 * Who a container's process is: what the pod says, else what the image says, as `user`, `uid`, `user:group` or `uid:gid`; names are
 * looked up in the image. Throws InvalidArgument for a name that the image does not know.
 */
export function resolveUser(rootfs: string, imageUser: string, security: SecurityContext): ProcessUser {
  const passwd = table(rootfs, '/etc/passwd');
  const groups = table(rootfs, '/etc/group');
  const [imageName = '', imageGroup] = imageUser.split(':');
  const asked = security.runAsUser !== undefined ? String(security.runAsUser) : security.runAsUsername || imageName || '0';
  const fromImage = security.runAsUser === undefined && !security.runAsUsername;
  const entry = passwd.find((line) => (/^\d+$/.test(asked) ? line[2] === asked : line[0] === asked));
  if (!entry && !/^\d+$/.test(asked)) throw new RuntimeError('InvalidArgument', `unable to find user ${asked}: no matching entries in passwd file`);
  const uid = entry ? Number(entry[2]) : Number(asked);
  let gid = entry ? Number(entry[3]) : 0;
  if (security.runAsGroup !== undefined) gid = security.runAsGroup;
  else if (fromImage && imageGroup) {
    const group = groups.find((line) => (/^\d+$/.test(imageGroup) ? line[2] === imageGroup : line[0] === imageGroup));
    if (!group && !/^\d+$/.test(imageGroup))
      throw new RuntimeError('InvalidArgument', `unable to find group ${imageGroup}: no matching entries in group file`);
    gid = group ? Number(group[2]) : Number(imageGroup);
  }
  const name = entry?.[0];
  const memberships = name ? groups.filter((line) => (line[3] ?? '').split(',').includes(name)).map((line) => Number(line[2])) : [];
  const additionalGids = [...new Set([gid, ...memberships, ...security.supplementalGroups])].filter((group) => Number.isInteger(group));
  return { uid, gid, additionalGids, home: entry?.[5] || '/' };
}
