/**
 * Sends the steps of test/contract/*.steps.ts to an API server (upstream's) and records its answers for
 * test/contract/upstream-answers.test.ts:
 *
 *     node bin/node24.js scripts/record-answers.ts https://127.0.0.1:16443 CA CERT KEY
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { Agent, request } from 'node:https';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { type RecordedAnswer, recorded } from '../test/contract/recorded.ts';
import { requests } from '../test/contract/requests.steps.ts';
import { bodyOf, type Step, sequences } from '../test/contract/server-side-apply.steps.ts';

const [server, ca, cert, key] = process.argv.slice(2);
if (!server || !ca || !cert || !key) {
  console.error('usage: record-answers.ts SERVER CA CERT KEY');
  process.exit(2);
}
const agent = new Agent({ keepAlive: true, ca: readFileSync(ca), cert: readFileSync(cert), key: readFileSync(key) });

function send(step: Step): Promise<{ status: number; json: unknown }> {
  return new Promise((resolve, reject) => {
    const body = bodyOf(step);
    const headers = { 'user-agent': step.userAgent ?? 'tester/1', 'content-type': step.contentType ?? 'application/json', 'content-length': Buffer.byteLength(body ?? '') };
    const sent = request(`${server}${step.path}`, { method: step.method, agent, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, json: JSON.parse(Buffer.concat(chunks).toString('utf8')) }));
    });
    sent.on('error', reject);
    sent.end(body);
  });
}

const namespace = `apply-${Date.now()}`;
await send({ method: 'POST', path: '/api/v1/namespaces', body: { metadata: { name: namespace } } });
await send({ method: 'POST', path: `/api/v1/namespaces/${namespace}/serviceaccounts`, body: { metadata: { name: 'default' } } });
const answers: Record<string, RecordedAnswer[]> = {};
for (const [name, steps] of Object.entries({ ...sequences, ...requests })) {
  answers[name] = [];
  for (const step of steps) {
    const { status, json } = await send({ ...step, path: step.path.replace('NS', namespace) });
    answers[name].push(recorded(status, json, namespace));
  }
}
agent.destroy();
writeFileSync(join(import.meta.dirname, '../test/fixtures/upstream-answers.json.gz'), gzipSync(JSON.stringify(answers), { level: 9 }));
