import { randomUUID } from 'node:crypto';
import type { ClientConfig } from '../../../api/crd/client-config.ts';
import { badRequest, internalError, StatusError } from '../../../api/errors.ts';
import { parseJson } from '../../../api/json.ts';
import type { KubeObject } from '../../../api/object.ts';
import { applyJsonPatch } from '../../../api/patch.ts';
import type { ServedResource } from '../../../api/scheme.ts';
import type { LabelSelector } from '../../../api/selectors.ts';
import type { AdmissionPlugin, AdmissionRequest } from '../../admission/chain.ts';
import { clone } from '../../storage/json.ts';
import { postToWebhook } from './client.ts';
import { type CompiledCondition, compileConditions, conditionsHold, decided, type MatchCondition, requestVariables } from './conditions.ts';
import { fittingResource, inVersion, isExempt, namespaceFits, objectFits, type Rule } from './matching.ts';
import { replaceObject } from './mutation.ts';
import { reviewRequest } from './review.ts';

interface Webhook {
  name: string;
  clientConfig: ClientConfig;
  rules?: Rule[];
  failurePolicy?: string;
  matchPolicy?: string;
  namespaceSelector?: LabelSelector;
  objectSelector?: LabelSelector;
  sideEffects?: string;
  timeoutSeconds?: number;
  admissionReviewVersions?: string[];
  reinvocationPolicy?: string;
  matchConditions?: MatchCondition[];
}

interface Prepared {
  id: string;
  webhook: Webhook;
  conditions: CompiledCondition[];
}

const prepared = new WeakMap<KubeObject, Prepared[]>();

/** All webhooks of one sort, by the names of their configurations. */
function webhooksOf(request: AdmissionRequest, resource: string): Prepared[] {
  const cache = request.api.registry.cache('admissionregistration.k8s.io', 'v1', resource);
  if (cache.size === 0) return [];
  return cache.list().flatMap(({ object }) => {
    let known = prepared.get(object);
    if (!known) {
      const { webhooks = [] } = object as KubeObject & { webhooks?: Webhook[] };
      known = webhooks.map((webhook, i) => ({ id: `${object.metadata.uid}/${i}`, webhook, conditions: compileConditions(webhook.matchConditions) }));
      prepared.set(object, known);
    }
    return known;
  });
}

interface Response {
  uid?: string;
  allowed?: boolean;
  status?: { status?: string; message?: string; reason?: string; code?: number; details?: any };
  patch?: string;
  patchType?: string;
  auditAnnotations?: Record<string, string>;
  warnings?: string[];
}

/** The webhook itself failed; what that means is for its failure policy to say. */
class CallFailed extends Error {}

/** What a webhook is asked, and about which version; undefined where it has nothing to say. */
async function matched(one: Prepared, request: AdmissionRequest): Promise<{ at: ServedResource; review: Record<string, unknown> } | undefined> {
  const { webhook } = one;
  const at = fittingResource(webhook.rules ?? [], [], webhook.matchPolicy, request);
  if (!at || !namespaceFits(webhook.namespaceSelector, request) || !objectFits(webhook.objectSelector, request)) return undefined;
  const { served } = request.call.target;
  const own = request.subresource && request.subresource !== 'status' ? served : at;
  const object = await inVersion(request.object, served, own);
  const old = await inVersion(request.old, served, own);
  const review = reviewRequest(request, at, randomUUID(), object, old);
  if (one.conditions.length > 0) {
    const { matches, error } = await decided(() => conditionsHold(one.conditions, requestVariables(request, review)));
    if (error !== undefined) {
      if (webhook.failurePolicy === 'Ignore') return undefined;
      throw new StatusError(403, 'Forbidden', error);
    }
    if (!matches) return undefined;
  }
  return { at, review };
}

/** Asks a webhook, and tells how that went. */
async function ask(one: Prepared, request: AdmissionRequest, review: Record<string, unknown>, type: 'admit' | 'validating'): Promise<Response> {
  const { webhook } = one;
  const started = performance.now();
  const span = request.call.span?.client('Call webhook', { webhook: webhook.name, operation: request.operation, type });
  const told = (rejected: boolean, code: number, error?: 'refused' | 'ignored') => {
    const ms = performance.now() - started;
    request.call.webhookMs = (request.call.webhookMs ?? 0) + ms;
    request.api.metrics.webhookAsked({ name: webhook.name, operation: request.operation, type, rejected }, ms, code, error);
  };
  try {
    const response = await answerOf(one, request, review, span?.traceparent ?? request.call.traceparent);
    span?.end();
    told(!response.allowed, response.allowed ? 200 : (response.status?.code ?? 400));
    return response;
  } catch (error) {
    span?.end({}, (error as Error).message);
    if (error instanceof CallFailed) told(webhook.failurePolicy !== 'Ignore', 0, webhook.failurePolicy === 'Ignore' ? 'ignored' : 'refused');
    throw error;
  }
}

