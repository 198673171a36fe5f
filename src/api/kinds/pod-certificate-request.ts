import type { KeyObject } from 'node:crypto';
import { canonicalJson } from '../equality.ts';
import type { KindStrategy } from '../scheme.ts';
import { qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { certificateOf, certificationRequest, isKubernetesSigner, pemBlocks, validateSignerName } from './certificates.ts';
import { Findings } from './findings.ts';
import { specAndStatus } from './spec-and-status.ts';

const daySeconds = 86_400;
/** Shortest and longest life of a pod's certificate, in seconds; upstream's numbers. */
export const shortestCertificate = 3600;
export const longestCertificate = (signerName: string): number => (isKubernetesSigner(signerName) ? daySeconds : 91 * daySeconds);
const longestRequest = 10 * 1024;
const longestChain = 100 * 1024;
const minuteMs = 60_000;

const terminal = ['Issued', 'Denied', 'Failed'];

/** What a kubelet asks for a pod, and the signer answers once: the spec never changes, and no answer is taken back. */
export const podCertificateRequest: KindStrategy = {
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    if (old.status === undefined) delete o.status;
    else o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  default(o) {
    if (o.spec) o.spec.maxExpirationSeconds ??= daySeconds;
  },
  validateCreate(o) {
    const found = new Findings();
    validateSpec(found, o.spec ?? {});
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    found.immutable('spec', o.spec, old.spec);
    return found.errors;
  },
  validateStatusUpdate(o, old) {
    const found = new Findings();
    validateStatus(found, o, old);
    return found.errors;
  },
  selectableFields: (o) => ({
    'spec.signerName': o.spec?.signerName ?? '',
    'spec.podName': o.spec?.podName ?? '',
    'spec.nodeName': o.spec?.nodeName ?? '',
  }),
};

/** The notes that a pod's author adds for the signer: keys with a domain. */
export function validateUserAnnotations(found: Findings, field: string, annotations: Record<string, string>): void {
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    if (!key) found.required(field);
    else if (qualifiedNameProblems(key.toLowerCase()).length > 0) found.problems(field, key.toLowerCase(), qualifiedNameProblems);
    else if (!key.includes('/')) found.invalid(field, key.toLowerCase(), 'must be a domain-prefixed key (such as "acme.io/foo")');
    size += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (size > 256 * 1024) found.tooLong(field, 'may not be more than 262144 bytes');
}

function validateSpec(found: Findings, spec: any): void {
  const signer: string = spec.signerName ?? '';
  validateSignerName(found, 'spec.signerName', signer);
  if (spec.unverifiedUserAnnotations) validateUserAnnotations(found, 'spec.unverifiedUserAnnotations', spec.unverifiedUserAnnotations);
  for (const whose of ['pod', 'serviceAccount', 'node']) {
    found.problems(`spec.${whose}Name`, spec[`${whose}Name`] ?? '', subdomainProblems);
    const uid: string = spec[`${whose}UID`] ?? '';
    if (!uid) found.invalid(`spec.${whose}UID`, uid, 'must not be empty');
    if (uid.length > 128) found.tooLong(`spec.${whose}UID`, 'may not be more than 128 bytes');
  }
  const lasts: number | undefined = spec.maxExpirationSeconds;
  if (lasts === undefined) return found.required('spec.maxExpirationSeconds', 'must be set');
  const most = longestCertificate(signer);
  if (lasts < shortestCertificate || lasts > most)
    found.invalid('spec.maxExpirationSeconds', lasts, `must be in the range [${shortestCertificate}, ${most}]`);
  if (!spec.stubPKCS10Request) return found.malformed('spec', 'exactly one of (stubPKCS10Request) or (pkixPublicKey, proofOfPossession) must be set');
  validateStub(found, Buffer.from(spec.stubPKCS10Request, 'base64'));
}

function validateStub(found: Findings, der: Buffer): void {
  const field = 'spec.stubPKCS10Request';
  if (der.length > longestRequest) return found.tooLong(field, `may not be more than ${longestRequest} bytes`);
  const request = certificationRequest(der);
  if (!request) return found.malformed(field, 'must be a valid PKCS#10 CSR');
  const { asymmetricKeyType: type, asymmetricKeyDetails: details } = request.key;
  if (type === 'ec') {
    if (!['prime256v1', 'secp384r1', 'secp521r1'].includes(details?.namedCurve ?? ''))
      return found.invalid(field, `curve ${details?.namedCurve}`, 'elliptic public keys must use curve P256, P384, or P521');
  } else if (type === 'rsa') {
    const bits = details?.modulusLength ?? 0;
    if (bits !== 3072 && bits !== 4096) return found.invalid(field, `${bits}-bit modulus`, 'RSA keys must have modulus size 3072 or 4096');
  } else if (type !== 'ed25519') return found.malformed(field, 'unknown public key type; supported types are Ed25519, ECDSA, and RSA');
  if (!request.verified) found.malformed(field, 'invalid signature');
}

function validateStatus(found: Findings, o: any, old: any): void {
  const now: any = o.status ?? {};
  const before: any = old.status ?? {};
  validateConditions(found, now.conditions ?? []);
  if (found.errors.length > 0) return;
  const same = (a: unknown, b: unknown, detail: string) => {
    if (canonicalJson(a) !== canonicalJson(b)) found.invalid('status', a, detail);
  };
  const has = (status: any, ...types: string[]): boolean => (status.conditions ?? []).some((c: any) => types.includes(c.type) && c.status === 'True');
  if (has(before, ...terminal)) return same(now, before, 'immutable after PodCertificateRequest is issued, denied, or failed');
  if (has(now, 'Denied', 'Failed'))
    return same(now, { conditions: now.conditions }, 'non-condition status fields must be empty when denying or failing the PodCertificateRequest');
  if (has(now, 'Issued')) return validateIssued(found, now, old.spec);
  same(now, before, 'status is immutable unless transitioning to "Issued", "Denied", or "Failed"');
}

function validateConditions(found: Findings, conditions: any[]): void {
  conditions.forEach((c, i) => {
    const at = `status.conditions[${i}]`;
    if (!terminal.includes(c.type)) return found.oneOf(`${at}.type`, c.type, terminal);
    if (i > 0) found.invalid(`${at}.type`, c.type, 'There may be at most one condition with type "Issued", "Denied", or "Failed"');
    if (c.status !== 'True') found.oneOf(`${at}.status`, c.status, ['True']);
    if (!c.lastTransitionTime) found.required(`${at}.lastTransitionTime`, 'must be set');
    if (!c.reason) found.required(`${at}.reason`, 'must be set');
  });
}

function validateIssued(found: Findings, status: any, spec: any): void {
  const field = 'status.certificateChain';
  const chain: string = status.certificateChain ?? '';
  const wrong = (detail: string) => found.invalid(field, chain, detail);
  if (Buffer.byteLength(chain) > longestChain) return found.tooLong(field, `may not be more than ${longestChain} bytes`);
  const [first, ...rest] = pemBlocks(chain);
  if (!first) return wrong('issued certificate chain must contain at least one certificate');
  if (first.type !== 'CERTIFICATE') return wrong('issued certificate chain must consist entirely of CERTIFICATE PEM blocks');
  const leaf = certificateOf(first.der);
  if (!leaf) return wrong('leaf certificate does not parse as valid X.509');
  const wanted: KeyObject | undefined = certificationRequest(Buffer.from(spec.stubPKCS10Request ?? '', 'base64'))?.key;
  if (!wanted) return found.malformed('spec.stubPKCS10Request', 'must be a valid PKCS#10 CSR');
  if (!wanted.equals(leaf.publicKey)) return wrong('leaf certificate was not issued to the requested public key');
  const need = (name: string, detail: string) => {
    if (!status[name]) found.required(`status.${name}`, detail);
  };
  need('notBefore', 'must be present and consistent with the issued certificate');
  need('notAfter', 'must be present and consistent with the issued certificate');
  need('beginRefreshAt', 'must be present and in the range [notbefore+10min, notafter-10min]');
  if (found.errors.length > 0) return;
  const [notBefore, notAfter, refresh] = [status.notBefore, status.notAfter, status.beginRefreshAt].map((t) => Date.parse(t)) as [
    number,
    number,
    number,
  ];
  if (notBefore !== leaf.validFromDate.getTime())
    return found.invalid('status.notBefore', status.notBefore, 'must be set to the NotBefore time encoded in the leaf certificate');
  if (Math.abs(notBefore - Date.now()) > 5 * minuteMs)
    return found.invalid('status.notBefore', status.notBefore, "must be set to within 5 minutes of kube-apiserver's current time");
  if (notAfter !== leaf.validToDate.getTime())
    return found.invalid('status.notAfter', status.notAfter, 'must be set to the NotAfter time encoded in the leaf certificate');
  const life = (notAfter - notBefore) / 1000;
  if (life < shortestCertificate) return found.invalid(field, `${life}s`, 'leaf certificate lifetime must be >= 1 hour');
  if (life > spec.maxExpirationSeconds)
    return found.invalid(field, `${life}s`, `leaf certificate lifetime must be <= spec.maxExpirationSeconds (${spec.maxExpirationSeconds})`);
  if (refresh < notBefore + 10 * minuteMs)
    return found.invalid('status.beginRefreshAt', status.beginRefreshAt, 'must be at least 10 minutes after status.notBefore');
  if (refresh > notAfter - 10 * minuteMs)
    return found.invalid('status.beginRefreshAt', status.beginRefreshAt, 'must be at least 10 minutes before status.notAfter');
  for (const { type, der } of rest) {
    if (type !== 'CERTIFICATE') return wrong('issued certificate chain must consist entirely of CERTFICATE PEM blocks');
    if (!certificateOf(der)) return wrong('intermediate certificate does not parse as valid X.509');
  }
}
