import { request } from 'node:https';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { startTestServer, type TestServer } from '../../src/apiserver/testing.ts';
import { missingPeers, type Peer, startPeer } from './peer.ts';

const missing = missingPeers('etcd', 'kube-apiserver');
if (missing) console.warn(`skipped, the comparison of paths and methods: ${missing}`);

interface Raw {
  status: number;
  type: string | undefined;
  nosniff: string | undefined;
  body: string;
}

type Tls = { ca: string; cert: string; key: string };

/** The answer as it comes. A stream that does not end is cut after its head. */
function ask(address: string, tls: Tls, method: string, path: string, accept?: string): Promise<Raw> {
  const { hostname, port } = new URL(address);
  return new Promise((resolve, reject) => {
    const sent = request({ hostname, port, path, method, agent: false, ...tls, headers: accept ? { accept } : {} }, (response) => {
      const chunks: Buffer[] = [];
      const { headers } = response;
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: headers['content-type'],
          nosniff: headers['x-content-type-options'] as string | undefined,
          body: readable(Buffer.concat(chunks).toString()),
        }),
      );
    });
    sent.on('error', reject);
    sent.end();
  });
}

/** JSON without its white space and revisions; where it is a long document, its kind. */
function readable(text: string): string {
  try {
    const value = JSON.parse(text);
    delete value.metadata?.resourceVersion;
    return value.kind === 'Status' ? JSON.stringify(value) : (value.kind ?? 'a document');
  } catch {
    return text.length > 300 ? 'long' : text;
  }
}

const resources = [
  ...['/api/v1/pods', '/api/v1/pods/x', '/api/v1/namespaces/default/pods', '/api/v1/namespaces/default/pods/x', '/api/v1/namespaces/default/pods/'],
  ...['/api/v1/namespaces/default/pods/x/status', '/api/v1/namespaces/default/pods/x/status/y', '/api/v1/namespaces/default/pods/x/nope'],
  ...['/api/v1/namespaces/default/pods/x/binding', '/api/v1/namespaces/default/pods/x/eviction', '/api/v1/namespaces/default/serviceaccounts/x/token'],
  ...['/api/v1/nodes', '/api/v1/nodes/', '/api/v1/nodes/x', '/api/v1/nodes/x/nope', '/api/v1/namespaces/default/nodes', '/api/v1/namespaces/default/nodes/x'],
  ...['/api/v1/namespaces', '/api/v1/namespaces/nope', '/api/v1/namespaces/nope/status', '/api/v1/namespaces/nope/finalize', '/api/v1/namespaces/nope/status/x'],
  ...['/api/v1/nope', '/api/v1/nope/x', '/api/v1/namespaces/default/nope', '/api/v1/namespaces/default/nope/x', '/api/v1/bindings', '/api/v1/componentstatuses/x'],
  ...['/apis/apps/v1/deployments', '/apis/apps/v1/deployments/x', '/apis/apps/v1/nope', '/apis/apps/v1/namespaces/default/deployments/x/scale'],
  ...['/apis/apps/v2/deployments', '/apis/apps/v2', '/apis/nope/v1/things', '/apis/nope/v1/namespaces/default/things/x', '/apis/metrics.k8s.io/v1beta1/nodes'],
  ...['/apis/authorization.k8s.io/v1/selfsubjectaccessreviews', '/apis/authorization.k8s.io/v1/selfsubjectaccessreviews/x'],
  ...['//api/v1/pods', '/api//v1/pods', '/api/v1//pods', '/api/v1/namespaces/a%2fb/pods', '/api/v1/namespaces/default/pods/a%2fb'],
];
const others = [
  ...['/', '/index.html', '/nope', '/nope/', '/api', '/api/', '/api/v1', '/api/v1/', '/api/v2', '/api/v2/pods', '/apis', '/apis/', '/apis/nope', '/apis/nope/v1'],
  ...['/apis/apps', '/apis/apps/', '/apis/apps/v1', '/apis/apps/v1/', '/healthz', '/healthz/', '/healthz/nope', '/livez/', '/livez/nope', '/readyz/', '/version'],
  ...['/version/', '/version/x', '/metrics/', '/openapi', '/openapi/', '/openapi/v2/', '/openapi/v4', '/.well-known', '/favicon.ico', '/swagger.json', '/./api'],
];
const methods = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'OPTIONS', 'TRACE'];

describe.skipIf(missing)('paths and methods are answered as upstream answers them', () => {
  let server: TestServer;
  let peer: Peer;
  beforeAll(async () => {
    [server, peer] = await Promise.all([startTestServer({ runtimeConfig: { 'api/all': true } }), startPeer()]);
  });
  afterAll(async () => {
    await server?.stop();
    await peer?.stop();
  });

  test.each([...resources, ...others])('%s', async (path) => {
    const both = (method: string, accept?: string) =>
      Promise.all([ask(server.address, { ca: server.ca, ...server.admin }, method, path, accept), ask(peer.connection.address, peer.tls, method, path, accept)]);
    for (const method of methods) {
      const [ours, theirs] = await both(method);
      expect.soft(ours, method).toEqual(theirs);
    }
    const [ours, theirs] = await both('GET', 'text/html');
    expect.soft(ours, 'text/html').toEqual(theirs);
    // A DELETE of what is there would be one.
    if (!/nope|\/x$|v2/.test(path)) return;
    const [mine, other] = await both('DELETE');
    expect.soft(mine, 'DELETE').toEqual(other);
  });
});
