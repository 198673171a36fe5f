import { isIP } from 'node:net';
import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { labelProblems, subdomainProblems } from '../validation.ts';
import { ageColumn, column, columns, nameColumn } from './column.ts';
import { Findings, portNameProblems, validatePortReference } from './findings.ts';
import { blockProblems, canonicalAddress, parseBlock, strictlyContains, validateDomainPath, validatePathSegment, wildcardProblems } from './names-validation.ts';
import { validateLabelSelector } from './scheduling-validation.ts';
import { generationOfSpec, specAndStatus } from './spec-and-status.ts';
import { formatLabelSelector } from '../selectors.ts';

function validateBackend(found: Findings, backend: any, at: string): void {
  const { service, resource } = backend ?? {};
  if (service && resource) return found.invalid(at, '', 'cannot set both resource and service backends');
  if (resource) {
    if (resource.apiGroup !== undefined && resource.apiGroup !== null) found.problems(`${at}.resource.apiGroup`, resource.apiGroup, subdomainProblems);
    validatePathSegment(found, `${at}.resource.kind`, resource.kind);
    return validatePathSegment(found, `${at}.resource.name`, resource.name);
  }
  if (!service) return found.invalid(at, '', 'resource or service backend is required');
  found.name(`${at}.service.name`, service.name, labelProblems);
  const { name, number } = service.port ?? {};
  if (name && number) found.invalid(at, '', 'cannot set both port name & port number');
  else if (name) found.problems(`${at}.service.port.name`, name, portNameProblems);
  else if (number) found.port(`${at}.service.port.number`, number);
  else found.required(at, 'port name or number is required');
}

const badParts = ['//', '/./', '/../', '%2f', '%2F'];
const badEnds = ['/..', '/.'];

function validatePath(found: Findings, path: any, at: string): void {
  const { pathType } = path;
  const text: string = path.path ?? '';
  if (pathType === undefined || pathType === null) return found.required(`${at}.pathType`, 'pathType must be specified');
  if (pathType === 'Exact' || pathType === 'Prefix') {
    if (!text.startsWith('/')) found.invalid(`${at}.path`, text, 'must be an absolute path');
    for (const part of badParts) if (text.includes(part)) found.invalid(`${at}.path`, text, `must not contain '${part}'`);
    for (const end of badEnds) if (text.endsWith(end)) found.invalid(`${at}.path`, text, `cannot end with '${end}'`);
  } else if (pathType === 'ImplementationSpecific') {
    if (text && !text.startsWith('/')) found.invalid(`${at}.path`, text, 'must be an absolute path');
  } else found.oneOf(`${at}.pathType`, pathType, ['Exact', 'ImplementationSpecific', 'Prefix']);
  validateBackend(found, path.backend, `${at}.backend`);
}

function validateIngress(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (!s.rules?.length && !s.defaultBackend) found.invalid('spec', null, 'either `defaultBackend` or `rules` must be specified');
  if (s.defaultBackend) validateBackend(found, s.defaultBackend, 'spec.defaultBackend');
  (s.rules ?? []).forEach((rule: any, i: number) => {
    const at = `spec.rules[${i}]`;
    if (rule.host) {
      if (isIP(rule.host)) found.invalid(`${at}.host`, rule.host, 'must be a DNS name, not an IP address');
      found.problems(`${at}.host`, rule.host, rule.host.includes('*') ? wildcardProblems : subdomainProblems);
    }
    if (!rule.http) return;
    if (!rule.http.paths?.length) found.required(`${at}.http.paths`);
    (rule.http.paths ?? []).forEach((path: any, j: number) => {
      validatePath(found, path, `${at}.http.paths[${j}]`);
    });
  });
  (s.tls ?? []).forEach((tls: any, i: number) => {
    (tls.hosts ?? []).forEach((host: string, j: number) => {
      found.problems(`spec.tls[${i}].hosts[${j}]`, host, host.includes('*') ? wildcardProblems : subdomainProblems);
    });
    if (tls.secretName) found.problems(`spec.tls[${i}].secretName`, tls.secretName, subdomainProblems);
  });
  if (typeof s.ingressClassName === 'string') found.problems('spec.ingressClassName', s.ingressClassName, subdomainProblems);
  return found.errors;
}

const classAnnotation = 'kubernetes.io/ingress.class';
const addressesOf = (o: any): string => {
  const list = (o.status?.loadBalancer?.ingress ?? []).map((i: any) => i.ip || i.hostname).filter(Boolean);
  return [...new Set(list)].join(',');
};

