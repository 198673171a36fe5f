import type { Permit } from '../authz/authorizer.ts';
import { unauthorized } from '../../api/errors.ts';
import type { Api } from '../api.ts';
import type { HttpRequest } from '../http/exchange.ts';
import { header } from '../http/exchange.ts';
import { authenticateBootstrapToken } from './bootstrap.ts';
import type { AnonymousOptions } from './jwt/configuration.ts';
import { type RequestHeaderOptions, userOfHeaders } from './request-header.ts';
import type { TokenAuthenticator } from './token.ts';
import { anonymousUser, authenticated, parseServiceAccountName, type UserInfo } from './user.ts';

/** Whom the server believes, apart from client certificates and its own tokens. */
export interface AuthenticationOptions {
  /** Anonymous requests are allowed everywhere where left out. */
  anonymous?: AnonymousOptions;
  requestHeader?: RequestHeaderOptions;
  /** Asked before service account and bootstrap tokens. */
  tokenFile?: TokenAuthenticator;
  /** Asked after them, in this order: JWT issuers, then a webhook. */
  tokens?: TokenAuthenticator[];
}

/** Who sent the request: a front proxy's word, client certificate, bearer token, else anonymous. StatusError 401 where credentials are bad. */
export async function authenticate(api: Api, request: HttpRequest): Promise<UserInfo> {
  const started = performance.now();
  const { peer } = request;
  const { requestHeader, anonymous } = api.authentication;
  if (peer === 'invalid') throw refused(api, started);
  if (peer) {
    const named = requestHeader && userOfHeaders(requestHeader, request, peer);
    if (named) return accepted(api, started, authenticated(named));
    if (peer.client) {
      const extra = { 'authentication.kubernetes.io/credential-id': [peer.credentialId] };
      return accepted(api, started, authenticated({ name: peer.commonName, groups: peer.organizations, extra }));
    }
  }
  const authorization = header(request, 'authorization');
  if (authorization) {
    const match = /^bearer\s+(\S+)\s*$/i.exec(authorization);
    if (!match) {
      if (/^bearer\b/i.test(authorization)) throw refused(api, started);
    } else {
      const user = await userOfToken(api, match[1]!);
      if (!user) throw refused(api, started);
      return accepted(api, started, user.user);
    }
  }
  if (anonymous && (!anonymous.enabled || (anonymous.paths && !anonymous.paths.includes(request.path)))) throw refused(api, started, 'failure');
  return accepted(api, started, anonymousUser);
}

function accepted(api: Api, started: number, user: UserInfo): UserInfo {
  api.metrics.authenticated(user.name, performance.now() - started);
  return user;
}

function refused(api: Api, started: number, result: 'error' | 'failure' = 'error') {
  api.metrics.authenticationRefused(result, performance.now() - started);
  return unauthorized();
}

/** Also for TokenReview. Undefined where no authenticator knows the token. */
export async function userOfToken(api: Api, token: string, audiences?: string[]): Promise<{ user: UserInfo; audiences: string[] } | undefined> {
  const wanted = audiences ?? api.tokens.audiences;
  const { tokenFile, tokens = [] } = api.authentication;
  const own: TokenAuthenticator[] = [
    { name: 'service account', authenticate: () => api.tokens.verify(token, audiences) },
    { name: 'bootstrap', authenticate: async () => asIdentity(await authenticateBootstrapToken(api.registry, api.clock, token)) },
  ];
  for (const one of [...(tokenFile ? [tokenFile] : []), ...own, ...tokens]) {
    try {
      const found = await one.authenticate(token, wanted);
      if (!found) continue;
      // Who knows no audiences speaks for those of this server.
      const granted = found.audiences ?? wanted.filter((a) => api.tokens.audiences.includes(a));
      if (granted.length) return { user: authenticated(found.user), audiences: granted };
    } catch (error) {
      api.log.info({ authenticator: one.name, reason: (error as Error).message }, 'a token was refused');
    }
  }
  return undefined;
}

const asIdentity = (user: UserInfo | undefined) => user && { user };

/** Applies Impersonate-* headers; every part of the wanted identity needs the verb `impersonate`. A promise only where they are there. */
export function impersonate(api: Api, request: HttpRequest, user: UserInfo): UserInfo | Promise<UserInfo> {
  for (const field in request.headers) if (field.startsWith('impersonate-')) return impersonated(api, request, user);
  return user;
}

async function impersonated(api: Api, request: HttpRequest, user: UserInfo): Promise<UserInfo> {
  const name = header(request, 'impersonate-user');
  const groups = list(request, 'impersonate-group');
  const uid = header(request, 'impersonate-uid');
  const extras: [string, string[]][] = [];
  for (const field of Object.keys(request.headers)) {
    if (field.startsWith('impersonate-extra-')) extras.push([decodeURIComponent(field.slice('impersonate-extra-'.length)), list(request, field)]);
  }
  if (!name) {
    if (groups.length > 0 || uid || extras.length > 0) throw unauthorizedImpersonation();
    return user;
  }
  const may = (group: string, resource: string, subject: string, subresource = '', namespace = '') =>
    api.authorizer.check({ user, verb: 'impersonate', group, version: 'v1', resource, subresource, namespace, name: subject });
  const account = parseServiceAccountName(name);
  // Every part is taken out of the permit for it.
  const who = await (account ? may('', 'serviceaccounts', account.name, '', account.namespace) : may('', 'users', name));
  const permitted: Permit[] = [];
  for (const group of groups) permitted.push(await may('', 'groups', group));
  const ofUid = uid ? await may('authentication.k8s.io', 'uids', uid) : undefined;
  const extra: Record<string, string[]> = {};
  for (const [key, values] of extras) {
    const known: Permit[] = [];
    for (const value of values) known.push(await may('authentication.k8s.io', 'userextras', value, key));
    extra[key] = known.map((permit) => permit.name);
  }
  let all = permitted.map((permit) => permit.name);
  if (account && groups.length === 0) all = ['system:serviceaccounts', `system:serviceaccounts:${account.namespace}`];
  const called = account ? `system:serviceaccount:${account.namespace}:${who.name}` : who.name;
  const wanted: UserInfo = { name: called, groups: all, ...(ofUid ? { uid: ofUid.name } : {}), ...(extras.length ? { extra } : {}) };
  if (name === anonymousUser.name) return { ...wanted, groups: all.includes('system:unauthenticated') ? all : [...all, 'system:unauthenticated'] };
  return authenticated(wanted);
}

const unauthorizedImpersonation = () => {
  const error = unauthorized('requested impersonation without specifying a user');
  error.status.code = 500;
  error.status.reason = 'InternalError';
  return error;
};

function list(request: HttpRequest, name: string): string[] {
  const value = request.headers[name];
  if (value === undefined) return [];
  // HTTP/1.1 in Node joins repeated fields with a comma.
  return (Array.isArray(value) ? value : [value])
    .flatMap((v) => v.split(','))
    .map((v) => v.trim())
    .filter((v) => v);
}
