import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { resources } from '../../api/generated/resources.ts';
import type { SubjectAccessReview, TokenReview } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';

export interface User {
  name: string;
  groups: string[];
}

const tokenTtlMs = 120_000;
const allowedTtlMs = 300_000;
const deniedTtlMs = 30_000;
const maxCached = 4096;

/** Answers kept for a while; the oldest go first when there are too many. */
class TtlCache<T> {
  private readonly clock: Clock;
  private readonly entries = new Map<string, { value: T; until: number }>();
  constructor(clock: Clock) {
    this.clock = clock;
  }
  get(key: string): T | undefined {
    const entry = this.entries.get(key);
    return entry && entry.until > this.clock.now() ? entry.value : undefined;
  }
  set(key: string, value: T, ttlMs: number): void {
    this.entries.delete(key);
    this.entries.set(key, { value, until: this.clock.now() + ttlMs });
    if (this.entries.size > maxCached) this.entries.delete(this.entries.keys().next().value!);
  }
}

/** Which part of the node a request is about: the subresource of nodes that access is asked for. */
export function nodeSubresource(path: string): string {
  const under = (prefix: string) => path === prefix || path.startsWith(`${prefix}/`);
  if (under('/stats')) return 'stats';
  if (under('/metrics')) return 'metrics';
  if (under('/logs')) return 'log';
  if (under('/configz')) return 'configz';
  if (under('/healthz')) return 'healthz';
  if (path === '/pods' || path === '/runningpods/') return 'pods';
  return 'proxy';
}

const verbs: Record<string, string> = { POST: 'create', GET: 'get', HEAD: 'get', PUT: 'update', PATCH: 'patch', DELETE: 'delete' };

/** Asks the API server who a request is from and what it may: certificates of the cluster's authority are known at sight. */
export class ServerAuth {
  private readonly client: Client;
  private readonly nodeName: string;
  private readonly users: TtlCache<User | null>;
  private readonly decisions: TtlCache<boolean>;

  constructor(client: Client, clock: Clock, nodeName: string) {
    this.client = client;
    this.nodeName = nodeName;
    this.users = new TtlCache(clock);
    this.decisions = new TtlCache(clock);
  }

  /** undefined: nobody that the cluster knows. */
  async authenticate(request: IncomingMessage): Promise<User | undefined> {
    const socket = request.socket as TLSSocket;
    if (socket.authorized) {
      const subject = socket.getPeerCertificate().subject as unknown as { CN?: string; O?: string | string[] } | undefined;
      if (subject?.CN) return { name: subject.CN, groups: [...[subject.O ?? []].flat(), 'system:authenticated'] };
    }
    const token = /^Bearer (\S+)$/i.exec(request.headers.authorization ?? '')?.[1];
    if (!token) return undefined;
    const known = this.users.get(token);
    if (known !== undefined) return known ?? undefined;
    const review = (await this.client.create(resources.tokenreviews, { metadata: {}, spec: { token } } as never)) as TokenReview;
    const user = review.status?.authenticated
      ? { name: review.status.user?.username ?? '', groups: [...(review.status.user?.groups ?? []), 'system:authenticated'] }
      : null;
    this.users.set(token, user, user ? tokenTtlMs : 10_000);
    return user ?? undefined;
  }

  /** Any one of the subresources that stand for the path allows; `proxy` stands for all. */
  async authorize(user: User, method: string, path: string, upgrade: boolean): Promise<boolean> {
    // A WebSocket comes as GET, but what it does is a command.
    const verb = upgrade ? 'create' : (verbs[method] ?? method.toLowerCase());
    const subresource = nodeSubresource(path);
    for (const one of subresource === 'proxy' ? ['proxy'] : [subresource, 'proxy']) if (await this.allowed(user, verb, one)) return true;
    return false;
  }

  private async allowed(user: User, verb: string, subresource: string): Promise<boolean> {
    const key = JSON.stringify([user, verb, subresource]);
    const known = this.decisions.get(key);
    if (known !== undefined) return known;
    const review = (await this.client.create(resources.subjectaccessreviews, {
      metadata: {},
      spec: {
        user: user.name,
        groups: user.groups,
        resourceAttributes: { verb, version: 'v1', resource: 'nodes', subresource, name: this.nodeName },
      },
    } as never)) as SubjectAccessReview;
    const allowed = review.status?.allowed === true;
    this.decisions.set(key, allowed, allowed ? allowedTtlMs : deniedTtlMs);
    return allowed;
  }
}
