import type { KindStrategy } from '../scheme.ts';
import { subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';

/** Names carry the signer's, with colons: `example.com:signer:NAME`. */
export const clusterTrustBundle: KindStrategy = {
  validateName: () => [],
  validate(o) {
    const found = new Findings();
    const name: string = o.metadata?.name ?? '';
    for (const problem of nameProblems(name, o.spec?.signerName ?? '')) found.invalid('metadata.name', name, problem);
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    found.immutable('spec.signerName', o.spec?.signerName ?? '', old.spec?.signerName ?? '');
    return found.errors;
  },
  selectableFields: (o) => ({ 'spec.signerName': o.spec?.signerName ?? '' }),
};

function nameProblems(name: string, signerName: string): string[] {
  if (!signerName) return name.includes(':') ? ['ClusterTrustBundle without signer name must not have ":" in its name'] : subdomainProblems(name);
  const prefix = `${signerName.replaceAll('/', ':')}:`;
  if (!name.startsWith(prefix)) return [`ClusterTrustBundle for signerName ${signerName} must be named with prefix ${prefix}`];
  return subdomainProblems(name.slice(prefix.length));
}
