/**
 * The Pod Security Standards: what each check forbids, from which version of the policy on, and in which words. Behaviour and
 * texts are those of Kubernetes 1.37's PodSecurity admission.
 */
import type { Container, ObjectMeta, PodSpec } from '../../../api/generated/types.ts';

export type Level = 'privileged' | 'baseline' | 'restricted';

export interface Violation {
  reason: string;
  detail: string;
}

interface Subject {
  metadata: Partial<ObjectMeta>;
  spec: PodSpec;
  /** Init, main and ephemeral ones, in this order. */
  containers: Container[];
}

interface Check {
  id: string;
  level: Exclude<Level, 'privileged'>;
  /** Minor versions of 1.x from which `find` applies; the last that is not newer than the policy counts. */
  versions: { from: number; find(pod: Subject): Violation | undefined; overrides?: string }[];
}

/** The newest version that changed a policy. */
export const newestMinor = 37;

const quoted = (items: Iterable<string>) => [...items].map((item) => `"${item}"`).join(', ');
const sorted = (items: Iterable<string>) => [...new Set(items)].sort();
const plural = (word: string, count: number) => (count === 1 ? word : `${word}s`);
const named = (containers: Container[]) => `${plural('container', containers.length)} ${quoted(containers.map((c) => c.name))}`;
const isWindows = ({ spec }: Subject) => spec.os?.name === 'windows';
const hasUserNamespace = ({ spec }: Subject) => spec.hostUsers === false;
const context = (c: Container): any => c.securityContext ?? {};
const unless = (exempt: (pod: Subject) => boolean, find: (pod: Subject) => Violation | undefined) => (pod: Subject) =>
  exempt(pod) ? undefined : find(pod);

/** Who sets something bad: "pod", and the containers that do. */
function setters(inPod: boolean, containers: Container[]): string {
  return [...(inPod ? ['pod'] : []), ...(containers.length ? [named(containers)] : [])].join(' and ');
}

/** A check that names the containers which do what they must not. */
const perContainer =
  (reason: string, isBad: (c: Container) => boolean, must: string) =>
  ({ containers }: Subject): Violation | undefined => {
    const bad = containers.filter(isBad);
    return bad.length ? { reason, detail: `${named(bad)} ${must}` } : undefined;
  };

const allowedCapabilities = new Set(
  'AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE SETFCAP SETGID SETPCAP SETUID SYS_CHROOT'.split(' '),
);

function baselineCapabilities({ containers }: Subject): Violation | undefined {
  const added = (c: Container): string[] => (context(c).capabilities?.add ?? []).filter((name: string) => !allowedCapabilities.has(name));
  const bad = containers.filter((c) => added(c).length);
  if (!bad.length) return undefined;
  return {
    reason: 'non-default capabilities',
    detail: `${named(bad)} must not include ${quoted(sorted(bad.flatMap(added)))} in securityContext.capabilities.add`,
  };
}

function restrictedCapabilities({ containers }: Subject): Violation | undefined {
  const keeps = containers.filter((c) => !context(c).capabilities?.drop?.includes('ALL'));
  const added = (c: Container): string[] => (context(c).capabilities?.add ?? []).filter((name: string) => name !== 'NET_BIND_SERVICE');
  const adds = containers.filter((c) => added(c).length);
  const details = [
    ...(keeps.length ? [`${named(keeps)} must set securityContext.capabilities.drop=["ALL"]`] : []),
    ...(adds.length ? [`${named(adds)} must not include ${quoted(sorted(adds.flatMap(added)))} in securityContext.capabilities.add`] : []),
  ];
  return details.length ? { reason: 'unrestricted capabilities', detail: details.join('; ') } : undefined;
}

function hostNamespaces({ spec }: Subject): Violation | undefined {
  const used = (['hostNetwork', 'hostPID', 'hostIPC'] as const).filter((field) => spec[field]);
  return used.length ? { reason: 'host namespaces', detail: used.map((field) => `${field}=true`).join(', ') } : undefined;
}

