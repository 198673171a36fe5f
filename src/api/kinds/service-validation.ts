import { isIP } from 'node:net';
import type { FieldError } from '../errors.ts';
import { labelProblems, subdomainProblems, validateLabels } from '../validation.ts';
import { Findings, validatePortReference } from './findings.ts';
import { addressProblem, blockProblems } from './names-validation.ts';

const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const protocols = ['SCTP', 'TCP', 'UDP'];
const policies = ['Cluster', 'Local'];

function validateExternalIp(found: Findings, field: string, ip: string): void {
  if (!isIP(ip)) found.invalid(field, ip, addressProblem);
  else if (ip === '0.0.0.0' || ip === '::') found.invalid(field, ip, 'may not be unspecified (0.0.0.0 or ::)');
  else if (ip.startsWith('127.') || ip === '::1') found.invalid(field, ip, 'may not be in the loopback range (127.0.0.0/8, ::1/128)');
  else if (ip.startsWith('169.254.')) found.invalid(field, ip, 'may not be in the link-local range (169.254.0.0/16, fe80::/10)');
}

function validatePorts(found: Findings, s: any): void {
  const names = new Set<string>();
  const seen = new Set<string>();
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
    if (p.targetPort !== undefined) validatePortReference(found, `${at}.targetPort`, p.targetPort);
  });
  (s.ports ?? []).forEach((p: any, i: number) => {
    if (p.nodePort && s.type === 'ClusterIP') found.forbidden(`spec.ports[${i}].nodePort`, "may not be used when `type` is 'ClusterIP'");
  });
  (s.ports ?? []).forEach((p: any, i: number) => {
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
  if (s.type === 'ExternalName') {
    if (!s.externalName) found.required('spec.externalName');
    else found.problems('spec.externalName', s.externalName.replace(/\.$/, ''), subdomainProblems);
  }
  validatePorts(found, s);
  found.errors.push(...validateLabels(s.selector, 'spec.selector'));
  if (s.clusterIP && s.clusterIP !== 'None' && !isIP(s.clusterIP)) found.invalid('spec.clusterIPs[0]', s.clusterIP, addressProblem);
  found.oneOf('spec.sessionAffinity', s.sessionAffinity, ['ClientIP', 'None']);
  const seconds = s.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (s.sessionAffinity === 'ClientIP' && seconds !== undefined && !(seconds > 0 && seconds <= 86_400))
    found.invalid('spec.sessionAffinityConfig.clientIP.timeoutSeconds', seconds, 'must be greater than 0 and less than 86400');
  (s.externalIPs ?? []).forEach((ip: string, i: number) => {
    validateExternalIp(found, `spec.externalIPs[${i}]`, ip);
  });
  found.oneOf('spec.type', s.type, types);
  if (s.loadBalancerSourceRanges?.length) {
    const at = 'spec.LoadBalancerSourceRanges';
    if (s.type !== 'LoadBalancer') found.forbidden(at, "may only be used when `type` is 'LoadBalancer'");
    s.loadBalancerSourceRanges.forEach((block: string, i: number) => {
      found.problems(`${at}[${i}]`, block, blockProblems);
    });
  }
  const reachable = s.type === 'NodePort' || s.type === 'LoadBalancer' || s.externalIPs?.length;
  if (s.externalTrafficPolicy) {
    if (!reachable) found.invalid('spec.externalTrafficPolicy', s.externalTrafficPolicy, 'may only be set for externally-accessible services');
    else found.oneOf('spec.externalTrafficPolicy', s.externalTrafficPolicy, policies);
  }
  if (s.internalTrafficPolicy) found.oneOf('spec.internalTrafficPolicy', s.internalTrafficPolicy, policies);
  return found.errors;
}
