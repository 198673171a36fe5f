import type { Answer, Question } from 'dns-packet';
import { resources } from '../api/generated/resources.ts';
import type { EndpointSlice, Namespace, Service } from '../api/generated/types.ts';
import type { Informer, InformerFactory } from '../client/informer.ts';
import { parseAddress } from './addresses.ts';

/** Seconds that answers may be kept, as CoreDNS's kubernetes plugin says by default. */
const ttl = 5;
const sliceService = 'kubernetes.io/service-name';

export interface Lookup {
  rcode: 'NOERROR' | 'NXDOMAIN';
  answers: Answer[];
  /** Addresses of the names in the answers. */
  additionals?: Answer[];
  /** The name that a CNAME leads to, for the caller to resolve. */
  follow?: string;
}

export interface ClusterRecords {
  synced(signal?: AbortSignal): Promise<unknown>;
  /** What the cluster says of a name; undefined where the name is not the cluster's and is to be asked elsewhere. */
  lookup(question: Question): Lookup | undefined;
  /** The authority section of negative answers. */
  authority(): Answer;
}

interface Reachable {
  ip: string;
  host: string;
  ports: { name: string; protocol: string; port: number }[];
}

const nothing: Lookup = { rcode: 'NXDOMAIN', answers: [] };
const noData: Lookup = { rcode: 'NOERROR', answers: [] };
const protocolOf = (p: { protocol?: string }) => (p.protocol ?? 'TCP').toLowerCase();
const endpointName = (e: { hostname?: string; addresses: string[] }) => e.hostname || (e.addresses[0] ?? '').replaceAll('.', '-');

/**
 * Kubernetes' DNS schema (version 1.1.0 of the specification) over informers: services, headless services with their
 * endpoints, SRV of named ports, pods by address, ExternalName, reverse names. IPv4 only.
 */
