import { createCipheriv, createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { join } from 'node:path';
import type { RoleCredentials } from '../contract.ts';
import type { Clock } from './clock.ts';
import { AwsError } from './errors.ts';
import { iamId, secretKey } from './ids.ts';
import type { Tables } from './state/tables.ts';

/** Who a request comes from. */
export interface Principal {
  kind: 'root' | 'user' | 'role';
  arn: string;
  /** UserId of GetCallerIdentity: the account, AIDA…, or AROA…:SESSION. */
  userId: string;
  accessKeyId: string;
  /** Of roles only. */
  roleName?: string;
}

interface SecretFile {
  accessKeyId: string;
  secretAccessKey: string;
  /** Base64; signs session tokens. */
  sessionKey: string;
}

/** What a session token says. It is signed, so nothing of it needs to be kept. */
interface Session {
  /** Access key id. */
  k: string;
  /** Role or user or root: its unique id, which a namesake that is made later does not have. */
  i: string;
  /** role:NAME, user:NAME or root */
  p: string;
  /** Session's name */
  n: string;
  /** Seconds since the epoch at which it ends. */
  e: number;
}

function sameText(a: string, b: string): boolean {
  const [x, y] = [Buffer.from(a), Buffer.from(b)];
  return x.length === y.length && timingSafeEqual(x, y);
}

/** The secrets of the endpoint: root's access key, users' access keys, and session credentials, which are derived from a key. */
export class Keys {
  readonly root: { accessKeyId: string; secretAccessKey: string };
  private readonly sessionKey: Buffer;
  private readonly tables: Tables;
  private readonly accountId: string;
  private readonly clock: Clock;

  private constructor(secrets: SecretFile, tables: Tables, accountId: string, clock: Clock) {
    this.root = { accessKeyId: secrets.accessKeyId, secretAccessKey: secrets.secretAccessKey };
    this.sessionKey = Buffer.from(secrets.sessionKey, 'base64');
    this.tables = tables;
    this.accountId = accountId;
    this.clock = clock;
  }

  /** Reads DIRECTORY/credentials.json, or makes it, for nobody but its owner to read. */
  static async open(directory: string, tables: Tables, accountId: string, clock: Clock): Promise<Keys> {
    const path = join(directory, 'credentials.json');
    let secrets: SecretFile;
    try {
      secrets = JSON.parse(await readFile(path, 'utf8'));
      if (!secrets.accessKeyId || !secrets.secretAccessKey || !secrets.sessionKey) throw new Error('a key is missing');
    } catch (error: any) {
      if (error.code !== 'ENOENT') throw new Error(`the access keys of the embedded AWS in ${path} cannot be read: ${error.message}`);
      secrets = { accessKeyId: iamId('AKIA'), secretAccessKey: secretKey(), sessionKey: randomBytes(32).toString('base64') };
      const file = await open(`${path}.new`, 'w', 0o600);
      try {
        await file.writeFile(JSON.stringify(secrets, undefined, 2));
        await file.sync();
      } finally {
        await file.close();
      }
      await rename(`${path}.new`, path);
    }
    return new Keys(secrets, tables, accountId, clock);
  }

  private rootPrincipal(accessKeyId: string): Principal {
    return { kind: 'root', arn: `arn:aws:iam::${this.accountId}:root`, userId: this.accountId, accessKeyId };
  }

  /** Who an access key belongs to, and its secret. Throws InvalidClientTokenId and ExpiredToken. */
  find(accessKeyId: string, sessionToken: string | undefined): { principal: Principal; secret: string } {
    const invalid = () => new AwsError('InvalidClientTokenId', 'The security token included in the request is invalid.', 403);
    if (sessionToken !== undefined) {
      const session = this.readSession(sessionToken);
      if (!session || session.k !== accessKeyId) throw invalid();
      if (session.e * 1000 <= this.clock.now()) throw new AwsError('ExpiredToken', 'The security token included in the request is expired', 403);
      const principal = this.sessionPrincipal(session);
      if (!principal) throw invalid();
      return { principal, secret: this.sessionSecret(accessKeyId) };
    }
    if (sameText(accessKeyId, this.root.accessKeyId)) return { principal: this.rootPrincipal(accessKeyId), secret: this.root.secretAccessKey };
    const key = this.tables.accessKeys.get(accessKeyId);
    const user = this.tables.users.get(key?.UserName);
    if (!key || !user || key.Status !== 'Active') throw invalid();
    return { principal: { kind: 'user', arn: user.Arn, userId: user.UserId, accessKeyId }, secret: key.SecretAccessKey };
  }

  private sessionPrincipal(session: Session): Principal | undefined {
    if (session.p === 'root') return this.rootPrincipal(session.k);
    const name = session.p.slice(session.p.indexOf(':') + 1);
    if (session.p.startsWith('user:')) {
      const user = this.tables.users.get(name);
      return user?.UserId === session.i ? { kind: 'user', arn: user.Arn, userId: user.UserId, accessKeyId: session.k } : undefined;
    }
    const role = this.tables.roles.get(name);
    if (role?.RoleId !== session.i) return undefined;
    const arn = `arn:aws:sts::${this.accountId}:assumed-role/${name}/${session.n}`;
    return { kind: 'role', arn, userId: `${role.RoleId}:${session.n}`, accessKeyId: session.k, roleName: name };
  }

  /** Session credentials of a role, for some seconds. */
  roleSession(role: { RoleName: string; RoleId: string }, sessionName: string, seconds: number): RoleCredentials {
    return this.session({ i: role.RoleId, p: `role:${role.RoleName}`, n: sessionName }, seconds);
  }

  /** Session credentials of whoever calls (GetSessionToken). */
  ownSession(principal: Principal, seconds: number): RoleCredentials {
    const name = principal.arn.slice(principal.arn.lastIndexOf('/') + 1);
    return this.session({ i: principal.userId, p: principal.kind === 'root' ? 'root' : `user:${name}`, n: '' }, seconds);
  }

  private session(who: Pick<Session, 'i' | 'p' | 'n'>, seconds: number): RoleCredentials {
    const end = Math.floor(this.clock.now() / 1000) + seconds;
    const session: Session = { k: iamId('ASIA'), ...who, e: end };
    return {
      accessKeyId: session.k,
      secretAccessKey: this.sessionSecret(session.k),
      sessionToken: this.sign('session', JSON.stringify(session)),
      expiration: new Date(end * 1000),
    };
  }

  private sessionSecret(accessKeyId: string): string {
    return createHmac('sha256', this.sessionKey).update(`secret ${accessKeyId}`).digest('base64').slice(0, 40);
  }

  private readSession(token: string): Session | undefined {
    const text = this.verify('session', token);
    return text === undefined ? undefined : JSON.parse(text);
  }

  /** Text that only this endpoint can have written, for one purpose. */
  private sign(purpose: string, text: string): string {
    const payload = Buffer.from(text);
    const mac = createHmac('sha256', this.sessionKey).update(`${purpose} `).update(payload).digest();
    return Buffer.concat([mac, payload]).toString('base64');
  }

  private verify(purpose: string, token: string): string | undefined {
    const bytes = Buffer.from(token, 'base64');
    if (bytes.length <= 32) return undefined;
    const payload = bytes.subarray(32);
    const mac = createHmac('sha256', this.sessionKey).update(`${purpose} `).update(payload).digest();
    return timingSafeEqual(mac, bytes.subarray(0, 32)) ? payload.toString('utf8') : undefined;
  }

  /** Text as KMS would give it back encrypted: of use to nobody here, since this endpoint has no KMS to decrypt it. */
  seal(text: string): string {
    const nonce = randomBytes(12);
    const key = createHmac('sha256', this.sessionKey).update('seal').digest();
    const cipher = createCipheriv('aes-256-gcm', key, nonce);
    const body = Buffer.concat([cipher.update(text, 'utf8'), cipher.final()]);
    return Buffer.concat([nonce, body, cipher.getAuthTag()]).toString('base64');
  }

  /** The password of ECR's authorization token, for some seconds. */
  registryPassword(principal: Principal, seconds: number): string {
    return this.sign('registry', JSON.stringify({ arn: principal.arn, e: Math.floor(this.clock.now() / 1000) + seconds }));
  }

  /** Whether a registry's user name and password are `AWS` with a token of GetAuthorizationToken, or an access key. */
  registryLogin(user: string, password: string): boolean {
    if (user === 'AWS') {
      const text = this.verify('registry', password);
      return text !== undefined && JSON.parse(text).e * 1000 > this.clock.now();
    }
    try {
      return sameText(this.find(user, undefined).secret, password);
    } catch {
      return false;
    }
  }
}
