import type { Command } from 'commander';
import { parseGoDuration } from '../api/go-duration.ts';
import type { AuthenticationFiles, AuthorizationFiles } from '../cluster/access-files.ts';
import type { RuntimeConfig } from '../apiserver/served-versions.ts';
import { UserError } from '../cluster/state.ts';

/** Flags of kube-apiserver about who asks, who may, and how much at a time. */
export interface AccessFlags {
  tlsCertFile?: string;
  tlsPrivateKeyFile?: string;
  clientCaFile?: string;
  serviceAccountKeyFile?: string[];
  serviceAccountSigningKeyFile?: string;
  serviceAccountIssuer?: string[];
  serviceAccountJwksUri?: string;
  apiAudiences?: string[];
  kubeletClientCertificate?: string;
  kubeletClientKey?: string;
  kubeletCertificateAuthority?: string;
  proxyClientCertFile?: string;
  proxyClientKeyFile?: string;
  anonymousAuth?: string;
  tokenAuthFile?: string;
  authenticationConfig?: string;
  authenticationTokenWebhookConfigFile?: string;
  authenticationTokenWebhookVersion: string;
  authenticationTokenWebhookCacheTtl: string;
  oidcIssuerUrl?: string;
  oidcClientId?: string;
  oidcCaFile?: string;
  oidcUsernameClaim: string;
  oidcUsernamePrefix?: string;
  oidcGroupsClaim?: string;
  oidcGroupsPrefix?: string;
  oidcSigningAlgs: string[];
  oidcRequiredClaim?: string[];
  requestheaderClientCaFile?: string;
  requestheaderAllowedNames?: string[];
  requestheaderUsernameHeaders: string[];
  requestheaderUidHeaders?: string[];
  requestheaderGroupHeaders: string[];
  requestheaderExtraHeadersPrefix: string[];
  authorizationMode?: string[];
  authorizationConfig?: string;
  authorizationWebhookConfigFile?: string;
  authorizationWebhookVersion: string;
  authorizationWebhookCacheAuthorizedTtl: string;
  authorizationWebhookCacheUnauthorizedTtl: string;
  maxRequestsInflight: string;
  maxMutatingRequestsInflight: string;
  enablePriorityAndFairness: string;
  requestTimeout: string;
  minRequestTimeout: string;
  shutdownDelayDuration: string;
  runtimeConfig?: string[];
}

const several = (value: string, before: string[] | undefined) => [...(before ?? []), ...value.split(',').filter((v) => v)];
/** The first that is given takes the default's place. */
const listed = (fallback: string[]) => {
  let given: string[] | undefined;
  return [(value: string) => (given = several(value, given)), fallback] as const;
};