export function createClusterRecords(informers: InformerFactory, domain: string, address: string): ClusterRecords {
  const services: Informer<Service> = informers.informer<Service>(resources.services);
  const slices: Informer<EndpointSlice> = informers.informer<EndpointSlice>(resources.endpointslices);
  const namespaces: Informer<Namespace> = informers.informer<Namespace>(resources.namespaces);
  services.addIndex('ip', (s) => (clusterIp(s) ? [clusterIp(s) as string] : []));
  slices.addIndex('dns-service', (s) => {
    const name = s.metadata.labels?.[sliceService];
    return name ? [`${s.metadata.namespace}/${name}`] : [];
  });
  slices.addIndex('dns-address', (s) => (s.endpoints ?? []).flatMap((e) => e.addresses));
  const zone = domain.toLowerCase().replace(/\.$/, '');
  const labels = zone.split('.').reverse();
  const nameServer = `ns.dns.${zone}`;

  const a = (name: string, data: string): Answer => ({ type: 'A', name, ttl, data });
  /** Answers of one type: those of a question for another are none, and yet the name is there. */
  const only = (question: Question, type: string, answers: () => Answer[]): Lookup =>
    question.type === type || (question.type as string) === 'ANY' ? { rcode: 'NOERROR', answers: answers() } : noData;

  function isReady(service: Service, endpoint: { conditions?: { ready?: boolean } }): boolean {
    return endpoint.conditions?.ready !== false || service.spec.publishNotReadyAddresses === true;
  }

  function endpoints(service: Service): Reachable[] {
    const found: Reachable[] = [];
    for (const slice of slices.byIndex('dns-service', `${service.metadata.namespace}/${service.metadata.name}`)) {
      if (slice.addressType !== 'IPv4') continue;
      const ports = (slice.ports ?? []).map((p) => ({ name: p.name ?? '', protocol: protocolOf(p), port: p.port ?? 0 }));
      for (const endpoint of slice.endpoints ?? [])
        if (isReady(service, endpoint) && endpoint.addresses[0]) found.push({ ip: endpoint.addresses[0], host: endpointName(endpoint), ports });
    }
    return found;
  }

  function serviceRecords(question: Question, service: Service, prefix: string[]): Lookup {
    const { name } = question;
    const base = `${service.metadata.name}.${service.metadata.namespace}.svc.${zone}`;
    if (service.spec.type === 'ExternalName') {
      const target = (service.spec.externalName ?? '').replace(/\.$/, '');
      if (prefix.length || !target) return nothing;
      return { rcode: 'NOERROR', answers: [{ type: 'CNAME', name, ttl, data: target }], ...(question.type === 'CNAME' ? {} : { follow: target }) };
    }
    const headless = service.spec.clusterIP === 'None';
    const ip = clusterIp(service);
    if (!headless && !ip) return nothing;
    const reachable = headless ? endpoints(service) : [{ ip: ip as string, host: '', ports: portsOf(service) }];
    if (prefix.at(-1)?.startsWith('_')) return portRecords(question, base, reachable, prefix);
    if (prefix.length > 1 || (prefix.length && !headless)) return nothing;
    const all = reachable.filter((e) => !prefix.length || e.host.toLowerCase() === prefix[0]);
    if (!all.length) return nothing;
    return only(question, 'A', () => [...new Set(all.map((e) => e.ip))].map((data) => a(name, data)));
  }

  /** Of `_port._protocol`, and of `_protocol` alone, beneath which there are names. */
  function portRecords(question: Question, base: string, reachable: Reachable[], prefix: string[]): Lookup {
    const [protocol, port, ...more] = prefix.map((p) => p.replace(/^_/, '')).reverse();
    if (more.length || (port !== undefined && !prefix[0]?.startsWith('_'))) return nothing;
    const answers = new Map<string, Answer>();
    const additionals = new Map<string, Answer>();
    for (const { host, ip, ports } of reachable) {
      for (const p of ports) {
        if (!p.name || p.protocol !== protocol || (port !== undefined && p.name !== port)) continue;
        const target = host ? `${host}.${base}` : base;
        answers.set(`${target}:${p.port}`, {
          type: 'SRV',
          name: question.name,
          ttl,
          data: { priority: 0, weight: 100, port: p.port, target },
        });
        additionals.set(`${target} ${ip}`, a(target, ip));
      }
    }
    if (!answers.size) return nothing;
    if (port === undefined) return noData;
    const lookup = only(question, 'SRV', () => [...answers.values()]);
    return lookup === noData ? noData : { ...lookup, additionals: [...additionals.values()] };
  }

  function reverse(question: Question, ip: string): Lookup | undefined {
    const ptr = (data: string): Answer => ({ type: 'PTR', name: question.name, ttl, data });
    const answers = services.byIndex('ip', ip).map((s) => ptr(`${s.metadata.name}.${s.metadata.namespace}.svc.${zone}`));
    for (const slice of slices.byIndex('dns-address', ip)) {
      const service = services.get(`${slice.metadata.namespace}/${slice.metadata.labels?.[sliceService]}`);
      const endpoint = slice.endpoints?.find((e) => e.addresses.includes(ip));
      if (!service || !endpoint || service.spec.clusterIP !== 'None' || !isReady(service, endpoint)) continue;
      answers.push(ptr(`${endpointName(endpoint)}.${service.metadata.name}.${service.metadata.namespace}.svc.${zone}`));
    }
    return answers.length ? only(question, 'PTR', () => answers) : undefined;
  }

  const authority = (): Answer => ({
    type: 'SOA',
    name: zone,
    ttl,
    data: {
      mname: nameServer,
      rname: `hostmaster.${zone}`,
      serial: Math.floor(Date.now() / 1000),
      refresh: 7200,
      retry: 1800,
      expire: 86_400,
      minimum: ttl,
    },
  });

  /** The zone itself, and what it says about itself. */
  function zoneRecords(question: Question, rest: string): Lookup | undefined {
    const { name } = question;
    if (rest === '') {
      if (question.type === 'NS')
        return { ...only(question, 'NS', () => [{ type: 'NS', name, ttl, data: nameServer }]), additionals: [a(nameServer, address)] };
      return only(question, 'SOA', () => [authority()]);
    }
    if (rest === 'dns-version') return only(question, 'TXT', () => [{ type: 'TXT', name, ttl, data: '1.1.0' }]);
    if (rest === 'ns.dns') return only(question, 'A', () => [a(name, address)]);
    return rest === 'dns' ? noData : undefined;
  }

  return {
    synced: (signal) => Promise.all([services.synced(signal), slices.synced(signal), namespaces.synced(signal)]),
    authority,
    lookup(question) {
      const name = question.name.toLowerCase().replace(/\.$/, '');
      const arpa = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(name);
      if (arpa) return reverse(question, `${arpa[4]}.${arpa[3]}.${arpa[2]}.${arpa[1]}`);
      const parts = name.split('.').reverse();
      if (!labels.every((l, i) => parts[i] === l)) return undefined;
      const inside = parts.slice(labels.length);
      const own = zoneRecords(question, [...inside].reverse().join('.'));
      if (own) return own;
      const [kind, namespace, object, ...rest] = inside;
      const prefix = rest.reverse();
      if (kind !== 'svc' && kind !== 'pod') return nothing;
      if (namespace === undefined) return noData;
      if (!namespaces.get(namespace)) return nothing;
      if (object === undefined) return noData;
      if (kind === 'pod') {
        const ip = prefix.length ? undefined : object.replaceAll('-', '.');
        return ip && parseAddress(ip) !== undefined ? only(question, 'A', () => [a(question.name, ip)]) : nothing;
      }
      const service = services.get(`${namespace}/${object}`);
      return service ? serviceRecords(question, service, prefix) : nothing;
    },
  };
}

const clusterIp = (s: Service): string | undefined =>
  s.spec.clusterIP && parseAddress(s.spec.clusterIP) !== undefined ? s.spec.clusterIP : undefined;

const portsOf = (s: Service): Reachable['ports'] => (s.spec.ports ?? []).map((p) => ({ name: p.name ?? '', protocol: protocolOf(p), port: p.port }));