export const ingress: KindStrategy = {
  ...specAndStatus,
  prepareForCreate(o, ctx) {
    specAndStatus.prepareForCreate(o, ctx);
    o.status = { loadBalancer: {} };
  },
  validate: validateIngress,
  validateCreate(o) {
    const found = new Findings();
    const annotation = o.metadata?.annotations?.[classAnnotation];
    const name = o.spec?.ingressClassName;
    if (annotation !== undefined && name !== undefined && annotation !== name)
      found.invalid(`annotations.${classAnnotation}`, annotation, 'must match `ingressClassName` when both are specified');
    return found.errors;
  },
  warnings(o) {
    const warnings: string[] = [];
    if (o.metadata?.annotations?.[classAnnotation] !== undefined)
      warnings.push(`annotation "${classAnnotation}" is deprecated, please use 'spec.ingressClassName' instead`);
    return warnings;
  },
  columns: [
    nameColumn,
    column('Class', (o) => o.spec?.ingressClassName ?? o.metadata?.annotations?.[classAnnotation] ?? '<none>'),
    column('Hosts', (o) => {
      const hosts = (o.spec?.rules ?? []).map((r: any) => r.host).filter(Boolean);
      if (!hosts.length) return '*';
      return hosts.length > 3 ? `${hosts.slice(0, 3).join(',')} + ${hosts.length - 3} more...` : hosts.join(',');
    }),
    column('Address', addressesOf),
    column('Ports', (o) => (o.spec?.tls?.length ? '80, 443' : '80')),
    ageColumn,
  ],
};

const longestController = 250;

function validateParameters(found: Findings, p: any, at: string): void {
  if (!p) return;
  const declared = new Findings();
  if (p.apiGroup !== undefined && p.apiGroup !== null) found.problems(`${at}.apiGroup`, p.apiGroup, subdomainProblems);
  validatePathSegment(p.kind ? found : declared, `${at}.kind`, p.kind);
  validatePathSegment(p.name ? found : declared, `${at}.name`, p.name);
  if (p.scope !== 'Cluster' && p.scope !== 'Namespace') found.oneOf(`${at}.scope`, p.scope, ['Cluster', 'Namespace']);
  else if (p.scope === 'Namespace') {
    if (p.namespace === undefined) found.required(`${at}.namespace`, "`parameters.scope` is set to 'Namespace'");
    else found.problems(`${at}.namespace`, p.namespace, labelProblems);
  } else if (p.namespace !== undefined) found.forbidden(`${at}.namespace`, "`parameters.scope` is set to 'Cluster'");
  found.errors.push(...declared.errors);
}

export const ingressClass: KindStrategy = {
  ...generationOfSpec,
  default(o) {
    if (o.spec?.parameters) o.spec.parameters.scope ??= 'Cluster';
  },
  validate(o) {
    const found = new Findings();
    const controller = o.spec?.controller ?? '';
    if (controller.length > longestController) found.tooLong('spec.controller', `may not be more than ${longestController} bytes`);
    validateDomainPath(found, 'spec.controller', controller);
    validateParameters(found, o.spec?.parameters, 'spec.parameters');
    return found.errors;
  },
  updateFirst(o, old) {
    const found = new Findings();
    found.immutable('spec.controller', o.spec?.controller ?? '', old.spec?.controller ?? '');
    return found.errors;
  },
  columns: columns(
    column('Controller', (o) => o.spec?.controller ?? ''),
    column('Parameters', (o) => {
      const p = o.spec?.parameters;
      if (!p) return '<none>';
      return `${p.kind}${p.apiGroup ? `.${p.apiGroup}` : ''}/${p.name}`;
    }),
  ),
};

function validatePolicyPort(found: Findings, port: any, at: string): void {
  if (port.protocol !== undefined) found.oneOf(`${at}.protocol`, port.protocol, ['TCP', 'UDP', 'SCTP']);
  if (port.port === undefined) {
    if (port.endPort !== undefined) found.invalid(`${at}.endPort`, port.endPort, 'may not be specified when `port` is not specified');
    return;
  }
  if (typeof port.port === 'string') {
    if (port.endPort !== undefined) found.invalid(`${at}.endPort`, port.endPort, 'may not be specified when `port` is non-numeric');
    return validatePortReference(found, `${at}.port`, port.port);
  }
  validatePortReference(found, `${at}.port`, port.port);
  if (port.endPort === undefined) return;
  if (port.endPort < port.port) found.invalid(`${at}.endPort`, port.endPort, 'must be greater than or equal to `port`');
  found.port(`${at}.endPort`, port.endPort);
}

function validatePeer(found: Findings, declared: Findings, peer: any, at: string): void {
  for (const selector of ['podSelector', 'namespaceSelector']) if (peer[selector]) validateLabelSelector(found, peer[selector], `${at}.${selector}`);
  const block = peer.ipBlock;
  if (block && !block.cidr) declared.required(`${at}.ipBlock.cidr`);
  else if (block) {
    found.problems(`${at}.ipBlock.cidr`, block.cidr, blockProblems);
    const outer = parseBlock(block.cidr);
    (outer ? (block.except ?? []) : []).forEach((except: string, i: number) => {
      found.problems(`${at}.ipBlock.except[${i}]`, except, blockProblems);
      const inner = parseBlock(except);
      if (inner && !strictlyContains(outer!, inner)) found.invalid(`${at}.ipBlock.except[${i}]`, except, 'must be a strict subset of `cidr`');
    });
  }
  if (!peer.podSelector && !peer.namespaceSelector && !block) found.required(at, 'must specify a peer');
  else if (block && (peer.podSelector || peer.namespaceSelector)) found.forbidden(at, 'may not specify both ipBlock and another peer');
}

