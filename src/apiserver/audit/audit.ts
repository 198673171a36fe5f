import { gunzipSync } from 'node:zlib';
import { parseJson } from '../../api/json.ts';
import { decodeProtobuf } from '../../api/protobuf.ts';
import type { UserInfo } from '../authn/user.ts';
import { header, type HttpRequest, type HttpResponse } from '../http/exchange.ts';
import type { RequestInfo } from '../request.ts';
import { type Policy, type Rule, ruleFor, type Stage } from './policy.ts';

/** An Event of audit.k8s.io/v1. */
export type AuditEvent = Record<string, unknown>;

/** Where events go. Never throws and never waits: what cannot be told is counted by the backend. */
export interface AuditBackend {
  write(event: AuditEvent): void;
  /** Resolves when everything written is out, or cannot be. */
  close(): Promise<void>;
}

const micro = (ms: number) => `${new Date(ms).toISOString().slice(0, -1)}000Z`;

/** Tells backends of requests, as a policy says. */
export class Auditor {
  readonly #policy: Policy;
  readonly #backends: AuditBackend[];
  /** Is told of each event. */
  observer: { audited(): void } | undefined;

  constructor(policy: Policy, backends: AuditBackend[]) {
    this.#policy = policy;
    this.#backends = backends;
  }

