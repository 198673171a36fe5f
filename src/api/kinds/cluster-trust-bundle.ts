import type { KindStrategy } from '../scheme.ts';
import { subdomainProblems } from '../validation.ts';
import { certificateOf, pemBlocks, validateSignerName } from './certificates.ts';
import { Findings } from './findings.ts';

const longestBundle = 1024 * 1024;

/** Names carry the signer's, with colons: `example.com:signer:NAME`. */
export const clusterTrustBundle: KindStrategy = {
  validateName: () => [],
  validate(o) {
    const found = new Findings();
    const name: string = o.metadata?.name ?? '';
    const signer: string = o.spec?.signerName ?? '';
    for (const problem of trustBundleNameProblems(name, signer)) found.invalid('metadata.name', name, problem);
    if (signer) validateSignerName(found, 'spec.signerName', signer);
    return found.errors;
  },
  validateCreate(o) {
    const found = new Findings();
    validateBundle(found, o.spec?.trustBundle ?? '');
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    if (o.spec?.trustBundle !== old.spec?.trustBundle) validateBundle(found, o.spec?.trustBundle ?? '');
    found.immutable('spec.signerName', o.spec?.signerName ?? '', old.spec?.signerName ?? '');
    return found.errors;
  },
  selectableFields: (o) => ({ 'spec.signerName': o.spec?.signerName ?? '' }),
};

/** What is wrong with the name of a bundle, of this signer or of none. */
export function trustBundleNameProblems(name: string, signerName: string): string[] {
  if (!signerName) return name.includes(':') ? ['ClusterTrustBundle without signer name must not have ":" in its name'] : subdomainProblems(name);
  const prefix = `${signerName.replaceAll('/', ':')}:`;
  if (!name.startsWith(prefix)) return [`ClusterTrustBundle for signerName ${signerName} must be named with prefix ${prefix}`];
  return subdomainProblems(name.slice(prefix.length));
}

/** At least one certificate of an authority, each of them once, and nothing else. */
function validateBundle(found: Findings, text: string): void {
  const field = 'spec.trustBundle';
  if (Buffer.byteLength(text) > longestBundle) return found.tooLong(field, `may not be more than ${longestBundle} bytes`);
  const invalid = (detail: string) => found.invalid(field, '<value omitted>', detail);
  const places = new Map<string, number[]>();
  const before = found.errors.length;
  pemBlocks(text).forEach(({ type, der, headers }, i) => {
    if (type !== 'CERTIFICATE') return invalid(`entry ${i} has bad block type: ${type}`);
    if (headers) return invalid(`entry ${i} has PEM block headers`);
    const certificate = certificateOf(der);
    if (!certificate) return invalid(`entry ${i} does not parse as X.509`);
    if (!certificate.ca) return invalid(`entry ${i} does not have the CA bit set`);
    const key = der.toString('base64');
    places.set(key, [...(places.get(key) ?? []), i]);
  });
  if (found.errors.length > before) return;
  if (places.size === 0) invalid('at least one trust anchor must be provided');
  for (const indices of places.values()) if (indices.length > 1) invalid(`duplicate trust anchor (indices [${indices.join(' ')}])`);
}
