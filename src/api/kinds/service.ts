import { canonicalJson } from '../equality.ts';
import type { KindStrategy } from '../scheme.ts';
import { formatLabelSelector } from '../selectors.ts';
import { labelProblems } from '../validation.ts';
import { column, columns, orNone } from './column.ts';
import { validateEndpoints, validateEndpointSlice } from './endpoints-validation.ts';
import { Findings } from './findings.ts';
import { validateService } from './service-validation.ts';
import { specAndStatus } from './spec-and-status.ts';

function externalIp(o: any): string {
  const ingress = (o.status?.loadBalancer?.ingress ?? []).map((i: any) => i.ip || i.hostname).filter(Boolean);
  const external = o.spec?.externalIPs ?? [];
  switch (o.spec?.type) {
    case 'ExternalName':
      return o.spec.externalName ?? '';
    case 'LoadBalancer':
      return [...new Set([...ingress, ...external])].join(',') || '<pending>';
    default:
      return external.join(',') || '<none>';
  }
}
const ports = (o: any) => (o.spec?.ports ?? []).map((p: any) => `${p.port}${p.nodePort ? `:${p.nodePort}` : ''}/${p.protocol}`).join(',') || '<none>';

/** Do clients outside the cluster reach it? */
export const reachableFromOutside = (s: any): boolean =>
  s.type === 'NodePort' || s.type === 'LoadBalancer' || (s.type === 'ClusterIP' && (s.externalIPs ?? []).length > 0);

/** What belongs to the old type goes with it, where the client has left it as it was. */
function dropTypeDependent(s: any, old: any): void {
  const same = (field: string) => canonicalJson(s[field]) === canonicalJson(old[field]);
  if (old.type !== 'ExternalName' && s.type === 'ExternalName')
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy']) if (same(field)) delete s[field];
  const hasPorts = (x: any) => x.type === 'NodePort' || x.type === 'LoadBalancer';
  const nodePorts = (x: any) => new Set((x.ports ?? []).map((p: any) => p.nodePort).filter(Boolean));
  if (hasPorts(old) && !hasPorts(s) && [...nodePorts(s)].every((port) => nodePorts(old).has(port))) for (const port of s.ports ?? []) delete port.nodePort;
  const checked = (x: any) => x.type === 'LoadBalancer' && x.externalTrafficPolicy === 'Local';
  if (checked(old) && !checked(s) && same('healthCheckNodePort')) delete s.healthCheckNodePort;
  if (old.type === 'LoadBalancer' && s.type !== 'LoadBalancer')
    for (const field of ['allocateLoadBalancerNodePorts', 'loadBalancerClass']) if (same(field)) delete s[field];
  if (reachableFromOutside(old) && !reachableFromOutside(s) && same('externalTrafficPolicy')) delete s.externalTrafficPolicy;
}

function serviceWarnings(o: any): string[] {
  const s = o.spec ?? {};
  const warnings: string[] = [];
  const hints = o.metadata?.annotations?.['service.kubernetes.io/topology-aware-hints'];
  if (hints !== undefined)
    warnings.push('annotation service.kubernetes.io/topology-aware-hints is deprecated, please use service.kubernetes.io/topology-mode instead');
  const headless = s.type === 'ClusterIP' && s.clusterIP === 'None';
  const external = (s.externalIPs ?? []).length > 0;
  if (headless) {
    if (s.loadBalancerIP) warnings.push('spec.loadBalancerIP is ignored for headless services');
    if (external) warnings.push('spec.externalIPs is ignored for headless services');
    if (s.sessionAffinity !== 'None') warnings.push('spec.SessionAffinity is ignored for headless services');
  }
  if (external && !headless && s.type !== 'ExternalName')
    warnings.push('spec.externalIPs is deprecated and may no longer be implemented in some clusters');
  if (external && s.type === 'ExternalName') warnings.push('spec.externalIPs is ignored when spec.type is "ExternalName"');
  if (s.type !== 'ExternalName' && s.externalName) warnings.push('spec.externalName is ignored when spec.type is not "ExternalName"');
  if (s.trafficDistribution === 'PreferClose') warnings.push('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"');
  return warnings;
}

