import { createServer, type Http2Server } from 'node:http2';
import type { AddressInfo } from 'node:net';
import protobuf from 'protobufjs';
import pino from 'pino';
import { afterEach, describe, expect, test } from 'vitest';
import { review, startTestWebhook } from '../extensions/webhooks/testing.ts';
import { requestOverHttp1, requestOverHttp2, startTestServer } from '../testing.ts';
import { parseTracingConfiguration } from './configuration.ts';
import { parseTraceparent, Tracer } from './tracer.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

const { root } = protobuf.parse(`syntax = "proto3";
message Request { repeated ResourceSpans resource_spans = 1; }
message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
message Resource { repeated KeyValue attributes = 1; }
message ScopeSpans { Scope scope = 1; repeated Span spans = 2; }
message Scope { string name = 1; }
message KeyValue { string key = 1; AnyValue value = 2; }
message AnyValue { oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; } }
message Link { bytes trace_id = 1; bytes span_id = 2; }
message Status { string message = 2; int32 code = 3; }
message Span { bytes trace_id = 1; bytes span_id = 2; string trace_state = 3; bytes parent_span_id = 4; string name = 5; int32 kind = 6; fixed64 start = 7; fixed64 end = 8;
  repeated KeyValue attributes = 9; repeated Link links = 13; Status status = 15; }`);

