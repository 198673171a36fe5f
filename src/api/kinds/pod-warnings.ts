import { labelProblems } from '../validation.ts';
import { eachContainer } from './security-validation.ts';

/** Volumes of times past, and what became of them. */
const deprecatedVolumes: Record<string, string> = {
  photonPersistentDisk: 'deprecated in v1.11, non-functional in v1.16+',
  gitRepo: 'deprecated in v1.11, and disabled by default in v1.33+',
  scaleIO: 'deprecated in v1.16, non-functional in v1.22+',
  flocker: 'deprecated in v1.22, non-functional in v1.25+',
  storageos: 'deprecated in v1.22, non-functional in v1.25+',
  quobyte: 'deprecated in v1.22, non-functional in v1.25+',
  glusterfs: 'deprecated in v1.25, non-functional in v1.26+',
  ephemeral: '',
  cephfs: 'deprecated in v1.28, non-functional in v1.31+',
  rbd: 'deprecated in v1.28, non-functional in v1.31+',
};

/** Labels of nodes that have other names now, or none. */
const deprecatedLabels: Record<string, string> = {
  'beta.kubernetes.io/arch': 'deprecated since v1.14; use "kubernetes.io/arch" instead',
  'beta.kubernetes.io/os': 'deprecated since v1.14; use "kubernetes.io/os" instead',
  'beta.kubernetes.io/instance-type': 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
  'failure-domain.beta.kubernetes.io/region': 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
  'failure-domain.beta.kubernetes.io/zone': 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
};

const matchesNothing = 'a null labelSelector results in matching no pod';

function labelWarnings(spec: any, path: string): string[] {
  const warnings: string[] = [];
  for (const key of Object.keys(spec.nodeSelector ?? {}).sort())
    if (deprecatedLabels[key]) warnings.push(`${path}.nodeSelector[${key}]: ${deprecatedLabels[key]}`);
  const term = (t: any, at: string) =>
    (t?.matchExpressions ?? []).forEach((e: any, i: number) => {
      if (deprecatedLabels[e.key]) warnings.push(`${at}.matchExpressions[${i}].key: ${e.key} is ${deprecatedLabels[e.key]}`);
    });
  const affinity = spec.affinity?.nodeAffinity;
  (affinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms ?? []).forEach((t: any, i: number) => {
    term(t, `${path}.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[${i}]`);
  });
  (affinity?.preferredDuringSchedulingIgnoredDuringExecution ?? []).forEach((p: any, i: number) => {
    term(p.preference, `${path}.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[${i}].preference`);
  });
  (spec.topologySpreadConstraints ?? []).forEach((c: any, i: number) => {
    if (deprecatedLabels[c.topologyKey]) warnings.push(`${path}.topologySpreadConstraints[${i}].topologyKey: ${c.topologyKey} is ${deprecatedLabels[c.topologyKey]}`);
    if (!c.labelSelector) warnings.push(`${path}.topologySpreadConstraints[${i}].labelSelector: ${matchesNothing}`);
  });
  return warnings;
}

function repeatedVariables(c: any, at: string, warnings: string[]): void {
  if (!(c.env?.length > 1)) return;
  const seen = new Set<string>();
  c.env.forEach((e: any, i: number) => {
    const reference = `$(${e.name})`;
    // A variable that builds on its earlier value is meant to be there again.
    if (seen.has(e.name) && (e.valueFrom || e.value === reference || !(e.value ?? '').includes(reference)))
      warnings.push(`${at}.env[${i}]: hides previous definition of ${JSON.stringify(e.name)}, which may be dropped when using apply`);
    seen.add(e.name);
  });
}

const bytesMayBeFractions = /\d+[mun]$/;

function fractions(amounts: Record<string, string> | undefined, at: string, warnings: string[]): void {
  for (const name of ['memory', 'ephemeral-storage']) {
    const amount = amounts?.[name];
    if (amount && bytesMayBeFractions.test(amount)) warnings.push(`${at}[${name}]: fractional byte value ${JSON.stringify(amount)} is invalid, must be an integer`);
  }
}

/** A port as Go prints a struct. */
const shownPort = (p: any) => `{Name:${p.name ?? ''} HostPort:${p.hostPort ?? 0} ContainerPort:${p.containerPort ?? 0} Protocol:${p.protocol ?? ''} HostIP:${p.hostIP ?? ''}}`;

