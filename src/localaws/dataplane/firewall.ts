import type { IpPermission, SecurityGroup } from '@aws-sdk/client-ec2';
import type { Interface } from './interfaces.ts';
import { AWS_ADDRESS, AWS_PORT, METADATA_ADDRESS, RESOLVER_ADDRESS } from './names.ts';

/** An address on the router itself: an interface held for the host, or a load balancer's. Without groups nothing is filtered there. */
export interface LocalEndpoint {
  address: string;
  groups?: string[];
}

export interface FilterInput {
  groups: SecurityGroup[];
  interfaces: Interface[];
  local: LocalEndpoint[];
  gateways: string[];
  resolver: string;
  /** Hops that answers of instance metadata may take, by the instance's address. */
  hopLimits: Map<string, number>;
}

type Direction = 'in' | 'out';

/**
 * The table of a VPC's namespace as one nftables transaction: source/destination check and security groups.
 * A packet between two instances passes two base chains, the sender's outbound rules and the receiver's inbound rules,
 * since `accept` ends only the chain it stands in. A group as peer means the interfaces it is on (so pods behind an
 * interface count as it), and addresses on the router.
 */
export function filterText(input: FilterInput): string {
  const known = new Map(input.groups.map((group) => [group.GroupId!, group]));
  const used = new Set([...input.interfaces.flatMap((one) => one.groups), ...input.local.flatMap((one) => one.groups ?? [])]);
  const active = [...used].sort().flatMap((id) => known.get(id) ?? []);
  const peers = new Set(
    active.flatMap((group) => [...(group.IpPermissions ?? []), ...(group.IpPermissionsEgress ?? [])].flatMap((one) => groupPeers(one))),
  );
  const lines: string[] = ['table inet kumulus', 'delete table inet kumulus', 'table inet kumulus {'];
  const block = (header: string, body: string[]) => lines.push(`  ${header} {`, ...body.map((line) => `    ${line}`), '  }');
  const set = (name: string, type: string, elements: string[]) =>
    block(`set ${name}`, [`type ${type}`, ...(elements.length ? [`elements = { ${elements.join(', ')} }`] : [])]);

  for (const id of [...peers].sort()) {
    const on = input.interfaces.filter((one) => one.groups.includes(id));
    const addresses = input.local.filter((one) => one.groups?.includes(id)).map((one) => one.address);
    set(`links_${id}`, 'ifname', quoted(on));
    set(`local_${id}`, 'ipv4_addr', [...new Set(addresses)]);
  }
  const checked = input.interfaces.filter((one) => one.sourceDestCheck);
  set('checked', 'ifname', quoted(checked));
  set(
    'owned',
    'ifname . ipv4_addr',
    checked.flatMap((one) => one.addresses.map((address) => `"${one.link}" . ${address}`)),
  );

  for (const group of active) {
    block(
      `chain in_${group.GroupId}`,
      (group.IpPermissions ?? []).flatMap((one) => ruleLines(one, 'in', peers)),
    );
    block(
      `chain out_${group.GroupId}`,
      (group.IpPermissionsEgress ?? []).flatMap((one) => ruleLines(one, 'out', peers)),
    );
  }
  const guarded = input.local.filter((one) => one.groups);
  for (const [name, groups] of [
    ...input.interfaces.map((one): [string, string[]] => [one.link, one.groups]),
    ...guarded.map((one): [string, string[]] => [one.address, one.groups!]),
  ]) {
    for (const direction of ['in', 'out']) {
      const chains = groups.filter((id) => known.has(id)).map((id) => `jump ${direction}_${id}`);
      block(`chain ${direction}_${chainName(name)}`, [...chains, 'drop']);
    }
  }

  const byLink = (selector: string, direction: Direction) => verdicts(selector, input.interfaces, (one) => [`"${one.link}"`, one.link], direction);
  const byAddress = (selector: string, direction: Direction) => verdicts(selector, guarded, (one) => [one.address, one.address], direction);
  const open = input.local.filter((one) => !one.groups).map((one) => one.address);
  const services = [METADATA_ADDRESS, RESOLVER_ADDRESS, AWS_ADDRESS, input.resolver];
  const known_ = 'ct state established,related accept';

  block('chain forged', ['type filter hook prerouting priority -150; policy accept;', 'iifname @checked iifname . ip saddr != @owned drop']);
  block('chain leave_instance', ['type filter hook forward priority 0; policy drop;', known_, ...byLink('iifname', 'out')]);
  block('chain enter_instance', [
    'type filter hook forward priority 10; policy drop;',
    'oifname @checked oifname . ip daddr != @owned drop',
    known_,
    ...byLink('oifname', 'in'),
  ]);
  // Security groups do not apply to the resolver and to instance metadata (as on AWS).
  block('chain leave_instance_inwards', [
    'type filter hook input priority 0; policy drop;',
    'iifname "lo" accept',
    known_,
    `ip daddr { ${services.join(', ')} } accept`,
    ...byLink('iifname', 'out'),
  ]);
  block('chain enter_router', [
    'type filter hook input priority 10; policy drop;',
    'iifname "lo" accept',
    known_,
    `ip daddr { ${RESOLVER_ADDRESS}, ${input.resolver} } meta l4proto { tcp, udp } th dport 53 accept`,
    `ip daddr ${METADATA_ADDRESS} tcp dport 80 accept`,
    `ip daddr ${AWS_ADDRESS} tcp dport ${AWS_PORT} accept`,
    `ip daddr { ${[...new Set(input.gateways)].join(', ')} } icmp type echo-request accept`,
    ...(open.length ? [`ip daddr { ${open.join(', ')} } accept`] : []),
    ...byAddress('ip daddr', 'in'),
  ]);
  block('chain leave_router', [
    'type filter hook output priority 0; policy accept;',
    'oifname "lo" accept',
    ...hopLimitRules(input.hopLimits),
    known_,
    ...byAddress('ip saddr', 'out'),
  ]);
  block('chain enter_instance_outwards', [
    'type filter hook output priority 10; policy accept;',
    known_,
    `ip saddr { ${[...new Set(input.gateways)].join(', ')} } accept`,
    ...byLink('oifname', 'in'),
  ]);
  lines.push('}', '');
  return lines.join('\n');
}

