import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { requestOverHttp1, startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { type RecordedAnswer, recorded } from './recorded.ts';
import { requests } from './requests.steps.ts';
import { bodyOf, sequences } from './server-side-apply.steps.ts';

/** Upstream's answers, recorded by scripts/record-answers.ts. */
const answers: Record<string, RecordedAnswer[]> = JSON.parse(
  gunzipSync(readFileSync(join(import.meta.dirname, '../fixtures/upstream-answers.json.gz'))).toString('utf8'),
);

const namespace = 'apply-contract';
let server: TestServer;
beforeAll(async () => {
  server = await startTestServer();
  const json = { 'content-type': 'application/json' };
  const post = (path: string, body: object) =>
    requestOverHttp1(server, { user: server.admin, method: 'POST', path, headers: json, body: JSON.stringify(body) });
  await post('/api/v1/namespaces', { metadata: { name: namespace } });
  await post(`/api/v1/namespaces/${namespace}/serviceaccounts`, { metadata: { name: 'default' } });
});
afterAll(async () => server?.stop());

/** What the answer says of ownership, and of what the managers wrote. */
function judged({ status, body }: RecordedAnswer): object {
  if (body.kind === 'Status') {
    // What cannot be read or merged is the client's fault here, an internal error there.
    const { message, details, reason } = body;
    return { status: status === 500 ? 400 : status, message, details, ...(status === 500 || status === 400 ? {} : { reason }) };
  }
  if (body.items) return { status, items: body.items, continue: body.metadata.continue, remaining: body.metadata.remainingItemCount };
  const { managedFields, labels, annotations, finalizers, generation, ownerReferences } = body.metadata;
  const { status: _s, metadata: _m, spec, ...rest } = body;
  return { status, metadata: { managedFields, labels, annotations, finalizers, generation, ownerReferences }, spec, ...rest };
}

describe("answers are upstream's", () => {
  const all = { ...sequences, ...requests };
  test.each(Object.keys(all))('%s', async (name) => {
    const steps = all[name]!;
    for (const [i, step] of steps.entries()) {
      const body = bodyOf(step);
      const answer = await requestOverHttp1(server, {
        user: server.admin,
        method: step.method,
        path: step.path.replace('NS', namespace),
        headers: {
          'user-agent': step.userAgent ?? 'tester/1',
          'content-type': step.contentType ?? 'application/json',
          'content-length': String(Buffer.byteLength(body ?? '')),
        },
        ...(body === undefined ? {} : { body }),
      });
      const ours = judged(recorded(answer.status, answer.json, namespace));
      expect(ours, `step ${i}: ${step.method} ${step.path}`).toEqual(judged(answers[name]![i]!));
    }
  });
});