function portWarnings(spec: any, path: string, warnings: string[]): void {
  const ports = new Map<string, { at: string; port: any }[]>();
  const names = new Map<string, string>();
  const named: string[] = [];
  eachContainer(spec, path, (c, where) => {
    c.ports?.forEach((port: any, i: number) => {
      const at = `${where}.ports[${i}]`;
      if (port.hostIP && !port.hostPort) warnings.push(`${at}: hostIP set without hostPort: ${shownPort(port)}`);
      const key = `${port.containerPort}/${port.protocol}`;
      const others = ports.get(key) ?? [];
      for (const other of others) {
        const [ip, otherIp] = [port.hostIP ?? '', other.port.hostIP ?? ''];
        const [host, otherHost] = [port.hostPort ?? 0, other.port.hostPort ?? 0];
        if (ip === otherIp && host === otherHost) warnings.push(`${at}: duplicate port definition with ${other.at}`);
        else if (host === 0 || otherHost === 0) warnings.push(`${at}: overlapping port definition with ${other.at}`);
        else if (host === otherHost && (ip === '') !== (otherIp === '')) warnings.push(`${at}: dangerously ambiguous port definition with ${other.at}`);
      }
      ports.set(key, [...others, { at, port }]);
      if (!port.name) return;
      const other = names.get(port.name);
      if (other) named.push(`${at}: duplicate port name ${JSON.stringify(port.name)} with ${other}, services and probes that select ports by name will use ${other}`);
      else names.set(port.name, at);
    });
  });
  warnings.push(...named);
}

interface FilePath {
  path: string;
  /** Where it comes from, where several do. */
  source: string;
}
const shownPath = (p: FilePath) => `${JSON.stringify(p.path)}${p.source ? ` (${p.source})` : ''}`;
const pathsOf = (items: any[] | undefined, source: string): FilePath[] => (items ?? []).map((item) => ({ path: item.path ?? '', source }));

function overlaps(paths: FilePath[]): string[] {
  const found: string[] = [];
  const before: FilePath[] = [];
  for (const { path: full, source } of paths) {
    const one = { path: full.replace(/\/+$/, ''), source };
    for (const other of one.path ? before : [])
      if (other.path && (`${other.path}/`.startsWith(`${one.path}/`) || `${one.path}/`.startsWith(`${other.path}/`))) found.push(`${shownPath(one)} with ${shownPath(other)}`);
    before.push(one);
  }
  return found;
}

function projectedPaths(source: any): FilePath[] {
  if (source.configMap?.items) return pathsOf(source.configMap.items, `ConfigMap ${JSON.stringify(source.configMap.name ?? '')}`);
  if (source.secret?.items) return pathsOf(source.secret.items, `Secret ${JSON.stringify(source.secret.name ?? '')}`);
  if (source.downwardAPI?.items) return pathsOf(source.downwardAPI.items, 'DownwardAPI');
  if (source.serviceAccountToken) return [{ path: source.serviceAccountToken.path ?? '', source: 'ServiceAccountToken' }];
  const bundle = source.clusterTrustBundle;
  if (bundle) return [{ path: bundle.path ?? '', source: `ClusterTrustBundle ${JSON.stringify(bundle.name ?? bundle.signerName ?? '')}` }];
  const certificate = source.podCertificate;
  if (!certificate) return [];
  const files: [string | undefined, string][] = [
    [certificate.certificateChainPath, 'PodCertificate chain'],
    [certificate.keyPath, 'PodCertificate key'],
    [certificate.credentialBundlePath, 'PodCertificate credential bundle'],
  ];
  return files.flatMap(([path, what]) => (path ? [{ path, source: what }] : []));
}

/** Files of one volume that would lie in each other's way. */
function overlapWarnings(volume: any, warnings: string[]): void {
  const tell = (what: string, paths: FilePath[]) => {
    if (paths.length > 1) for (const overlap of overlaps(paths)) warnings.push(`volume ${JSON.stringify(volume.name ?? '')} (${what}): overlapping paths: ${overlap}`);
  };
  if (volume.configMap) tell(`ConfigMap ${JSON.stringify(volume.configMap.name ?? '')}`, pathsOf(volume.configMap.items, ''));
  else if (volume.secret) tell(`Secret ${JSON.stringify(volume.secret.secretName ?? '')}`, pathsOf(volume.secret.items, ''));
  else if (volume.downwardAPI) tell('DownwardAPI', pathsOf(volume.downwardAPI.items, ''));
  else if (volume.projected) {
    for (const source of volume.projected.sources ?? [])
      if (!Object.keys(source).length) warnings.push(`volume ${JSON.stringify(volume.name)} (Projected) has no sources provided`);
    tell('Projected', (volume.projected.sources ?? []).flatMap(projectedPaths));
  }
}