export const service: KindStrategy = {
  warnings: serviceWarnings,
  validateName: labelProblems,
  default(o) {
    const s = (o.spec ??= {});
    s.type ??= 'ClusterIP';
    s.sessionAffinity ??= 'None';
    if (s.sessionAffinity === 'None') delete s.sessionAffinityConfig;
    if (s.sessionAffinity === 'ClientIP') {
      s.sessionAffinityConfig ??= { clientIP: {} };
      s.sessionAffinityConfig.clientIP ??= {};
      s.sessionAffinityConfig.clientIP.timeoutSeconds ??= 10_800;
    }
    for (const port of s.ports ?? []) {
      port.protocol ??= 'TCP';
      if (port.targetPort === undefined || port.targetPort === '' || port.targetPort === 0) port.targetPort = port.port;
    }
    if (reachableFromOutside(s)) s.externalTrafficPolicy ??= 'Cluster';
    if (['ClusterIP', 'NodePort', 'LoadBalancer'].includes(s.type)) s.internalTrafficPolicy ??= 'Cluster';
    if (s.type === 'LoadBalancer') s.allocateLoadBalancerNodePorts ??= true;
  },
  prepareForCreate(o) {
    o.status = { loadBalancer: {} };
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
    dropTypeDependent(o.spec, old.spec);
    // A client that does not say keeps what was allocated.
    if (o.spec.type !== 'ExternalName' && old.spec.type !== 'ExternalName') {
      if (!o.spec.clusterIP) o.spec.clusterIP = old.spec.clusterIP;
      if (!o.spec.clusterIPs?.length && o.spec.clusterIP === old.spec.clusterIP) o.spec.clusterIPs = old.spec.clusterIPs;
      o.spec.ipFamilies ??= old.spec.ipFamilies;
      o.spec.ipFamilyPolicy ??= old.spec.ipFamilyPolicy;
    }
    if (
      o.spec.healthCheckNodePort === undefined &&
      o.spec.type === 'LoadBalancer' &&
      o.spec.externalTrafficPolicy === 'Local' &&
      old.spec.healthCheckNodePort
    )
      o.spec.healthCheckNodePort = old.spec.healthCheckNodePort;
    if (o.spec.type === 'NodePort' || o.spec.type === 'LoadBalancer') {
      for (const port of o.spec.ports ?? []) {
        const before = (old.spec.ports ?? []).find((p: any) => p.port === port.port && p.protocol === port.protocol);
        if (!port.nodePort && before?.nodePort) port.nodePort = before.nodePort;
      }
    }
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validate: validateService,
  updateFirst(o, old) {
    const found = new Findings();
    const [s, before] = [o.spec, old.spec];
    const named = s.type === 'ExternalName' || before.type === 'ExternalName';
    if (!named && before.clusterIP && s.clusterIP !== before.clusterIP && !(before.clusterIP === 'None' && s.clusterIP === 'None'))
      found.invalid('spec.clusterIPs[0]', s.clusterIPs ?? null, 'may not change once set');
    if (before.type === 'LoadBalancer' && s.type === 'LoadBalancer' && s.loadBalancerClass !== before.loadBalancerClass)
      found.invalid('spec.loadBalancerClass', s.loadBalancerClass ?? null, 'may not change once set');
    return found.errors;
  },
  selectableFields: (o) => ({ 'spec.clusterIP': o.spec?.clusterIP ?? '', 'spec.type': o.spec?.type ?? '' }),
  columns: [
    ...columns(
      column('Type', (o) => o.spec?.type ?? ''),
      column('Cluster-IP', (o) => orNone(o.spec?.clusterIP)),
      column('External-IP', externalIp),
      column('Port(s)', ports),
    ),
    column('Selector', (o) => formatLabelSelector({ matchLabels: o.spec?.selector ?? {} }), { wide: true }),
  ],
};

const sliceEndpoints = (o: any): string => {
  const all = (o.endpoints ?? []).flatMap((e: any) => e.addresses ?? []);
  if (!all.length) return '<unset>';
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
};
const dropTopology = (o: any) => {
  for (const e of o.endpoints ?? []) delete e.deprecatedTopology;
};
export const endpointSlice: KindStrategy = {
  prepareForCreate(o) {
    o.metadata.generation = 1;
    dropTopology(o);
  },
  prepareForUpdate(o, old) {
    dropTopology(o);
    const content = (x: any) => canonicalJson({ ...x, metadata: { labels: x.metadata?.labels, annotations: x.metadata?.annotations } });
    o.metadata.generation = (old.metadata.generation ?? 0) + (content(o) === content(old) ? 0 : 1);
  },
  validate: validateEndpointSlice,
  validateUpdate: (o, old) =>
    o.addressType === old.addressType ? [] : [{ type: 'FieldValueInvalid', field: 'addressType', value: null, detail: 'field is immutable' }],
  default(o) {
    for (const port of o.ports ?? []) {
      port.name ??= '';
      port.protocol ??= 'TCP';
    }
  },
  columns: columns(
    column('AddressType', (o) => o.addressType ?? ''),
    column('Ports', (o) => (o.ports ?? []).map((p: any) => String(p.port)).join(',') || '<unset>'),
    column('Endpoints', sliceEndpoints),
  ),
};
export const endpoints: KindStrategy = {
  validate: validateEndpoints,
  default(o) {
    for (const subset of o.subsets ?? []) for (const port of subset.ports ?? []) port.protocol ??= 'TCP';
  },
  columns: columns(
    column('Endpoints', (o) => {
      const all: string[] = [];
      for (const s of o.subsets ?? [])
        for (const a of s.addresses ?? []) for (const p of s.ports?.length ? s.ports : [undefined]) all.push(p ? `${a.ip}:${p.port}` : a.ip);
      if (!all.length) return '<none>';
      return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
    }),
  ),
};
