import { join } from 'node:path';
import type { Container, Pod } from '../api/generated/types.ts';
import type { ContainerConfig, Mount, PodSandboxConfig, PortMapping } from '../runtime/cri.ts';
import { ContainerConfigError } from './env.ts';
import { expand } from './expansion.ts';
import { containerAnnotations, containerLabels, sandboxAnnotations, sandboxLabels } from './labels.ts';
import type { PodContainer } from './pods.ts';
import { containerResources } from './qos.ts';
import { containerSecurity, hasPrivileged, podNamespaces } from './security.ts';

export interface SandboxInput {
  pod: Pod;
  attempt: number;
  nodeName: string;
  hostname: string;
  logDirectory: string;
  dns: PodSandboxConfig['dnsConfig'];
  cgroupParent: string;
}

export function sandboxConfig(o: SandboxInput): PodSandboxConfig {
  const { pod } = o;
  const security = pod.spec.securityContext;
  const containers = [...(pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always'), ...pod.spec.containers];
  const portMappings = containers.flatMap((c) =>
    (c.ports ?? [])
      .filter((p) => p.hostPort && !pod.spec.hostNetwork)
      .map(
        (p): PortMapping => ({
          protocol: (p.protocol ?? 'TCP') as PortMapping['protocol'],
          containerPort: p.containerPort,
          hostPort: p.hostPort!,
          ...(p.hostIP ? { hostIp: p.hostIP } : {}),
        }),
      ),
  );
  return {
    metadata: { name: pod.metadata.name, uid: pod.metadata.uid, namespace: pod.metadata.namespace, attempt: o.attempt },
    hostname: o.hostname,
    logDirectory: o.logDirectory,
    ...(o.dns ? { dnsConfig: o.dns } : {}),
    portMappings,
    labels: sandboxLabels(pod, o.nodeName),
    annotations: sandboxAnnotations(pod),
    linux: {
      cgroupParent: o.cgroupParent,
      namespaces: podNamespaces(pod),
      sysctls: Object.fromEntries((security?.sysctls ?? []).map((s) => [s.name, s.value])),
      privileged: hasPrivileged(pod),
      ...(security?.supplementalGroups || security?.fsGroup !== undefined
        ? { supplementalGroups: [...(security.supplementalGroups ?? []), ...(security.fsGroup === undefined ? [] : [security.fsGroup])] }
        : {}),
      ...(security?.runAsUser === undefined ? {} : { runAsUser: security.runAsUser }),
      ...(security?.runAsGroup === undefined ? {} : { runAsGroup: security.runAsGroup }),
    },
  };
}

export interface ContainerInput {
  pod: Pod;
  container: PodContainer;
  restartCount: number;
  nodeName: string;
  envs: { key: string; value: string }[];
  mounts: Mount[];
  devices: ContainerConfig['devices'];
  cdiDevices: string[];
  memoryCapacity: number;
  /** Container id whose processes an ephemeral container shares. */
  targetId?: string;
  volumeGroups?: number[];
}

export function containerConfig(o: ContainerInput): ContainerConfig {
  const { pod } = o;
  const { spec } = o.container;
  const lookup = (name: string) => o.envs.find((e) => e.key === name)?.value;
  return {
    metadata: { name: spec.name, attempt: o.restartCount },
    image: { image: spec.image ?? '' },
    command: (spec.command ?? []).map((s) => expand(s, lookup)),
    args: (spec.args ?? []).map((s) => expand(s, lookup)),
    workingDir: spec.workingDir ?? '',
    envs: o.envs,
    mounts: o.mounts,
    devices: o.devices,
    ...(o.cdiDevices.length ? { cdiDevices: o.cdiDevices } : {}),
    labels: containerLabels(pod, spec, o.nodeName),
    annotations: containerAnnotations(pod, spec, o.restartCount),
    logPath: join(spec.name, `${o.restartCount}.log`),
    stdin: spec.stdin ?? false,
    stdinOnce: spec.stdinOnce ?? false,
    tty: spec.tty ?? false,
    linux: {
      resources: containerResources(pod, spec, o.memoryCapacity),
      securityContext: containerSecurity(pod, spec, o.targetId, o.volumeGroups),
    },
    ...(spec.lifecycle?.stopSignal ? { stopSignal: spec.lifecycle.stopSignal } : {}),
  };
}

/** A volume as the volume manager has set it up on the node. */
export interface MountedVolume {
  /** A directory or file on the node; for block volumes the device. */
  hostPath: string;
  readOnly: boolean;
  block?: boolean;
  /** The files of an image, which the runtime mounts itself. */
  image?: string;
}

const propagations: Record<string, Mount['propagation']> = {
  None: 'PROPAGATION_PRIVATE',
  HostToContainer: 'PROPAGATION_HOST_TO_CONTAINER',
  Bidirectional: 'PROPAGATION_BIDIRECTIONAL',
};

export interface MountDependencies {
  volumes: ReadonlyMap<string, MountedVolume>;
  envs: { key: string; value: string }[];
  /** Binds a path below a volume safely to a place of its own and returns that. */
  subPath(volume: MountedVolume, volumeName: string, subPath: string, container: string, index: number, readOnly: boolean): Promise<string>;
  /** Files that the kubelet itself keeps for the container. */
  etcHosts?: string;
  terminationLog?: { containerPath: string; hostPath: string };
}

/** The container's mounts: its volumeMounts, then /etc/hosts and the termination message file where nothing else is mounted there. */
export async function containerMounts(container: Container, o: MountDependencies): Promise<Mount[]> {
  const mounts: Mount[] = [];
  for (const [index, m] of (container.volumeMounts ?? []).entries()) {
    const volume = o.volumes.get(m.name);
    if (!volume) throw new ContainerConfigError(`volume "${m.name}" of container "${container.name}" is not mounted`);
    if (volume.block) throw new ContainerConfigError(`volume ${m.name} has volumeMode Block, but is specified in volumeMounts`);
    const readonly = m.readOnly === true || volume.readOnly;
    let hostPath = volume.hostPath;
    let subPath = m.subPath ?? '';
    if (m.subPathExpr) {
      subPath = expand(m.subPathExpr, (name) => o.envs.find((e) => e.key === name)?.value);
      const missing = /\$\(([^)]*)\)/.exec(subPath);
      if (missing) throw new ContainerConfigError(`missing value for "${missing[1]}" in subPathExpr of volume mount ${m.name}`);
    }
    if (subPath) {
      if (subPath.startsWith('/')) throw new ContainerConfigError(`error SubPath \`${subPath}\` must not be an absolute path`);
      if (subPath.split('/').includes('..')) throw new ContainerConfigError(`unable to provision SubPath \`${subPath}\`: must not contain '..'`);
      if (volume.image === undefined) hostPath = await o.subPath(volume, m.name, subPath, container.name, index, readonly);
    }
    const containerPath = m.mountPath.startsWith('/') ? m.mountPath : `/${m.mountPath}`;
    mounts.push({
      containerPath,
      hostPath,
      readonly,
      propagation: propagations[m.mountPropagation ?? 'None'] ?? 'PROPAGATION_PRIVATE',
      ...(volume.image === undefined ? {} : { image: { image: volume.image }, ...(subPath ? { imageSubPath: subPath } : {}) }),
    });
  }
  const taken = new Set(mounts.map((m) => m.containerPath.replace(/\/+$/, '')));
  if (o.etcHosts && !taken.has('/etc/hosts') && !taken.has('/etc'))
    mounts.push({ containerPath: '/etc/hosts', hostPath: o.etcHosts, readonly: false, propagation: 'PROPAGATION_PRIVATE' });
  if (o.terminationLog && !taken.has(o.terminationLog.containerPath))
    mounts.push({ ...o.terminationLog, readonly: false, propagation: 'PROPAGATION_PRIVATE' });
  return mounts;
}
