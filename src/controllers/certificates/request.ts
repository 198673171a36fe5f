import type { Pkcs10CertificateRequest } from '@peculiar/x509';
import type { CertificateSigningRequest } from '../../api/generated/types.ts';

/** Signer names of kubernetes.io that the controllers here know. */
export const KUBELET_CLIENT = 'kubernetes.io/kube-apiserver-client-kubelet';
export const KUBELET_SERVING = 'kubernetes.io/kubelet-serving';
export const API_CLIENT = 'kubernetes.io/kube-apiserver-client';
export const LEGACY_UNKNOWN = 'kubernetes.io/legacy-unknown';

/** A PKCS #10 request as the signers' rules look at it. */
export interface ParsedRequest {
  csr: Pkcs10CertificateRequest;
  commonName: string;
  organizations: string[];
  dns: string[];
  ips: string[];
  emails: string[];
  uris: string[];
}

const sameUsages = (usages: readonly string[], auth: string): boolean => {
  const set = new Set(usages);
  return set.has('digital signature') && set.has(auth) && (set.size === 2 || (set.size === 3 && set.has('key encipherment')));
};

function nodeProblem(r: ParsedRequest, usages: readonly string[], auth: string): string | undefined {
  if (r.organizations.length !== 1 || r.organizations[0] !== 'system:nodes') return 'subject organization is not system:nodes';
  if (r.emails.length) return 'Email subjectAltNames are not allowed';
  if (r.uris.length) return 'URI subjectAltNames are not allowed';
  if (!sameUsages(usages, auth)) return `usages did not match [digital signature key encipherment ${auth}]`;
  if (!r.commonName.startsWith('system:node:')) return 'subject common name does not begin with system:node:';
  return undefined;
}

/** What is wrong with a request for a kubelet's client certificate, or undefined. Wording as upstream's. */
export function kubeletClientProblem(r: ParsedRequest, usages: readonly string[] = []): string | undefined {
  if (r.dns.length) return 'DNS subjectAltNames are not allowed';
  if (r.ips.length) return 'IP subjectAltNames are not allowed';
  return nodeProblem(r, usages, 'client auth');
}

/** What is wrong with a request for a kubelet's serving certificate, or undefined. */
export function kubeletServingProblem(r: ParsedRequest, usages: readonly string[] = []): string | undefined {
  if (r.dns.length === 0 && r.ips.length === 0) return 'DNS or IP subjectAltName is required';
  return nodeProblem(r, usages, 'server auth');
}

export function apiClientProblem(usages: readonly string[] = []): string | undefined {
  for (const usage of usages) {
    if (!['digital signature', 'key encipherment', 'client auth'].includes(usage)) return `invalid usage for client certificate: ${usage}`;
  }
  return usages.includes('client auth') ? undefined : 'missing required usage for client certificate: client auth';
}

export const hasCondition = (object: CertificateSigningRequest, type: string): boolean =>
  !!object.status?.conditions?.some((c) => c.type === type && c.status === 'True');
export const isApproved = (object: CertificateSigningRequest): boolean => hasCondition(object, 'Approved') && !hasCondition(object, 'Denied');
