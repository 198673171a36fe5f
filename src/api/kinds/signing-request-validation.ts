import type { FieldError } from '../errors.ts';
import { subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';

const usages = [
  ...['any', 'cert sign', 'client auth', 'code signing', 'content commitment', 'crl sign', 'data encipherment', 'decipher only', 'digital signature'],
  ...['email protection', 'encipher only', 'ipsec end system', 'ipsec tunnel', 'ipsec user', 'key agreement', 'key encipherment', 'microsoft sgc'],
  ...['netscape sgc', 'ocsp signing', 's/mime', 'server auth', 'signing', 'timestamping'],
];
const segment = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const wantedForm = "must be a fully qualified domain and path of the form 'example.com/signer-name'";

/** The name of a signer: a domain with a dot, and a path of subdomains. */
function validateSignerName(found: Findings, name: string | undefined): void {
  const field = 'spec.signerName';
  if (!name) return found.required(field);
  const [domain = '', path, ...more] = name.split('/');
  if (path === undefined || more.length) return found.invalid(field, name, wantedForm);
  const problems = subdomainProblems(domain);
  if (problems.length) return found.invalid(field, domain, `validating label "${domain}": ${problems.join(', ')}`);
  if (!domain.includes('.')) return found.invalid(field, domain, 'should be a domain with at least two segments separated by dots');
  if (!path) return found.invalid(field, name, wantedForm);
  for (const label of path.split('.')) if (!segment.test(label)) for (const problem of subdomainProblems(path)) return found.invalid(field, path, problem);
  if (name.length > 571) found.tooLong(field, 'may not be more than 571 bytes');
}

/** What is wrong with a CertificateSigningRequest. Whether its signature holds is for signers to see. */
export function validateSigningRequest(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  const text = Buffer.from(s.request ?? '', 'base64').toString('latin1');
  if (!/-----BEGIN CERTIFICATE REQUEST-----[\s\S]*-----END CERTIFICATE REQUEST-----/.test(text))
    found.invalid('spec.request', s.request ?? null, 'PEM block type must be CERTIFICATE REQUEST');
  const wanted: string[] = s.usages ?? [];
  if (!wanted.length) found.required('spec.usages');
  wanted.forEach((usage, i) => {
    found.oneOf(`spec.usages[${i}]`, usage, usages);
  });
  wanted.forEach((usage, i) => {
    if (wanted.indexOf(usage) < i) found.duplicate(`spec.usages[${i}]`, usage);
  });
  if (s.signerName === 'kubernetes.io/legacy-unknown') found.invalid('spec.signerName', s.signerName, 'the legacy signerName is not allowed via this API version');
  else validateSignerName(found, s.signerName);
  if (s.expirationSeconds !== undefined && s.expirationSeconds < 600)
    found.invalid('spec.expirationSeconds', s.expirationSeconds, 'may not specify a duration less than 600 seconds (10 minutes)');
  return found.errors;
}
