import { isIP } from 'node:net';
import type { FieldError } from '../errors.ts';
import { internalForm } from '../internal-form.ts';
import { compareQuantities, formatQuantity, parseQuantity } from '../quantity.ts';
import { labelProblems, qualifiedNameProblems, subdomainProblems, validateAnnotations, validateLabels } from '../validation.ts';
import { type PodParts, validateContainer, validateHostPorts, validateImageSpace, validateResources, validateRestartPolicy } from './container-validation.ts';
import { Findings } from './findings.ts';
import { validateHooksAndProbes } from './probe-validation.ts';
import { validateAffinity, validateSpreading, validateToleration } from './scheduling-validation.ts';
import { eachContainer, validateHostProcess, validateOs, validatePodSecurity } from './security-validation.ts';
import { validateVolumes } from './volume-validation.ts';

const largestId = 2_147_483_647;
const searchName = /^_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*$/;
const addressProblems = (ip: string): string[] => (isIP(ip) ? [] : ['must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)']);
const searchProblems = (name: string): string[] =>
  name.length > 253 ? ['must be no more than 253 characters'] : name === '.' || searchName.test(name.replace(/\.$/, ''))
    ? []
    : [
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*')",
      ];
const noNames: ReadonlySet<string> = new Set<string>();

/** Findings about a PodSpec at a path, in upstream's words and order. `pod` is given where it is a pod's own, not a template's. */
export function validatePodSpec(spec: any, path: string, pod?: any): FieldError[] {
  const found = new Findings();
  if (!spec) {
    found.required(`${path}.containers`);
    return found.errors;
  }
  const volumes = validateVolumes(found, spec.volumes ?? [], `${path}.volumes`, pod?.metadata?.name);
  const claims: Set<string> = spec.resourceClaims ? validateClaims(found, spec.resourceClaims, `${path}.resourceClaims`) : (noNames as Set<string>);
  const parts: PodParts = { spec, volumes, claims };
  const names = validateMainContainers(found, parts, `${path}.containers`);
  if (spec.initContainers) validateInitContainers(found, parts, `${path}.initContainers`, names);
  if (spec.ephemeralContainers) validateEphemeral(found, parts, `${path}.ephemeralContainers`);
  if (spec.resources) validatePodResources(found, spec, path, claims);
  if (spec.hostNetwork) validateHostNetworkPorts(found, spec, path, pod !== undefined);
  if (!spec.restartPolicy) found.required(`${path}.restartPolicy`);
  else found.oneOf(`${path}.restartPolicy`, spec.restartPolicy, restartPolicies);
  if (!spec.dnsPolicy) found.required(`${path}.dnsPolicy`);
  else found.oneOf(`${path}.dnsPolicy`, spec.dnsPolicy, dnsPolicies);
  if (spec.nodeSelector) found.errors.push(...validateLabels(spec.nodeSelector, `${path}.nodeSelector`));
  validatePodSecurity(found, spec, `${path}.securityContext`);
  if (spec.shareProcessNamespace && spec.hostPID)
    found.invalid(`${path}.shareProcessNamespace`, true, 'ShareProcessNamespace and HostPID cannot both be enabled');
  if (spec.affinity) validateAffinity(found, spec.affinity, `${path}.affinity`);
  validateDns(found, spec, path);
  (spec.readinessGates ?? []).forEach((gate: any, i: number) => {
    found.problems(`${path}.readinessGates[${i}].conditionType`, gate.conditionType ?? '', qualifiedNameProblems);
  });
  if (spec.schedulingGates) validateGates(found, spec.schedulingGates, `${path}.schedulingGates`);
  if (spec.topologySpreadConstraints) validateSpreading(found, spec.topologySpreadConstraints, `${path}.topologySpreadConstraints`);
  validateHostProcess(found, spec, path);
  if (spec.hostUsers === false) validateUserNamespace(found, spec, path);
  if (spec.hostnameOverride !== undefined) validateHostnameOverride(found, spec, `${path}.hostnameOverride`);
  if (spec.serviceAccountName) found.problems(`${path}.serviceAccountName`, spec.serviceAccountName, subdomainProblems);
  if (spec.nodeName) found.problems(`${path}.nodeName`, spec.nodeName, subdomainProblems);
  found.between(`${path}.activeDeadlineSeconds`, spec.activeDeadlineSeconds, 1, largestId);
  if (spec.hostname) found.problems(`${path}.hostname`, spec.hostname, labelProblems);
  if (spec.subdomain) found.problems(`${path}.subdomain`, spec.subdomain, labelProblems);
  (spec.tolerations ?? []).forEach((t: any, i: number) => {
    validateToleration(found, t, `${path}.tolerations[${i}]`);
  });
  (spec.hostAliases ?? []).forEach((alias: any, i: number) => {
    found.problems(`${path}.hostAliases[${i}].ip`, alias.ip ?? '', addressProblems);
    (alias.hostnames ?? []).forEach((name: string, j: number) => {
      found.problems(`${path}.hostAliases[${i}].hostnames[${j}]`, name, subdomainProblems);
    });
  });
  if (spec.priorityClassName) found.problems(`${path}.priorityClassName`, spec.priorityClassName, subdomainProblems);
  if (spec.runtimeClassName !== undefined) found.problems(`${path}.runtimeClassName`, spec.runtimeClassName, subdomainProblems);
  if (spec.preemptionPolicy === '') found.required(`${path}.preemptionPolicy`);
  else if (spec.preemptionPolicy !== undefined) found.oneOf(`${path}.preemptionPolicy`, spec.preemptionPolicy, ['PreemptLowerPriority', 'Never']);
  if (spec.overhead) validateResources(found, { limits: spec.overhead }, `${path}.overhead`);
  if (spec.os) validateOs(found, spec, path);
  validateFileKeys(found, spec, path);
  if (pod) validateOfPodOnly(found, spec, path);
  return found.errors;
}