  /** A request that was authenticated. Undefined where the policy has nothing told of it. */
  begin(request: HttpRequest, response: HttpResponse, info: RequestInfo, user: UserInfo, effective: UserInfo): AuditRecord | undefined {
    const rule = ruleFor(this.#policy, info, user);
    if (!rule || rule.level === 'None') return undefined;
    return new AuditRecord(rule, request, response, info, user, effective, (event) => {
      this.observer?.audited();
      for (const backend of this.#backends) backend.write(event);
    });
  }

  async close(): Promise<void> {
    await Promise.all(this.#backends.map((b) => b.close()));
  }
}

/** One request as it goes on. */
export class AuditRecord {
  /** What the way of the request should hand on: it listens to bodies where the level asks for them. */
  readonly request: HttpRequest;
  readonly #rule: Rule;
  readonly #info: RequestInfo;
  readonly #response: HttpResponse;
  readonly #emit: (event: AuditEvent) => void;
  readonly #head: AuditEvent;
  readonly #annotations: Record<string, string> = {};
  /** Type of the body, which protobuf needs to be read. */
  definition = '';
  /** The bodies, where they never were bytes. */
  asked: unknown;
  sent: unknown;
  #requestBody: Buffer | undefined;
  #responseBody: { bytes: Buffer; headers: Record<string, string | string[]> } | undefined;
  #started = false;

  constructor(
    rule: Rule,
    request: HttpRequest,
    response: HttpResponse,
    info: RequestInfo,
    user: UserInfo,
    effective: UserInfo,
    emit: (event: AuditEvent) => void,
  ) {
    this.#rule = rule;
    this.#info = info;
    this.#response = response;
    this.#emit = emit;
    const forwarded = header(request, 'x-forwarded-for');
    this.#head = {
      kind: 'Event',
      apiVersion: 'audit.k8s.io/v1',
      level: rule.level,
      auditID: response.headers['audit-id'],
      requestURI: request.url,
      verb: info.verb,
      user: userOf(user),
      ...(effective === user ? {} : { impersonatedUser: userOf(effective) }),
      sourceIPs: [...forwarded.split(',').map((ip) => ip.trim()), request.remoteAddress].filter((ip, i, all) => ip && all.indexOf(ip) === i),
      ...(header(request, 'user-agent') ? { userAgent: header(request, 'user-agent').slice(0, 1024) } : {}),
      ...(info.isResource ? { objectRef: referenceOf(info) } : {}),
      requestReceivedTimestamp: micro(Date.now()),
    };
    this.request = rule.level === 'Metadata' ? request : this.#listening(request, response);
    this.#tell('RequestReceived');
  }

  #listening(request: HttpRequest, response: HttpResponse): HttpRequest {
    const body = async (limit: number) => {
      const bytes = await request.body(limit);
      this.#requestBody = bytes;
      return bytes;
    };
    if (this.#rule.level === 'RequestResponse') {
      const send = response.send.bind(response);
      response.send = (status, headers, bytes) => {
        if (bytes) this.#responseBody = { bytes: Array.isArray(bytes) ? Buffer.concat(bytes) : bytes, headers };
        send(status, headers, bytes);
      };
    }
    return Object.create(request, { body: { value: body } });
  }

  annotate(key: string, value: string): void {
    this.#annotations[key] = value;
  }

  /** A watch, or another answer that goes on, has begun. */
  started(): void {
    if (this.#started) return;
    this.#started = true;
    this.#tell('ResponseStarted');
  }

  complete(): void {
    this.#tell('ResponseComplete');
  }

  #tell(stage: Stage): void {
    if (this.#rule.omitStages.includes(stage)) return;
    const event: AuditEvent = { ...this.#head, stage };
    if (stage !== 'RequestReceived') {
      const { level } = this.#rule;
      const parsed = this.#responseBody && this.#parse(this.#responseBody.bytes, this.#responseBody.headers['content-type'], this.#responseBody.headers);
      const sent = parsed ?? (level === 'RequestResponse' || (this.sent as { kind?: string } | undefined)?.kind === 'Status' ? this.sent : undefined);
      event['responseStatus'] = statusOf(this.#response.status, sent);
      const asked = this.#requestBody?.length ? this.#parse(this.#requestBody, header(this.request, 'content-type')) : level === 'Metadata' ? undefined : this.asked;
      if (asked !== undefined && (this.#info.isResource || level === 'RequestResponse')) event['requestObject'] = this.#trimmed(asked);
      if (sent !== undefined && level === 'RequestResponse') event['responseObject'] = this.#trimmed(sent);
    }
    event['stageTimestamp'] = micro(Date.now());
    if (Object.keys(this.#annotations).length) event['annotations'] = { ...this.#annotations };
    this.#emit(event);
  }

  #parse(bytes: Buffer, contentType: string | string[] | undefined, headers: Record<string, string | string[]> = {}): unknown {
    try {
      const plain = headers['content-encoding'] === 'gzip' ? gunzipSync(bytes) : bytes;
      if (!String(contentType).startsWith('application/vnd.kubernetes.protobuf')) return parseJson(plain.toString());
      return this.definition ? decodeProtobuf(plain, this.definition) : undefined;
    } catch {
      // YAML, a log, a body that was refused: the event is told without.
      return undefined;
    }
  }

  #trimmed(object: unknown): unknown {
    if (!this.#rule.omitManagedFields) return object;
    const without = (o: any) => {
      if (!o?.metadata?.managedFields) return o;
      const { managedFields: _, ...metadata } = o.metadata;
      return { ...o, metadata };
    };
    const one = without(object) as { items?: unknown[] };
    return Array.isArray(one?.items) ? { ...one, items: one.items.map(without) } : one;
  }
}

const userOf = ({ name, uid, groups, extra }: UserInfo) => ({ username: name, ...(uid ? { uid } : {}), groups, ...(extra ? { extra } : {}) });

function referenceOf(info: RequestInfo): Record<string, string> {
  const parts = {
    resource: info.resource,
    namespace: info.namespace,
    name: info.name,
    apiGroup: info.group,
    apiVersion: info.version,
    subresource: info.subresource,
  };
  return Object.fromEntries(Object.entries(parts).filter(([, value]) => value));
}

/** What was answered, without the details that the response object tells. */
function statusOf(code: number, sent: unknown): object {
  const status = sent as { kind?: string; status?: string; reason?: string; message?: string } | undefined;
  if (status?.kind !== 'Status') return { metadata: {}, code };
  const { status: outcome, reason, message } = status;
  return { metadata: {}, ...(outcome ? { status: outcome } : {}), ...(message ? { message } : {}), ...(reason ? { reason } : {}), code };
}
