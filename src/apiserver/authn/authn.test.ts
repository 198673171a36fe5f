import { generateKeyPairSync } from 'node:crypto';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { exportJWK, type JWTPayload, SignJWT } from 'jose';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../client/clock.ts';
import { createTestAuthority, requestOverHttp1, requestOverHttp2, startTestServer, type TestAuthority, type TestServer } from '../testing.ts';
import { jwtTokens } from './jwt/authenticator.ts';
import { parseAuthenticationConfiguration } from './jwt/configuration.ts';
import { staticTokens } from './static-tokens.ts';
import { cachedTokens } from './token-cache.ts';
import { webhookTokens } from './webhook-tokens.ts';

/** An OpenID Connect issuer, and a webhook for tokens, on one HTTPS server. */
class Outside {
  server!: Server;
  url = '';
  asked: any[] = [];
  keyRequests = 0;
  /** Claims that tokens leave to others, by path. */
  readonly distributed = new Map<string, { claims: JWTPayload; audience?: string }>();
  keys: { kid: string; pair: ReturnType<typeof newPair> }[] = [];

  async start(authority: TestAuthority): Promise<void> {
    const tls = await authority.issue({ commonName: 'issuer', hosts: ['localhost'], addresses: ['127.0.0.1'], server: true });
    this.addKey();
    this.server = createServer(tls, async (request, response) => {
      const chunks: Buffer[] = [];
      for await (const chunk of request) chunks.push(chunk as Buffer);
      const claims = this.distributed.get(request.url ?? '');
      if (claims) {
        const token = await this.sign(claims.claims, { audience: claims.audience ?? 'kumulus' });
        return void response.writeHead(request.headers.authorization === 'Bearer for-groups' ? 200 : 403).end(token);
      }
      const answer = await this.#answer(request.url ?? '', Buffer.concat(chunks).toString());
      response.writeHead(answer === undefined ? 404 : 200, { 'content-type': 'application/json' }).end(JSON.stringify(answer ?? {}));
    });
    await new Promise<void>((resolve) => this.server.listen(0, '127.0.0.1', resolve));
    this.url = `https://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  addKey(): void {
    this.keys.push({ kid: `key-${this.keys.length}`, pair: newPair() });
  }

  async #answer(path: string, body: string): Promise<object | undefined> {
    if (path === '/.well-known/openid-configuration') return { issuer: this.url, jwks_uri: `${this.url}/keys` };
    if (path === '/keys') {
      this.keyRequests++;
      return { keys: await Promise.all(this.keys.map(async ({ kid, pair }) => ({ ...(await exportJWK(pair.publicKey)), kid, alg: 'ES256', use: 'sig' }))) };
    }
    if (path === '/tokens') {
      const review = JSON.parse(body);
      this.asked.push(review);
      const known = review.spec.token === 'webhook-token';
      return {
        ...review,
        status: known
          ? { authenticated: true, user: { username: 'hook', uid: '7', groups: ['hooked'], extra: { 'a.io/b': ['c'] } } }
          : { authenticated: false },
      };
    }
    return undefined;
  }

  sign(claims: JWTPayload, o: { key?: number; audience?: string; issuer?: string; expires?: number } = {}): Promise<string> {
    const { kid, pair } = this.keys[o.key ?? this.keys.length - 1]!;
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT(claims)
      .setProtectedHeader({ alg: 'ES256', kid })
      .setIssuer(o.issuer ?? this.url)
      .setAudience(o.audience ?? 'kumulus')
      .setIssuedAt(now)
      .setExpirationTime(o.expires ?? now + 600)
      .sign(pair.privateKey);
  }
}

const newPair = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const outside = new Outside();
let authority: TestAuthority;
let proxies: TestAuthority;
let server: TestServer;

const configuration = () => `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: ${outside.url}
    certificateAuthority: ${JSON.stringify(authority.cert)}
    audiences: [kumulus, other]
    audienceMatchPolicy: MatchAny
  claimMappings:
    username: {expression: "'corp:' + claims.sub"}
    groups: {claim: roles, prefix: 'corp:'}
    uid: {claim: oid}
    extra:
    - {key: corp.io/team, valueExpression: claims.team}
  claimValidationRules:
  - {claim: hd, requiredValue: corp.io}
  - {expression: "!has(claims.suspended) || !claims.suspended", message: the account is suspended}
  userValidationRules:
  - {expression: "!user.username.startsWith('corp:system:')", message: names of the system are not for you}
anonymous:
  enabled: true
  conditions:
  - {path: /livez}
`;

beforeAll(async () => {
  authority = await createTestAuthority();
  proxies = await createTestAuthority('front-proxies');
  await outside.start(authority);
  const { jwt, anonymous } = parseAuthenticationConfiguration(configuration());
  const cache = { clock: systemClock, successMs: 60_000, failureMs: 60_000 };
  const webhook = webhookTokens({ config: { server: `${outside.url}/tokens`, ca: authority.cert }, backoffMs: 1 });
  server = await startTestServer({
    authentication: {
      anonymous: anonymous!,
      requestHeader: {
        ca: proxies.cert,
        allowedNames: ['front-proxy'],
        usernameHeaders: ['X-Remote-User'],
        uidHeaders: ['X-Remote-Uid'],
        groupHeaders: ['X-Remote-Group'],
        extraHeaderPrefixes: ['X-Remote-Extra-'],
      },
      tokenFile: staticTokens('# of people\nsecret-1,alice,1,"dev,ops"\nsecret-2,bob,2\n'),
      tokens: [...jwt.map((issuer) => jwtTokens(issuer, systemClock)), cachedTokens(webhook, cache)],
    },
  });
});
afterAll(async () => {
  await server?.stop();
  await new Promise((resolve) => outside.server?.close(resolve));
});

const whoami = async (o: { token?: string; headers?: Record<string, string>; user?: { cert: string; key: string } }, over = requestOverHttp2) =>
  over(server, {
    method: 'POST',
    path: '/apis/authentication.k8s.io/v1/selfsubjectreviews',
    headers: { 'content-type': 'application/json', ...(o.token ? { authorization: `Bearer ${o.token}` } : {}), ...o.headers },
    body: '{}',
    ...(o.user ? { user: o.user } : {}),
  });
const userOf = async (o: Parameters<typeof whoami>[0]) => {
  const answer = await whoami(o);
  expect(answer.status).toBe(201);
  return answer.json.status.userInfo;
};

describe('tokens of a JWT issuer', () => {
  const claims = { sub: 'jane', roles: ['dev', 'ops'], oid: 'u-1', team: ['red', 'blue'], hd: 'corp.io' };

  test('claims become the user', async () => {
    expect(await userOf({ token: await outside.sign(claims) })).toEqual({
      username: 'corp:jane',
      uid: 'u-1',
      groups: ['corp:dev', 'corp:ops', 'system:authenticated'],
      extra: { 'corp.io/team': ['red', 'blue'] },
    });
    // One string is as good as a list of one.
    expect((await userOf({ token: await outside.sign({ ...claims, roles: 'dev', team: 'red' }) })).groups).toEqual(['corp:dev', 'system:authenticated']);
  });

  test.each([
    ['another audience', claims, { audience: 'elsewhere' }],
    ['it has expired', claims, { expires: 1 }],
    ['a required claim has another value', { ...claims, hd: 'evil.io' }, {}],
    ['a required claim is not there', { ...claims, hd: undefined }, {}],
    ['a rule on claims does not hold', { ...claims, suspended: true }, {}],
    ['a rule on the user does not hold', { ...claims, sub: 'system:admin' }, {}],
    ['an expression fails', { ...claims, team: undefined }, {}],
  ])('refused: %s', async (_why, payload, o) => {
    expect((await whoami({ token: await outside.sign(payload as JWTPayload, o) })).status).toBe(401);
  });

  test('groups that lie elsewhere are fetched from there, in a token of their own', async () => {
    outside.distributed.set('/groups', { claims: { roles: ['far', 'away'] } });
    outside.distributed.set('/none', { claims: { other: 1 } });
    outside.distributed.set('/others', { claims: { roles: ['x'] }, audience: 'somebody' });
    const claims = (endpoint: string | undefined, more: object = {}) => ({
      ...{ sub: 'mary', hd: 'corp.io', oid: '1', team: 't', _claim_names: { roles: 'src' } },
      ...{ _claim_sources: { src: endpoint ? { endpoint: endpoint.startsWith('http') ? endpoint : outside.url + endpoint, access_token: 'for-groups', ...more } : { JWT: 'x.y.z' } } },
    });
    const groupsOf = async (c: JWTPayload) => (await whoami({ token: await outside.sign(c) })).json?.status?.userInfo?.groups;
    expect(await groupsOf(claims('/groups'))).toEqual(['corp:far', 'corp:away', 'system:authenticated']);
    // What the token itself has is not looked for, and what lies in it under another name is not read.
    expect(await groupsOf({ ...claims('/groups'), roles: ['near'] })).toEqual(['corp:near', 'system:authenticated']);
    expect(await groupsOf(claims(undefined))).toEqual(['system:authenticated']);
    const refused = [claims('/none'), claims('/others'), claims('/groups', { access_token: 'wrong' }), claims('/nowhere'), claims('http://127.0.0.1:1/'), { ...claims('/groups'), _claim_sources: {} }];
    for (const bad of refused) expect((await whoami({ token: await outside.sign(bad) })).status).toBe(401);
  });

  test('a signature by another key is refused, a new key of the issuer is fetched', async () => {
    const token = await outside.sign(claims);
    const [head, body] = token.split('.');
    const other = await outside.sign({ ...claims, sub: 'joe' });
    expect((await whoami({ token: `${head}.${body}.${other.split('.')[2]}` })).status).toBe(401);
    // A key that is not among the known ones is looked for once; within 30 s after the last look nobody looks again.
    const asked = outside.keyRequests;
    expect(asked).toBe(1);
    await userOf({ token: await outside.sign(claims) });
    expect(outside.keyRequests).toBe(asked);
    outside.addKey();
    const clock = { now: () => Date.now() };
    const fresh = jwtTokens(parseAuthenticationConfiguration(configuration()).jwt[0]!, { ...systemClock, ...clock });
    expect((await fresh.authenticate(await outside.sign(claims), []))?.user.name).toBe('corp:jane');
    expect((await fresh.authenticate(await outside.sign(claims, { key: 0 }), []))?.user.name).toBe('corp:jane');
    expect(await fresh.authenticate(await outside.sign(claims, { issuer: 'https://other' }), [])).toBeUndefined();
    fresh.close?.();
    outside.keys.pop();
  });

  test('a configuration that is wrong says all that is', () => {
    const wrong = `
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer: {url: 'http://x', audiences: [a, b]}
  claimMappings:
    username: {claim: sub}
    groups: {expression: 'claims.'}
    extra: [{key: kubernetes.io/x, valueExpression: "'a'"}]
- issuer: {url: 'https://y', audiences: [a]}
  claimMappings:
    username: {expression: claims.email}
  userValidationRules: [{expression: '1'}]
`;
    const message = (() => {
      try {
        parseAuthenticationConfiguration(wrong);
      } catch (error) {
        return (error as Error).message;
      }
      return '';
    })();
    for (const part of [
      'jwt[0].issuer.url: Invalid value: "http://x": URL scheme must be https',
      'jwt[0].issuer.audienceMatchPolicy: Invalid value: "": audienceMatchPolicy must be MatchAny for multiple audiences',
      'jwt[0].claimMappings.username.prefix: Required value: prefix is required when claim is set',
      'jwt[0].claimMappings.groups.expression: Invalid value: "claims.": compilation failed',
      'k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use',
      'jwt[1].claimMappings.username.expression: Invalid value: "claims.email": claims.email_verified must be used',
      'jwt[1].userValidationRules[0].expression: Invalid value: "1": must evaluate to bool',
    ])
      expect(message).toContain(part);
  });
});

test('tokens of a file', async () => {
  expect(await userOf({ token: 'secret-1' })).toEqual({ username: 'alice', uid: '1', groups: ['dev', 'ops', 'system:authenticated'] });
  expect((await userOf({ token: 'secret-2' })).groups).toEqual(['system:authenticated']);
  expect(() => staticTokens('only,two')).toThrow('line 1: a token file needs at least 3 columns');
});

test('a webhook for tokens is asked once', async () => {
  outside.asked = [];
  const known = { username: 'hook', uid: '7', groups: ['hooked', 'system:authenticated'], extra: { 'a.io/b': ['c'] } };
  expect(await userOf({ token: 'webhook-token' })).toEqual(known);
  expect(await userOf({ token: 'webhook-token' })).toEqual(known);
  expect((await whoami({ token: 'unknown' })).status).toBe(401);
  expect((await whoami({ token: 'unknown' })).status).toBe(401);
  expect(outside.asked.map((r) => [r.apiVersion, r.kind, r.spec])).toEqual([
    ['authentication.k8s.io/v1', 'TokenReview', { token: 'webhook-token', audiences: ['https://kubernetes.default.svc'] }],
    ['authentication.k8s.io/v1', 'TokenReview', { token: 'unknown', audiences: ['https://kubernetes.default.svc'] }],
  ]);
  const review = await requestOverHttp2(server, {
    method: 'POST',
    path: '/apis/authentication.k8s.io/v1/tokenreviews',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ spec: { token: 'webhook-token' } }),
    user: server.admin,
  });
  expect(review.json.status).toEqual({ authenticated: true, user: known, audiences: ['https://kubernetes.default.svc'] });
});

describe('a front proxy', () => {
  const headers = { 'x-remote-user': 'carol', 'x-remote-uid': 'c-1', 'x-remote-group': 'dev', 'x-remote-extra-acme.io%2fteam': 'red' };

  test.each([['HTTP/2', requestOverHttp2], ['HTTP/1.1', requestOverHttp1]])('names the user, over %s', async (_protocol, over) => {
    const user = await proxies.issue({ commonName: 'front-proxy' });
    expect((await whoami({ headers, user }, over)).json.status.userInfo).toEqual({
      username: 'carol',
      uid: 'c-1',
      groups: ['dev', 'system:authenticated'],
      extra: { 'acme.io/team': ['red'] },
    });
  });

  test('only with a certificate of its authority and a name that is allowed', async () => {
    const other = await proxies.issue({ commonName: 'somebody' });
    expect((await whoami({ headers, user: other })).status).toBe(401);
    // Its authority signs front proxies, not users.
    const masters = await proxies.issue({ commonName: 'root', organizations: ['system:masters'] });
    expect((await whoami({ user: masters })).status).toBe(401);
    const client = await server.authority.issue({ commonName: 'front-proxy' });
    expect((await userOf({ headers, user: client })).username).toBe('front-proxy');
    expect((await whoami({ headers })).status).toBe(401);
  });
});

test('anonymous only at the paths that are named', async () => {
  expect((await requestOverHttp2(server, { path: '/livez' })).status).toBe(200);
  expect((await requestOverHttp2(server, { path: '/version' })).status).toBe(401);
});

test('metrics count', async () => {
  const { body } = await requestOverHttp2(server, { path: '/metrics', user: server.admin });
  expect(body.toString()).toMatch(/^authentication_attempts\{result="error"\} [1-9]/m);
  expect(body.toString()).toMatch(/^authenticated_user_requests\{username="other"\} [1-9]/m);
});

test('certificates are exchanged while the server runs', async () => {
  const next = await createTestAuthority('next');
  const newcomer = await next.issue({ commonName: 'newcomer' });
  expect((await whoami({ user: newcomer })).status).toBe(401);
  const tls = await server.authority.issue({ commonName: 'another', hosts: ['localhost'], addresses: ['127.0.0.1'], server: true });
  server.updateCertificates({ tls, clientCa: `${server.authority.cert}\n${next.cert}`, requestHeaderCa: proxies.cert });
  expect((await userOf({ user: newcomer })).username).toBe('newcomer');
  const { connect } = await import('node:tls');
  const subject = await new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port: server.port, ca: server.ca }, () => {
      resolve(socket.getPeerCertificate().subject.CN);
      socket.destroy();
    });
    socket.on('error', reject);
  });
  expect(subject).toBe('another');
});