const restartPolicies = ['Always', 'OnFailure', 'Never'];
const dnsPolicies = ['ClusterFirstWithHostNet', 'ClusterFirst', 'Default', 'None'];

/** Findings about a template of pods at a path such as `spec.template`. */
export function validatePodTemplate(template: any, path: string): FieldError[] {
  const errors = [
    ...validateLabels(template?.metadata?.labels, `${path}.labels`),
    ...validateAnnotations(template?.metadata?.annotations, `${path}.annotations`),
    ...validatePodSpec(template?.spec, `${path}.spec`),
  ];
  if (template?.spec?.ephemeralContainers?.length)
    errors.push({ type: 'FieldValueForbidden', field: `${path}.spec.ephemeralContainers`, detail: 'ephemeral containers not allowed in pod template' });
  return errors;
}

/** What was never demanded of templates. */
function validateOfPodOnly(found: Findings, spec: any, path: string): void {
  if (!spec.serviceAccountName)
    (spec.volumes ?? []).forEach((volume: any, i: number) => {
      (volume.projected?.sources ?? []).forEach((source: any, j: number) => {
        if (source.serviceAccountToken)
          found.forbidden(`${path}.volumes[${i}].projected.sources[${j}].serviceAccountToken`, 'must not be specified when serviceAccountName is not set');
      });
    });
  found.nonNegative(`${path}.terminationGracePeriodSeconds`, spec.terminationGracePeriodSeconds);
  validateImageSpace(found, spec.containers, `${path}.containers`);
  validateImageSpace(found, spec.initContainers, `${path}.initContainers`);
}

/** What only a new pod is checked for. */
export function validatePodCreation(pod: any): FieldError[] {
  const found = new Findings();
  const spec = pod.spec ?? {};
  if (spec.ephemeralContainers?.length) found.forbidden('spec.ephemeralContainers', 'cannot be set on create');
  if (spec.nodeName && spec.schedulingGates?.length) found.forbidden('spec.nodeName', 'cannot be set until all schedulingGates have been cleared');
  return found.errors;
}

function validateClaims(found: Findings, claims: any[], path: string): Set<string> {
  const names = new Set<string>();
  claims.forEach((claim, i) => {
    const at = `${path}[${i}]`;
    if (!claim.name) found.required(`${at}.name`);
    else if (names.has(claim.name)) found.duplicate(`${at}.name`, claim.name);
    else found.problems(`${at}.name`, claim.name, labelProblems);
    if (claim.name) names.add(claim.name);
    const { resourceClaimName: name, resourceClaimTemplateName: template } = claim;
    const shown = () => internalForm('core.PodResourceClaim', claim);
    if (name !== undefined && template !== undefined)
      found.invalid(at, shown(), 'at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified');
    if (name === undefined && template === undefined) found.invalid(at, shown(), 'must specify one of: `resourceClaimName`, `resourceClaimTemplateName`');
    if (name !== undefined) found.problems(`${at}.resourceClaimName`, name, subdomainProblems);
    if (template !== undefined) found.problems(`${at}.resourceClaimTemplateName`, template, subdomainProblems);
  });
  return names;
}

function validateMainContainers(found: Findings, parts: PodParts, path: string): Set<string> {
  const names = new Set<string>();
  const containers: any[] = parts.spec.containers ?? [];
  if (!containers.length) {
    found.required(path);
    return names;
  }
  containers.forEach((c, i) => {
    const at = `${path}[${i}]`;
    validateContainer(found, c, at, parts);
    if (names.has(c.name ?? '')) found.duplicate(`${at}.name`, c.name ?? '');
    names.add(c.name ?? '');
    validateHooksAndProbes(found, c, at, parts.spec);
    if (c.restartPolicy !== undefined || c.restartPolicyRules) validateRestartPolicy(found, c, at);
  });
  validateHostPorts(found, containers, path);
  return names;
}

