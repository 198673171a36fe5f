import { createHash } from 'node:crypto';
import type { Endpoint, ServicePortInfo } from './endpoints.ts';

/** The table, in the network namespace of the node. */
export const tableName = 'kumulus-proxy';
const masqueradeMark = '0x4000';

/** The part of the table that does not depend on services. It replaces whatever an earlier process left. */
export function baseRules(clusterCidr: string, nodeIps: string[]): string {
  return `
table ip ${tableName}
delete table ip ${tableName}
table ip ${tableName} {
	set node-ips {
		type ipv4_addr
		elements = { ${[...nodeIps, '127.0.0.1'].join(', ')} }
	}
	map service-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
	}
	map node-ports {
		type inet_proto . inet_service : verdict
	}
	map refused-ips {
		type ipv4_addr . inet_proto . inet_service : verdict
	}
	map refused-node-ports {
		type inet_proto . inet_service : verdict
	}
	chain mark-masquerade {
		meta mark set meta mark or ${masqueradeMark}
	}
	chain refuse {
		meta l4proto tcp reject with tcp reset
		reject
	}
	chain services {
		ip daddr . meta l4proto . th dport vmap @service-ips
		ip daddr @node-ips meta l4proto . th dport vmap @node-ports
	}
	chain refusals {
		ct state new ip daddr . meta l4proto . th dport vmap @refused-ips
		ct state new ip daddr @node-ips meta l4proto . th dport vmap @refused-node-ports
	}
	chain cluster-traffic {
		ip saddr != ${clusterCidr} jump mark-masquerade
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}
	chain output {
		type nat hook output priority -100; policy accept;
		jump services
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		meta mark & ${masqueradeMark} == 0 return
		meta mark set meta mark xor ${masqueradeMark}
		masquerade fully-random
	}
	chain filter-input {
		type filter hook input priority -110; policy accept;
		jump refusals
	}
	chain filter-forward {
		type filter hook forward priority -110; policy accept;
		jump refusals
	}
	chain filter-output {
		type filter hook output priority -110; policy accept;
		jump refusals
	}
}
`;
}

/** What one service port adds to the table: chains with their rules, and elements of the maps. */
export interface Rendered {
  /** Sets before chains: affinity. Name to type line. */
  sets: Map<string, string>;
  /** In an order in which each only jumps to chains already made. */
  chains: Map<string, string[]>;
  /** map name to key to verdict. */
  elements: Map<string, string>;
}

const hash = (text: string) => createHash('sha256').update(text).digest('hex').slice(0, 10);

export function renderServicePort(s: ServicePortInfo): Rendered {
  const out: Rendered = { sets: new Map(), chains: new Map(), elements: new Map() };
  const id = hash(s.id);
  const clusterKey = (ip: string) => `${ip} . ${s.protocol} . ${s.port}`;

  const endpointChain = (e: Endpoint): string => {
    const name = `endpoint-${id}-${hash(`${e.ip}:${e.port}`)}`;
    if (out.chains.has(name)) return name;
    const rules = [`ip saddr ${e.ip} jump mark-masquerade`];
    if (s.affinitySeconds) {
      out.sets.set(`affinity-${name}`, `type ipv4_addr; flags dynamic,timeout; timeout ${s.affinitySeconds}s;`);
      rules.push(`update @affinity-${name} { ip saddr }`);
    }
    rules.push(`meta l4proto ${s.protocol} dnat to ${e.ip}:${e.port}`);
    out.chains.set(name, rules);
    return name;
  };
  const balance = (endpoints: Endpoint[]): string[] => {
    const names = endpoints.map(endpointChain);
    const sticky = s.affinitySeconds ? names.map((n) => `ip saddr @affinity-${n} goto ${n}`) : [];
    return [...sticky, `numgen random mod ${names.length} vmap { ${names.map((n, i) => `${i} : goto ${n}`).join(', ')} }`];
  };

  const clusterChain = `service-${id}`;
  if (s.cluster.length) {
    const rules = balance(s.cluster);
    out.chains.set(clusterChain, [`ip daddr ${s.clusterIp} jump cluster-traffic`, ...rules]);
    out.elements.set(`service-ips { ${clusterKey(s.clusterIp)}`, `goto ${clusterChain}`);
  } else {
    out.elements.set(`refused-ips { ${clusterKey(s.clusterIp)}`, s.internalLocal ? 'drop' : 'goto refuse');
  }
  if (!s.nodePort && !s.externalIps.length) return out;
  if (s.external.length) {
    const chain = `external-${id}`;
    const rules = balance(s.external);
    // With policy Local the client's address is kept; else the answer must come back through this node.
    out.chains.set(chain, s.externalLocal ? rules : ['jump mark-masquerade', ...rules]);
    if (s.nodePort) out.elements.set(`node-ports { ${s.protocol} . ${s.nodePort}`, `goto ${chain}`);
    for (const ip of s.externalIps) out.elements.set(`service-ips { ${clusterKey(ip)}`, `goto ${chain}`);
  } else {
    const verdict = s.externalLocal ? 'drop' : 'goto refuse';
    if (s.nodePort) out.elements.set(`refused-node-ports { ${s.protocol} . ${s.nodePort}`, verdict);
    for (const ip of s.externalIps) out.elements.set(`refused-ips { ${clusterKey(ip)}`, verdict);
  }
  return out;
}

const none: Rendered = { sets: new Map(), chains: new Map(), elements: new Map() };

/** The lines of a transaction that turn one rendering into another; empty where they are the same. */
export function difference(before: Rendered = none, after: Rendered = none): { changes: string[]; removals: string[] } {
  const changes: string[] = [];
  const removals: string[] = [];
  for (const [element, verdict] of before.elements) {
    if (after.elements.get(element) !== verdict) changes.push(`delete element ip ${tableName} ${element} }`);
  }
  for (const [name, type] of after.sets) if (!before.sets.has(name)) changes.push(`add set ip ${tableName} ${name} { ${type} }`);
  for (const [name, rules] of after.chains) {
    const old = before.chains.get(name);
    if (old && old.join('\n') === rules.join('\n')) continue;
    changes.push(`add chain ip ${tableName} ${name}`);
    if (old) changes.push(`flush chain ip ${tableName} ${name}`);
    for (const rule of rules) changes.push(`add rule ip ${tableName} ${name} ${rule}`);
  }
  for (const [element, verdict] of after.elements) {
    if (before.elements.get(element) !== verdict) changes.push(`add element ip ${tableName} ${element} : ${verdict} }`);
  }
  // Chains that others jump to can only go once nothing does: flush all, then delete.
  const gone = [...before.chains.keys()].filter((name) => !after.chains.has(name));
  for (const name of gone) removals.push(`flush chain ip ${tableName} ${name}`);
  for (const name of gone) removals.push(`delete chain ip ${tableName} ${name}`);
  for (const name of before.sets.keys()) if (!after.sets.has(name)) removals.push(`delete set ip ${tableName} ${name}`);
  return { changes, removals };
}
