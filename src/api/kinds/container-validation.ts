import { compareQuantities, parseQuantity } from '../quantity.ts';
import { labelProblems, qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { type Findings, portNameProblems, validatePortReference } from './findings.ts';

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
const isHugePages = (name: string) => name.startsWith('hugepages-');
/** May more be asked for than there is? */
const overcommits = (name: string) => !isHugePages(name) && (!name.includes('/') || /(^|\.)kubernetes\.io\//.test(name));
const largestId = 2_147_483_647;

/** Findings about a list of containers; names are shared by all lists of a pod. */
export function validateContainers(
  found: Findings,
  containers: any[],
  path: string,
  spec: any,
  names: Set<string>,
  volumes: Map<string, any>,
): void {
  containers.forEach((c, i) => {
    const at = `${path}[${i}]`;
    validateContainer(found, c, at, spec, volumes);
    if (!c.name) return;
    if (names.has(c.name)) found.duplicate(`${at}.name`, c.name);
    names.add(c.name);
  });
}

function validateContainer(found: Findings, c: any, at: string, spec: any, volumes: Map<string, any>): void {
  found.name(`${at}.name`, c.name, labelProblems);
  if (!c.image) found.required(`${at}.image`);
  else if (c.image !== c.image.trim()) found.invalid(`${at}.image`, c.image, 'must not have leading or trailing whitespace');
  if (c.terminationMessagePolicy) found.oneOf(`${at}.terminationMessagePolicy`, c.terminationMessagePolicy, ['File', 'FallbackToLogsOnError']);
  validatePorts(found, c.ports ?? [], `${at}.ports`, spec.hostNetwork === true);
  (c.env ?? []).forEach((e: any, i: number) => {
    validateEnvironment(found, e, `${at}.env[${i}]`);
  });
  validateEnvironmentSources(found, c.envFrom ?? [], `${at}.envFrom`);
  validateMounts(found, c, at, volumes);
  if (c.imagePullPolicy) found.oneOf(`${at}.imagePullPolicy`, c.imagePullPolicy, ['Always', 'IfNotPresent', 'Never']);
  validateResources(found, c.resources ?? {}, `${at}.resources`);
  validateSecurity(found, c.securityContext, `${at}.securityContext`);
}

function validatePorts(found: Findings, ports: any[], path: string, hostNetwork: boolean): void {
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
    if (hostNetwork && p.hostPort && p.hostPort !== p.containerPort)
      found.invalid(`${at}.hostPort`, p.hostPort, 'must match `containerPort` when `hostNetwork` is true');
    found.oneOf(`${at}.protocol`, p.protocol, ['SCTP', 'TCP', 'UDP']);
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
  if (from.fileKeyRef) sources++;
  if (!sources) found.invalid(path, '', 'must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`');
  else if (e.value) found.invalid(path, '', 'may not be specified when `value` is not empty');
  else if (sources > 1) found.invalid(path, '', 'may not have more than one field specified at a time');
}

export function validateFieldReference(found: Findings, { fieldPath }: { fieldPath?: string }, at: string, fields = environmentFields): void {
  if (!fieldPath) return found.required(`${at}.fieldPath`);
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
  found.invalid(`${at}.divisor`, divisor, kinds[name] ?? `${units} ${what} resource`);
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
    for (const field of ['subPath', 'subPathExpr']) {
      if (!m[field]) continue;
      if (m[field].startsWith('/')) found.invalid(`${at}.volumeMounts.${field}`, m[field], 'must be a relative path');
      else if (m[field].split('/').includes('..')) found.invalid(`${at}.volumeMounts.${field}`, m[field], "must not contain '..'");
    }
    if (m.mountPropagation !== undefined)
      found.oneOf(`${at}.volumeMounts.mountPropagation`, m.mountPropagation, ['Bidirectional', 'HostToContainer', 'None']);
    if (m.mountPropagation === 'Bidirectional' && c.securityContext?.privileged !== true)
      found.forbidden(`${at}.volumeMounts.mountPropagation`, 'Bidirectional mount propagation is available only to privileged containers');
    if (m.recursiveReadOnly !== undefined) {
      found.oneOf(`${at}.volumeMounts.recursiveReadOnly`, m.recursiveReadOnly, ['Disabled', 'Enabled', 'IfPossible']);
      if (m.recursiveReadOnly !== 'Disabled' && !m.readOnly && ['Enabled', 'IfPossible'].includes(m.recursiveReadOnly))
        found.forbidden(`${at}.volumeMounts.recursiveReadOnly`, 'may only be specified when readOnly is true');
    }
    if (m.subPath && m.subPathExpr) found.invalid(`${mount}.subPathExpr`, m.subPathExpr, 'subPathExpr and subPath are mutually exclusive');
  });
  (c.volumeDevices ?? []).forEach((d: any, i: number) => {
    const device = `${at}.volumeDevices[${i}]`;
    const volume = volumes.get(d.name);
    if (!d.name) found.required(`${device}.name`);
    if (!volume?.persistentVolumeClaim && !volume?.ephemeral) found.notFound(`${device}.name`, d.name ?? '');
    if (!d.devicePath) found.required(`${device}.devicePath`);
  });
}

