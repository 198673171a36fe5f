import type { Pod } from '../api/generated/types.ts';

/** Kernel settings that a pod can change without touching others; upstream's list, all of a namespace since Linux 4.15. */
const safe = new Set([
  'kernel.shm_rmid_forced',
  'net.ipv4.ip_local_port_range',
  'net.ipv4.tcp_syncookies',
  'net.ipv4.ping_group_range',
  'net.ipv4.ip_unprivileged_port_start',
  'net.ipv4.ip_local_reserved_ports',
  'net.ipv4.tcp_keepalive_time',
  'net.ipv4.tcp_fin_timeout',
  'net.ipv4.tcp_keepalive_intvl',
  'net.ipv4.tcp_keepalive_probes',
  'net.ipv4.tcp_rmem',
  'net.ipv4.tcp_wmem',
  'net.ipv4.tcp_slow_start_after_idle',
  'net.ipv4.tcp_notsent_lowat',
]);

/** Names can be written with slashes, as files have them; what comes first decides. */
function normalized(name: string): string {
  const first = name.search(/[./]/);
  return first >= 0 && name[first] === '/' ? name.replace(/[./]/g, (c) => (c === '/' ? '.' : '/')) : name;
}

/** Why the node does not set the kernel settings that the pod asks for. */
export function forbiddenSysctl(pod: Pod): string | undefined {
  for (const { name } of pod.spec.securityContext?.sysctls ?? []) {
    const plain = normalized(name);
    if (!safe.has(plain)) return `forbidden sysctl: "${name}" not allowlisted`;
    if (plain.startsWith('kernel.shm') && pod.spec.hostIPC) return `forbidden sysctl: "${name}" not allowed with host ipc enabled`;
    if (plain.startsWith('net.') && pod.spec.hostNetwork) return `forbidden sysctl: "${name}" not allowed with host net enabled`;
  }
  return undefined;
}
