import type { ClientConfig } from '../../client/config.ts';
import { createWebhookClient } from '../http/webhook-client.ts';
import type { AuditBackend, AuditEvent } from './audit.ts';

export interface AuditWebhookOptions {
  /** Where events are posted: the server of a kubeconfig, whose path is kept. */
  config: ClientConfig;
  /** Events in one request at most; 400. */
  maxBatchSize?: number;
  /** Milliseconds that an event waits for others; 30 s. */
  maxWaitMs?: number;
  /** Events kept while the webhook does not answer; what comes beyond is lost and told to onError. 10,000. */
  bufferSize?: number;
  /** Before the first repetition, milliseconds; doubled each time. 10 s. */
  initialBackoffMs?: number;
  onError?: (error: Error) => void;
}

const attempts = 5;

/** Posts EventLists of audit.k8s.io/v1 to a webhook, in order. */
export function auditWebhook(o: AuditWebhookOptions): AuditBackend {
  const client = createWebhookClient(o.config);
  const { maxBatchSize = 400, maxWaitMs = 30_000, bufferSize = 10_000, initialBackoffMs = 10_000 } = o;
  let waiting: AuditEvent[] = [];
  let timer: NodeJS.Timeout | undefined;
  let sending: Promise<void> | undefined;
  let closing = false;

  const post = async (events: AuditEvent[]) => {
    const body = { kind: 'EventList', apiVersion: 'audit.k8s.io/v1', metadata: {}, items: events };
    for (let attempt = 1, wait = initialBackoffMs; ; attempt++, wait *= 2) {
      try {
        await client.post(body, 30_000);
        return;
      } catch (error) {
        if (attempt >= attempts || closing) {
          o.onError?.(new Error(`${events.length} audit events are lost: ${(error as Error).message}`));
          return;
        }
        await new Promise((resolve) => setTimeout(resolve, wait));
      }
    }
  };
  const pump = async () => {
    while (waiting.length) await post(waiting.splice(0, maxBatchSize));
    sending = undefined;
  };
  const flush = () => {
    clearTimeout(timer);
    timer = undefined;
    sending ??= pump();
  };
  return {
    write(event) {
      if (waiting.length >= bufferSize) {
        o.onError?.(new Error('an audit event is lost: the buffer is full'));
        return;
      }
      waiting.push(event);
      if (waiting.length >= maxBatchSize) flush();
      else timer ??= setTimeout(flush, maxWaitMs);
    },
    async close() {
      closing = true;
      flush();
      await sending;
      waiting = [];
      client.close();
    },
  };
}
