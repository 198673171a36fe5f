import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import { AwsError } from '../errors.ts';

/** What a signature covers. */
export interface SignedRequest {
  method: string;
  /** Path and query as they stand in the request line. */
  url: string;
  /** Lower-case names. */
  headers: Record<string, string | undefined>;
  body: Uint8Array;
}

/** What is read from a request before its signature is checked. */
export interface Signature {
  accessKeyId: string;
  /** yyyymmdd */
  date: string;
  region: string;
  service: string;
  signedHeaders: string[];
  signature: string;
  sessionToken: string | undefined;
  /** yyyymmddThhmmssZ */
  time: string;
  /** Seconds; only of presigned requests. */
  expires: number | undefined;
  presigned: boolean;
}

const algorithm = 'AWS4-HMAC-SHA256';
const maximumSkew = 5 * 60_000;
const longestPresigned = 7 * 24 * 3600;

function incomplete(message: string): AwsError {
  return new AwsError('IncompleteSignature', message, 400);
}

function queryOf(url: string): URLSearchParams {
  const mark = url.indexOf('?');
  return new URLSearchParams(mark < 0 ? '' : url.slice(mark + 1));
}

/** Finds the signature of a request; undefined when it carries none. */
export function readSignature(request: SignedRequest): Signature | undefined {
  const authorization = request.headers['authorization'];
  const query = queryOf(request.url);
  if (authorization !== undefined) {
    if (!authorization.startsWith(`${algorithm} `)) {
      throw incomplete(`Authorization header requires 'Credential', 'Signature' and 'SignedHeaders' parameters and the algorithm ${algorithm}.`);
    }
    const fields = new Map<string, string>();
    for (const part of authorization.slice(algorithm.length + 1).split(',')) {
      const mark = part.indexOf('=');
      if (mark > 0) fields.set(part.slice(0, mark).trim(), part.slice(mark + 1).trim());
    }
    for (const name of ['Credential', 'SignedHeaders', 'Signature']) {
      if (!fields.get(name)) throw incomplete(`Authorization header requires '${name}' parameter.`);
    }
    const time = request.headers['x-amz-date'] ?? headerDate(request.headers['date']);
    if (!time) throw incomplete("Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header.");
    return {
      ...scopeOf(fields.get('Credential')!),
      signedHeaders: fields.get('SignedHeaders')!.toLowerCase().split(';'),
      signature: fields.get('Signature')!,
      sessionToken: request.headers['x-amz-security-token'],
      time,
      expires: undefined,
      presigned: false,
    };
  }
  if (query.get('X-Amz-Algorithm') !== algorithm) return undefined;
  for (const name of ['X-Amz-Credential', 'X-Amz-SignedHeaders', 'X-Amz-Signature', 'X-Amz-Date']) {
    if (!query.get(name)) throw incomplete(`Query requires '${name}' parameter.`);
  }
  const expires = Number(query.get('X-Amz-Expires') ?? '900');
  if (!Number.isInteger(expires) || expires < 1 || expires > longestPresigned) {
    throw new AwsError('AuthorizationQueryParametersError', 'X-Amz-Expires must be between 1 and 604800 seconds');
  }
  return {
    ...scopeOf(query.get('X-Amz-Credential')!),
    signedHeaders: query.get('X-Amz-SignedHeaders')!.toLowerCase().split(';'),
    signature: query.get('X-Amz-Signature')!,
    sessionToken: query.get('X-Amz-Security-Token') ?? request.headers['x-amz-security-token'],
    time: query.get('X-Amz-Date')!,
    expires,
    presigned: true,
  };
}

function headerDate(date: string | undefined): string | undefined {
  const time = date === undefined ? Number.NaN : Date.parse(date);
  return Number.isNaN(time) ? undefined : new Date(time).toISOString().replace(/[-:]|\.\d+/g, '');
}

function scopeOf(credential: string) {
  const parts = credential.split('/');
  if (parts.length !== 5 || parts[4] !== 'aws4_request' || parts.some((part) => part === '')) {
    throw incomplete(
      `Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '${credential.slice(0, 200)}'`,
    );
  }
  return { accessKeyId: parts[0]!, date: parts[1]!, region: parts[2]!, service: parts[3]! };
}

/** Percent-encodes all but the unreserved characters of RFC 3986. */
function encode(text: string): string {
  return encodeURIComponent(text).replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
}

