import { labelProblems } from '../validation.ts';

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
  });
  return warnings;
}

function repeatedVariables(c: any, at: string): string[] {
  const seen = new Map<string, string>();
  const warnings: string[] = [];
  (c.env ?? []).forEach((e: any, i: number) => {
    const before = seen.get(e.name);
    // A variable that builds on its earlier value is meant to be there again.
    if (before !== undefined && !String(e.value ?? '').includes(`$(${e.name})`))
      warnings.push(
        before === 'same'
          ? `${at}.env[${i}]: duplicate name ${JSON.stringify(e.name)}`
          : `${at}.env[${i}]: hides previous definition of ${JSON.stringify(e.name)}, which may be dropped when using apply`,
      );
    seen.set(e.name, 'before');
  });
  return warnings;
}

/** What upstream tells about a pod's spec that is allowed and yet likely not meant. */
export function podSpecWarnings(spec: any, path: string): string[] {
  if (!spec) return [];
  const warnings = labelWarnings(spec, path);
  (spec.volumes ?? []).forEach((volume: any, i: number) => {
    for (const [kind, what] of Object.entries(deprecatedVolumes)) if (what && volume[kind]) warnings.push(`${path}.volumes[${i}].${kind === 'storageos' ? 'storageOS' : kind}: ${what}`);
    const storage = volume.ephemeral?.volumeClaimTemplate?.spec?.resources?.requests?.storage;
    if (storage && /\d+m$/.test(storage)) warnings.push(`${path}.volumes[${i}].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: fractional byte value ${JSON.stringify(storage)} is invalid, must be an integer`);
    if ((volume.projected?.sources ?? []).some((s: any) => !Object.keys(s).length))
      warnings.push(`volume ${JSON.stringify(volume.name)} (Projected) has no sources provided`);
  });
  const aliases = new Map<string, number>();
  (spec.hostAliases ?? []).forEach((alias: any, i: number) => {
    if (aliases.has(alias.ip)) warnings.push(`${path}.hostAliases[${i}].ip: duplicate ip ${JSON.stringify(alias.ip)}`);
    aliases.set(alias.ip, i);
  });
  const secrets = new Set<string>();
  (spec.imagePullSecrets ?? []).forEach((secret: any, i: number) => {
    if (!secret.name) warnings.push(`${path}.imagePullSecrets[${i}].name: invalid empty name ""`);
    else if (secrets.has(secret.name)) warnings.push(`${path}.imagePullSecrets[${i}].name: duplicate name ${JSON.stringify(secret.name)}`);
    secrets.add(secret.name ?? '');
  });
  for (const list of ['initContainers', 'containers', 'ephemeralContainers'])
    (spec[list] ?? []).forEach((c: any, i: number) => {
      warnings.push(...repeatedVariables(c, `${path}.${list}[${i}]`));
    });
  if (spec.terminationGracePeriodSeconds < 0) warnings.push(`${path}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1`);
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
