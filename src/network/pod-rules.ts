import { type Allocation, type HostPort, isAny } from './allocations.ts';

/** The table of the pod network, in the network namespace of the node. */
export const podTable = 'kumulus-pods';
const masqueradeMark = '0x2000';

/**
 * The whole table, in one transaction that replaces what an earlier process left. Priorities put it behind kube-proxy's table, so
 * that a service's port wins over a pod's.
 */
export function podRules(o: { bridge: string; podCidr: string; nonMasqueradeCidrs: string[]; allocations: Allocation[] }): string[] {
  const anywhere: string[] = [];
  const elsewhere: string[] = [];
  for (const { ip, ports } of o.allocations)
    for (const port of ports) (isAny(port.hostIp) ? anywhere : elsewhere).push(`${portKey(port)} : ${ip} . ${port.containerPort}`);
  const elements = (all: string[]) => (all.length ? [`elements = { ${all.join(', ')} }`] : []);
  return [
    `table ip ${podTable}`,
    `delete table ip ${podTable}`,
    `table ip ${podTable} {`,
    'set reached-directly {',
    'type ipv4_addr',
    'flags interval',
    'auto-merge',
    `elements = { ${[o.podCidr, ...o.nonMasqueradeCidrs, '224.0.0.0/4'].join(', ')} }`,
    '}',
    'map host-ports {',
    'type inet_proto . inet_service : ipv4_addr . inet_service',
    ...elements(anywhere),
    '}',
    'map host-address-ports {',
    'type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service',
    ...elements(elsewhere),
    '}',
    'chain to-pods {',
    // A pod that reaches itself, and the node's 127.0.0.1, need an address to answer to that is the node's.
    `ip saddr { ${o.podCidr}, 127.0.0.0/8 } meta mark set meta mark or ${masqueradeMark}`,
    'meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @host-address-ports',
    'meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @host-ports',
    '}',
    'chain prerouting {',
    'type nat hook prerouting priority dstnat + 5; policy accept;',
    'fib daddr type local jump to-pods',
    '}',
    'chain output {',
    'type nat hook output priority -95; policy accept;',
    'fib daddr type local jump to-pods',
    '}',
    'chain postrouting {',
    'type nat hook postrouting priority srcnat + 5; policy accept;',
    `oifname "${o.bridge}" meta mark & ${masqueradeMark} != 0 masquerade`,
    `oifname "${o.bridge}" ip saddr 127.0.0.0/8 masquerade`,
    `oifname != "${o.bridge}" ip saddr ${o.podCidr} ip daddr != @reached-directly masquerade fully-random`,
    '}',
    // The bridge routes 127.0.0.0/8, for host ports on 127.0.0.1. Pods must not come in by that.
    'chain guard {',
    'type filter hook prerouting priority raw; policy accept;',
    `iifname "${o.bridge}" ip daddr 127.0.0.0/8 drop`,
    '}',
    '}',
  ];
}

const portKey = (p: HostPort): string => `${isAny(p.hostIp) ? '' : `${p.hostIp} . `}${p.protocol.toLowerCase()} . ${p.hostPort}`;
const mapOf = (p: HostPort): string => (isAny(p.hostIp) ? 'host-ports' : 'host-address-ports');

/** The lines of a transaction that opens a pod's host ports. */
export const openPorts = (ip: string, ports: HostPort[]): string[] =>
  ports.map((p) => `add element ip ${podTable} ${mapOf(p)} { ${portKey(p)} : ${ip} . ${p.containerPort} }`);

/** The lines of a transaction that closes them; adding before deleting makes it right for those that are gone already. */
export const closePorts = (ip: string, ports: HostPort[]): string[] =>
  ports.flatMap((p) => {
    const element = `ip ${podTable} ${mapOf(p)} { ${portKey(p)} : ${ip} . ${p.containerPort} }`;
    return [`add element ${element}`, `delete element ${element}`];
  });
