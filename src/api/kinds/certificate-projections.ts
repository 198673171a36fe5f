import { validateSignerName } from './certificates.ts';
import { trustBundleNameProblems } from './cluster-trust-bundle.ts';
import type { Findings } from './findings.ts';
import { longestCertificate, shortestCertificate, validateUserAnnotations } from './pod-certificate-request.ts';
import { validateLabelSelector } from './scheduling-validation.ts';

const keyTypes = ['RSA3072', 'RSA4096', 'ECDSAP256', 'ECDSAP384', 'ECDSAP521', 'ED25519'];

/** What is wrong with a projection of trust anchors: of one bundle by name, or of all of a signer's that are selected. */
export function validateTrustBundleProjection(found: Findings, source: any, at: string): void {
  const { name, signerName, labelSelector } = source;
  if (name !== undefined && signerName !== undefined) found.invalid(at, source, 'only one of name and signerName may be used');
  else if (name !== undefined) {
    if (name === '') found.required(`${at}.name`, 'must be a valid object name');
    const colon = name.lastIndexOf(':');
    for (const problem of trustBundleNameProblems(name, colon < 0 ? '' : name.slice(0, colon).replaceAll(':', '/')))
      found.invalid(`${at}.name`, name, `not a valid clustertrustbundlename: ${problem}`);
    if (labelSelector) found.invalid(`${at}.labelSelector`, labelSelector, 'labelSelector must be unset if name is specified');
  } else if (signerName !== undefined) {
    if (signerName === '') found.required(`${at}.signerName`, 'must be a valid signer name');
    validateSignerName(found, `${at}.signerName`, signerName);
    if (labelSelector) validateLabelSelector(found, labelSelector, `${at}.labelSelector`);
  } else found.required(at, 'either name or signerName must be specified');
  if (!source.path) found.required(`${at}.path`);
}

/** What is wrong with a projection of a certificate of the pod's own; its paths apart. */
export function validatePodCertificateProjection(found: Findings, source: any, at: string): void {
  const signer: string = source.signerName ?? '';
  validateSignerName(found, `${at}.signerName`, signer);
  if (source.userAnnotations) validateUserAnnotations(found, `${at}.userAnnotations`, source.userAnnotations);
  found.oneOf(`${at}.keyType`, source.keyType ?? '', keyTypes);
  const lasts: number | undefined = source.maxExpirationSeconds;
  if (lasts !== undefined) {
    const most = longestCertificate(signer);
    if (lasts < shortestCertificate)
      found.invalid(`${at}.maxExpirationSeconds`, lasts, `if provided, maxExpirationSeconds must be >= ${shortestCertificate}`);
    if (lasts > most) found.invalid(`${at}.maxExpirationSeconds`, lasts, `if provided, maxExpirationSeconds must be <= ${most}`);
  }
}

/** Where a podCertificate source writes. */
export const podCertificatePaths = ['credentialBundlePath', 'keyPath', 'certificateChainPath'] as const;