async function answerOf(one: Prepared, request: AdmissionRequest, review: Record<string, unknown>, traceparent: string | undefined): Promise<Response> {
  const { webhook } = one;
  if (request.call.dryRun && webhook.sideEffects !== 'None' && webhook.sideEffects !== 'NoneOnDryRun')
    throw badRequest(`admission webhook ${JSON.stringify(webhook.name)} does not support dry run`);
  const version = webhook.admissionReviewVersions?.find((v) => v === 'v1' || v === 'v1beta1');
  if (!version) throw new CallFailed('webhook does not accept known AdmissionReview versions (v1, v1beta1)');
  const apiVersion = `admission.k8s.io/${version}`;
  let answer: { apiVersion?: string; kind?: string; response?: Response };
  try {
    const timeoutMs = (webhook.timeoutSeconds ?? 10) * 1000;
    answer = (await postToWebhook(request.api, webhook.clientConfig, { kind: 'AdmissionReview', apiVersion, request: review }, timeoutMs, request.call.signal, traceparent)) as typeof answer;
  } catch (error) {
    throw new CallFailed(`failed to call webhook: ${(error as Error).message}`);
  }
  const { response } = answer;
  if (version === 'v1') {
    if (answer.apiVersion !== apiVersion || answer.kind !== 'AdmissionReview')
      throw new CallFailed(`received invalid webhook response: expected webhook response of ${apiVersion}, Kind=AdmissionReview, got ${answer.apiVersion ?? ''}, Kind=${answer.kind ?? ''}`);
    if (!response) throw new CallFailed('received invalid webhook response: webhook response was absent');
    if (response.uid !== review['uid'])
      throw new CallFailed(`received invalid webhook response: expected response.uid=${JSON.stringify(review['uid'])}, got ${JSON.stringify(response.uid ?? '')}`);
    if (response.patch && !response.patchType) throw new CallFailed('received invalid webhook response: webhook returned response.patch but not response.patchType');
    if (response.patchType && response.patchType !== 'JSONPatch')
      throw new CallFailed(`received invalid webhook response: webhook returned invalid response.patchType of ${JSON.stringify(response.patchType)}`);
  }
  if (!response) throw new CallFailed('received invalid webhook response: webhook response was absent');
  request.call.warnings.push(...(response.warnings ?? []));
  for (const [key, value] of Object.entries(response.auditAnnotations ?? {})) annotate(request, `${webhook.name}/${key}`, value);
  return response;
}

function annotate(request: AdmissionRequest, key: string, value: string): void {
  request.call.auditAnnotations ??= {};
  request.call.auditAnnotations[key] = value;
}

function denied(name: string, status: Response['status']): StatusError {
  const by = `admission webhook ${JSON.stringify(name)} denied the request`;
  const message = status?.message ? `${by}: ${status.message}` : status?.reason ? `${by}: ${status.reason}` : `${by} without explanation`;
  const code = status?.code !== undefined && status.code >= 400 ? status.code : 400;
  return new StatusError(code, status?.reason ?? '', message, status?.details);
}

/** A failed call refuses the request, or not, as the webhook's policy has it. */
function judgeFailure(webhook: Webhook, request: AdmissionRequest, error: unknown): void {
  if (!(error instanceof CallFailed)) throw error;
  const text = `failed calling webhook ${JSON.stringify(webhook.name)}: ${error.message}`;
  if (webhook.failurePolicy !== 'Ignore') throw internalError(text);
  request.api.log.warn({ webhook: webhook.name }, text);
}

/** Webhooks that may change objects, one after the other; again where a later one changed what an earlier one had seen. */
export const mutatingWebhooks: AdmissionPlugin = {
  name: 'MutatingAdmissionWebhook',
  admit(request) {
    const all = webhooksOf(request, 'mutatingwebhookconfigurations');
    if (all.length === 0 || isExempt(request)) return undefined;
    return mutate(all, request);
  },
};

async function mutate(all: Prepared[], request: AdmissionRequest): Promise<void> {
  const { reinvocation } = request;
  reinvocation.begin('webhooks', request.object);
  for (const one of all) {
    const { webhook, id } = one;
    if (reinvocation.again && !reinvocation.wants('webhooks', id)) continue;
    const match = await matched(one, request);
    if (!match) continue;
    let response: Response;
    try {
      response = await ask(one, request, match.review, 'admit');
    } catch (error) {
      judgeFailure(webhook, request, error);
      continue;
    }
    if (!response.allowed) throw denied(webhook.name, response.status);
    const patch = response.patch ? parsePatch(response.patch) : undefined;
    const changed = patch !== undefined && patch.length > 0 && (await applyPatch(webhook, request, match, patch));
    reinvocation.invoked('webhooks', id, webhook.reinvocationPolicy === 'IfNeeded', changed);
  }
  reinvocation.end('webhooks', request.object);
}

function parsePatch(patch: string): unknown[] {
  const parsed: unknown = parseJson(Buffer.from(patch, 'base64').toString('utf8'));
  return Array.isArray(parsed) ? parsed : [];
}

async function applyPatch(
  webhook: Webhook,
  request: AdmissionRequest,
  { at, review }: { at: ServedResource; review: Record<string, unknown> },
  patch: unknown[],
): Promise<boolean> {
  if (!request.object) throw internalError(`admission webhook ${JSON.stringify(webhook.name)} attempted to modify the object, which is not supported for this operation`);
  let patched: any;
  try {
    patched = applyJsonPatch(clone(review['object']), patch);
  } catch (error) {
    throw internalError((error as Error).message);
  }
  return replaceObject(request, await inVersion(patched, at, request.call.target.served));
}

/** Webhooks that only judge, all at once. */
export const validatingWebhooks: AdmissionPlugin = {
  name: 'ValidatingAdmissionWebhook',
  validate(request) {
    const all = webhooksOf(request, 'validatingwebhookconfigurations');
    if (all.length === 0 || isExempt(request)) return undefined;
    return validate(all, request);
  },
};

async function validate(all: Prepared[], request: AdmissionRequest): Promise<void> {
  const outcomes = await Promise.allSettled(
    all.map(async (one) => {
      const match = await matched(one, request);
      if (!match) return;
      try {
        const response = await ask(one, request, match.review, 'validating');
        if (!response.allowed) throw denied(one.webhook.name, response.status);
      } catch (error) {
        judgeFailure(one.webhook, request, error);
      }
    }),
  );
  for (const outcome of outcomes) if (outcome.status === 'rejected') throw outcome.reason;
}
