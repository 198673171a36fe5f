import { isIP } from 'node:net';
import { dnsLabel, pathSegmentProblems, subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';

const wildcard = /^\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;

/** What is wrong with a host name that may begin with `*.`. */
export function wildcardProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 253) problems.push('must be no more than 253 characters');
  if (!wildcard.test(name))
    problems.push(
      "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
    );
  return problems;
}

/** What is wrong with a label of DNS in the older sense: it begins with a letter. */
export function rfc1035Problems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 63) problems.push('must be no more than 63 characters');
  if (!/^[a-z]([-a-z0-9]*[a-z0-9])?$/.test(name))
    problems.push(
      "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')",
    );
  return problems;
}

/** A path with a domain before its first slash, as `example.com/ingress`. */
export function validateDomainPath(found: Findings, field: string, value: string): void {
  if (!value) return found.required(field);
  const slash = value.indexOf('/');
  if (slash < 0 || value.length === slash + 1)
    return found.invalid(field, value, 'must be a domain-prefixed path (such as "acme.io/foo")');
  const [host, path] = [value.slice(0, slash), value.slice(slash + 1)];
  for (const problem of subdomainProblems(host)) found.invalid(field, host, problem);
  if (!/^[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/.test(path))
    found.invalid(
      field,
      path,
      "Invalid path (regex used for validation is '[A-Za-z0-9/\\-._~%!$&'()*+,;=:]+')",
    );
}

/** Kind and name of an object elsewhere, which only must fit into a path. */
export function validatePathSegment(found: Findings, field: string, value: string | undefined): void {
  if (!value) found.required(field);
  else found.problems(field, value, pathSegmentProblems);
}

export const addressProblem = 'must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)';
const blockProblem = 'must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)';

/** The shortest text of an IPv6 address. */
export function canonicalAddress(ip: string): string {
  if (isIP(ip) !== 6) return ip;
  return new URL(`http://[${ip}]/`).hostname.slice(1, -1);
}

/** What is wrong with an address in a field that was never strict about its form. */
export function addressProblems(ip: string): string[] {
  return isIP(ip) ? [] : [addressProblem];
}

interface Block {
  family: 4 | 6;
  bits: bigint;
  prefix: number;
}

const toBits = (ip: string): bigint => {
  if (isIP(ip) === 4) return ip.split('.').reduce((n, part) => n * 256n + BigInt(part), 0n);
  const [head = '', tail = ''] = canonicalAddress(ip).split('::');
  const left = head ? head.split(':') : [];
  const right = tail ? tail.split(':') : [];
  const groups = canonicalAddress(ip).includes('::') ? [...left, ...Array(8 - left.length - right.length).fill('0'), ...right] : left;
  return groups.reduce((n, group) => n * 65_536n + BigInt(`0x${group}`), 0n);
};

/** A block of addresses, read; undefined where it is none. */
export function parseBlock(text: string): Block | undefined {
  const [ip = '', prefix = '', ...rest] = text.split('/');
  const family = isIP(ip) as 0 | 4 | 6;
  if (!family || rest.length || !/^\d{1,3}$/.test(prefix) || Number(prefix) > (family === 4 ? 32 : 128)) return undefined;
  return { family, bits: toBits(ip), prefix: Number(prefix) };
}

/** What is wrong with a block of addresses. */
export function blockProblems(text: string): string[] {
  const block = parseBlock(text);
  if (!block) return [blockProblem];
  const host = BigInt((block.family === 4 ? 32 : 128) - block.prefix);
  return (block.bits >> host) << host === block.bits ? [] : ['must not have bits set beyond the prefix length'];
}

/** Does the first block hold all of the second, and more? */
export function strictlyContains(outer: Block, inner: Block): boolean {
  if (outer.family !== inner.family || outer.prefix >= inner.prefix) return false;
  const shift = BigInt((outer.family === 4 ? 32 : 128) - outer.prefix);
  return outer.bits >> shift === inner.bits >> shift;
}

export const isDnsLabel = (name: string): boolean => name.length <= 63 && dnsLabel.test(name);