function validateInitContainers(found: Findings, parts: PodParts, path: string, names: Set<string>): void {
  parts.spec.initContainers.forEach((c: any, i: number) => {
    const at = `${path}[${i}]`;
    validateContainer(found, c, at, parts);
    if (c.restartPolicy !== undefined) validateRestartPolicy(found, c, at);
    else if (c.restartPolicyRules?.length) found.required(`${at}.restartPolicy`, 'must specify restartPolicy when restart rules are used');
    if (names.has(c.name ?? '')) found.duplicate(`${at}.name`, c.name ?? '');
    else if (c.name) names.add(c.name);
    validateHostPorts(found, [c], path);
    if (c.restartPolicy === 'Always') return validateHooksAndProbes(found, c, at, parts.spec);
    for (const field of ['lifecycle', 'livenessProbe', 'readinessProbe', 'startupProbe'])
      if (c[field]) found.forbidden(`${at}.${field}`, 'may not be set for init containers without restartPolicy=Always');
    (c.resizePolicy ?? []).forEach((p: any, j: number) => {
      if (p.restartPolicy === 'RestartContainer')
        found.invalid(`${at}.resizePolicy[${j}].restartPolicy`, p.restartPolicy, "must not be set to 'RestartContainer' for non-sidecar initContainers");
    });
  });
}

/** In the order of Go's declaration. */
const notEphemeral = ['ports', 'resources', 'resizePolicy', 'restartPolicy', 'restartPolicyRules', 'livenessProbe', 'readinessProbe', 'startupProbe', 'lifecycle'];

function validateEphemeral(found: Findings, parts: PodParts, path: string): void {
  const others = new Set<string>([...(parts.spec.containers ?? []), ...(parts.spec.initContainers ?? [])].map((c: any) => c.name ?? ''));
  const names = new Set(others);
  parts.spec.ephemeralContainers.forEach((c: any, i: number) => {
    const at = `${path}[${i}]`;
    validateContainer(found, c, at, parts);
    if (c.image && c.image !== c.image.trim()) found.invalid(`${at}.image`, c.image, 'must not have leading or trailing whitespace');
    if (names.has(c.name ?? '')) found.duplicate(`${at}.name`, c.name ?? '');
    names.add(c.name ?? '');
    if (c.targetContainerName && !others.has(c.targetContainerName)) found.notFound(`${at}.targetContainerName`, c.targetContainerName);
    for (const field of notEphemeral) {
      const value = c[field];
      const set = value !== undefined && !(typeof value === 'object' && value !== null && !Object.keys(value).length);
      if (set) found.forbidden(`${at}.${field}`, 'cannot be set for an Ephemeral Container');
    }
    (c.volumeMounts ?? []).forEach((m: any, j: number) => {
      for (const field of ['subPath', 'subPathExpr'])
        if (m[field]) found.forbidden(`${at}.volumeMounts[${j}].${field}`, 'cannot be set for an Ephemeral Container');
    });
  });
}

const podLevel = ['cpu', 'hugepages-', 'memory'];

function validatePodLevelName(found: Findings, name: string, at: string): void {
  const problems = qualifiedNameProblems(name);
  for (const detail of problems) found.invalid(at, name, detail);
  if (problems.length) return;
  const known = name === 'cpu' || name === 'memory' || name.startsWith('hugepages-');
  if (!known && !name.includes('/') && name !== 'ephemeral-storage') found.invalid(at, name, 'must be a standard resource type or fully qualified');
  else if (!known) found.unsupported(at, name, podLevel);
}

/** Resources of the pod as a whole, and against those of its containers. */
function validatePodResources(found: Findings, spec: any, path: string, claims: Set<string>): void {
  const at = `${path}.resources`;
  if (spec.os?.name === 'windows') return found.forbidden(at, 'may not be set for a windows pod');
  if (spec.resources.claims) found.forbidden(`${at}.claims`, 'claims may not be set for Resources at pod-level');
  validateResources(found, spec.resources, at, claims, validatePodLevelName);
  for (const [name, amount] of Object.entries((spec.resources.requests ?? {}) as Record<string, string>)) {
    const sum = (spec.containers ?? []).reduce((n: bigint, c: any) => n + parseQuantity(c.resources?.requests?.[name] ?? '0').nano, 0n);
    if (sum <= parseQuantity(amount).nano) continue;
    const shown = formatQuantity({ ...parseQuantity(amount), nano: sum });
    found.invalid(`${at}.requests[${name}]`, amount, `must be greater than or equal to aggregate container requests of ${shown}`);
  }
  (spec.containers ?? []).forEach((c: any, i: number) => {
    for (const [name, amount] of Object.entries((c.resources?.limits ?? {}) as Record<string, string>)) {
      const limit = spec.resources.limits?.[name];
      if (limit !== undefined && compareQuantities(amount, limit) > 0)
        found.invalid(`${at}.containers[${i}][${name}].limits`, amount, `must be less than or equal to pod limits of ${limit}`);
    }
  });
}