export function accessFlags(command: Command): Command {
  return command
    .option('--tls-cert-file <file>', "PEM of the server's certificate, with intermediates (default: one of its own); taken up again when it changes")
    .option('--tls-private-key-file <file>', 'PEM of its key')
    .option('--client-ca-file <file>', 'PEM of the authorities whose client certificates are believed')
    .option('--service-account-key-file <file>', 'PEM of keys that service account tokens are verified with; repeatable', several)
    .option('--service-account-signing-key-file <file>', 'PEM of the key that signs service account tokens')
    .option('--service-account-issuer <url>', 'issuer of service account tokens; others that follow are accepted too; repeatable', several)
    .option('--service-account-jwks-uri <url>', 'where the discovery document says that keys are')
    .option('--api-audiences <audiences>', 'audiences of tokens for this server (default: the issuer)', several)
    .option('--kubelet-client-certificate <file>', 'PEM certificate that kubelets know this server by')
    .option('--kubelet-client-key <file>', 'PEM key of that certificate')
    .option('--kubelet-certificate-authority <file>', "PEM of the authority of kubelets' serving certificates")
    .option('--proxy-client-cert-file <file>', 'PEM certificate that aggregated API servers know this server by')
    .option('--proxy-client-key-file <file>', 'PEM key of that certificate')
    .option('--anonymous-auth <boolean>', 'whether requests without credentials are served as system:anonymous (default: true)')
    .option('--token-auth-file <file>', 'CSV of tokens: token,user,uid,"groups"')
    .option('--authentication-config <file>', 'AuthenticationConfiguration of apiserver.config.k8s.io/v1; taken up again when it changes')
    .option('--authentication-token-webhook-config-file <file>', 'kubeconfig of a webhook that is asked about bearer tokens')
    .option('--authentication-token-webhook-version <version>', 'version of the TokenReviews that it gets', 'v1beta1')
    .option('--authentication-token-webhook-cache-ttl <duration>', 'how long its answers are remembered', '2m0s')
    .option('--oidc-issuer-url <url>', 'issuer of OpenID Connect tokens, https only')
    .option('--oidc-client-id <id>', 'audience that those tokens must have')
    .option('--oidc-ca-file <file>', "PEM of the authority of the issuer's certificate")
    .option('--oidc-username-claim <claim>', 'claim that is the user name', 'sub')
    .option('--oidc-username-prefix <prefix>', "put before it; - for nothing (default: the issuer's URL and #, nothing for email)")
    .option('--oidc-groups-claim <claim>', 'claim that holds the groups')
    .option('--oidc-groups-prefix <prefix>', 'put before each of them')
    .option('--oidc-signing-algs <algorithms>', 'accepted JOSE algorithms', ...listed(['RS256']))
    .option('--oidc-required-claim <key=value>', 'claim that tokens must have; repeatable', several)
    .option('--requestheader-client-ca-file <file>', 'PEM of the authority of front proxies, who name users in headers')
    .option('--requestheader-allowed-names <names>', 'common names that they may have (default: any)', several)
    .option('--requestheader-username-headers <headers>', 'headers with the user name', ...listed(['X-Remote-User']))
    .option('--requestheader-uid-headers <headers>', 'headers with its UID', several)
    .option('--requestheader-group-headers <headers>', 'headers with its groups', ...listed(['X-Remote-Group']))
    .option('--requestheader-extra-headers-prefix <prefixes>', 'prefixes of headers with more about it', ...listed(['X-Remote-Extra-']))
    .option('--authorization-mode <modes>', 'authorizers in order: AlwaysAllow, AlwaysDeny, Webhook, RBAC, Node (default: Node,RBAC)', several)
    .option('--authorization-config <file>', 'AuthorizationConfiguration of apiserver.config.k8s.io/v1; taken up again when it changes')
    .option('--authorization-webhook-config-file <file>', 'kubeconfig of the webhook of the mode Webhook')
    .option('--authorization-webhook-version <version>', 'version of the SubjectAccessReviews that it gets', 'v1beta1')
    .option('--authorization-webhook-cache-authorized-ttl <duration>', 'how long its yes is remembered', '5m0s')
    .option('--authorization-webhook-cache-unauthorized-ttl <duration>', 'how long its no is remembered', '30s')
    .option('--max-requests-inflight <n>', 'reading requests at a time; with the next, the seats of priority and fairness', '400')
    .option('--max-mutating-requests-inflight <n>', 'writing requests at a time', '200')
    .option('--enable-priority-and-fairness <boolean>', 'queues and limits by FlowSchemas and PriorityLevelConfigurations', 'true')
    .option('--request-timeout <duration>', 'after which a request that is not long-running is answered with 504', '1m0s')
    .option('--min-request-timeout <seconds>', 'watches that name no time end after this to twice this', '1800')
    .option('--runtime-config <settings>', 'versions to serve: api/all, api/ga, api/beta, api/alpha, GROUP/VERSION or GROUP/VERSION/RESOURCE, each =true or =false', several)
    .option('--shutdown-delay-duration <duration>', 'how long requests are served on when the server ends, while readyz fails', '0s');
}

/** A flag's duration in milliseconds. */
export function milliseconds(flag: string, value: string): number {
  const ms = parseGoDuration(value);
  if (ms === undefined || ms < 0) throw new UserError(`${flag}: '${value}' is no duration: write it as 1m30s`, 2);
  return ms;
}

function version(flag: string, value: string): 'v1' | 'v1beta1' {
  if (value !== 'v1' && value !== 'v1beta1') throw new UserError(`${flag}: '${value}' is neither v1 nor v1beta1`, 2);
  return value;
}

export function boolean(flag: string, value: string): boolean {
  if (value !== 'true' && value !== 'false') throw new UserError(`${flag}: '${value}' is neither true nor false`, 2);
  return value === 'true';
}

export function authenticationOf(o: AccessFlags, ownIssuers: string[]): AuthenticationFiles {
  if (Boolean(o.oidcIssuerUrl) !== Boolean(o.oidcClientId)) throw new UserError('--oidc-issuer-url and --oidc-client-id must be given together', 2);
  if (!o.requestheaderClientCaFile && o.requestheaderAllowedNames) throw new UserError('--requestheader-allowed-names needs --requestheader-client-ca-file', 2);
  return {
    ownIssuers,
    ...(o.anonymousAuth === undefined ? {} : { anonymous: boolean('--anonymous-auth', o.anonymousAuth) }),
    ...(o.tokenAuthFile ? { tokenAuthFile: o.tokenAuthFile } : {}),
    ...(o.authenticationConfig ? { configFile: o.authenticationConfig } : {}),
    ...(o.oidcIssuerUrl ? { oidc: oidcOf(o, o.oidcIssuerUrl) } : {}),
    ...(o.authenticationTokenWebhookConfigFile
      ? {
          webhook: {
            configFile: o.authenticationTokenWebhookConfigFile,
            version: version('--authentication-token-webhook-version', o.authenticationTokenWebhookVersion),
            cacheMs: milliseconds('--authentication-token-webhook-cache-ttl', o.authenticationTokenWebhookCacheTtl),
          },
        }
      : {}),
    ...(o.requestheaderClientCaFile
      ? {
          requestHeader: {
            caFile: o.requestheaderClientCaFile,
            allowedNames: o.requestheaderAllowedNames ?? [],
            usernameHeaders: o.requestheaderUsernameHeaders,
            uidHeaders: o.requestheaderUidHeaders ?? [],
            groupHeaders: o.requestheaderGroupHeaders,
            extraHeaderPrefixes: o.requestheaderExtraHeadersPrefix,
          },
        }
      : {}),
  };
}

