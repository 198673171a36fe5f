import { isIP } from 'node:net';
import type { FieldError } from '../errors.ts';
import { labelProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { validateContainers, validateHooksAndProbes, validateHostPorts } from './container-validation.ts';
import { Findings } from './findings.ts';
import { validateScheduling } from './scheduling-validation.ts';
import { validateVolumes } from './volume-validation.ts';

const largestId = 2_147_483_647;
const addressProblems = (ip: string): string[] => (isIP(ip) ? [] : ['must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']);
const searchProblems = (name: string): string[] =>
  name === '.' || /^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$/.test(name.replace(/\.$/, ''))
    ? []
    : [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
      ];

/** Findings about a PodSpec at a path, in upstream's words. */
export function validatePodSpec(spec: any, path: string, podName?: string): FieldError[] {
  const found = new Findings();
  if (!spec) {
    found.required(`${path}.containers`);
    return found.errors;
  }
  const volumes = validateVolumes(found, spec.volumes ?? [], `${path}.volumes`, podName);
  const names = new Set<string>();
  const containers = spec.containers ?? [];
  if (!containers.length) found.required(`${path}.containers`);
  validateContainers(found, containers, `${path}.containers`, spec, names, volumes);
  containers.forEach((c: any, i: number) => {
    validateHooksAndProbes(found, c, `${path}.containers[${i}]`);
  });
  validateHostPorts(found, containers, `${path}.containers`);
  validateInitContainers(found, spec, `${path}.initContainers`, names, volumes);
  if (spec.restartPolicy) found.oneOf(`${path}.restartPolicy`, spec.restartPolicy, ['Always', 'OnFailure', 'Never']);
  if (spec.dnsPolicy) found.oneOf(`${path}.dnsPolicy`, spec.dnsPolicy, ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None']);
  validatePodSecurity(found, spec, path);
  validateScheduling(found, spec, path);
  validateDns(found, spec, path);
  if (spec.activeDeadlineSeconds !== undefined) found.between(`${path}.activeDeadlineSeconds`, spec.activeDeadlineSeconds, 1, largestId);
  if (spec.serviceAccountName) found.problems(`${path}.serviceAccountName`, spec.serviceAccountName, subdomainProblems);
  if (spec.nodeName) found.problems(`${path}.nodeName`, spec.nodeName, subdomainProblems);
  if (spec.hostname) found.problems(`${path}.hostname`, spec.hostname, labelProblems);
  if (spec.subdomain) found.problems(`${path}.subdomain`, spec.subdomain, labelProblems);
  (spec.hostAliases ?? []).forEach((alias: any, i: number) => {
    found.problems(`${path}.hostAliases[${i}].ip`, alias.ip ?? '', addressProblems);
    (alias.hostnames ?? []).forEach((name: string, j: number) => {
      found.problems(`${path}.hostAliases[${i}].hostnames[${j}]`, name, subdomainProblems);
    });
  });
  (spec.readinessGates ?? []).forEach((gate: any, i: number) => {
    found.problems(`${path}.readinessGates[${i}].conditionType`, gate.conditionType ?? '', qualifiedNameProblems);
  });
  if (spec.hostnameOverride !== undefined) {
    if (spec.hostnameOverride.length > 64) found.tooLong(`${path}.hostnameOverride`, 'may not be more than 64 bytes');
    found.problems(`${path}.hostnameOverride`, spec.hostnameOverride, subdomainProblems);
  }
  if (spec.runtimeClassName !== undefined) found.problems(`${path}.runtimeClassName`, spec.runtimeClassName, subdomainProblems);
  if (spec.preemptionPolicy !== undefined) found.oneOf(`${path}.preemptionPolicy`, spec.preemptionPolicy, ['PreemptLowerPriority', 'Never']);
  if (spec.os) {
    if (!spec.os.name) found.required(`${path}.os.name`);
    else found.oneOf(`${path}.os.name`, spec.os.name, ['linux', 'windows']);
  }
  if (spec.priorityClassName) found.problems(`${path}.priorityClassName`, spec.priorityClassName, subdomainProblems);
  return found.errors;
}

function validateInitContainers(found: Findings, spec: any, path: string, names: Set<string>, volumes: Map<string, any>): void {
  const containers = spec.initContainers ?? [];
  validateContainers(found, containers, path, spec, names, volumes);
  containers.forEach((c: any, i: number) => {
    const at = `${path}[${i}]`;
    if (c.restartPolicy !== undefined) found.oneOf(`${at}.restartPolicy`, c.restartPolicy, ['Always', 'Never', 'OnFailure']);
    if (c.restartPolicy === 'Always') return validateHooksAndProbes(found, c, at);
    for (const field of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'])
      if (c[field]) found.forbidden(`${at}.${field}`, 'may not be set for init containers without restartPolicy=Always');
  });
}

function validatePodSecurity(found: Findings, spec: any, path: string): void {
  const security = spec.securityContext ?? {};
  for (const field of ['fsGroup', 'runAsUser', 'runAsGroup']) found.between(`${path}.securityContext.${field}`, security[field], 0, largestId);
  const sysctls = new Set<string>();
  (security.sysctls ?? []).forEach((s: any, i: number) => {
    const at = `${path}.securityContext.sysctls[${i}].name`;
    if (!s.name) found.required(at);
    else if (s.name.length > 253 || !/^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$/.test(s.name))
      found.invalid(at, s.name, 'must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$');
    else if (sysctls.has(s.name)) found.duplicate(at, s.name);
    sysctls.add(s.name);
  });
  (security.supplementalGroups ?? []).forEach((id: unknown, i: number) => {
    found.between(`${path}.securityContext.supplementalGroups[${i}]`, id, 0, largestId);
  });
  if (spec.shareProcessNamespace && spec.hostPID)
    found.invalid(`${path}.shareProcessNamespace`, true, 'ShareProcessNamespace and HostPID cannot both be enabled');
}

function validateDns(found: Findings, spec: any, path: string): void {
  const config = spec.dnsConfig;
  if (spec.dnsPolicy === 'None') {
    if (!config) return found.required(`${path}.dnsConfig`, 'must provide `dnsConfig` when `dnsPolicy` is None');
    if (!config.nameservers?.length)
      return found.required(`${path}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None');
  }
  (config?.nameservers ?? []).forEach((ip: string, i: number) => {
    found.problems(`${path}.dnsConfig.nameservers[${i}]`, ip, addressProblems);
  });
  (config?.searches ?? []).forEach((name: string, i: number) => {
    found.problems(`${path}.dnsConfig.searches[${i}]`, name, searchProblems);
  });
  (config?.options ?? []).forEach((option: any, i: number) => {
    if (!option.name) found.required(`${path}.dnsConfig.options[${i}]`, 'must not be empty');
  });
}