/** A collector that takes OTLP over gRPC. */
async function startCollector() {
  const spans: any[] = [];
  const resources: any[] = [];
  const server: Http2Server = createServer();
  server.on('stream', (stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on('data', (chunk: Buffer) => chunks.push(chunk));
    stream.on('end', () => {
      const bytes = Buffer.concat(chunks);
      const message = root.lookupType('Request').decode(bytes.subarray(5, 5 + bytes.readUInt32BE(1))) as any;
      const attributes = (list: any[]) => Object.fromEntries(list.map(({ key, value }) => [key, value.value === 'stringValue' || value.value === 'boolValue' ? value[value.value] : Number(value[value.value])]));
      for (const one of message.resourceSpans) {
        resources.push(attributes(one.resource.attributes));
        for (const span of one.scopeSpans.flatMap((s: any) => s.spans)) {
          const hex = (id: Uint8Array) => Buffer.from(id).toString('hex');
          const ms = Number(span.end - span.start) / 1e6;
          spans.push({ ...{ trace: hex(span.traceId), id: hex(span.spanId), parent: hex(span.parentSpanId), name: span.name, kind: span.kind, ms, at: Number(span.start) / 1e6 }, attributes: attributes(span.attributes), links: span.links.map((l: any) => hex(l.spanId)), code: span.status?.code ?? 0 });
        }
      }
      expect(headers[':path']).toBe('/opentelemetry.proto.collector.trace.v1.TraceService/Export');
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'grpc-status': '0' }));
      stream.end(Buffer.alloc(5));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  ends.push(() => server.close());
  return { spans, resources, endpoint: `127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function start(samplingRatePerMillion: number) {
  const collector = await startCollector();
  const tracer = new Tracer({ endpoint: collector.endpoint, samplingRatePerMillion }, 'apiserver-test', pino({ level: 'silent' }));
  const server = await startTestServer({ tracer });
  ends.push(() => server.stop());
  return { server, ...collector, stop: () => server.stop() };
}

const caller = { trace: '4bf92f3577b34da6a3ce929d0e0e4736', span: '00f067aa0ba902b7' };
const traceparent = (sampled = true) => `00-${caller.trace}-${caller.span}-0${sampled ? 1 : 0}`;
const path = '/api/v1/namespaces/default/configmaps';

test('a request whose caller is traced and trusted, and the webhook that it asks', async () => {
  const { server, spans, resources, stop } = await start(0);
  const hook = await startTestWebhook(server.authority, { '/ok': (body) => review(body, { allowed: true }) });
  ends.push(() => hook.close());
  const configuration = {
    metadata: { name: 'hook' },
    webhooks: [
      {
        ...{ name: 'ok.example.com', sideEffects: 'None', admissionReviewVersions: ['v1'], clientConfig: { url: hook.url('/ok'), caBundle: hook.caBundle } },
        rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'] }],
      },
    ],
  };
  const json = { 'content-type': 'application/json' };
  const admin = { user: server.admin };
  const made = await requestOverHttp2(server, { ...admin, method: 'POST', path: '/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations', headers: json, body: JSON.stringify(configuration) });
  expect(made.status, made.body.toString()).toBe(201);
  const before = Date.now();
  for (const [i, send] of [requestOverHttp1, requestOverHttp2].entries())
    expect((await send(server, { ...admin, method: 'POST', path, headers: { ...json, traceparent: traceparent(), 'user-agent': 'test' }, body: `{"metadata":{"name":"c-${i}"}}` })).status).toBe(201);
  // Not sampled by its caller, nor by the rate.
  await requestOverHttp2(server, { ...admin, path, headers: { traceparent: traceparent(false) } });
  await requestOverHttp2(server, { ...admin, path });
  await stop();
  expect(resources[0]).toMatchObject({ 'service.name': 'apiserver', 'service.instance.id': 'apiserver-test' });
  expect(spans.map((s) => `${s.kind} ${s.name}`)).toEqual(Array(2).fill(['3 Call webhook', '2 POST /api/v1/namespaces/{:namespace}/configmaps']).flat());
  for (const [client, request] of [spans.slice(0, 2), spans.slice(2)]) {
    expect(request).toMatchObject({ trace: caller.trace, parent: caller.span, code: 0, attributes: { 'http.request.method': 'POST', 'http.target': path, 'http.response.status_code': 201, 'user_agent.original': 'test' } });
    expect(client).toMatchObject({ trace: caller.trace, parent: request.id, attributes: { webhook: 'ok.example.com', operation: 'CREATE', type: 'validating' } });
    expect(client.ms).toBeLessThanOrEqual(request.ms);
    expect(Math.abs(request.at - before)).toBeLessThan(60_000);
    expect(hook.seen.map((s) => s.headers['traceparent'])).toContain(`00-${caller.trace}-${client.id}-01`);
  }
});

test('whoever is not trusted decides nothing: the span is only linked to', async () => {
  const { server, spans, stop } = await start(1_000_000);
  const user = await server.authority.issue({ commonName: 'jane' });
  expect((await requestOverHttp2(server, { user, path, headers: { traceparent: traceparent(false) } })).status).toBe(403);
  await stop();
  expect(spans).toHaveLength(1);
  expect(spans[0]).toMatchObject({ parent: '', links: [caller.span], name: 'GET /api/v1/namespaces/{:namespace}/configmaps', attributes: { 'http.response.status_code': 403 } });
  expect(spans[0].trace).not.toBe(caller.trace);
});

test('without a tracer webhooks hear of the caller', async () => {
  const server = await startTestServer();
  ends.push(() => server.stop());
  const hook = await startTestWebhook(server.authority, { '/ok': (body) => review(body, { allowed: true }) });
  ends.push(() => hook.close());
  const webhook = { name: 'ok.example.com', sideEffects: 'None', admissionReviewVersions: ['v1'], clientConfig: { url: hook.url('/ok'), caBundle: hook.caBundle }, rules: [{ operations: ['CREATE'], apiGroups: [''], apiVersions: ['v1'], resources: ['configmaps'] }] };
  const send = (to: string, body: object, headers: object = {}) => requestOverHttp2(server, { user: server.admin, method: 'POST', path: to, headers: { 'content-type': 'application/json', ...headers }, body: JSON.stringify(body) });
  await send('/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations', { metadata: { name: 'hook' }, webhooks: [webhook] });
  expect((await send(path, { metadata: { name: 'c' } }, { traceparent: traceparent() })).status).toBe(201);
  expect(hook.seen[0]!.headers['traceparent']).toBe(traceparent());
});

test('a collector that is not there holds nothing up', async () => {
  const tracer = new Tracer({ endpoint: '127.0.0.1:1', samplingRatePerMillion: 1_000_000 }, 'x', pino({ level: 'silent' }));
  for (let i = 0; i < 5000; i++) tracer.start('span', 'client', undefined, {}).end();
  await tracer.close();
});

test('sampling goes by the id, in proportion', () => {
  const tracer = new Tracer({ endpoint: '127.0.0.1:1', samplingRatePerMillion: 250_000 }, 'x', pino({ level: 'silent' }));
  let sampled = 0;
  for (let i = 0; i < 4000; i++) if (tracer.start('s', 'server', undefined, {}).context.sampled) sampled++;
  expect(sampled).toBeGreaterThan(800);
  expect(sampled).toBeLessThan(1200);
});

describe('traceparent', () => {
  test('is read', () => expect(parseTraceparent(traceparent())).toEqual({ traceId: caller.trace, spanId: caller.span, sampled: true, state: '' }));
  test('of a later version too', () => expect(parseTraceparent(`01-${caller.trace}-${caller.span}-00-more`)?.sampled).toBe(false));
  test.each(['', 'x', `ff-${caller.trace}-${caller.span}-01`, `00-${'0'.repeat(32)}-${caller.span}-01`, `00-${caller.trace}-${'0'.repeat(16)}-01`, `00-${caller.trace}-${caller.span}-01-more`, `00-${caller.trace.toUpperCase()}-${caller.span}-01`])(
    '%s is none',
    (text) => expect(parseTraceparent(text)).toBeUndefined(),
  );
});

describe('the configuration', () => {
  const read = (o: object) => parseTracingConfiguration(JSON.stringify({ apiVersion: 'apiserver.config.k8s.io/v1', kind: 'TracingConfiguration', ...o }));
  test('defaults are upstream’s', () => expect(read({})).toEqual({ endpoint: 'localhost:4317', samplingRatePerMillion: 0 }));
  test.each([
    ['dns:///collector:4317', 'collector:4317'],
    ['[::1]:4317', '[::1]:4317'],
    ['unix:///run/otlp.sock', 'unix:/run/otlp.sock'],
  ])('%s', (endpoint, read_) => expect(read({ endpoint }).endpoint).toBe(read_));
  test.each([[{ samplingRatePerMillion: -1 }], [{ samplingRatePerMillion: 1_000_001 }], [{ endpoint: 'http://x:1' }], [{ endpoint: 'x' }], [{ kind: 'Other' }]])('%j is refused', (o) => expect(() => read(o)).toThrow());
});
