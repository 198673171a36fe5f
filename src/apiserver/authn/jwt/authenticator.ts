import { Agent, request as httpsRequest } from 'node:https';
import { createRemoteJWKSet, customFetch, type JWTPayload, jwtVerify } from 'jose';
import type { Clock } from '../../../client/clock.ts';
import type { TokenAuthenticator } from '../token.ts';
import { userOfClaims } from './claims.ts';
import type { JwtIssuer } from './configuration.ts';

const asymmetric = ['RS256', 'RS384', 'RS512', 'ES256', 'ES384', 'ES512', 'PS256', 'PS384', 'PS512'];
/** Between two tries to reach an issuer that did not answer. */
const discoveryPauseMs = 5_000;
const answerLimit = 5 * 1024 * 1024;

/**
 * Believes the tokens of an OpenID Connect issuer. Its keys are looked up when the first token comes, kept, and fetched again
 * when a token names one that is not among them, at most every 30 s.
 */
export function jwtTokens(issuer: JwtIssuer, clock: Clock): TokenAuthenticator {
  const agent = new Agent({ keepAlive: true, ...(issuer.ca ? { ca: issuer.ca } : {}) });
  const keysOf = issuerKeys(issuer.url, issuer.discoveryUrl, agent, clock);
  const verify = async (token: string, url: string, keys: Keys) => {
    const { payload } = await jwtVerify(token, await keys(), {
      algorithms: issuer.algorithms ?? asymmetric,
      issuer: url,
      audience: issuer.audiences,
      requiredClaims: ['exp'],
      clockTolerance: 0,
      currentDate: new Date(clock.now()),
    });
    return payload;
  };
  const distributed = new DistributedClaims(agent, clock, verify, [issuer.url, keysOf]);
  return {
    name: `jwt ${issuer.url}`,
    async authenticate(token) {
      if (unverifiedIssuer(token) !== issuer.url) return undefined;
      const payload = await verify(token, issuer.url, keysOf);
      // As upstream: of all claims that of groups alone may lie elsewhere, for it may be too long for a token.
      if (issuer.groups?.claim) await distributed.resolve(payload, issuer.groups.claim);
      return { user: userOfClaims(issuer, payload), expires: (payload.exp as number) * 1000 };
    },
    close: () => agent.destroy(),
  };
}

type Keys = () => Promise<ReturnType<typeof createRemoteJWKSet>>;

/** The keys of an issuer, looked up when they are first asked for; again some time after that failed. */
function issuerKeys(issuer: string, discoveryUrl: string, agent: Agent, clock: Clock): Keys {
  let keys: Promise<ReturnType<typeof createRemoteJWKSet>> | undefined;
  let failedAt = -Infinity;
  let failure: Error | undefined;
  const discover = async () => {
    const answer = await get(discoveryUrl, agent);
    if (answer.status !== 200) throw new Error(`oidc: ${discoveryUrl} answered ${answer.status}`);
    const document = JSON.parse(answer.body.toString('utf8'));
    if (document.issuer !== issuer) throw new Error(`oidc: issuer URL in provider (${document.issuer}) does not match the configured one (${issuer})`);
    if (typeof document.jwks_uri !== 'string' || !document.jwks_uri.startsWith('https:')) throw new Error('oidc: provider did not return JWKS URL');
    return createRemoteJWKSet(new URL(document.jwks_uri), {
      timeoutDuration: 30_000,
      [customFetch]: async (url) => {
        const { status, body } = await get(url, agent);
        return new Response(new Uint8Array(body), { status });
      },
    });
  };
  return () => {
    if (!keys) {
      if (failure && clock.now() - failedAt < discoveryPauseMs) throw failure;
      keys = discover();
      keys.catch((error) => {
        keys = undefined;
        failure = error;
        failedAt = clock.now();
      });
    }
    return keys;
  };
}

/** Issuers of distributed claims whose keys are kept. */
const mostIssuers = 64;

/** Claims that a token does not hold, and says where they are: OpenID Connect Core 5.6.2. Each comes in a token of its own, which is verified. */
class DistributedClaims {
  readonly #agent: Agent;
  readonly #clock: Clock;
  readonly #verify: (token: string, issuer: string, keys: Keys) => Promise<JWTPayload>;
  readonly #keys = new Map<string, Keys>();

  /** `known` is an issuer whose keys need not be looked up. */
  constructor(agent: Agent, clock: Clock, verify: (token: string, issuer: string, keys: Keys) => Promise<JWTPayload>, known: [string, Keys]) {
    this.#agent = agent;
    this.#clock = clock;
    this.#verify = verify;
    this.#keys.set(...known);
  }

  /** Adds the claim to the others, where it lies elsewhere. What lies in the token itself (aggregated claims) is ignored, as upstream does. */
  async resolve(claims: JWTPayload, claim: string): Promise<void> {
    if (Object.hasOwn(claims, claim)) return;
    const names = claims['_claim_names'] as Record<string, unknown> | undefined;
    const source = names && typeof names === 'object' && Object.hasOwn(names, claim) ? names[claim] : undefined;
    if (typeof source !== 'string') return;
    const sources = claims['_claim_sources'] as Record<string, { endpoint?: string; access_token?: string } | undefined> | undefined;
    const where = sources && Object.hasOwn(sources, source) ? sources[source] : undefined;
    if (!where) throw new Error(`oidc: verify distributed claims: malformed distributed claim: claim ${JSON.stringify(claim)} has no source ${JSON.stringify(source)}`);
    if (!where.endpoint) return;
    if (!where.endpoint.startsWith('https:')) throw new Error(`oidc: verify distributed claims: the endpoint ${where.endpoint} is not https`);
    const { status, body } = await get(where.endpoint, this.#agent, where.access_token ? { authorization: `Bearer ${where.access_token}` } : {});
    if (status !== 200) throw new Error(`oidc: verify distributed claims: error while getting distributed claim: ${where.endpoint} answered ${status}`);
    const token = body.toString('utf8').trim();
    const issuer = unverifiedIssuer(token);
    if (typeof issuer !== 'string' || !issuer.startsWith('https:')) throw new Error('oidc: verify distributed claims: the token names no issuer');
    const found = await this.#verify(token, issuer, this.#keysOf(issuer));
    if (!Object.hasOwn(found, claim)) throw new Error(`oidc: verify distributed claims: jwt returned by distributed claim endpoint ${JSON.stringify(where.endpoint)} did not contain claim: ${claim}`);
    claims[claim] = found[claim];
  }

  #keysOf(issuer: string): Keys {
    let keys = this.#keys.get(issuer);
    if (keys) return keys;
    if (this.#keys.size >= mostIssuers) this.#keys.clear();
    keys = issuerKeys(issuer, `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`, this.#agent, this.#clock);
    this.#keys.set(issuer, keys);
    return keys;
  }
}

function unverifiedIssuer(token: string): unknown {
  const parts = token.split('.');
  if (parts.length !== 3) return undefined;
  try {
    return JSON.parse(Buffer.from(parts[1] as string, 'base64url').toString('utf8'))?.iss;
  } catch {
    return undefined;
  }
}

function get(url: string, agent: Agent, headers: Record<string, string> = {}): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, { agent, signal: AbortSignal.timeout(30_000), headers: { accept: 'application/json', ...headers } }, (response) => {
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > answerLimit) request.destroy(new Error(`the answer of ${url} is larger than ${answerLimit} bytes`));
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks) }));
    });
    request.on('error', reject);
    request.end();
  });
}