export function validateResourceName(found: Findings, name: string, at: string): void {
  const problems = qualifiedNameProblems(name);
  for (const detail of problems) found.invalid(at, name, detail);
  if (problems.length || name.includes('/') || standardResources.includes(name) || isHugePages(name)) return;
  found.invalid(at, name, 'must be a standard resource type or fully qualified');
  found.invalid(at, name, 'must be a standard resource for containers');
}

export function validateResources(found: Findings, resources: any, at: string): void {
  const { limits = {}, requests = {} } = resources;
  for (const [list, amounts] of [
    ['limits', limits],
    ['requests', requests],
  ] as const) {
    for (const [name, amount] of Object.entries(amounts as Record<string, string>)) {
      const field = `${at}.${list}[${name}]`;
      validateResourceName(found, name, field);
      const { nano } = parseQuantity(amount);
      if (nano < 0n) found.invalid(field, amount, 'must be greater than or equal to 0');
      else if (!overcommits(name) && nano % 1_000_000_000n !== 0n) found.invalid(field, amount, 'must be an integer');
      if (list === 'limits') continue;
      const limit = limits[name];
      if (limit === undefined) {
        if (!overcommits(name)) found.required(`${at}.limits`, 'Limit must be set for non overcommitable resources');
      } else if (!overcommits(name) && compareQuantities(amount, limit) !== 0)
        found.invalid(`${at}.requests`, amount, `must be equal to ${name} limit of ${limit}`);
      else if (compareQuantities(amount, limit) > 0)
        found.invalid(`${at}.requests`, amount, `must be less than or equal to ${name} limit of ${limit}`);
    }
  }
  const asked = [...Object.keys(limits), ...Object.keys(requests)];
  if (asked.some(isHugePages) && !asked.some((n) => n === 'cpu' || n === 'memory')) found.forbidden(at, 'HugePages require cpu or memory');
}

function validateSecurity(found: Findings, security: any, at: string): void {
  if (!security) return;
  for (const field of ['runAsUser', 'runAsGroup']) found.between(`${at}.${field}`, security[field], 0, largestId);
  if (security.allowPrivilegeEscalation !== false) return;
  if (security.privileged === true) found.invalid(at, security, 'cannot set `allowPrivilegeEscalation` to false and `privileged` to true');
  if ((security.capabilities?.add ?? []).includes('CAP_SYS_ADMIN'))
    found.invalid(at, security, 'cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN');
}

/** Lifecycle hooks and probes, of containers that go on running. */
export function validateHooksAndProbes(found: Findings, c: any, at: string): void {
  for (const hook of ['postStart', 'preStop'])
    if (c.lifecycle?.[hook]) validateHandler(found, c.lifecycle[hook], `${at}.lifecycle.${hook}`, ['exec', 'httpGet', 'tcpSocket', 'sleep']);
  for (const kind of ['livenessProbe', 'readinessProbe', 'startupProbe']) {
    const probe = c[kind];
    if (!probe) continue;
    const path = `${at}.${kind}`;
    validateHandler(found, probe, path, ['exec', 'httpGet', 'tcpSocket', 'grpc']);
    for (const field of ['initialDelaySeconds', 'timeoutSeconds', 'periodSeconds', 'successThreshold', 'failureThreshold'])
      found.nonNegative(`${path}.${field}`, probe[field]);
    if (kind === 'readinessProbe' && probe.terminationGracePeriodSeconds !== undefined)
      found.invalid(`${path}.terminationGracePeriodSeconds`, probe.terminationGracePeriodSeconds, 'must not be set for readinessProbes');
    else if (probe.terminationGracePeriodSeconds !== undefined && probe.terminationGracePeriodSeconds <= 0)
      found.invalid(`${path}.terminationGracePeriodSeconds`, probe.terminationGracePeriodSeconds, 'must be greater than 0');
    if (kind !== 'readinessProbe' && probe.successThreshold !== 1) found.invalid(`${path}.successThreshold`, probe.successThreshold, 'must be 1');
  }
}

function validateHandler(found: Findings, handler: any, at: string, kinds: string[]): void {
  let count = 0;
  for (const kind of kinds) {
    const one = handler[kind];
    if (!one) continue;
    if (++count > 1) {
      found.forbidden(`${at}.${kind}`, 'may not specify more than 1 handler type');
      continue;
    }
    const path = `${at}.${kind}`;
    if (kind === 'exec' && !one.command?.length) found.required(`${path}.command`);
    if (kind === 'httpGet') {
      if (!one.path) found.required(`${path}.path`);
      validatePortReference(found, `${path}.port`, one.port);
      found.oneOf(`${path}.scheme`, one.scheme, ['HTTP', 'HTTPS']);
      (one.httpHeaders ?? []).forEach((h: any) => {
        if (!/^[-A-Za-z0-9]+$/.test(h.name ?? '')) {
          const detail =
            "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
          found.invalid(`${path}.httpHeaders`, h.name ?? '', detail);
        }
      });
    }
    if (kind === 'tcpSocket') validatePortReference(found, `${path}.port`, one.port);
    if (kind === 'grpc') found.port(`${path}.port`, one.port);
  }
  if (!count) found.required(at, 'must specify a handler type');
}