function hostPorts({ containers }: Subject): Violation | undefined {
  const portsOf = (c: Container) => (c.ports ?? []).flatMap((p) => (p.hostPort ? [String(p.hostPort)] : []));
  const bad = containers.filter((c) => portsOf(c).length);
  if (!bad.length) return undefined;
  const ports = sorted(bad.flatMap(portsOf));
  return { reason: 'hostPort', detail: `${named(bad)} ${bad.length === 1 ? 'uses' : 'use'} ${plural('hostPort', ports.length)} ${ports.join(', ')}` };
}

function probeHosts({ containers }: Subject): Violation | undefined {
  const hostsOf = (c: Container) =>
    [c.livenessProbe, c.readinessProbe, c.startupProbe, c.lifecycle?.postStart, c.lifecycle?.preStop].flatMap((handler) =>
      [handler?.httpGet?.host, handler?.tcpSocket?.host].filter((host): host is string => !!host),
    );
  const bad = sorted(containers.filter((c) => hostsOf(c).length).map((c) => c.name));
  if (!bad.length) return undefined;
  const hosts = sorted(containers.flatMap(hostsOf));
  return {
    reason: 'probe or lifecycle host',
    detail: `${plural('container', bad.length)} ${quoted(bad)} ${bad.length === 1 ? 'uses' : 'use'} ${plural('probe or lifecycle host', hosts.length)} ${quoted(hosts)}`,
  };
}

function hostPathVolumes({ spec }: Subject): Violation | undefined {
  const bad = (spec.volumes ?? []).filter((v) => v.hostPath).map((v) => v.name);
  return bad.length ? { reason: 'hostPath volumes', detail: `${plural('volume', bad.length)} ${quoted(bad)}` } : undefined;
}

const unrestrictedVolumes = ['configMap', 'csi', 'downwardAPI', 'emptyDir', 'ephemeral', 'image', 'persistentVolumeClaim', 'projected', 'secret'];
const restrictedVolumeTypes =
  'hostPath gcePersistentDisk awsElasticBlockStore gitRepo nfs iscsi glusterfs rbd flexVolume cinder cephfs flocker fc azureFile vsphereVolume quobyte azureDisk photonPersistentDisk portworxVolume scaleIO storageos'.split(
    ' ',
  );

function restrictedVolumes({ spec }: Subject): Violation | undefined {
  const bad = (spec.volumes ?? []).filter((v) => !unrestrictedVolumes.some((type) => type in v));
  if (!bad.length) return undefined;
  const types = sorted(bad.map((v) => restrictedVolumeTypes.find((type) => type in v) ?? 'unknown'));
  return {
    reason: 'restricted volume types',
    detail: `${plural('volume', bad.length)} ${quoted(bad.map((v) => v.name))} ${bad.length === 1 ? 'uses' : 'use'} ${plural('restricted volume type', types.length)} ${quoted(types)}`,
  };
}

function procMount({ containers }: Subject): Violation | undefined {
  const bad = containers.filter((c) => context(c).procMount !== undefined && context(c).procMount !== 'Default');
  if (!bad.length) return undefined;
  return {
    reason: 'procMount',
    detail: `${named(bad)} must not set securityContext.procMount to ${quoted(sorted(bad.map((c) => context(c).procMount)))}`,
  };
}

function runAsNonRoot({ spec, containers }: Subject): Violation | undefined {
  const inPod = spec.securityContext?.runAsNonRoot;
  const explicit = containers.filter((c) => context(c).runAsNonRoot === false);
  const reason = 'runAsNonRoot != true';
  if (inPod === false || explicit.length)
    return { reason, detail: `${setters(inPod === false, explicit)} must not set securityContext.runAsNonRoot=false` };
  const implicit = inPod ? [] : containers.filter((c) => context(c).runAsNonRoot === undefined);
  return implicit.length ? { reason, detail: `pod or ${named(implicit)} must set securityContext.runAsNonRoot=true` } : undefined;
}

