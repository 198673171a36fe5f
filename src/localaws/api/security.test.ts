import { createHash, createHmac } from 'node:crypto';
import { request } from 'node:http';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { TestEndpoint } from './testing.ts';

/** Signatures made by hand, as the documentation of Signature Version 4 describes them: what SDKs never send can be sent. */
let endpoint: TestEndpoint;
beforeEach(async () => {
  endpoint = await TestEndpoint.start();
});
afterEach(() => endpoint.end());

interface Sent {
  method?: string;
  path?: string;
  headers?: Record<string, string>;
  body?: string;
}

function send({ method = 'POST', path = '/', headers = {}, body = '' }: Sent): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const message = request(endpoint.aws.url + path, { method, headers });
    message.on('error', reject);
    message.on('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }));
    });
    message.end(body);
  });
}

const hash = (text: string) => createHash('sha256').update(text).digest('hex');
const basic = (time: number) => new Date(time).toISOString().replace(/[-:]|\.\d+/g, '');
const form = 'application/x-www-form-urlencoded';

interface Signing {
  body?: string;
  time?: number;
  service?: string;
  region?: string;
  secret?: string;
  key?: string;
  /** Instead of x-amz-date. */
  date?: string;
  signed?: string[];
  headers?: Record<string, string>;
}

function signature(o: { canonical: string; time: number; region: string; service: string; secret: string }): string {
  const date = basic(o.time).slice(0, 8);
  let key: Buffer | string = `AWS4${o.secret}`;
  for (const part of [date, o.region, o.service, 'aws4_request']) key = createHmac('sha256', key).update(part).digest();
  const scope = `${date}/${o.region}/${o.service}/aws4_request`;
  return createHmac('sha256', key)
    .update(['AWS4-HMAC-SHA256', basic(o.time), scope, hash(o.canonical)].join('\n'))
    .digest('hex');
}

const describeVpcs = 'Action=DescribeVpcs&Version=2016-11-15';

/** Headers of a POST to /, signed. */
function sign(o: Signing = {}): Record<string, string> {
  const { body = describeVpcs, time = Date.now(), service = 'ec2', region = 'us-east-1' } = o;
  const { accessKeyId, secretAccessKey } = endpoint.aws.rootCredentials;
  const host = new URL(endpoint.aws.url).host;
  const when: Record<string, string> = o.date === undefined ? { 'x-amz-date': basic(time) } : { date: o.date };
  const headers: Record<string, string> = { 'content-type': form, host, ...when, ...o.headers };
  const names = (o.signed ?? Object.keys(headers)).sort();
  const lines = names.map((name) => `${name}:${headers[name] ?? ''}\n`).join('');
  const canonical = ['POST', '/', '', lines, names.join(';'), o.headers?.['x-amz-content-sha256'] ?? hash(body)].join('\n');
  const made = signature({ canonical, time, region, service, secret: o.secret ?? secretAccessKey });
  const scope = `${o.key ?? accessKeyId}/${basic(time).slice(0, 8)}/${region}/${service}/aws4_request`;
  return { ...headers, authorization: `AWS4-HMAC-SHA256 Credential=${scope}, SignedHeaders=${names.join(';')}, Signature=${made}` };
}

/** The query of a presigned GET. */
function presign(o: { query: string; expires?: number; time?: number; service?: string }): string {
  const { expires = 60, time = Date.now(), service = 'sts' } = o;
  const { accessKeyId, secretAccessKey } = endpoint.aws.rootCredentials;
  const query = new URLSearchParams(o.query);
  query.set('X-Amz-Algorithm', 'AWS4-HMAC-SHA256');
  query.set('X-Amz-Credential', `${accessKeyId}/${basic(time).slice(0, 8)}/us-east-1/${service}/aws4_request`);
  query.set('X-Amz-Date', basic(time));
  query.set('X-Amz-Expires', String(expires));
  query.set('X-Amz-SignedHeaders', 'host');
  const sorted = [...query].map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).sort();
  const canonical = ['GET', '/', sorted.join('&'), `host:${new URL(endpoint.aws.url).host}\n`, 'host', hash('')].join('\n');
  const made = signature({ canonical, time, region: 'us-east-1', service, secret: secretAccessKey });
  return `/?${sorted.join('&')}&X-Amz-Signature=${made}`;
}

