import type { Container, Pod } from '../api/generated/types.ts';
import type { Image, NamespaceOption, SecurityContext } from '../runtime/cri.ts';
import { ContainerConfigError } from './env.ts';

/** Paths hidden and made read-only with procMount Default, as container runtimes agree on. */
const maskedPaths = [
  '/proc/asound',
  '/proc/acpi',
  '/proc/interrupts',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];

export function podNamespaces(pod: Pod): NamespaceOption {
  return {
    network: pod.spec.hostNetwork ? 'NODE' : 'POD',
    ipc: pod.spec.hostIPC ? 'NODE' : 'POD',
    pid: pod.spec.hostPID ? 'NODE' : pod.spec.shareProcessNamespace ? 'POD' : 'CONTAINER',
  };
}

/** Whether any container of the pod is privileged: then its sandbox must be. */
export const hasPrivileged = (pod: Pod): boolean =>
  [...(pod.spec.initContainers ?? []), ...pod.spec.containers, ...(pod.spec.ephemeralContainers ?? [])].some((c) => c.securityContext?.privileged);

/** The container's security context: its own settings over the pod's. targetId: the container whose processes an ephemeral one sees. */
export function containerSecurity(pod: Pod, container: Container, targetId?: string, volumeGroups: number[] = []): SecurityContext {
  const ofPod = pod.spec.securityContext ?? {};
  const own = container.securityContext ?? {};
  const runAsUser = own.runAsUser ?? ofPod.runAsUser;
  const runAsGroup = own.runAsGroup ?? ofPod.runAsGroup;
  const seccomp = own.seccompProfile ?? ofPod.seccompProfile;
  const privileged = own.privileged === true;
  const unmasked = own.procMount === 'Unmasked' || privileged;
  const namespaces = podNamespaces(pod);
  const groups = [...(ofPod.supplementalGroups ?? []), ...(ofPod.fsGroup === undefined ? [] : [ofPod.fsGroup]), ...volumeGroups];
  return {
    privileged,
    ...(own.capabilities ? { capabilities: { add: own.capabilities.add ?? [], drop: own.capabilities.drop ?? [] } } : {}),
    ...(runAsUser === undefined ? {} : { runAsUser }),
    ...(runAsGroup === undefined ? {} : { runAsGroup }),
    supplementalGroups: [...new Set(groups)],
    readonlyRootfs: own.readOnlyRootFilesystem === true,
    noNewPrivs: own.allowPrivilegeEscalation === false && !privileged && !own.capabilities?.add?.includes('CAP_SYS_ADMIN'),
    maskedPaths: unmasked ? [] : maskedPaths,
    readonlyPaths: unmasked ? [] : readonlyPaths,
    namespaces: targetId ? { ...namespaces, pid: 'TARGET', targetId } : namespaces,
    ...(seccomp && !privileged
      ? { seccompProfile: { type: seccomp.type, ...(seccomp.localhostProfile ? { localhostRef: seccomp.localhostProfile } : {}) } }
      : {}),
  };
}

/** runAsNonRoot: refuses a container that would run as root, or by a name of which that cannot be told. */
export function verifyNonRoot(pod: Pod, container: Container, image: Image | undefined): void {
  const nonRoot = container.securityContext?.runAsNonRoot ?? pod.spec.securityContext?.runAsNonRoot;
  if (!nonRoot) return;
  const user = container.securityContext?.runAsUser ?? pod.spec.securityContext?.runAsUser;
  const where = `pod: "${pod.metadata.name}_${pod.metadata.namespace}(${pod.metadata.uid})", container: ${container.name}`;
  if (user !== undefined) {
    if (user === 0) throw new ContainerConfigError(`container's runAsUser breaks non-root policy (${where})`);
    return;
  }
  if (image?.uid !== undefined) {
    if (image.uid === 0) throw new ContainerConfigError(`container has runAsNonRoot and image will run as root (${where})`);
    return;
  }
  if (image?.username)
    throw new ContainerConfigError(
      `container has runAsNonRoot and image has non-numeric user (${image.username}), cannot verify user is non-root (${where})`,
    );
  throw new ContainerConfigError(`container has runAsNonRoot and image will run as root (${where})`);
}
