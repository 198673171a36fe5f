import type { Answer, Packet, Question } from 'dns-packet';
import { resources } from '../api/generated/resources.ts';
import type { EndpointSlice, Namespace, Service } from '../api/generated/types.ts';
import type { Informer, InformerFactory } from '../client/informer.ts';

/** Seconds that answers may be kept, as CoreDNS's kubernetes plugin says by default. */
const ttl = 5;
const sliceService = 'kubernetes.io/service-name';

export interface Lookup {
  rcode: 'NOERROR' | 'NXDOMAIN';
  answers: Answer[];
  /** A name outside of the cluster that a CNAME leads to, for the caller to resolve. */
  follow?: string;
}

/**
 * Kubernetes' DNS schema (version 1.1.0 of the specification) over informers: services, headless services with their
 * endpoints, SRV of named ports, pods by address, ExternalName, reverse names.
 */
export function createClusterRecords(informers: InformerFactory, domain: string) {
  const services: Informer<Service> = informers.informer<Service>(resources.services);
  const slices: Informer<EndpointSlice> = informers.informer<EndpointSlice>(resources.endpointslices);
  const namespaces: Informer<Namespace> = informers.informer<Namespace>(resources.namespaces);
  services.addIndex('ip', (s) => (s.spec.clusterIP && s.spec.clusterIP !== 'None' ? [s.spec.clusterIP] : []));
  slices.addIndex('dns-service', (s) => {
    const name = s.metadata.labels?.[sliceService];
    return name ? [`${s.metadata.namespace}/${name}`] : [];
  });
  slices.addIndex('dns-address', (s) => (s.endpoints ?? []).flatMap((e) => e.addresses));
  const labels = domain.split('.').reverse();

  const nothing: Lookup = { rcode: 'NXDOMAIN', answers: [] };
  const a = (name: string, data: string): Answer => ({ type: 'A', name, ttl, data });
  const endpointName = (e: { hostname?: string; addresses: string[] }) => e.hostname || (e.addresses[0] ?? '').replaceAll('.', '-');

  interface Reachable {
    ip: string;
    host: string;
    ports: { name: string; protocol: string; port: number }[];
  }
  function endpoints(service: Service): Reachable[] {
    const found: Reachable[] = [];
    for (const slice of slices.byIndex('dns-service', `${service.metadata.namespace}/${service.metadata.name}`)) {
      if (slice.addressType !== 'IPv4') continue;
      for (const endpoint of slice.endpoints ?? []) {
        if (endpoint.conditions?.ready === false && !service.spec.publishNotReadyAddresses) continue;
        found.push({
          ip: endpoint.addresses[0] as string,
          host: endpointName(endpoint),
          ports: (slice.ports ?? []).map((p) => ({ name: p.name ?? '', protocol: (p.protocol ?? 'TCP').toLowerCase(), port: p.port ?? 0 })),
        });
      }
    }
    return found;
  }

  function serviceRecords(question: Question, name: string, service: Service, prefix: string[]): Lookup {
    const base = `${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`;
    if (service.spec.type === 'ExternalName') {
      const target = service.spec.externalName ?? '';
      if (prefix.length || !target) return nothing;
      return { rcode: 'NOERROR', answers: [{ type: 'CNAME', name, ttl, data: target }], ...(question.type === 'CNAME' ? {} : { follow: target }) };
    }
    const headless = service.spec.clusterIP === 'None';
    if (prefix.length === 2 && prefix[0]?.startsWith('_') && prefix[1]?.startsWith('_')) {
      const [port, protocol] = prefix.map((p) => p.slice(1)) as [string, string];
      const answers: Answer[] = [];
      const srv = (target: string, number: number) =>
        answers.push({ type: 'SRV', name, ttl, data: { priority: 0, weight: 100, port: number, target } });
      if (headless) {
        for (const e of endpoints(service)) for (const p of e.ports) if (p.name === port && p.protocol === protocol) srv(`${e.host}.${base}`, p.port);
      } else {
        for (const p of service.spec.ports ?? []) if (p.name === port && (p.protocol ?? 'TCP').toLowerCase() === protocol) srv(base, p.port);
      }
      if (!answers.length) return nothing;
      return { rcode: 'NOERROR', answers: question.type === 'SRV' ? answers : [] };
    }
    if (prefix.length > 1) return nothing;
    if (!headless) {
      if (prefix.length) return nothing;
      return { rcode: 'NOERROR', answers: question.type === 'A' ? [a(name, service.spec.clusterIP as string)] : [] };
    }
    const all = endpoints(service).filter((e) => !prefix.length || e.host === prefix[0]);
    if (!all.length) return nothing;
    const unique = [...new Set(all.map((e) => e.ip))];
    return { rcode: 'NOERROR', answers: question.type === 'A' ? unique.map((ip) => a(name, ip)) : [] };
  }

  function reverse(question: Question, address: string): Lookup | undefined {
    const answers: Answer[] = services
      .byIndex('ip', address)
      .map((s) => ({ type: 'PTR', name: question.name, ttl, data: `${s.metadata.name}.${s.metadata.namespace}.svc.${domain}` }));
    for (const slice of slices.byIndex('dns-address', address)) {
      const service = services.get(`${slice.metadata.namespace}/${slice.metadata.labels?.[sliceService]}`);
      const endpoint = slice.endpoints?.find((e) => e.addresses.includes(address));
      if (!service || !endpoint || service.spec.clusterIP !== 'None') continue;
      answers.push({
        type: 'PTR',
        name: question.name,
        ttl,
        data: `${endpointName(endpoint)}.${service.metadata.name}.${service.metadata.namespace}.svc.${domain}`,
      });
    }
    return answers.length ? { rcode: 'NOERROR', answers: question.type === 'PTR' ? answers : [] } : undefined;
  }

  return {
    synced: (signal?: AbortSignal) => Promise.all([services.synced(signal), slices.synced(signal), namespaces.synced(signal)]),
    /** What the cluster says of a name; undefined where the name is not the cluster's and is to be asked elsewhere. */
    lookup(question: Question): Lookup | undefined {
      const name = question.name.toLowerCase().replace(/\.$/, '');
      const arpa = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\.in-addr\.arpa$/.exec(name);
      if (arpa) return reverse(question, `${arpa[4]}.${arpa[3]}.${arpa[2]}.${arpa[1]}`);
      const parts = name.split('.').reverse();
      if (!labels.every((l, i) => parts[i] === l)) return undefined;
      const [kind, namespace, object, ...rest] = parts.slice(labels.length);
      const prefix = rest.reverse();
      if (kind === undefined) return { rcode: 'NOERROR', answers: [] };
      if (kind === 'dns-version' && namespace === undefined) {
        return { rcode: 'NOERROR', answers: question.type === 'TXT' ? [{ type: 'TXT', name, ttl, data: '1.1.0' }] : [] };
      }
      if (kind !== 'svc' && kind !== 'pod') return nothing;
      if (namespace === undefined) return { rcode: 'NOERROR', answers: [] };
      if (!namespaces.get(namespace)) return nothing;
      if (object === undefined) return { rcode: 'NOERROR', answers: [] };
      if (kind === 'pod') {
        const ip = /^\d+-\d+-\d+-\d+$/.test(object) && !prefix.length ? object.replaceAll('-', '.') : undefined;
        return ip ? { rcode: 'NOERROR', answers: question.type === 'A' ? [a(name, ip)] : [] } : nothing;
      }
      const service = services.get(`${namespace}/${object}`);
      return service ? serviceRecords(question, name, service, prefix) : nothing;
    },
    /** The authority section of negative answers. */
    authority(): Packet['authorities'] {
      return [
        {
          type: 'SOA',
          name: domain,
          ttl,
          data: {
            mname: `ns.dns.${domain}`,
            rname: `hostmaster.${domain}`,
            serial: Math.floor(Date.now() / 1000),
            refresh: 7200,
            retry: 1800,
            expire: 86_400,
            minimum: ttl,
          },
        },
      ];
    },
  };
}