function affinityWarnings(affinity: any, path: string, warnings: string[]): void {
  for (const kind of ['podAffinity', 'podAntiAffinity']) {
    const at = `${path}.${kind}`;
    (affinity[kind]?.requiredDuringSchedulingIgnoredDuringExecution ?? []).forEach((term: any, i: number) => {
      if (!term.labelSelector) warnings.push(`${at}.requiredDuringSchedulingIgnoredDuringExecution[${i}].labelSelector: ${matchesNothing}`);
    });
    (affinity[kind]?.preferredDuringSchedulingIgnoredDuringExecution ?? []).forEach(({ podAffinityTerm }: any, i: number) => {
      if (!podAffinityTerm?.labelSelector)
        warnings.push(`${at}.preferredDuringSchedulingIgnoredDuringExecution[${i}].podAffinityTerm.labelSelector: ${matchesNothing}`);
    });
  }
}

/** What upstream tells about a pod's spec that is allowed and yet likely not meant. */
export function podSpecWarnings(spec: any, path: string): string[] {
  if (!spec) return [];
  const warnings = labelWarnings(spec, path);
  (spec.volumes ?? []).forEach((volume: any, i: number) => {
    for (const [kind, what] of Object.entries(deprecatedVolumes)) if (what && volume[kind]) warnings.push(`${path}.volumes[${i}].${kind === 'storageos' ? 'storageOS' : kind}: ${what}`);
    const storage = volume.ephemeral?.volumeClaimTemplate?.spec?.resources?.requests?.storage;
    if (storage && /\d+m$/.test(storage)) warnings.push(`${path}.volumes[${i}].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value ${JSON.stringify(storage)} is invalid, must be an integer`);
  });
  for (const volume of spec.volumes ?? []) overlapWarnings(volume, warnings);
  const aliases = new Map<string, number>();
  (spec.hostAliases ?? []).forEach((alias: any, i: number) => {
    if (aliases.has(alias.ip)) warnings.push(`${path}.hostAliases[${i}].ip: duplicate ip ${JSON.stringify(alias.ip)}`);
    aliases.set(alias.ip, i);
  });
  const secrets = new Set<string>();
  (spec.imagePullSecrets ?? []).forEach((secret: any, i: number) => {
    if (secrets.has(secret.name ?? '')) warnings.push(`${path}.imagePullSecrets[${i}].name: duplicate name ${JSON.stringify(secret.name ?? '')}`);
    secrets.add(secret.name ?? '');
  });
  (spec.imagePullSecrets ?? []).forEach((secret: any, i: number) => {
    if (!secret.name) warnings.push(`${path}.imagePullSecrets[${i}].name: invalid empty name ""`);
  });
  fractions(spec.overhead, `${path}.overhead`, warnings);
  eachContainer(spec, path, (c, at) => {
    fractions(c.resources?.limits, `${at}.resources.limits`, warnings);
    fractions(c.resources?.requests, `${at}.resources.requests`, warnings);
    repeatedVariables(c, at, warnings);
  });
  portWarnings(spec, path, warnings);
  if (spec.terminationGracePeriodSeconds < 0) warnings.push(`${path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1`);
  if (spec.affinity) affinityWarnings(spec.affinity, `${path}.affinity`, warnings);
  return warnings;
}

/** Of pods; those of other kinds that make pods are told by podSpecWarnings and nameWarnings. */
export function podWarnings(o: any, old?: any): string[] {
  const warnings = podSpecWarnings(o.spec, 'spec');
  if (old) return [];
  const problems = labelProblems(o.metadata?.name ?? '');
  if (!problems.length) return warnings;
  const what = "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended";
  return [`${what}: [${problems.join(' ')}]`, ...warnings];
}

/** Names that become parts of pods' names and host names. */
export function nameWarnings(o: any, old?: any): string[] {
  const problems = old ? [] : labelProblems(o.metadata?.name ?? '');
  if (!problems.length) return [];
  const what = 'metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended';
  return [`${what}: [${problems.join(' ')}]`];
}
