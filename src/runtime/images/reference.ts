import { RuntimeError } from '../cri.ts';

/** An image's name taken apart. `domain` and `repository` are normalised: `busybox` is `docker.io` and `library/busybox`. */
export interface ImageReference {
  domain: string;
  repository: string;
  tag?: string;
  /** `sha256:…` */
  digest?: string;
}

const digestPattern = /^[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}$/;
const pathPattern = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const domainPattern =
  /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?$/;
const tagPattern = /^[\w][\w.-]{0,127}$/;

/**
 * Parses `[domain/]path[:tag][@digest]` by the rules of the distribution project's reference grammar. Without tag and
 * digest the tag is `latest`. Throws InvalidArgument with the words that kubectl users know from InvalidImageName.
 */
export function parseReference(name: string): ImageReference {
  const invalid = (why: string): RuntimeError =>
    new RuntimeError('InvalidArgument', `couldn't parse image name "${name}": invalid reference format: ${why}`);
  let rest = name;
  let digest: string | undefined;
  const at = rest.indexOf('@');
  if (at >= 0) {
    digest = rest.slice(at + 1);
    rest = rest.slice(0, at);
    if (!digestPattern.test(digest)) throw invalid('bad digest');
  }
  let tag: string | undefined;
  const colon = rest.lastIndexOf(':');
  if (colon > rest.lastIndexOf('/')) {
    tag = rest.slice(colon + 1);
    rest = rest.slice(0, colon);
    if (!tagPattern.test(tag)) throw invalid('bad tag');
  }
  let domain = 'docker.io';
  const slash = rest.indexOf('/');
  const first = slash < 0 ? '' : rest.slice(0, slash);
  if (first === 'localhost' || /[.:A-Z]/.test(first)) {
    domain = first;
    rest = rest.slice(slash + 1);
    if (!domainPattern.test(domain)) throw invalid('bad domain');
  }
  if (domain === 'index.docker.io') domain = 'docker.io';
  if (/[A-Z]/.test(rest)) throw invalid('repository name must be lowercase');
  if (!pathPattern.test(rest) || domain.length + 1 + rest.length > 255) throw invalid('bad repository name');
  if (domain === 'docker.io' && !rest.includes('/')) rest = 'library/' + rest;
  if (!tag && !digest) tag = 'latest';
  return { domain, repository: rest, ...(tag && { tag }), ...(digest && { digest }) };
}

/** `docker.io/library/busybox:1.36` */
export function tagName(ref: ImageReference): string | undefined {
  return ref.tag && `${ref.domain}/${ref.repository}:${ref.tag}`;
}

/** `docker.io/library/busybox@sha256:…` */
export function digestName(ref: ImageReference, digest: string): string {
  return `${ref.domain}/${ref.repository}@${digest}`;
}
