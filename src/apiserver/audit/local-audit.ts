import { randomUUID } from 'node:crypto';
import { StatusError } from '../../api/errors.ts';
import type { Call } from '../api.ts';
import type { Decision } from '../authz/authorizer.ts';
import type { RequestInfo } from '../request.ts';
import type { HttpRequest, HttpResponse } from '../http/exchange.ts';
import type { Auditor, AuditRecord } from './audit.ts';

/** What a client in this process asks for beside the object it is about. */
export interface LocalOptions {
  fieldSelector?: string;
  labelSelector?: string;
  resourceVersion?: string;
  limit?: number;
  force?: boolean;
}

/** The request of a client in this process, told as one over HTTP is: it has gone the same way but for the bytes. */
export class LocalAudit {
  readonly #record: AuditRecord;
  readonly #answer: { status: number };

  private constructor(record: AuditRecord, answer: { status: number }) {
    this.#record = record;
    this.#answer = answer;
  }

  /** Undefined where the policy has nothing told of it. */
  static begin(auditor: Auditor, call: Omit<Call, 'permit'>, options: LocalOptions, asked?: unknown): LocalAudit | undefined {
    const { group, version, resource } = call.target.served;
    const path = pathOf(call);
    const info: RequestInfo = {
      ...{ isResource: true, verb: call.verb, path, group, version, resource, rest: '' },
      ...{ subresource: call.subresource, namespace: resource === 'namespaces' ? call.name : call.namespace, name: call.name },
    };
    const answer = { status: 0, headers: { 'audit-id': randomUUID() }, send: () => {} };
    // From where upstream's own components in its API server come: the loopback.
    const request = { url: path + queryOf(call, options), headers: { 'user-agent': call.fieldManager }, remoteAddress: '::1' };
    const record = auditor.begin(request as unknown as HttpRequest, answer as unknown as HttpResponse, info, call.user, call.user);
    if (!record) return undefined;
    record.asked = asked;
    return new LocalAudit(record, answer);
  }

  decided(decision: Decision): void {
    this.#record.annotate('authorization.k8s.io/decision', decision.allowed ? 'allow' : 'forbid');
    this.#record.annotate('authorization.k8s.io/reason', decision.reason);
  }

  /** A watch has begun. */
  started(): void {
    this.#answer.status = 200;
    this.#record.started();
  }

  complete(call: Call | undefined, status: number, sent: unknown): void {
    for (const [key, value] of Object.entries(call?.auditAnnotations ?? {})) this.#record.annotate(key, value);
    this.#answer.status = status;
    this.#record.sent = sent;
    this.#record.complete();
  }

  failed(call: Call | undefined, error: unknown): void {
    const known = error instanceof StatusError;
    this.complete(call, known ? error.code : 500, known ? error.status : undefined);
  }
}

function pathOf(call: Omit<Call, 'permit'>): string {
  const { group, version, resource, namespaced } = call.target.served;
  const parts = [group ? `/apis/${group}/${version}` : `/api/${version}`];
  if (namespaced && call.namespace) parts.push('namespaces', call.namespace);
  parts.push(resource);
  if (call.name) parts.push(call.name);
  if (call.subresource) parts.push(call.subresource);
  return parts.join('/');
}

function queryOf(call: Omit<Call, 'permit'>, o: LocalOptions): string {
  const query = new URLSearchParams();
  for (const key of ['fieldSelector', 'labelSelector', 'resourceVersion', 'limit', 'force'] as const) if (o[key]) query.set(key, String(o[key]));
  if (call.dryRun) query.set('dryRun', 'All');
  if (call.verb === 'watch') query.set('watch', 'true');
  return query.size ? `?${query}` : '';
}
