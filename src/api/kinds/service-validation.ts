import { isIP } from 'node:net';
import type { FieldError } from '../errors.ts';
import { labelProblems, qualifiedNameProblems, subdomainProblems, validateLabels } from '../validation.ts';
import { Findings, validatePortReference } from './findings.ts';
import { addressProblem, blockProblems } from './names-validation.ts';

const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const protocols = ['SCTP', 'TCP', 'UDP'];
const policies = ['Cluster', 'Local'];
const notExternal = 'may not be set for ExternalName services';

function validateExternalIp(found: Findings, field: string, ip: string): void {
  if (!isIP(ip)) found.invalid(field, ip, addressProblem);
  else if (ip === '0.0.0.0' || ip === '::') found.invalid(field, ip, 'may not be unspecified (0.0.0.0 or ::)');
  else if (ip.startsWith('127.') || ip === '::1') found.invalid(field, ip, 'may not be in the loopback range (127.0.0.0/8, ::1/128)');
  else if (ip.startsWith('169.254.')) found.invalid(field, ip, 'may not be in the link-local range (169.254.0.0/16, fe80::/10)');
}

function validatePorts(found: Findings, s: any): void {
  const names = new Set<string>();
  (s.ports ?? []).forEach((p: any, i: number) => {
    const at = `spec.ports[${i}]`;
    if (p.name) {
      const problems = labelProblems(p.name);
      for (const detail of problems) found.invalid(`${at}.name`, p.name, detail);
      if (!problems.length && names.has(p.name)) found.duplicate(`${at}.name`, p.name);
      names.add(p.name);
    } else if (s.ports.length > 1) found.required(`${at}.name`);
    found.port(`${at}.port`, p.port);
    found.oneOf(`${at}.protocol`, p.protocol, protocols);
    validatePortReference(found, `${at}.targetPort`, p.targetPort ?? 0);
    if (p.appProtocol !== undefined) found.problems(`${at}.appProtocol`, p.appProtocol, qualifiedNameProblems);
  });
}

/** A port and protocol, or a node port and protocol, can stand there once. */
function duplicatePorts(found: Findings, s: any): void {
  const ports: any[] = s.ports ?? [];
  const seenNodePorts = new Set<string>();
  ports.forEach((p, i) => {
    if (!p.nodePort) return;
    const key = `${p.protocol}/${p.nodePort}`;
    if (seenNodePorts.has(key)) found.duplicate(`spec.ports[${i}].nodePort`, p.nodePort);
    seenNodePorts.add(key);
  });
  const seen = new Set<string>();
  ports.forEach((p, i) => {
    const key = `${p.protocol}/${p.port}`;
    if (seen.has(key))
      found.duplicate(`spec.ports[${i}]`, { Name: '', Protocol: p.protocol, AppProtocol: null, Port: p.port, TargetPort: 0, NodePort: 0 });
    seen.add(key);
  });
}

export function validateService(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (!(s.ports ?? []).length && s.clusterIP !== 'None' && s.type !== 'ExternalName') found.required('spec.ports');
  const headless = s.clusterIP === 'None';
  if (headless && (s.type === 'LoadBalancer' || s.type === 'NodePort'))
    found.invalid('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${s.type} services`);
  if (s.type === 'ExternalName') {
    if (s.clusterIPs?.length || s.clusterIP) found.forbidden('spec.clusterIPs', notExternal);
    if (s.ipFamilies?.length) found.forbidden('spec.ipFamilies', notExternal);
    if (s.ipFamilyPolicy !== undefined) found.forbidden('spec.ipFamilyPolicy', notExternal);
    if (!s.externalName) found.required('spec.externalName');
    else found.problems('spec.externalName', s.externalName.replace(/\.$/, ''), subdomainProblems);
  }
  validatePorts(found, s);
  found.errors.push(...validateLabels(s.selector, 'spec.selector'));
  found.oneOf('spec.sessionAffinity', s.sessionAffinity, ['ClientIP', 'None']);
  const seconds = s.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (s.sessionAffinity === 'ClientIP' && seconds !== undefined && !(seconds > 0 && seconds <= 86_400))
    found.invalid('spec.sessionAffinityConfig.clientIP.timeoutSeconds', seconds, 'must be greater than 0 and less than 86400');
  (s.externalIPs ?? []).forEach((ip: string, i: number) => {
    validateExternalIp(found, `spec.externalIPs[${i}]`, ip);
  });
  found.oneOf('spec.type', s.type, types);
  (s.ports ?? []).forEach((p: any, i: number) => {
    if (p.nodePort && s.type === 'ClusterIP') found.forbidden(`spec.ports[${i}].nodePort`, "may not be used when `type` is 'ClusterIP'");
  });
  duplicatePorts(found, s);
  if (s.loadBalancerSourceRanges?.length) {
    const at = 'spec.LoadBalancerSourceRanges';
    if (s.type !== 'LoadBalancer') found.forbidden(at, "may only be used when `type` is 'LoadBalancer'");
    s.loadBalancerSourceRanges.forEach((block: string, i: number) => {
      found.problems(`${at}[${i}]`, block.trim(), blockProblems);
    });
  }
  if (s.allocateLoadBalancerNodePorts !== undefined && s.type !== 'LoadBalancer')
    found.forbidden('spec.allocateLoadBalancerNodePorts', "may only be used when `type` is 'LoadBalancer'");
  if (s.type === 'LoadBalancer') {
    if (s.loadBalancerClass !== undefined) found.problems('spec.loadBalancerClass', s.loadBalancerClass, qualifiedNameProblems);
  } else if (s.loadBalancerClass !== undefined) found.forbidden('spec.loadBalancerClass', "may only be used when `type` is 'LoadBalancer'");
  if (s.internalTrafficPolicy !== undefined) found.oneOf('spec.internalTrafficPolicy', s.internalTrafficPolicy, policies);
  const reachable = s.type === 'NodePort' || s.type === 'LoadBalancer' || (s.type === 'ClusterIP' && s.externalIPs?.length);
  if (!reachable && s.externalTrafficPolicy)
    found.invalid('spec.externalTrafficPolicy', s.externalTrafficPolicy, 'may only be set for externally-accessible services');
  else if (reachable) found.oneOf('spec.externalTrafficPolicy', s.externalTrafficPolicy, policies);
  const checked = s.type === 'LoadBalancer' && s.externalTrafficPolicy === 'Local';
  if (!checked && s.healthCheckNodePort) {
    const detail = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
    found.invalid('spec.healthCheckNodePort', s.healthCheckNodePort, detail);
  } else if (checked && s.healthCheckNodePort) found.port('spec.healthCheckNodePort', s.healthCheckNodePort);
  if (s.trafficDistribution !== undefined)
    found.oneOf('spec.trafficDistribution', s.trafficDistribution, ['PreferClose', 'PreferSameZone', 'PreferSameNode']);
  return found.errors;
}
