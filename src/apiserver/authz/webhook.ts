import type { ClientConfig } from '../../client/config.ts';
import type { Clock } from '../../client/clock.ts';
import { adaptAny } from '../../api/cel/adapt.ts';
import { CelError, CostExceededError } from '../../api/cel/values.ts';
import { parseFieldSelector, parseLabelSelector } from '../../api/selectors.ts';
import { createWebhookClient, postWithRetries } from '../http/webhook-client.ts';
import type { Attributes, AuthorizerStep, Decision } from './authorizer.ts';
import type { WebhookSpec } from './configuration.ts';

/** What an authorizer outside of the server is told of its work. */
export interface WebhookObserver {
  /** result: success, timeout, canceled or error, as upstream's metrics name them. */
  evaluated(name: string, result: 'success' | 'timeout' | 'error', seconds: number, failedOpen: boolean): void;
  matchConditionFailed?(name: string): void;
}

export interface WebhookOptions extends Omit<WebhookSpec, 'type' | 'kubeConfigFile'> {
  config: ClientConfig;
  clock: Clock;
  observer?: WebhookObserver;
  /** Before the first repetition where the webhook cannot be reached; 500. */
  backoffMs?: number;
}

const cacheLimit = 8192;
/** Longer questions are asked each time, so that nobody fills the memory with them. */
const keyLimit = 10_000;

/** Asks a webhook, with SubjectAccessReviews. Answers at once what it was told not long ago. */
export function webhookAuthorizer(o: WebhookOptions): { authorize: AuthorizerStep; close(): void } {
  const client = createWebhookClient({ userAgent: 'kube-apiserver', ...o.config });
  const known = new Map<string, { decision: Decision | undefined; until: number }>();
  const asked = new Map<string, Promise<Decision | undefined>>();

  const failed = (message: string): Decision => ({ allowed: false, reason: '', error: message, ...(o.failurePolicy === 'Deny' ? { denied: true } : {}) });

  const ask = async (key: string, spec: Record<string, any>): Promise<Decision | undefined> => {
    const started = performance.now();
    const done = (result: 'success' | 'timeout' | 'error') =>
      o.observer?.evaluated(o.name, result, (performance.now() - started) / 1000, result !== 'success' && o.failurePolicy === 'NoOpinion');
    let status: { allowed?: boolean; denied?: boolean; reason?: string; evaluationError?: string } | undefined;
    try {
      const review = {
        apiVersion: `authorization.k8s.io/${o.version}`,
        kind: 'SubjectAccessReview',
        metadata: { creationTimestamp: null },
        spec: o.version === 'v1beta1' ? { ...spec, group: spec['groups'], groups: undefined } : spec,
      };
      ({ status } = await postWithRetries(client, review, { timeoutMs: o.timeoutMs, backoffMs: o.backoffMs ?? 500 }));
      done('success');
    } catch (error) {
      const { message } = error as Error;
      done(/did not answer within/.test(message) ? 'timeout' : 'error');
      return failed(message);
    } finally {
      asked.delete(key);
    }
    const reason = status?.reason ?? '';
    if (status?.denied && status.allowed) return failed('webhook subject access review returned both allow and deny response');
    const decision: Decision | undefined = status?.allowed
      ? { allowed: true, reason }
      : { allowed: false, reason, ...(status?.denied ? { denied: true } : {}), ...(status?.evaluationError ? { error: status.evaluationError } : {}) };
    const ttl = decision.allowed ? o.authorizedMs : o.unauthorizedMs;
    if (ttl > 0 && key.length <= keyLimit) {
      if (known.size >= cacheLimit) known.delete(known.keys().next().value as string);
      known.set(key, { decision, until: o.clock.now() + ttl });
    }
    return decision;
  };

  return {
    authorize(attributes) {
      const spec = reviewSpec(attributes);
      const matched = matches(o, spec);
      if (matched === 'failed') {
        o.observer?.matchConditionFailed?.(o.name);
        return failed('');
      }
      if (!matched) return undefined;
      const key = JSON.stringify(spec);
      const found = known.get(key);
      if (found) {
        if (found.until > o.clock.now()) return found.decision;
        known.delete(key);
      }
      let pending = asked.get(key);
      if (!pending) asked.set(key, (pending = ask(key, spec)));
      return pending;
    },
    close: () => client.close(),
  };
}

/** Whether all conditions hold. One that is false decides, even where others fail. */
function matches(o: WebhookOptions, spec: Record<string, any>): boolean | 'failed' {
  if (o.matchConditions.length === 0) return true;
  const request = adaptAny(shown(spec));
  let failure = false;
  for (const condition of o.matchConditions) {
    try {
      const { value } = condition.run((name) => (name === 'request' ? request : undefined));
      if (value === false) return false;
      if (value !== true) failure = true;
    } catch (error) {
      if (!(error instanceof CelError || error instanceof CostExceededError)) throw error;
      failure = true;
    }
  }
  return failure ? 'failed' : true;
}

/** As expressions see it: every attribute is there, empty where the request has none. */
function shown({ resourceAttributes, nonResourceAttributes, ...spec }: Record<string, any>): object {
  const none = { namespace: '', verb: '', group: '', version: '', resource: '', subresource: '', name: '' };
  return {
    user: '',
    groups: [],
    uid: '',
    ...spec,
    ...(resourceAttributes ? { resourceAttributes: { ...none, ...resourceAttributes } } : {}),
    ...(nonResourceAttributes ? { nonResourceAttributes } : {}),
  };
}

/** The question in the form of a SubjectAccessReview's spec. */
export function reviewSpec(a: Attributes): Record<string, any> {
  const { user } = a;
  const spec: Record<string, any> = {};
  if (a.path !== undefined) spec['nonResourceAttributes'] = { path: a.path, verb: a.verb };
  else {
    const fields = a.fieldSelector ? fieldRequirements(a.fieldSelector) : [];
    const labels = a.labelSelector ? labelRequirements(a.labelSelector) : [];
    spec['resourceAttributes'] = {
      ...(a.namespace ? { namespace: a.namespace } : {}),
      verb: a.verb,
      ...(a.group ? { group: a.group } : {}),
      ...(a.version ? { version: a.version } : {}),
      resource: a.resource,
      ...(a.subresource ? { subresource: a.subresource } : {}),
      ...(a.name ? { name: a.name } : {}),
      ...(fields.length ? { fieldSelector: { requirements: fields } } : {}),
      ...(labels.length ? { labelSelector: { requirements: labels } } : {}),
    };
  }
  spec['user'] = user.name;
  if (user.groups.length) spec['groups'] = user.groups;
  if (user.extra && Object.keys(user.extra).length) spec['extra'] = user.extra;
  if (user.uid) spec['uid'] = user.uid;
  return spec;
}

/** A selector that cannot be read restricts nothing: the question is then about more than the request, never about less. */
function fieldRequirements(selector: string): object[] {
  try {
    return parseFieldSelector(selector).map((r) => ({ key: r.field, operator: r.op === '=' ? 'In' : 'NotIn', values: [r.value] }));
  } catch {
    return [];
  }
}

function labelRequirements(selector: string): object[] {
  try {
    return parseLabelSelector(selector).flatMap((r) =>
      ['In', 'NotIn', 'Exists', 'DoesNotExist'].includes(r.operator) ? [{ key: r.key, operator: r.operator, ...(r.values.length ? { values: r.values } : {}) }] : [],
    );
  } catch {
    return [];
  }
}
