import { chownSync, existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname } from 'node:path';
import { writeAtomically } from './state.ts';

interface CallingUser {
  uid: number;
  gid: number;
  home: string | undefined;
}

/** The user behind sudo; undefined where the command was not called through it. */
function callingUser(): CallingUser | undefined {
  const uid = Number(process.env['SUDO_UID']);
  const gid = Number(process.env['SUDO_GID']);
  const name = process.env['SUDO_USER'];
  if (!name || !uid || Number.isNaN(gid) || process.getuid?.() !== 0) return undefined;
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .find((l) => l.split(':')[2] === String(uid));
  return { uid, gid, home: line?.split(':')[5] };
}

/** The home of the user who called, also through sudo. */
export const callersHome = (): string => callingUser()?.home ?? homedir();

/**
 * Writes a file of the user who called: a new one, and the folders made for it, belong to them also under sudo; one that is
 * there keeps its owner and mode.
 */
export function writeForCaller(path: string, text: string, mode = 0o600): void {
  const user = callingUser();
  const before = existsSync(path) ? statSync(path) : undefined;
  const folders: string[] = [];
  for (let folder = dirname(path); !existsSync(folder); folder = dirname(folder)) folders.push(folder);
  mkdirSync(dirname(path), { recursive: true, mode: 0o750 });
  writeAtomically(path, text, before ? before.mode & 0o777 : mode);
  if (process.getuid?.() !== 0) return;
  const owner = before ?? user;
  if (owner) chownSync(path, owner.uid, owner.gid);
  if (user) for (const folder of folders) chownSync(folder, user.uid, user.gid);
}