function quoted(interfaces: Interface[]): string[] {
  return interfaces.map((one) => `"${one.link}"`);
}

function chainName(name: string): string {
  return name.replaceAll('.', '_');
}

function verdicts<T>(selector: string, items: T[], name: (item: T) => [key: string, chain: string], direction: Direction): string[] {
  if (items.length === 0) return [];
  const elements = items.map((item) => `${name(item)[0]} : jump ${direction}_${chainName(name(item)[1])}`);
  return [`${selector} vmap { ${[...new Set(elements)].join(', ')} }`];
}

function hopLimitRules(limits: Map<string, number>): string[] {
  const byHops = Map.groupBy(limits, ([, hops]) => hops);
  return [...byHops].map(
    ([hops, entries]) => `ip saddr ${METADATA_ADDRESS} ip daddr { ${entries.map(([address]) => address).join(', ')} } ip ttl set ${hops}`,
  );
}

function groupPeers(permission: IpPermission): string[] {
  return (permission.UserIdGroupPairs ?? []).flatMap((pair) => pair.GroupId ?? []);
}

/** One permission as nftables rules. IPv6 ranges and prefix lists match nothing here: a VPC is IPv4 only. */
function ruleLines(permission: IpPermission, direction: Direction, peers: Set<string>): string[] {
  const protocol = protocolMatch(permission);
  if (protocol === undefined) return [];
  const side = direction === 'in' ? 'saddr' : 'daddr';
  const matches: string[] = [];
  for (const range of permission.IpRanges ?? []) {
    if (range.CidrIp === '0.0.0.0/0') matches.push('meta nfproto ipv4');
    else if (range.CidrIp) matches.push(`ip ${side} ${range.CidrIp}`);
  }
  for (const id of groupPeers(permission)) {
    if (!peers.has(id)) continue;
    matches.push(`${direction === 'in' ? 'iifname' : 'oifname'} @links_${id}`, `ip ${side} @local_${id}`);
  }
  return matches.map((match) => [match, protocol, 'accept'].filter(Boolean).join(' '));
}

function protocolMatch(permission: IpPermission): string | undefined {
  const { FromPort: from, ToPort: to } = permission;
  const name = { '1': 'icmp', '6': 'tcp', '17': 'udp' }[permission.IpProtocol ?? ''] ?? permission.IpProtocol ?? '-1';
  if (name === '-1') return '';
  if (name === 'tcp' || name === 'udp') {
    const all = from === undefined || from === -1 || (from === 0 && to === 65535);
    return all ? `meta l4proto ${name}` : `${name} dport ${from === (to ?? from) ? from : `${from}-${to}`}`;
  }
  if (name === 'icmp') {
    if (from === undefined || from === -1) return 'meta l4proto icmp';
    return to === undefined || to === -1 ? `icmp type ${from}` : `icmp type ${from} icmp code ${to}`;
  }
  return /^\d+$/.test(name) ? `meta l4proto ${name}` : undefined;
}
