import { createHash, createPrivateKey, createPublicKey, type KeyObject, randomUUID, type webcrypto } from 'node:crypto';
import { createLocalJWKSet, exportJWK, importPKCS8, type JSONWebKeySet, type JWK, jwtVerify, SignJWT } from 'jose';
import type { KubeObject } from '../../api/object.ts';
import type { Clock } from '../../client/clock.ts';
import type { Registry } from '../registry.ts';
import { serviceAccountName, type UserInfo } from './user.ts';

/** What a token is bound to: it ends with that object. */
export interface BoundObject {
  kind: 'Pod' | 'Secret' | 'Node';
  name: string;
  uid: string;
}

export interface TokenSpec {
  namespace: string;
  name: string;
  uid: string;
  audiences: string[];
  expirationSeconds: number;
  bound?: BoundObject;
  /** The node of the bound pod. */
  node?: { name: string; uid?: string };
}

interface PrivateClaims {
  jti?: string;
  'kubernetes.io'?: {
    namespace: string;
    serviceaccount: { name: string; uid: string };
    pod?: { name: string; uid: string };
    secret?: { name: string; uid: string };
    node?: { name: string; uid?: string };
  };
  /** Of tokens in secrets, from before bound tokens. */
  'kubernetes.io/serviceaccount/namespace'?: string;
  'kubernetes.io/serviceaccount/service-account.name'?: string;
  'kubernetes.io/serviceaccount/service-account.uid'?: string;
  'kubernetes.io/serviceaccount/secret.name'?: string;
}

const cacheMs = 10_000;
const cacheLimit = 4000;
const legacyIssuer = 'kubernetes/serviceaccount';

export interface ServiceAccountOptions {
  /** Who signs new tokens. */
  issuer: string;
  /** Whose tokens are accepted too: those before the issuer changed. */
  acceptedIssuers?: string[];
  privateKey: string;
  publicKeys: string[];
  /** Of this server; the issuer where left out. */
  audiences?: string[];
  jwksUri?: string;
}

/** Issues and verifies service account tokens. */
export class ServiceAccountTokens {
  readonly issuer: string;
  readonly audiences: string[];
  /** The public keys, for other parties to verify tokens with. */
  readonly jwks: JSONWebKeySet;
  /** Where verifiers find the keys, if not at this server. */
  readonly jwksUri: string | undefined;
  /** Issuers whose tokens are accepted, the own one first. */
  #issuers: string[];
  #key: webcrypto.CryptoKey;
  #keyId: string;
  #algorithm: string;
  #registry: Registry;
  #clock: Clock;
  #verified = new Map<string, { user: UserInfo; audiences: string[]; until: number }>();

  private constructor(o: {
    issuer: string;
    issuers: string[];
    jwksUri: string | undefined;
    audiences: string[];
    jwks: JSONWebKeySet;
    key: webcrypto.CryptoKey;
    keyId: string;
    algorithm: string;
    registry: Registry;
    clock: Clock;
  }) {
    this.issuer = o.issuer;
    this.#issuers = o.issuers;
    this.jwksUri = o.jwksUri;
    this.audiences = o.audiences;
    this.jwks = o.jwks;
    this.#key = o.key;
    this.#keyId = o.keyId;
    this.#algorithm = o.algorithm;
    this.#registry = o.registry;
    this.#clock = o.clock;
  }

  /** Keys are PEM, RSA or EC; several may stand in one text. The private key's own public half is always accepted. */
  static async create(
    o: ServiceAccountOptions,
    registry: Registry,
    clock: Clock,
  ): Promise<ServiceAccountTokens> {
    const own = createPublicKey(o.privateKey);
    const keys: JWK[] = [];
    for (const key of [own, ...o.publicKeys.flatMap(keysOf)]) {
      const jwk = await jwkOf(key);
      if (!keys.some((k) => k.kid === jwk.kid)) keys.push(jwk);
    }
    const algorithm = algorithmOf(own);
    const key = await importPKCS8(createPrivateKey(o.privateKey).export({ type: 'pkcs8', format: 'pem' }) as string, algorithm);
    return new ServiceAccountTokens({
      issuer: o.issuer,
      issuers: [o.issuer, ...(o.acceptedIssuers ?? [])],
      jwksUri: o.jwksUri,
      audiences: o.audiences?.length ? o.audiences : [o.issuer],
      jwks: { keys },
      key,
      keyId: keys[0]!.kid!,
      algorithm,
      registry,
      clock,
    });
  }