function oidcOf(o: AccessFlags, url: string): NonNullable<AuthenticationFiles['oidc']> {
  if (!url.startsWith('https://')) throw new UserError('--oidc-issuer-url: URL scheme must be https', 2);
  const prefix = o.oidcUsernamePrefix ?? (o.oidcUsernameClaim === 'email' ? '' : `${url}#`);
  return {
    url,
    discoveryUrl: `${url.replace(/\/$/, '')}/.well-known/openid-configuration`,
    ...(o.oidcCaFile ? { caFile: o.oidcCaFile } : {}),
    audiences: [o.oidcClientId as string],
    algorithms: o.oidcSigningAlgs,
    username: { claim: o.oidcUsernameClaim, prefix: prefix === '-' ? '' : prefix },
    ...(o.oidcGroupsClaim ? { groups: { claim: o.oidcGroupsClaim, prefix: o.oidcGroupsPrefix ?? '' } } : {}),
    extra: [],
    requiredClaims: Object.fromEntries(
      (o.oidcRequiredClaim ?? []).map((pair) => {
        const at = pair.indexOf('=');
        if (at < 1) throw new UserError(`--oidc-required-claim: '${pair}' is not key=value`, 2);
        return [pair.slice(0, at), pair.slice(at + 1)];
      }),
    ),
    claimRules: [],
    userRules: [],
  };
}

export function authorizationOf(o: AccessFlags): AuthorizationFiles {
  return {
    ...(o.authorizationMode ? { modes: o.authorizationMode } : {}),
    ...(o.authorizationConfig ? { configFile: o.authorizationConfig } : {}),
    webhook: {
      ...(o.authorizationWebhookConfigFile ? { configFile: o.authorizationWebhookConfigFile } : {}),
      version: version('--authorization-webhook-version', o.authorizationWebhookVersion),
      authorizedMs: milliseconds('--authorization-webhook-cache-authorized-ttl', o.authorizationWebhookCacheAuthorizedTtl),
      unauthorizedMs: milliseconds('--authorization-webhook-cache-unauthorized-ttl', o.authorizationWebhookCacheUnauthorizedTtl),
    },
  };
}

/** Which versions are served; what knows them is loaded only for it. */
export async function runtimeConfigOf(o: AccessFlags): Promise<RuntimeConfig> {
  const [{ parseRuntimeConfig }, { scheme }] = await Promise.all([import('../apiserver/served-versions.ts'), import('../api/scheme.ts')]);
  try {
    return parseRuntimeConfig(o.runtimeConfig ?? [], (group, version) => scheme.resources.some((r) => r.group === group && r.version === version));
  } catch (error) {
    throw new UserError(`--runtime-config: ${(error as Error).message}`, 2);
  }
}

/** Options of the server that say how much it does at a time, and for how long. */
export function loadOf(o: AccessFlags) {
  const whole = (flag: string, value: string): number => {
    if (!/^\d+$/.test(value)) throw new UserError(`${flag}: '${value}' is no whole number`, 2);
    return Number(value);
  };
  const priorityAndFairness = boolean('--enable-priority-and-fairness', o.enablePriorityAndFairness);
  const maxRequestsInflight = whole('--max-requests-inflight', o.maxRequestsInflight);
  const maxMutatingRequestsInflight = whole('--max-mutating-requests-inflight', o.maxMutatingRequestsInflight);
  if (priorityAndFairness && maxRequestsInflight + maxMutatingRequestsInflight === 0)
    throw new UserError('--max-requests-inflight and --max-mutating-requests-inflight must not both be 0 with priority and fairness', 2);
  return {
    flowControl: { maxRequestsInflight, maxMutatingRequestsInflight, priorityAndFairness },
    requestTimeoutMs: milliseconds('--request-timeout', o.requestTimeout),
    minRequestTimeout: whole('--min-request-timeout', o.minRequestTimeout),
  };
}
