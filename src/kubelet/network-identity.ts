import { readFile } from 'node:fs/promises';
import type { Pod } from '../api/generated/types.ts';
import type { DnsConfig } from '../runtime/cri.ts';

const hostNameMax = 63;

/** A pod's hostname and, with subdomain, its domain within the cluster. */
export function podHostname(pod: Pod, clusterDomain: string): { hostname: string; domain: string } {
  if (pod.spec.hostnameOverride) return { hostname: pod.spec.hostnameOverride, domain: '' };
  const hostname = pod.spec.hostname || pod.metadata.name.slice(0, hostNameMax).replace(/[-.]+$/, '');
  const domain = pod.spec.subdomain ? `${pod.spec.subdomain}.${pod.metadata.namespace}.svc.${clusterDomain}` : '';
  return { hostname, domain };
}

/** What the sandbox's hostname is to be: short, or with setHostnameAsFQDN the whole name. */
export function sandboxHostname(pod: Pod, clusterDomain: string, nodeHostname: string): string {
  if (pod.spec.hostNetwork && !pod.spec.hostnameOverride) return nodeHostname;
  const { hostname, domain } = podHostname(pod, clusterDomain);
  if (!pod.spec.setHostnameAsFQDN || !domain) return hostname;
  const fqdn = `${hostname}.${domain}`;
  if (fqdn.length > 64)
    throw new Error(
      `Failed to construct FQDN from pod hostname and cluster domain, FQDN ${fqdn} is too long (64 characters is the max, ${fqdn.length} characters requested)`,
    );
  return fqdn;
}

/** The content of the pod's /etc/hosts. nodeHosts is the node's own file, which pods in the node's network get. */
export function hostsFile(pod: Pod, podIPs: string[], clusterDomain: string, nodeHosts: string): string {
  const lines: string[] = [];
  if (pod.spec.hostNetwork) {
    lines.push('# Kubernetes-managed hosts file (host network).', nodeHosts.trimEnd());
  } else {
    const { hostname, domain } = podHostname(pod, clusterDomain);
    lines.push('# Kubernetes-managed hosts file.', '127.0.0.1\tlocalhost', '::1\tlocalhost ip6-localhost ip6-loopback');
    lines.push('fe00::0\tip6-localnet', 'fe00::0\tip6-mcastprefix', 'fe00::1\tip6-allnodes', 'fe00::2\tip6-allrouters');
    for (const ip of podIPs) lines.push(domain ? `${ip}\t${hostname}.${domain}\t${hostname}` : `${ip}\t${hostname}`);
  }
  const aliases = pod.spec.hostAliases ?? [];
  if (aliases.length > 0) {
    lines.push('', '# Entries added by HostAliases.');
    for (const alias of aliases) lines.push(`${alias.ip}\t${(alias.hostnames ?? []).join('\t')}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Reads nameserver, search and options of a resolv.conf. */
export function parseResolvConf(text: string): DnsConfig {
  const config: DnsConfig = { servers: [], searches: [], options: [] };
  for (const line of text.split('\n')) {
    const words = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/);
    if (words[0] === 'nameserver' && words[1]) config.servers.push(words[1]);
    // The last search line counts.
    if (words[0] === 'search') config.searches = words.slice(1).map((s) => (s === '.' ? s : s.replace(/\.$/, '')));
    if (words[0] === 'options') config.options = words.slice(1);
  }
  return config;
}

export async function nodeResolvConf(file = '/etc/resolv.conf'): Promise<DnsConfig> {
  return parseResolvConf(await readFile(file, 'utf8').catch(() => ''));
}

const unique = (list: string[]) => [...new Set(list)];

/** The pod's resolver configuration by its dnsPolicy and dnsConfig. */
export function podDns(pod: Pod, node: DnsConfig, clusterDns: string[], clusterDomain: string): DnsConfig {
  const policy = pod.spec.dnsPolicy ?? 'ClusterFirst';
  const inCluster = policy === 'ClusterFirstWithHostNet' || (policy === 'ClusterFirst' && !pod.spec.hostNetwork);
  let config: DnsConfig;
  if (policy === 'None') config = { servers: [], searches: [], options: [] };
  else if (inCluster && clusterDns.length > 0) {
    const searches = clusterDomain ? [`${pod.metadata.namespace}.svc.${clusterDomain}`, `svc.${clusterDomain}`, clusterDomain] : [];
    config = { servers: clusterDns, searches: unique([...searches, ...node.searches]), options: ['ndots:5'] };
  } else config = { servers: node.servers.length > 0 ? node.servers : ['127.0.0.1'], searches: node.searches, options: node.options };

  const own = pod.spec.dnsConfig;
  if (own) {
    const options = new Map(config.options.map((o) => [o.split(':')[0]!, o]));
    for (const o of own.options ?? []) if (o.name) options.set(o.name, o.value ? `${o.name}:${o.value}` : o.name);
    config = {
      servers: unique([...config.servers, ...(own.nameservers ?? [])]),
      searches: unique([...config.searches, ...(own.searches ?? [])]),
      options: [...options.values()],
    };
  }
  // glibc reads three nameservers; the API allows 32 search paths and 2048 characters.
  const searches: string[] = [];
  for (const search of config.searches.slice(0, 32)) if ([...searches, search].join(' ').length <= 2048) searches.push(search);
  return { servers: config.servers.slice(0, 3), searches, options: config.options };
}
