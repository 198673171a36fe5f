import { isIP } from 'node:net';
import type { FieldError } from '../errors.ts';
import { labelProblems, labelValueProblems, qualifiedNameProblems, subdomainProblems, validateLabels } from '../validation.ts';
import { Findings } from './findings.ts';
import { addressProblems, canonicalAddress } from './names-validation.ts';

const protocols = ['SCTP', 'TCP', 'UDP'];

/** Addresses at which no endpoint can be. */
function validateEndpointAddress(found: Findings, ip: string, field: string): void {
  if (!isIP(ip)) return found.invalid(field, ip, 'must be a valid IP address');
  const short = canonicalAddress(ip);
  if (short === '0.0.0.0' || short === '::') found.invalid(field, ip, `may not be unspecified (${ip})`);
  if (short.startsWith('127.') || short === '::1') found.invalid(field, ip, 'may not be in the loopback range (127.0.0.0/8, ::1/128)');
  if (short.startsWith('169.254.') || /^fe[89ab]/.test(short))
    found.invalid(field, ip, 'may not be in the link-local range (169.254.0.0/16, fe80::/10)');
  if (short.startsWith('224.0.0.') || short.startsWith('ff02:'))
    found.invalid(field, ip, 'may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)');
}

export function validateEndpoints(o: any): FieldError[] {
  const found = new Findings();
  (o.subsets ?? []).forEach((s: any, i: number) => {
    const at = `subsets[${i}]`;
    if (!s.addresses?.length && !s.notReadyAddresses?.length) found.required(at, 'must specify `addresses` or `notReadyAddresses`');
    for (const list of ['addresses', 'notReadyAddresses'])
      (s[list] ?? []).forEach((a: any, j: number) => {
        const path = `${at}.${list}[${j}]`;
        found.problems(`${path}.ip`, a.ip ?? '', addressProblems);
        if (a.hostname) found.problems(`${path}.hostname`, a.hostname, labelProblems);
        if (a.nodeName !== undefined) found.problems(`${path}.nodeName`, a.nodeName, subdomainProblems);
        validateEndpointAddress(found, a.ip ?? '', `${path}.ip`);
      });
    const ports = s.ports ?? [];
    ports.forEach((p: any, j: number) => {
      const path = `${at}.ports[${j}]`;
      if (p.name) found.problems(`${path}.name`, p.name, labelProblems);
      else if (ports.length > 1) found.required(`${path}.name`);
      found.port(`${path}.port`, p.port);
      found.oneOf(`${path}.protocol`, p.protocol, protocols);
      if (p.appProtocol !== undefined) found.problems(`${path}.appProtocol`, p.appProtocol, qualifiedNameProblems);
    });
  });
  return found.errors;
}

const mostAddresses = 100;
const mostEndpoints = 1000;
const mostHints = 8;
const mostLabels = 16;

function validateHints(found: Findings, hints: any, at: string): void {
  for (const [list, check] of [
    ['forZones', labelValueProblems],
    ['forNodes', subdomainProblems],
  ] as const) {
    const items = hints[list] ?? [];
    if (items.length > mostHints) return found.tooMany(`${at}.${list}`, items.length, mostHints);
    const names = new Set<string>();
    items.forEach((item: any, i: number) => {
      const name = item.name ?? '';
      if (names.has(name)) found.duplicate(`${at}.${list}[${i}].name`, name);
      names.add(name);
      found.problems(`${at}.${list}[${i}].name`, name, check);
    });
  }
}

export function validateEndpointSlice(o: any): FieldError[] {
  const found = new Findings();
  const declared = new Findings();
  const names = new Set<string>();
  (o.ports ?? []).forEach((p: any, i: number) => {
    const at = `ports[${i}]`;
    if (p.name) found.problems(`${at}.name`, p.name, labelProblems);
    if (names.has(p.name)) found.duplicate(`${at}.name`, p.name);
    names.add(p.name);
    found.oneOf(`${at}.protocol`, p.protocol, protocols);
    if (p.appProtocol !== undefined) found.problems(`${at}.appProtocol`, p.appProtocol, qualifiedNameProblems);
  });
  if (!o.addressType) declared.required('addressType');
  else declared.oneOf('addressType', o.addressType, ['FQDN', 'IPv4', 'IPv6']);
  const endpoints = o.endpoints ?? [];
  if (endpoints.length > mostEndpoints) {
    found.tooMany('endpoints', endpoints.length, mostEndpoints);
    return [...found.errors, ...declared.errors];
  }
  endpoints.forEach((e: any, i: number) => {
    validateOne(found, declared, e, o.addressType, `endpoints[${i}]`);
  });
  return [...found.errors, ...declared.errors];
}

function validateOne(found: Findings, declared: Findings, e: any, type: string, at: string): void {
  const addresses = e.addresses ?? [];
  if (!addresses.length) declared.required(`${at}.addresses`);
  else if (addresses.length > mostAddresses) declared.tooMany(`${at}.addresses`, addresses.length, mostAddresses);
  addresses.forEach((ip: string, j: number) => {
    const field = `${at}.addresses[${j}]`;
    if (type === 'IPv4' || type === 'IPv6') {
      const problems = addressProblems(ip);
      for (const detail of problems) found.invalid(field, ip, detail);
      if (problems.length) return;
      if (isIP(ip) !== (type === 'IPv4' ? 4 : 6)) found.invalid(`${at}.addresses`, ip, `must be an ${type} address`);
      validateEndpointAddress(found, ip, field);
    } else if (type === 'FQDN') {
      const name = ip.endsWith('.') ? ip.slice(0, -1) : ip;
      for (const detail of subdomainProblems(name)) found.invalid(field, name, detail);
      if (!name.includes('.')) found.invalid(field, ip, 'should be a domain with at least two segments separated by dots');
    }
  });
  if (e.nodeName !== undefined) found.problems(`${at}.nodeName`, e.nodeName, subdomainProblems);
  const topology = e.deprecatedTopology ?? {};
  if (Object.keys(topology).length > mostLabels) found.tooMany(`${at}.deprecatedTopology`, Object.keys(topology).length, mostLabels);
  found.errors.push(...validateLabels(topology, `${at}.deprecatedTopology`));
  if (e.hostname !== undefined) found.problems(`${at}.hostname`, e.hostname, labelProblems);
  if (e.hints) validateHints(found, e.hints, `${at}.hints`);
}