  /** Signs a token; answers it with its expiry in milliseconds. */
  async issue(spec: TokenSpec): Promise<{ token: string; expires: number }> {
    const now = Math.floor(this.#clock.now() / 1000);
    const expires = now + spec.expirationSeconds;
    const claims: PrivateClaims = {
      'kubernetes.io': {
        namespace: spec.namespace,
        serviceaccount: { name: spec.name, uid: spec.uid },
        ...(spec.bound ? { [spec.bound.kind.toLowerCase()]: { name: spec.bound.name, uid: spec.bound.uid } } : {}),
        ...(spec.node ? { node: spec.node } : {}),
      },
    };
    const token = await new SignJWT({ ...claims })
      .setProtectedHeader({ alg: this.#algorithm, kid: this.#keyId })
      .setIssuer(this.issuer)
      .setSubject(serviceAccountName(spec.namespace, spec.name))
      .setAudience(spec.audiences)
      .setIssuedAt(now)
      .setNotBefore(now)
      .setExpirationTime(expires)
      .setJti(randomUUID())
      .sign(this.#key);
    return { token, expires: expires * 1000 };
  }

  /** The user of a token, and which of the audiences asked for it has; undefined where it is not one of ours. Throws on bad tokens of ours. */
  async verify(token: string, audiences: string[] = this.audiences): Promise<{ user: UserInfo; audiences: string[] } | undefined> {
    const payload = unverifiedPayload(token);
    if (!payload || (!this.#issuers.includes(payload.iss ?? '') && payload.iss !== legacyIssuer)) return undefined;
    const id = createHash('sha256').update(token).update('\0').update(audiences.join('\0')).digest('base64');
    const now = this.#clock.now();
    const known = this.#verified.get(id);
    if (known && known.until > now) return known;
    const keys = createLocalJWKSet(this.jwks);
    const result = await jwtVerify(token, keys, { currentDate: new Date(now) });
    const granted = intersection(result.payload.aud, audiences);
    const legacy = result.payload.iss === legacyIssuer;
    if (!legacy && granted.length === 0)
      throw new Error(`token audiences ${JSON.stringify(result.payload.aud)} is invalid for the target audiences ${JSON.stringify(audiences)}`);
    const user = await this.#userOf(result.payload as PrivateClaims);
    const answer = { user, audiences: legacy ? audiences : granted, until: Math.min(now + cacheMs, (result.payload.exp ?? Infinity) * 1000) };
    if (this.#verified.size >= cacheLimit) this.#verified.clear();
    this.#verified.set(id, answer);
    return answer;
  }

  async #userOf(claims: PrivateClaims): Promise<UserInfo> {
    const bound = claims['kubernetes.io'];
    const namespace = bound?.namespace ?? claims['kubernetes.io/serviceaccount/namespace'];
    const name = bound?.serviceaccount.name ?? claims['kubernetes.io/serviceaccount/service-account.name'];
    const uid = bound?.serviceaccount.uid ?? claims['kubernetes.io/serviceaccount/service-account.uid'];
    if (!namespace || !name || !uid) throw new Error('the token names no service account');
    await this.#mustExist('serviceaccounts', namespace, name, uid);
    const extra: Record<string, string[]> = {};
    if (claims.jti) extra['authentication.kubernetes.io/credential-id'] = [`JTI=${claims.jti}`];
    if (bound?.pod) {
      await this.#mustExist('pods', namespace, bound.pod.name, bound.pod.uid);
      extra['authentication.kubernetes.io/pod-name'] = [bound.pod.name];
      extra['authentication.kubernetes.io/pod-uid'] = [bound.pod.uid];
    }
    if (bound?.node) {
      extra['authentication.kubernetes.io/node-name'] = [bound.node.name];
      if (bound.node.uid) extra['authentication.kubernetes.io/node-uid'] = [bound.node.uid];
    }
    if (bound?.secret) await this.#mustExist('secrets', namespace, bound.secret.name, bound.secret.uid);
    const secret = claims['kubernetes.io/serviceaccount/secret.name'];
    if (secret) await this.#mustExist('secrets', namespace, secret);
    return {
      name: serviceAccountName(namespace, name),
      uid,
      groups: ['system:serviceaccounts', `system:serviceaccounts:${namespace}`, 'system:authenticated'],
      extra,
    };
  }

  async #mustExist(resource: string, namespace: string, name: string, uid?: string): Promise<KubeObject> {
    const entry = await this.#registry.storage('', 'v1', resource).read(`${namespace}/${name}`);
    const object = entry?.object;
    if (!object) throw new Error(`${resource} ${namespace}/${name} of the token does not exist`);
    if (uid && object.metadata.uid !== uid) throw new Error(`${resource} ${namespace}/${name} has another UID than the token says`);
    const { deletionTimestamp, deletionGracePeriodSeconds } = object.metadata;
    // A minute past the end of the grace period for clocks that differ.
    if (deletionTimestamp && Date.parse(deletionTimestamp) + 60_000 < this.#clock.now() && deletionGracePeriodSeconds !== undefined) {
      throw new Error(`${resource} ${namespace}/${name} of the token has been deleted`);
    }
    return object;
  }
}

function unverifiedPayload(token: string): { iss?: string } | undefined {
  const parts = token.split('.');
  if (parts.length !== 3) return undefined;
  try {
    return JSON.parse(Buffer.from(parts[1]!, 'base64url').toString('utf8'));
  } catch {
    return undefined;
  }
}

function intersection(has: string | string[] | undefined, wanted: string[]): string[] {
  const list = Array.isArray(has) ? has : has ? [has] : [];
  return wanted.filter((a) => list.includes(a));
}

function algorithmOf(key: KeyObject): string {
  if (key.asymmetricKeyType === 'rsa') return 'RS256';
  const curve = key.asymmetricKeyDetails?.namedCurve;
  if (key.asymmetricKeyType === 'ec') return curve === 'secp521r1' ? 'ES512' : curve === 'secp384r1' ? 'ES384' : 'ES256';
  throw new Error(`service account keys must be RSA or EC, not ${key.asymmetricKeyType}`);
}

/** The public keys of a PEM file; of private keys in it, their public halves. */
function keysOf(pem: string): KeyObject[] {
  const blocks = pem.match(/-----BEGIN [A-Z ]*(?:KEY|CERTIFICATE)-----[\s\S]+?-----END [A-Z ]*-----/g) ?? [];
  if (blocks.length === 0) throw new Error('data does not contain any valid RSA or ECDSA public keys');
  return blocks.map((block) => createPublicKey(block));
}

/** The key id is the hash of the public key, as kube-apiserver makes it. */
async function jwkOf(key: KeyObject): Promise<JWK> {
  const der = key.export({ type: 'spki', format: 'der' });
  const kid = createHash('sha256').update(der).digest('base64url');
  return { ...(await exportJWK(key)), use: 'sig', kid, alg: algorithmOf(key) };
}
