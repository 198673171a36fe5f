import { createHash, timingSafeEqual } from 'node:crypto';
import type { TokenAuthenticator } from './token.ts';
import type { UserInfo } from './user.ts';

/**
 * The tokens of a file: lines of token,user,uid and, in quotes where there are several, groups: kube-apiserver's
 * --token-auth-file. Throws with the line where one is wrong.
 */
export function staticTokens(text: string): TokenAuthenticator {
  const users = new Map<string, { hash: Buffer; user: UserInfo }>();
  for (const [at, line] of text.split(/\r?\n/).entries()) {
    if (!line.trim() || line.startsWith('#')) continue;
    const [token = '', name = '', uid = '', groups = ''] = fields(line);
    if (fields(line).length < 3) throw new Error(`line ${at + 1}: a token file needs at least 3 columns (token, user name, user uid)`);
    if (!token) throw new Error(`line ${at + 1}: the token is empty`);
    const hash = digest(token);
    users.set(hash.toString('base64'), { hash, user: { name, uid, groups: groups.split(',').filter((g) => g) } });
  }
  return {
    name: 'token file',
    async authenticate(token) {
      const hash = digest(token);
      const found = users.get(hash.toString('base64'));
      return found && timingSafeEqual(found.hash, hash) ? { user: found.user } : undefined;
    },
  };
}

const digest = (token: string) => createHash('sha256').update(token).digest();

/** The fields of one CSV line; a quote within quotes is doubled. */
function fields(line: string): string[] {
  const out: string[] = [];
  const form = /\s*(?:"((?:[^"]|"")*)"|([^,]*))\s*(,|$)/y;
  for (let end = false; !end; ) {
    const match = form.exec(line);
    if (!match) throw new Error(`${JSON.stringify(line.slice(0, 20))}… is not CSV`);
    out.push(match[1] !== undefined ? match[1].replaceAll('""', '"') : (match[2] ?? '').trim());
    end = match[3] === '';
  }
  return out;
}
