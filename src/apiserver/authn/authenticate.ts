import { unauthorized } from '../../api/errors.ts';
import type { Api } from '../api.ts';
import type { HttpRequest } from '../http/exchange.ts';
import { header } from '../http/exchange.ts';
import { authenticateBootstrapToken } from './bootstrap.ts';
import { anonymousUser, authenticated, parseServiceAccountName, type UserInfo } from './user.ts';

/** Who sent the request: by client certificate, then by bearer token, else anonymous. StatusError 401 where credentials are bad. */
export async function authenticate(api: Api, request: HttpRequest): Promise<UserInfo> {
  const { peer } = request;
  if (peer === 'invalid') throw unauthorized();
  if (peer) {
    const extra = { 'authentication.kubernetes.io/credential-id': [peer.credentialId] };
    return authenticated({ name: peer.commonName, groups: peer.organizations, extra });
  }
  const authorization = header(request, 'authorization');
  if (authorization) {
    const match = /^bearer\s+(\S+)\s*$/i.exec(authorization);
    if (!match) {
      if (/^bearer\b/i.test(authorization)) throw unauthorized();
    } else {
      const user = await userOfToken(api, match[1]!);
      if (!user) throw unauthorized();
      return user.user;
    }
  }
  if (!api.anonymousAuth) throw unauthorized();
  return anonymousUser;
}

/** Also for TokenReview. Undefined where no authenticator knows the token. */
export async function userOfToken(api: Api, token: string, audiences?: string[]): Promise<{ user: UserInfo; audiences: string[] } | undefined> {
  try {
    const account = await api.tokens.verify(token, audiences);
    if (account) return account;
  } catch (error) {
    api.log.info({ reason: (error as Error).message }, 'a service account token was refused');
    return undefined;
  }
  const bootstrap = await authenticateBootstrapToken(api.registry, api.clock, token);
  return bootstrap && { user: authenticated(bootstrap), audiences: audiences ?? api.tokens.audiences };
}

/** Applies Impersonate-* headers; every part of the wanted identity needs the verb `impersonate`. */
export function impersonate(api: Api, request: HttpRequest, user: UserInfo): UserInfo {
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
  if (account) may('', 'serviceaccounts', account.name, '', account.namespace);
  else may('', 'users', name);
  for (const group of groups) may('', 'groups', group);
  if (uid) may('authentication.k8s.io', 'uids', uid);
  for (const [key, values] of extras) for (const value of values) may('authentication.k8s.io', 'userextras', value, key);
  let all = groups;
  if (account && groups.length === 0) all = ['system:serviceaccounts', `system:serviceaccounts:${account.namespace}`];
  const wanted: UserInfo = { name, groups: all, ...(uid ? { uid } : {}), ...(extras.length ? { extra: Object.fromEntries(extras) } : {}) };
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