function validateNetworkPolicy(o: any): FieldError[] {
  const found = new Findings();
  const declared = new Findings();
  const s = o.spec ?? {};
  validateLabelSelector(found, s.podSelector ?? {}, 'spec.podSelector');
  for (const [rules, peers] of [
    ['ingress', 'from'],
    ['egress', 'to'],
  ] as const) {
    (s[rules] ?? []).forEach((rule: any, i: number) => {
      (rule.ports ?? []).forEach((port: any, j: number) => {
        validatePolicyPort(found, port, `spec.${rules}[${i}].ports[${j}]`);
      });
      (rule[peers] ?? []).forEach((peer: any, j: number) => {
        validatePeer(found, declared, peer, `spec.${rules}[${i}].${peers}[${j}]`);
      });
    });
  }
  const types = s.policyTypes ?? [];
  if (types.length > 2) found.invalid('spec.policyTypes', types, 'may not specify more than two policyTypes');
  else
    types.forEach((type: string, i: number) => {
      found.oneOf(`spec.policyTypes[${i}]`, type, ['Ingress', 'Egress']);
    });
  return [...found.errors, ...declared.errors];
}

export const networkPolicy: KindStrategy = {
  ...generationOfSpec,
  default(o) {
    o.spec ??= {};
    if (!o.spec.policyTypes?.length) o.spec.policyTypes = o.spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
    for (const rule of [...(o.spec.ingress ?? []), ...(o.spec.egress ?? [])]) for (const port of rule.ports ?? []) port.protocol ??= 'TCP';
  },
  validate: validateNetworkPolicy,
  columns: columns(column('Pod-Selector', (o) => formatLabelSelector(o.spec?.podSelector))),
};

/** The name is the address itself, in its shortest form. */
function addressNameProblems(name: string): string[] {
  if (!isIP(name)) return ['must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)'];
  return canonicalAddress(name) === name ? [] : [`must be in canonical form ("${canonicalAddress(name)}")`];
}

export const ipAddress: KindStrategy = {
  validateName: addressNameProblems,
  validate(o) {
    const found = new Findings();
    const declared = new Findings();
    const parent = o.spec?.parentRef;
    const at = 'spec.parentRef';
    if (!parent) declared.required(at);
    else {
      if (parent.group) found.problems(`${at}.group`, parent.group, subdomainProblems);
      validatePathSegment(parent.resource ? found : declared, `${at}.resource`, parent.resource);
      validatePathSegment(parent.name ? found : declared, `${at}.name`, parent.name);
      if (parent.namespace) validatePathSegment(found, `${at}.namespace`, parent.namespace);
    }
    return [...found.errors, ...declared.errors];
  },
  validateUpdate(o, old) {
    const found = new Findings();
    if (canonicalJson(o.spec?.parentRef) !== canonicalJson(old.spec?.parentRef)) found.invalid('spec.parentRef', null, 'field is immutable');
    return found.errors;
  },
  rows: { beyond: (o) => [ageColumn.cell(o)] },
  columns: [
    nameColumn,
    column('ParentRef', (o) => {
      const p = o.spec?.parentRef;
      return p ? [p.resource + (p.group ? `.${p.group}` : ''), p.namespace, p.name].filter(Boolean).join('/') : '';
    }),
  ],
};

function validateBlocks(found: Findings, blocks: string[]): void {
  const at = 'spec.cidrs';
  if (!blocks.length) return found.required(at, 'at least one CIDR required');
  if (blocks.length > 2) return found.invalid(at, { CIDRs: blocks }, 'may only hold up to 2 values');
  blocks.forEach((block, i) => {
    found.problems(`${at}[${i}]`, block, blockProblems);
  });
  const [first, second] = blocks.map(parseBlock);
  if (first && second && first.family === second.family)
    found.invalid(at, blocks, 'may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64');
}

export const serviceCidr: KindStrategy = {
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validateCreate(o) {
    const found = new Findings();
    validateBlocks(found, o.spec?.cidrs ?? []);
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    const now: string[] = o.spec?.cidrs ?? [];
    const before: string[] = old.spec?.cidrs ?? [];
    const at = 'spec.cidrs';
    if (now.length === before.length)
      before.forEach((block, i) => {
        if (block !== now[i]) found.invalid(`${at}[${i}]`, now[i], 'field is immutable');
      });
    else if (before.length === 1 && now.length === 2) {
      if (now[0] !== before[0]) found.invalid(`${at}[0]`, now[0], 'field is immutable');
      validateBlocks(found, now);
    } else found.invalid(at, o.spec?.cidrs ?? null, 'field is immutable');
    return found.errors;
  },
  columns: columns(column('CIDRs', (o) => (o.spec?.cidrs ?? []).join(','))),
};
