import { readFileSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import type { AuthenticationOptions } from '../apiserver/authn/authenticate.ts';
import { jwtTokens } from '../apiserver/authn/jwt/authenticator.ts';
import { type JwtIssuer, parseAuthenticationConfiguration } from '../apiserver/authn/jwt/configuration.ts';
import { staticTokens } from '../apiserver/authn/static-tokens.ts';
import { cachedTokens } from '../apiserver/authn/token-cache.ts';
import { webhookTokens } from '../apiserver/authn/webhook-tokens.ts';
import type { AuthorizationOptions } from '../apiserver/authz/chain.ts';
import { type AuthorizerSpec, parseAuthorizationConfiguration } from '../apiserver/authz/configuration.ts';
import type { RequestHeaderOptions } from '../apiserver/authn/request-header.ts';
import { systemClock } from '../client/clock.ts';
import { loadKubeconfig } from '../client/kubeconfig.ts';
import { UserError } from './state.ts';

export interface AuthenticationFiles {
  anonymous?: boolean;
  tokenAuthFile?: string;
  /** An AuthenticationConfiguration. */
  configFile?: string;
  /** What the --oidc-* flags say. */
  oidc?: Omit<JwtIssuer, 'ca'> & { caFile?: string };
  webhook?: { configFile: string; version: 'v1' | 'v1beta1'; cacheMs: number };
  requestHeader?: Omit<RequestHeaderOptions, 'ca'> & { caFile: string };
  /** Issuers of the server's own tokens: nobody else may be. */
  ownIssuers: string[];
}

/** The text of a file, or what is made of it. UserError that names the file. */
export function fromFile<T = string>(file: string, parse: (text: string) => T = (text) => text as T): T {
  try {
    return parse(readFileSync(file, 'utf8'));
  } catch (error) {
    throw new UserError(`${file}: ${(error as Error).message}`);
  }
}

const kubeconfigOf = (path: string) => {
  try {
    return loadKubeconfig({ path }).config;
  } catch (error) {
    throw new UserError(`${path}: ${(error as Error).message}`);
  }
};

/** What flags and files say about who is believed. UserError that names the file where one is wrong. */
export function openAuthentication(o: AuthenticationFiles): AuthenticationOptions {
  if (o.configFile && o.oidc) throw new UserError('--authentication-config and --oidc-* flags are mutually exclusive', 2);
  const clock = systemClock;
  const config = o.configFile ? fromFile(o.configFile, (text) => parseAuthenticationConfiguration(text, o.ownIssuers)) : undefined;
  if (config?.anonymous && o.anonymous !== undefined)
    throw new UserError('--anonymous-auth cannot be set where the authentication configuration has anonymous', 2);
  const issuers = [...(config?.jwt ?? [])];
  if (o.oidc) {
    const { caFile, ...rest } = o.oidc;
    issuers.push({ ...rest, ...(caFile ? { ca: fromFile(caFile) } : {}) });
  }
  const { webhook } = o;
  const anonymous = config?.anonymous ?? (o.anonymous === undefined ? undefined : { enabled: o.anonymous });
  return {
    ...(anonymous ? { anonymous } : {}),
    ...(o.requestHeader ? { requestHeader: headersOf(o.requestHeader) } : {}),
    ...(o.tokenAuthFile ? { tokenFile: fromFile(o.tokenAuthFile, staticTokens) } : {}),
    tokens: [
      ...issuers.map((issuer) => cachedTokens(jwtTokens(issuer, clock), { clock, successMs: 10_000, failureMs: 0 })),
      ...(webhook
        ? [
            cachedTokens(webhookTokens({ config: kubeconfigOf(webhook.configFile), version: webhook.version }), {
              clock,
              successMs: webhook.cacheMs,
              failureMs: webhook.cacheMs,
            }),
          ]
        : []),
    ],
  };
}

function headersOf({ caFile, ...rest }: NonNullable<AuthenticationFiles['requestHeader']>): RequestHeaderOptions {
  return { ...rest, ca: fromFile(caFile) };
}

export interface AuthorizationFiles {
  modes?: string[];
  /** An AuthorizationConfiguration. */
  configFile?: string;
  webhook?: { configFile?: string; version: 'v1' | 'v1beta1'; authorizedMs: number; unauthorizedMs: number };
}

const modes = ['AlwaysAllow', 'AlwaysDeny', 'Webhook', 'RBAC', 'Node'];

/** What flags and files say about who may do what. */
export function openAuthorization(o: AuthorizationFiles): AuthorizationOptions {
  if (o.configFile) {
    if (o.modes || o.webhook?.configFile) throw new UserError('--authorization-config cannot be used with --authorization-mode or --authorization-webhook-*', 2);
    return { authorizers: fromFile(o.configFile, parseAuthorizationConfiguration), webhookConfig: kubeconfigOf };
  }
  const authorizers = (o.modes ?? ['Node', 'RBAC']).map((mode): AuthorizerSpec => {
    if (!modes.includes(mode)) throw new UserError(`authorization-mode: '${mode}' is none of ${modes.join(', ')}`, 2);
    if (mode !== 'Webhook') return { type: mode as 'Node' };
    const { configFile, ...times } = o.webhook ?? { version: 'v1', authorizedMs: 300_000, unauthorizedMs: 30_000 };
    if (!configFile) throw new UserError("authorization-mode Webhook needs --authorization-webhook-config-file", 2);
    return { type: 'Webhook', name: 'default', kubeConfigFile: configFile, timeoutMs: 30_000, failurePolicy: 'NoOpinion', matchConditions: [], ...times };
  });
  if (new Set(o.modes).size < (o.modes?.length ?? 0)) throw new UserError('authorization-mode: a mode is named twice', 2);
  if (o.webhook?.configFile && !o.modes?.includes('Webhook'))
    throw new UserError('--authorization-webhook-config-file needs --authorization-mode with Webhook', 2);
  return { authorizers, webhookConfig: kubeconfigOf };
}

/** Tells when the content of any of the files changes, also where they are links that are exchanged, as in mounted Secrets. */
export function watchFiles(files: string[], onChange: () => void): { close(): void } {
  const read = () => files.map((file) => {
    try {
      return readFileSync(file, 'utf8');
    } catch {
      return undefined;
    }
  });
  let before = read();
  let timer: NodeJS.Timeout | undefined;
  const look = () => {
    clearTimeout(timer);
    // Certificate and key are two files: whoever writes them gets a moment for the second.
    timer = setTimeout(() => {
      const now = read();
      if (now.some((text) => text === undefined) || now.every((text, i) => text === before[i])) return;
      before = now;
      onChange();
    }, 200);
  };
  const watchers = [...new Set(files.map((file) => dirname(file)))].map((folder) => watch(folder, { persistent: false }, look));
  for (const one of watchers) one.on('error', () => {});
  return {
    close() {
      clearTimeout(timer);
      for (const one of watchers) one.close();
    },
  };
}
