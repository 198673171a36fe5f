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
  let keys: Promise<ReturnType<typeof createRemoteJWKSet>> | undefined;
  let failedAt = -Infinity;
  let failure: Error | undefined;
  const discover = async () => {
    const answer = await get(issuer.discoveryUrl, agent);
    if (answer.status !== 200) throw new Error(`oidc: ${issuer.discoveryUrl} answered ${answer.status}`);
    const document = JSON.parse(answer.body.toString('utf8'));
    if (document.issuer !== issuer.url) throw new Error(`oidc: issuer URL in provider (${document.issuer}) does not match the configured one (${issuer.url})`);
    if (typeof document.jwks_uri !== 'string' || !document.jwks_uri.startsWith('https:')) throw new Error('oidc: provider did not return JWKS URL');
    return createRemoteJWKSet(new URL(document.jwks_uri), {
      timeoutDuration: 30_000,
      [customFetch]: async (url) => {
        const { status, body } = await get(url, agent);
        return new Response(new Uint8Array(body), { status });
      },
    });
  };
  const keysOf = () => {
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
  return {
    name: `jwt ${issuer.url}`,
    async authenticate(token) {
      if (unverifiedIssuer(token) !== issuer.url) return undefined;
      const { payload } = await jwtVerify(token, await keysOf(), {
        algorithms: issuer.algorithms ?? asymmetric,
        issuer: issuer.url,
        audience: issuer.audiences,
        requiredClaims: ['exp'],
        clockTolerance: 0,
        currentDate: new Date(clock.now()),
      });
      return { user: userOfClaims(issuer, payload as JWTPayload), expires: (payload.exp as number) * 1000 };
    },
    close: () => agent.destroy(),
  };
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

function get(url: string, agent: Agent): Promise<{ status: number; body: Buffer }> {
  return new Promise((resolve, reject) => {
    const request = httpsRequest(url, { agent, signal: AbortSignal.timeout(30_000), headers: { accept: 'application/json' } }, (response) => {
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