test('what is signed by hand is answered, with a Date header too', async () => {
  expect((await send({ headers: sign(), body: describeVpcs })).status).toBe(200);
  expect((await send({ headers: sign({ date: new Date().toUTCString() }), body: describeVpcs })).status).toBe(200);
});

test('old and coming times are refused with the time of the server', async () => {
  const old = await send({ headers: sign({ time: Date.now() - 6 * 60_000 }), body: describeVpcs });
  expect(old.status).toBeGreaterThanOrEqual(400);
  expect(old.body).toMatch(/<Code>(RequestExpired|AuthFailure)<\/Code>/);
  const early = await send({ headers: sign({ time: Date.now() + 6 * 60_000 }), body: describeVpcs });
  expect(early.body).toMatch(/<Code>AuthFailure<\/Code>/);
  expect((await send({ headers: sign({ time: Date.now() - 4 * 60_000 }), body: describeVpcs })).status).toBe(200);
});

test('a body other than the one that was signed, or than its stated hash, is refused', async () => {
  const changed = 'Action=TerminateInstances&Version=2016-11-15&InstanceId.1=i-1';
  expect((await send({ headers: sign(), body: changed })).status).toBe(401);
  const stated = sign({ headers: { 'x-amz-content-sha256': hash(describeVpcs) } });
  expect((await send({ headers: stated, body: describeVpcs })).status).toBe(200);
  expect((await send({ headers: stated, body: changed })).status).toBe(401);
});

test('the scope must be that of the service and region, and the host must be signed', async () => {
  for (const wrong of [
    { service: 'iam' },
    { region: 'eu-west-1' },
    { signed: ['content-type', 'x-amz-date'] },
    { secret: 'x' },
    { key: 'AKIANOBODY' },
  ]) {
    const refused = await send({ headers: sign(wrong), body: describeVpcs });
    // The IAM service has no DescribeVpcs: its own keys do not let one call another service.
    expect([400, 401, 403]).toContain(refused.status);
    expect(refused.body).not.toContain('<vpcSet');
  }
  const unsigned = { ...sign(), 'x-amz-security-token': 'made-up' };
  expect((await send({ headers: unsigned, body: describeVpcs })).status).toBe(401);
  const added = { ...sign(), 'x-amz-target': 'AmazonSSM.PutParameter' };
  expect((await send({ headers: added, body: describeVpcs })).status).toBeGreaterThanOrEqual(400);
});

test('presigned URLs hold for as long as they say, for what they say', async () => {
  const query = 'Action=GetCallerIdentity&Version=2011-06-15';
  const answer = await send({ method: 'GET', path: presign({ query }) });
  expect(answer.status).toBe(200);
  expect(answer.body).toContain('<Account>000000000000</Account>');
  const expired = await send({ method: 'GET', path: presign({ query, time: Date.now() - 120_000 }) });
  expect(expired.status).toBeGreaterThanOrEqual(400);
  const other = presign({ query }).replace('GetCallerIdentity', 'GetSessionToken');
  expect((await send({ method: 'GET', path: other })).status).toBe(403);
  expect((await send({ method: 'GET', path: presign({ query, expires: 8 * 24 * 3600 }) })).status).toBe(400);
  expect((await send({ method: 'GET', path: `/?${query}` })).body).toContain('MissingAuthenticationToken');
});

test('requests that a web page sends, or a name that was made to lead here, are refused even when they are signed', async () => {
  const origin = await send({ headers: { ...sign(), origin: 'https://evil.example' }, body: describeVpcs });
  expect(origin.status).toBe(403);
  const foreign = await send({ headers: sign({ headers: { host: 'evil.example' } }), body: describeVpcs });
  expect(foreign.status).toBe(403);
  const preflight = await send({ method: 'OPTIONS', headers: { origin: 'https://evil.example', 'access-control-request-method': 'POST' } });
  expect(preflight.status).toBe(403);
});

test('a key that was changed by one letter tells nothing about the one before it', async () => {
  const { secretAccessKey } = endpoint.aws.rootCredentials;
  const near = secretAccessKey.slice(0, -1) + (secretAccessKey.endsWith('A') ? 'B' : 'A');
  const answers = await Promise.all([near, 'x'].map((secret) => send({ headers: sign({ secret }), body: describeVpcs })));
  const plain = answers.map((one) => one.body.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, ''));
  expect(plain[0]).toBe(plain[1]);
});
