import { compareQuantities, parseQuantity } from '../quantity.ts';
import { labelProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { type Findings, portNameProblems } from './findings.ts';
import { validateContainerSecurity, validateDescendingPath } from './security-validation.ts';

const environmentName = (name: string): string[] =>
  /^[ -<>-~]+$/.test(name) ? [] : ["a valid environment variable name must consist only of printable ASCII characters other than '='"];
const environmentFields = [
  'metadata.name',
  'metadata.namespace',
  'metadata.uid',
  'spec.hostname',
  'spec.nodeName',
  'spec.serviceAccountName',
  'status.hostIP',
  'status.hostIPs',
  'status.podIP',
  'status.podIPs',
];
const knownFields = [...environmentFields, 'metadata.annotations', 'metadata.labels', 'spec.restartPolicy', 'spec.schedulerName', 'status.phase', 'status.nominatedNodeName'];
const environmentResources = [
  'limits.cpu',
  'limits.ephemeral-storage',
  'limits.memory',
  'requests.cpu',
  'requests.ephemeral-storage',
  'requests.memory',
];
/** What is wrong with a key of a ConfigMap or Secret. */
export function keyProblems(key: string): string[] {
  const problems: string[] = [];
  if (key.length > 253) problems.push('must be no more than 253 characters');
  if (!/^[-._a-zA-Z0-9]+$/.test(key))
    problems.push(
      "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
    );
  if (key === '.') problems.push("must not be '.'");
  else if (key === '..') problems.push("must not be '..'");
  else if (key.startsWith('..')) problems.push("must not start with '..'");
  return problems;
}
const standardResources = ['cpu', 'memory', 'ephemeral-storage'];
/** Standard in quotas, though not in containers. */
const standardAnywhere = new Set([
  ...['requests.cpu', 'requests.memory', 'requests.ephemeral-storage', 'limits.cpu', 'limits.memory', 'limits.ephemeral-storage', 'pods', 'resourcequotas'],
  ...['services', 'replicationcontrollers', 'secrets', 'configmaps', 'persistentvolumeclaims', 'storage', 'requests.storage', 'services.nodeports', 'services.loadbalancers'],
]);
const isHugePages = (name: string) => name.startsWith('hugepages-');
/** May more be asked for than there is? */
const overcommits = (name: string) => !isHugePages(name) && (!name.includes('/') || /(^|\.)kubernetes\.io\//.test(name));

/** What a pod's containers may refer to. */
export interface PodParts {
  spec: any;
  volumes: Map<string, any>;
  /** Names of the pod's resource claims. */
  claims: Set<string>;
}

const required = (found: Findings, field: string, value: string | undefined, supported: readonly string[]) => {
  if (!value) found.required(field);
  else found.oneOf(field, value, supported);
};

/** What holds for every kind of container. */
export function validateContainer(found: Findings, c: any, at: string, parts: PodParts): void {
  found.name(`${at}.name`, c.name, labelProblems);
  if (!c.image) found.required(`${at}.image`);
  required(found, `${at}.terminationMessagePolicy`, c.terminationMessagePolicy, terminationMessagePolicies);
  validatePorts(found, c.ports ?? [], `${at}.ports`);
  (c.env ?? []).forEach((e: any, i: number) => {
    validateEnvironment(found, e, `${at}.env[${i}]`);
  });
  validateEnvironmentSources(found, c.envFrom ?? [], `${at}.envFrom`);
  validateMounts(found, c, at, parts.volumes);
  required(found, `${at}.imagePullPolicy`, c.imagePullPolicy, pullPolicies);
  if (c.resources) validateResources(found, c.resources, `${at}.resources`, parts.claims);
  if (c.resizePolicy) validateResizePolicy(found, c.resizePolicy, `${at}.resizePolicy`, parts.spec.restartPolicy);
  validateContainerSecurity(found, c.securityContext, `${at}.securityContext`, parts.spec.hostUsers !== false);
}

const terminationMessagePolicies = ['File', 'FallbackToLogsOnError'];
const pullPolicies = ['Always', 'IfNotPresent', 'Never'];

/** Images of pods, not of templates: those were never so strict. */
export function validateImageSpace(found: Findings, containers: any[] | undefined, path: string): void {
  containers?.forEach((c, i) => {
    if (c.image && c.image !== c.image.trim()) found.invalid(`${path}[${i}].image`, c.image, 'must not have leading or trailing whitespace');
  });
}

function validateResizePolicy(found: Findings, policies: any[], path: string, restartPolicy: string): void {
  const seen = new Set<string>();
  policies.forEach((p, i) => {
    const name = p.resourceName ?? '';
    if (seen.has(name)) found.duplicate(`${path}[${i}]`, name);
    seen.add(name);
    required(found, path, name, ['cpu', 'memory']);
    required(found, path, p.restartPolicy, ['NotRequired', 'RestartContainer']);
    if (restartPolicy === 'Never' && p.restartPolicy !== 'NotRequired')
      found.invalid(path, p.restartPolicy ?? '', "must be 'NotRequired' when pod `restartPolicy` is 'Never'");
  });
}

/** A container's own restart policy and its rules. */
export function validateRestartPolicy(found: Findings, c: any, at: string): void {
  const rules: any[] = c.restartPolicyRules ?? [];
  if (c.restartPolicy === undefined) {
    if (!rules.length) return;
    found.required(`${at}.restartPolicy`, 'must specify restartPolicy when restart rules are used');
  } else found.oneOf(`${at}.restartPolicy`, c.restartPolicy, ['Always', 'Never', 'OnFailure']);
  if (rules.length > 20) found.tooMany(`${at}.restartPolicyRules`, rules.length, 20);
  rules.forEach((rule, i) => {
    const path = `${at}.restartPolicyRules[${i}]`;
    found.oneOf(`${path}.action`, rule.action ?? '', ['Restart', 'RestartAllContainers']);
    if (!rule.exitCodes) return found.required(`${path}.exitCodes`, 'must be specified');
    found.oneOf(`${path}.exitCodes.operator`, rule.exitCodes.operator ?? '', ['In', 'NotIn']);
    const count = rule.exitCodes.values?.length ?? 0;
    if (count > 255) found.tooMany(`${path}.exitCodes.values`, count, 255);
  });
}

function validatePorts(found: Findings, ports: any[], path: string): void {
  const names = new Set<string>();
  ports.forEach((p, i) => {
    const at = `${path}[${i}]`;
    if (p.name) {
      const problems = portNameProblems(p.name);
      for (const detail of problems) found.invalid(`${at}.name`, p.name, detail);
      if (!problems.length && names.has(p.name)) found.duplicate(`${at}.name`, p.name);
      names.add(p.name);
    }
    if (!p.containerPort) found.required(`${at}.containerPort`);
    else found.port(`${at}.containerPort`, p.containerPort);
    if (p.hostPort) found.port(`${at}.hostPort`, p.hostPort);
    required(found, `${at}.protocol`, p.protocol, ['SCTP', 'TCP', 'UDP']);
  });
}

/** Host ports that two containers want. */
export function validateHostPorts(found: Findings, containers: any[], path: string): void {
  const seen = new Set<string>();
  containers.forEach((c, i) => {
    (c.ports ?? []).forEach((p: any, j: number) => {
      if (!p.hostPort) return;
      const key = `${p.protocol}/${p.hostIP ?? ''}/${p.hostPort}`;
      if (seen.has(key)) found.duplicate(`${path}[${i}].ports[${j}].hostPort`, key);
      seen.add(key);
    });
  });
}

function validateEnvironment(found: Findings, e: any, at: string): void {
  found.name(`${at}.name`, e.name, environmentName);
  const from = e.valueFrom;
  if (!from) return;
  const path = `${at}.valueFrom`;
  let sources = 0;
  if (from.fieldRef) {
    sources++;
    validateFieldReference(found, from.fieldRef, `${path}.fieldRef`);
  }
  if (from.resourceFieldRef) {
    sources++;
    validateContainerResourceReference(found, from.resourceFieldRef, `${path}.resourceFieldRef`, false);
  }
  for (const kind of ['configMapKeyRef', 'secretKeyRef']) {
    if (!from[kind]) continue;
    sources++;
    found.problems(`${path}.${kind}.name`, from[kind].name ?? '', subdomainProblems);
    if (!from[kind].key) found.required(`${path}.${kind}.key`);
    else found.problems(`${path}.${kind}.key`, from[kind].key, keyProblems);
  }
  if (from.fileKeyRef) {
    sources++;
    const { key, volumeName, path: file } = from.fileKeyRef;
    found.name(`${path}.fileKeyRef.key`, key, environmentName);
    found.name(`${path}.fileKeyRef.volumeName`, volumeName, labelProblems);
    if (!file) found.required(`${path}.fileKeyRef.path`);
    else if (file.split('/').includes('..')) found.invalid(`${path}.fileKeyRef.path`, file, "must not contain '..'");
  }
  if (!sources) found.invalid(path, '', 'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`');
  else if (e.value) found.invalid(path, '', 'may not be specified when `value` is not empty');
  else if (sources > 1) found.invalid(path, '', 'may not have more than one field specified at a time');
}

export function validateFieldReference(
  found: Findings,
  { fieldPath, apiVersion = 'v1' }: { fieldPath?: string; apiVersion?: string },
  at: string,
  fields = environmentFields,
): void {
  if (!fieldPath) return found.required(`${at}.fieldPath`);
  if (apiVersion !== 'v1') return found.invalid(`${at}.fieldPath`, fieldPath, `error converting fieldPath: unsupported pod version: ${apiVersion}`);
  const subscript = /^metadata\.(labels|annotations)\['(.*)'\]$/.exec(fieldPath);
  if (subscript) return found.problems(at, subscript[2] as string, qualifiedNameProblems);
  if (!knownFields.includes(fieldPath))
    found.invalid(`${at}.fieldPath`, fieldPath, `error converting fieldPath: field label not supported: ${fieldPath}`);
  else if (!fields.includes(fieldPath)) found.oneOf(`${at}.fieldPath`, fieldPath, fields);
}

/** A container's limit or request that a file or variable tells. */
export function validateContainerResourceReference(found: Findings, ref: any, at: string, inVolume: boolean): void {
  if (inVolume && !ref.containerName) found.required(`${at}.containerName`);
  else if (!ref.resource) found.required(`${at}.resource`);
  else if (!/^(limits|requests)\.hugepages-/.test(ref.resource)) found.oneOf(`${at}.resource`, ref.resource, environmentResources);
  const divisor = ref.divisor ?? '0';
  const name = String(ref.resource ?? '').split('.')[1] ?? '';
  const allowed = name === 'cpu' ? ['1m', '1'] : ['1', '1k', '1M', '1G', '1T', '1P', '1E', '1Ki', '1Mi', '1Gi', '1Ti', '1Pi', '1Ei'];
  if (divisor === '0' || !environmentResources.includes(ref.resource)) return;
  if (allowed.includes(divisor)) return;
  const kinds: Record<string, string> = { cpu: 'only divisor\'s values 1m and 1 are supported with the cpu resource' };
  const units = 'only divisor\'s values 1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the';
  const what = name === 'ephemeral-storage' ? 'local ephemeral storage' : name;
  found.invalid(`${at}.divisor`, ref.resource, kinds[name] ?? `${units} ${what} resource`);
}

function validateEnvironmentSources(found: Findings, sources: any[], path: string): void {
  sources.forEach((source, i) => {
    const at = `${path}[${i}]`;
    if (source.prefix) found.problems(`${at}.prefix`, source.prefix, environmentName);
    let count = 0;
    for (const kind of ['configMapRef', 'secretRef']) {
      if (!source[kind]) continue;
      count++;
      found.name(`${at}.${kind}.name`, source[kind].name, subdomainProblems);
    }
    if (!count) found.invalid(path, '', 'must specify one of: `configMapRef` or `secretRef`');
    else if (count > 1) found.invalid(path, '', 'may not have more than one field specified at a time');
  });
}

function validateMounts(found: Findings, c: any, at: string, volumes: Map<string, any>): void {
  const paths = new Set<string>();
  (c.volumeMounts ?? []).forEach((m: any, i: number) => {
    const mount = `${at}.volumeMounts[${i}]`;
    if (!m.name) found.required(`${mount}.name`);
    if (!volumes.has(m.name ?? '')) found.notFound(`${mount}.name`, m.name ?? '');
    if (!m.mountPath) found.required(`${mount}.mountPath`);
    if (paths.has(m.mountPath)) found.invalid(`${mount}.mountPath`, m.mountPath, 'must be unique');
    paths.add(m.mountPath);
    if (c.volumeDevices?.some((d: any) => d.name === m.name)) found.invalid(`${mount}.name`, m.name, 'must not already exist in volumeDevices');
    if (c.volumeDevices?.some((d: any) => d.devicePath === m.mountPath))
      found.invalid(`${mount}.mountPath`, m.mountPath, 'must not already exist as a path in volumeDevices');
    if (m.subPath) validateDescendingPath(found, `${at}.volumeMounts.subPath`, m.subPath);
    if (m.subPathExpr) {
      if (m.subPath) found.invalid(`${mount}.subPathExpr`, m.subPathExpr, 'subPathExpr and subPath are mutually exclusive');
      validateDescendingPath(found, `${at}.volumeMounts.subPathExpr`, m.subPathExpr);
    }
    if (m.mountPropagation !== undefined)
      found.oneOf(`${at}.volumeMounts.mountPropagation`, m.mountPropagation, ['Bidirectional', 'HostToContainer', 'None']);
    if (m.mountPropagation === 'Bidirectional' && c.securityContext?.privileged !== true)
      found.forbidden(`${at}.volumeMounts.mountPropagation`, 'Bidirectional mount propagation is available only to privileged containers');
    if (m.recursiveReadOnly === 'Enabled' || m.recursiveReadOnly === 'IfPossible') {
      const field = `${at}.volumeMounts.recursiveReadOnly`;
      if (!m.readOnly) found.forbidden(field, 'may only be specified when readOnly is true');
      if (m.mountPropagation !== undefined && m.mountPropagation !== 'None')
        found.forbidden(field, 'may only be specified when mountPropagation is None or not specified');
    } else if (m.recursiveReadOnly !== undefined)
      found.oneOf(`${at}.volumeMounts.recursiveReadOnly`, m.recursiveReadOnly, ['Disabled', 'Enabled', 'IfPossible']);
  });
  if (c.volumeDevices) validateDevices(found, c, `${at}.volumeDevices`, volumes);
}

function validateDevices(found: Findings, c: any, path: string, volumes: Map<string, any>): void {
  const names = new Set<string>();
  const paths = new Set<string>();
  c.volumeDevices.forEach(({ name = '', devicePath = '' }: any, i: number) => {
    const at = `${path}[${i}]`;
    const volume = volumes.get(name);
    if (!name) found.required(`${at}.name`);
    if (names.has(name)) found.invalid(`${at}.name`, name, 'must be unique');
    if (volume && !volume.persistentVolumeClaim && !volume.ephemeral)
      found.invalid(`${at}.name`, name, 'can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode');
    if (!volume) found.notFound(`${at}.name`, name);
    if (!devicePath) found.required(`${at}.devicePath`);
    if (paths.has(devicePath)) found.invalid(`${at}.devicePath`, devicePath, 'must be unique');
    if (devicePath.split('/').includes('..')) found.invalid(`${at}.devicePath`, devicePath, "can not contain backsteps ('..')");
    else paths.add(devicePath);
    if (c.volumeMounts?.some((m: any) => m.name === name)) found.invalid(`${at}.name`, name, 'must not already exist in volumeMounts');
    if (c.volumeMounts?.some((m: any) => m.mountPath === devicePath))
      found.invalid(`${at}.devicePath`, devicePath, 'must not already exist as a path in volumeMounts');
    if (name) names.add(name);
  });
}

export function validateResourceName(found: Findings, name: string, at: string): void {
  const problems = qualifiedNameProblems(name);
  for (const detail of problems) found.invalid(at, name, detail);
  if (name.includes('/') || standardResources.includes(name) || isHugePages(name)) return;
  if (!problems.length && !standardAnywhere.has(name)) found.invalid(at, name, 'must be a standard resource type or fully qualified');
  found.invalid(at, name, 'must be a standard resource for containers');
}

/** Limits and requests; `claims` are the names of the pod's resource claims. */
export function validateResources(
  found: Findings,
  resources: any,
  at: string,
  claims: Set<string> = noClaims,
  checkName: (found: Findings, name: string, at: string) => void = validateResourceName,
): void {
  const { limits = {}, requests = {} } = resources;
  for (const list of ['limits', 'requests'] as const) {
    for (const [name, amount] of Object.entries((resources[list] ?? {}) as Record<string, string>)) {
      const field = `${at}.${list}[${name}]`;
      checkName(found, name, field);
      const { nano } = parseQuantity(amount);
      if (nano < 0n) found.invalid(field, amount, 'must be greater than or equal to 0');
      if (isExtended(name) && nano % 1_000_000_000n !== 0n) found.invalid(field, amount, 'must be an integer');
      if (list === 'requests') {
        const limit = limits[name];
        if (limit === undefined) {
          if (!overcommits(name)) found.required(`${at}.limits`, 'Limit must be set for non overcommitable resources');
        } else if (!overcommits(name) && compareQuantities(amount, limit) !== 0)
          found.invalid(`${at}.requests`, amount, `must be equal to ${name} limit of ${limit}`);
        else if (compareQuantities(amount, limit) > 0)
          found.invalid(`${at}.requests`, amount, `must be less than or equal to ${name} limit of ${limit}`);
      }
      if (isHugePages(name) && !divisible(nano, name)) found.invalid(field, amount, `${amount} is not positive integer multiple of ${name}`);
    }
  }
  const asked = [...Object.keys(limits), ...Object.keys(requests)];
  if (asked.some(isHugePages) && !asked.some((n) => n === 'cpu' || n === 'memory')) found.forbidden(at, 'HugePages require cpu or memory');
  if (resources.claims) validateClaimNames(found, resources.claims, `${at}.claims`, claims);
}

const noClaims: Set<string> = new Set();
/** Resources of others than Kubernetes itself. */
const isExtended = (name: string) => name.includes('/') && !name.includes('kubernetes.io/') && !name.startsWith('requests.');

/** Is it a whole number of pages of the size that the name tells? */
function divisible(nano: bigint, name: string): boolean {
  try {
    const page = parseQuantity(name.slice('hugepages-'.length)).nano;
    return page > 0n && nano % page === 0n;
  } catch {
    return false;
  }
}

function validateClaimNames(found: Findings, claims: any[], path: string, known: Set<string>): void {
  const names = new Set<string>();
  claims.forEach(({ name, request }: any, i: number) => {
    const at = `${path}[${i}]`;
    if (!name) return found.required(at);
    const key = request ? `${name}/${request}` : name;
    if (names.has(name)) found.duplicate(at, name);
    else {
      if (request) found.problems(`${at}.request`, request, labelProblems);
      if (names.has(key)) found.duplicate(at, key);
      else if (!request && [...names].some((n) => n.startsWith(`${name}/`))) found.duplicate(at, name);
      names.add(key);
    }
    if (known.has(name)) return;
    const detail = `must be one of the names in pod.spec.resourceClaims${known.size ? `: ${[...known].sort().join(', ')}` : ' which is empty'}`;
    found.errors.push({ type: 'FieldValueNotFound', field: at, value: name, detail });
  });
}