function runAsUser({ spec, containers }: Subject): Violation | undefined {
  const inPod = spec.securityContext?.runAsUser === 0;
  const bad = containers.filter((c) => context(c).runAsUser === 0);
  return inPod || bad.length ? { reason: 'runAsUser=0', detail: `${setters(inPod, bad)} must not set runAsUser=0` } : undefined;
}

const seLinuxOptions =
  (types: string[]) =>
  ({ spec, containers }: Subject): Violation | undefined => {
    const bad = (options: any) => options && (!types.includes(options.type ?? '') || options.user || options.role);
    const inPod = bad(spec.securityContext?.seLinuxOptions);
    const badContainers = containers.filter((c) => bad(context(c).seLinuxOptions));
    if (!inPod && !badContainers.length) return undefined;
    const all: any[] = [spec.securityContext?.seLinuxOptions, ...containers.map((c) => context(c).seLinuxOptions)].filter(Boolean);
    const badTypes = sorted(all.map((o) => o.type ?? '').filter((type) => !types.includes(type)));
    const said = [
      ...(badTypes.length ? [`${plural('type', badTypes.length)} ${quoted(badTypes)}`] : []),
      ...(all.some((o) => o.user) ? ['user may not be set'] : []),
      ...(all.some((o) => o.role) ? ['role may not be set'] : []),
    ];
    return {
      reason: 'seLinuxOptions',
      detail: `${setters(inPod, badContainers)} set forbidden securityContext.seLinuxOptions: ${said.join('; ')}`,
    };
  };
const seLinuxTypes = ['', 'container_t', 'container_init_t', 'container_kvm_t'];

const isGoodSeccomp = (profile: any) => profile.type === 'Localhost' || profile.type === 'RuntimeDefault';

/** What sets a bad seccomp profile outright. */
function badSeccomp({ spec, containers }: Subject): Violation | undefined {
  const own = spec.securityContext?.seccompProfile;
  const inPod = own !== undefined && !isGoodSeccomp(own);
  const bad = containers.filter((c) => context(c).seccompProfile && !isGoodSeccomp(context(c).seccompProfile));
  if (!inPod && !bad.length) return undefined;
  const types = sorted([...(inPod ? [own.type] : []), ...bad.map((c) => context(c).seccompProfile.type)]);
  return { reason: 'seccompProfile', detail: `${setters(inPod, bad)} must not set securityContext.seccompProfile.type to ${quoted(types)}` };
}

function missingSeccomp(pod: Subject): Violation | undefined {
  const bad = badSeccomp(pod);
  if (bad) return bad;
  const implicit = pod.spec.securityContext?.seccompProfile ? [] : pod.containers.filter((c) => !context(c).seccompProfile);
  if (!implicit.length) return undefined;
  return {
    reason: 'seccompProfile',
    detail: `pod or ${named(implicit)} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"`,
  };
}

/** Before 1.19 seccomp profiles were annotations. */
function seccompAnnotations({ metadata, containers }: Subject): Violation | undefined {
  const prefix = 'container.seccomp.security.alpha.kubernetes.io/';
  const keys = ['seccomp.security.alpha.kubernetes.io/pod', ...containers.map((c) => prefix + c.name)];
  const good = (value: string) => value === 'runtime/default' || value === 'docker/default' || value.startsWith('localhost/');
  const bad = sorted(
    keys.flatMap((key) => {
      const value = metadata.annotations?.[key];
      return value === undefined || good(value) ? [] : [`${key}=${JSON.stringify(value)}`];
    }),
  );
  return bad.length ? { reason: 'seccompProfile', detail: `forbidden ${plural('annotation', bad.length)} ${bad.join(', ')}` } : undefined;
}