function validateHostNetworkPorts(found: Findings, spec: any, path: string, isPod: boolean): void {
  (spec.containers ?? []).forEach((c: any, i: number) => {
    (c.ports ?? []).forEach((p: any, j: number) => {
      const host = p.hostPort ?? 0;
      if ((isPod || host !== 0) && host !== (p.containerPort ?? 0))
        found.invalid(`${path}.containers[${i}].ports[${j}].hostPort`, host, 'must match `containerPort` when `hostNetwork` is true');
    });
  });
}

function validateGates(found: Findings, gates: any[], path: string): void {
  const seen = new Set<string>();
  gates.forEach(({ name = '' }: any, i: number) => {
    found.problems(`${path}[${i}]`, name, qualifiedNameProblems);
    if (seen.has(name)) found.duplicate(`${path}[${i}]`, name);
    seen.add(name);
  });
}

/** A pod with a user namespace of its own shares no other with the host. */
function validateUserNamespace(found: Findings, spec: any, path: string): void {
  const detail = 'when `hostUsers` is false';
  if (spec.hostNetwork) found.forbidden(`${path}.hostNetwork`, detail);
  if (spec.hostPID) found.forbidden(`${path}.HostPID`, detail);
  if (spec.hostIPC) found.forbidden(`${path}.HostIPC`, detail);
  eachContainer(spec, path, (c, at) => {
    if (c.volumeDevices?.length) found.forbidden(`${at}.volumeDevices`, detail);
  });
}

function validateHostnameOverride(found: Findings, spec: any, field: string): void {
  if (spec.setHostnameAsFQDN) found.forbidden(field, 'may not be specified when setHostnameAsFQDN is true');
  if (spec.hostNetwork) found.forbidden(field, 'may not be specified when hostNetwork is true');
  if (spec.hostnameOverride.length > 64) found.tooLong(field, 'may not be more than 64 bytes');
  found.problems(field, spec.hostnameOverride, subdomainProblems);
}

/** Files that variables come from lie in volumes of the pod's own. */
function validateFileKeys(found: Findings, spec: any, path: string): void {
  eachContainer(spec, path, (c, at) => {
    if (!c.env) return;
    c.env.forEach((e: any, i: number) => {
      const ref = e.valueFrom?.fileKeyRef;
      if (!ref) return;
      const field = `${at}.env[${i}].valueFrom.fileKeyRef.volumeName`;
      const volume = (spec.volumes ?? []).find((v: any) => v.name === ref.volumeName);
      if (!volume) found.notFound(field, ref.volumeName ?? '');
      else if (!volume.emptyDir) found.invalid(field, ref.volumeName, 'referenced volume must be of type emptyDir');
    });
  });
}

function validateDns(found: Findings, spec: any, path: string): void {
  const config = spec.dnsConfig;
  if (spec.dnsPolicy === 'None') {
    if (!config) return found.required(`${path}.dnsConfig`, 'must provide `dnsConfig` when `dnsPolicy` is None');
    if (!config.nameservers?.length)
      return found.required(`${path}.dnsConfig.nameservers`, 'must provide at least one DNS nameserver when `dnsPolicy` is None');
  }
  if (!config) return;
  const { nameservers, searches } = config;
  if (nameservers?.length > 3) found.invalid(`${path}.dnsConfig.nameservers`, nameservers, 'must not have more than 3 nameservers');
  (nameservers ?? []).forEach((ip: string, i: number) => {
    found.problems(`${path}.dnsConfig.nameservers[${i}]`, ip, addressProblems);
  });
  if (searches?.length > 32) found.invalid(`${path}.dnsConfig.searches`, searches, 'must not have more than 32 search paths');
  if (searches?.join(' ').length > 2048)
    found.invalid(`${path}.dnsConfig.searches`, searches, 'must not have more than 2048 characters (including spaces) in the search list');
  (searches ?? []).forEach((name: string, i: number) => {
    found.problems(`${path}.dnsConfig.searches[${i}]`, name, searchProblems);
  });
  (config.options ?? []).forEach((option: any, i: number) => {
    if (!option.name) found.required(`${path}.dnsConfig.options[${i}]`, 'must not be empty');
  });
}