function canonicalRequest(request: SignedRequest, signature: Signature): string {
  const mark = request.url.indexOf('?');
  const path = mark < 0 ? request.url : request.url.slice(0, mark);
  // Every service but S3 encodes the path of the request line once more.
  const canonicalPath = path.split('/').map(encode).join('/') || '/';
  const query: [string, string][] = [];
  for (const [name, value] of queryOf(request.url)) {
    if (!(signature.presigned && name === 'X-Amz-Signature')) query.push([encode(name), encode(value)]);
  }
  query.sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0));
  const headers = signature.signedHeaders.map((name) => `${name}:${(request.headers[name] ?? '').trim().replace(/\s+/g, ' ')}\n`).join('');
  return [
    request.method,
    canonicalPath,
    query.map(([name, value]) => `${name}=${value}`).join('&'),
    headers,
    signature.signedHeaders.join(';'),
    payloadHash(request, signature),
  ].join('\n');
}

function payloadHash(request: SignedRequest, signature: Signature): string {
  const stated = request.headers['x-amz-content-sha256'];
  if (stated === 'UNSIGNED-PAYLOAD') return stated;
  const actual = createHash('sha256').update(request.body).digest('hex');
  if (stated !== undefined && !signature.presigned && stated !== actual) {
    throw mismatch('The provided x-amz-content-sha256 header does not match what was computed.');
  }
  return actual;
}

function mismatch(message: string): AwsError {
  return new AwsError('SignatureDoesNotMatch', message, 403);
}

/**
 * Checks a request's signature with the secret of its access key. Throws SignatureDoesNotMatch, RequestExpired or
 * IncompleteSignature, with AWS's messages. now is in milliseconds since the epoch.
 */
export function checkSignature(request: SignedRequest, signature: Signature, secret: string, now: number): void {
  if (!signature.signedHeaders.includes('host')) throw mismatch("'Host' must be a 'SignedHeader' in the AWS Authorization.");
  for (const name of Object.keys(request.headers)) {
    if (name.startsWith('x-amz-') && name !== 'x-amz-security-token' && !signature.signedHeaders.includes(name) && !signature.presigned) {
      throw mismatch(`'${name}' must be a 'SignedHeader' in the AWS Authorization.`);
    }
  }
  const parts = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(signature.time);
  if (!parts) throw incomplete(`Date must be in ISO-8601 'basic format'. Got '${signature.time.slice(0, 40)}'.`);
  const signed = Date.UTC(+parts[1]!, +parts[2]! - 1, +parts[3]!, +parts[4]!, +parts[5]!, +parts[6]!);
  if (signature.date !== signature.time.slice(0, 8)) {
    throw mismatch(
      `Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '${signature.date}' != '${signature.time.slice(0, 8)}', from '${signature.time}'.`,
    );
  }
  const basic = (time: number) => new Date(time).toISOString().replace(/[-:]|\.\d+/g, '');
  const latest = signed + (signature.expires === undefined ? maximumSkew : signature.expires * 1000);
  if (now > latest) {
    throw new AwsError(
      'RequestExpired',
      `Signature expired: ${signature.time} is now earlier than ${basic(now - (latest - signed))} (${basic(now)})`,
      400,
    );
  }
  if (signed > now + maximumSkew) {
    throw mismatch(`Signature not yet current: ${signature.time} is still later than ${basic(now + maximumSkew)} (${basic(now)} + 5 min.)`);
  }
  const scope = `${signature.date}/${signature.region}/${signature.service}/aws4_request`;
  const canonical = createHash('sha256').update(canonicalRequest(request, signature)).digest('hex');
  const expected = createHmac('sha256', signingKey(secret, signature)).update([algorithm, signature.time, scope, canonical].join('\n')).digest();
  const given = Buffer.from(signature.signature, 'hex');
  if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
    throw mismatch(
      'The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.',
    );
  }
}

const signingKeys = new Map<string, Buffer>();

function signingKey(secret: string, signature: Signature): Buffer {
  const name = `${secret}/${signature.date}/${signature.region}/${signature.service}`;
  let key = signingKeys.get(name);
  if (!key) {
    key = Buffer.from(`AWS4${secret}`);
    for (const part of [signature.date, signature.region, signature.service, 'aws4_request']) key = createHmac('sha256', key).update(part).digest();
    if (signingKeys.size >= 200) signingKeys.delete(signingKeys.keys().next().value!);
    signingKeys.set(name, key);
  }
  return key;
}