function appArmorProfile({ metadata, spec, containers }: Subject): Violation | undefined {
  const bad = (profile: any) => profile && profile.type !== 'RuntimeDefault' && profile.type !== 'Localhost';
  const inPod = bad(spec.securityContext?.appArmorProfile);
  const badContainers = containers.filter((c) => bad(context(c).appArmorProfile));
  const annotations = Object.entries(metadata.annotations ?? {})
    .filter(([key, value]) => key.startsWith('container.apparmor.security.beta.kubernetes.io/') && !/^$|^runtime\/default$|^localhost\//.test(value))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .sort();
  const who = [setters(inPod, badContainers), annotations.length ? plural('annotation', annotations.length) : ''].filter(Boolean);
  if (!who.length) return undefined;
  const types = [...(inPod ? [(spec.securityContext as any).appArmorProfile.type] : []), ...badContainers.map((c) => context(c).appArmorProfile.type)];
  const values = [...sorted(types), ...annotations];
  return {
    reason: plural('forbidden AppArmor profile', values.length),
    detail: `${who.join(' and ')} must not set AppArmor profile type to ${quoted(values)}`,
  };
}

/** Sysctls that are allowed, by the version that brought them. */
const sysctlsByVersion: [from: number, names: string[]][] = [
  [
    0,
    [
      'kernel.shm_rmid_forced',
      'net.ipv4.ip_local_port_range',
      'net.ipv4.tcp_syncookies',
      'net.ipv4.ping_group_range',
      'net.ipv4.ip_unprivileged_port_start',
    ],
  ],
  [27, ['net.ipv4.ip_local_reserved_ports']],
  [29, ['net.ipv4.tcp_keepalive_time', 'net.ipv4.tcp_fin_timeout', 'net.ipv4.tcp_keepalive_intvl', 'net.ipv4.tcp_keepalive_probes']],
  [32, ['net.ipv4.tcp_rmem', 'net.ipv4.tcp_wmem']],
  [37, ['net.ipv4.tcp_slow_start_after_idle', 'net.ipv4.tcp_notsent_lowat']],
];

function sysctls(version: number) {
  const allowed = new Set(sysctlsByVersion.filter(([from]) => from <= version).flatMap(([, names]) => names));
  return ({ spec }: Subject): Violation | undefined => {
    const bad = (spec.securityContext?.sysctls ?? []).filter((s) => !allowed.has(s.name)).map((s) => s.name);
    return bad.length ? { reason: 'forbidden sysctls', detail: bad.join(', ') } : undefined;
  };
}

function windowsHostProcess({ spec, containers }: Subject): Violation | undefined {
  const inPod = spec.securityContext?.windowsOptions?.hostProcess === true;
  const bad = containers.filter((c) => context(c).windowsOptions?.hostProcess === true);
  if (!inPod && !bad.length) return undefined;
  return { reason: 'hostProcess', detail: `${setters(inPod, bad)} must not set securityContext.windowsOptions.hostProcess=true` };
}

const privileged = perContainer('privileged', (c) => context(c).privileged === true, 'must not set securityContext.privileged=true');
const allowPrivilegeEscalation = perContainer(
  'allowPrivilegeEscalation != false',
  (c) => context(c).allowPrivilegeEscalation !== false,
  'must set securityContext.allowPrivilegeEscalation=false',
);

const checks: Check[] = [
  { id: 'appArmorProfile', level: 'baseline', versions: [{ from: 0, find: appArmorProfile }] },
  { id: 'capabilities_baseline', level: 'baseline', versions: [{ from: 0, find: baselineCapabilities }] },
  { id: 'hostNamespaces', level: 'baseline', versions: [{ from: 0, find: hostNamespaces }] },
  { id: 'hostPathVolumes', level: 'baseline', versions: [{ from: 0, find: hostPathVolumes }] },
  { id: 'hostPorts', level: 'baseline', versions: [{ from: 0, find: hostPorts }] },
  { id: 'hostProbesAndHostLifecycle', level: 'baseline', versions: [{ from: 34, find: probeHosts }] },
  { id: 'privileged', level: 'baseline', versions: [{ from: 0, find: privileged }] },
  {
    id: 'procMount',
    level: 'baseline',
    versions: [
      { from: 0, find: procMount },
      { from: 35, find: unless(hasUserNamespace, procMount) },
    ],
  },
  {
    id: 'seLinuxOptions',
    level: 'baseline',
    versions: [
      { from: 0, find: seLinuxOptions(seLinuxTypes) },
      { from: 31, find: seLinuxOptions([...seLinuxTypes, 'container_engine_t']) },
    ],
  },
  {
    id: 'seccompProfile_baseline',
    level: 'baseline',
    versions: [
      { from: 0, find: seccompAnnotations },
      { from: 19, find: badSeccomp },
    ],
  },
  { id: 'sysctls', level: 'baseline', versions: sysctlsByVersion.map(([from]) => ({ from, find: sysctls(from) })) },
  { id: 'windowsHostProcess', level: 'baseline', versions: [{ from: 0, find: windowsHostProcess }] },
  {
    id: 'allowPrivilegeEscalation',
    level: 'restricted',
    versions: [
      { from: 8, find: allowPrivilegeEscalation },
      { from: 25, find: unless(isWindows, allowPrivilegeEscalation) },
    ],
  },
  {
    id: 'capabilities_restricted',
    level: 'restricted',
    versions: [
      { from: 22, find: restrictedCapabilities, overrides: 'capabilities_baseline' },
      { from: 25, find: unless(isWindows, restrictedCapabilities), overrides: 'capabilities_baseline' },
    ],
  },
  { id: 'procMount_restricted', level: 'restricted', versions: [{ from: 35, find: procMount, overrides: 'procMount' }] },
  { id: 'restrictedVolumes', level: 'restricted', versions: [{ from: 0, find: restrictedVolumes, overrides: 'hostPathVolumes' }] },
  {
    id: 'runAsNonRoot',
    level: 'restricted',
    versions: [
      { from: 0, find: runAsNonRoot },
      { from: 35, find: unless(hasUserNamespace, runAsNonRoot) },
    ],
  },
  {
    id: 'runAsUser',
    level: 'restricted',
    versions: [
      { from: 23, find: runAsUser },
      { from: 35, find: unless(hasUserNamespace, runAsUser) },
    ],
  },
  {
    id: 'seccompProfile_restricted',
    level: 'restricted',
    versions: [
      { from: 19, find: missingSeccomp, overrides: 'seccompProfile_baseline' },
      { from: 25, find: unless(isWindows, missingSeccomp), overrides: 'seccompProfile_baseline' },
    ],
  },
];

/** The checks of a level at a version 1.minor, in the order in which they are told. */
function checksOf(level: Level, minor: number): ((pod: Subject) => Violation | undefined)[] {
  if (level === 'privileged') return [];
  const applying = checks
    .filter((check) => check.level === 'baseline' || level === 'restricted')
    .flatMap(({ id, versions }) => {
      const version = versions.findLast((v) => v.from <= minor);
      return version ? [{ id, version }] : [];
    });
  const overridden = new Set(applying.map(({ version }) => version.overrides));
  return applying.filter(({ id }) => !overridden.has(id)).map(({ version }) => version.find);
}

/** What a pod does that the level forbids at version 1.minor (the latest where undefined). */
export function evaluate(level: Level, minor: number | undefined, metadata: Partial<ObjectMeta>, spec: PodSpec): Violation[] {
  const containers = [...(spec.initContainers ?? []), ...(spec.containers ?? []), ...((spec.ephemeralContainers ?? []) as unknown as Container[])];
  const pod = { metadata, spec, containers };
  return checksOf(level, Math.min(minor ?? newestMinor, newestMinor)).flatMap((find) => find(pod) ?? []);
}
