import type { EndpointSlice, Service, ServicePort } from '../api/generated/types.ts';

export interface Endpoint {
  ip: string;
  port: number;
  local: boolean;
}

/** One port of a service as kube-proxy routes it. */
export interface ServicePortInfo {
  /** namespace/name:portname */
  id: string;
  namespace: string;
  name: string;
  protocol: 'tcp' | 'udp' | 'sctp';
  clusterIp: string;
  port: number;
  nodePort: number | undefined;
  externalIps: string[];
  /** Seconds of ClientIP affinity, 0 for none. */
  affinitySeconds: number;
  externalLocal: boolean;
  internalLocal: boolean;
  healthCheckNodePort: number | undefined;
  /** For the cluster IP, and for external traffic. */
  cluster: Endpoint[];
  external: Endpoint[];
  /** How many endpoints of this node are ready: what health checks of load balancers ask for. */
  localReady: number;
}

const isHeadless = (s: Service) => !s.spec.clusterIP || s.spec.clusterIP === 'None';
/** A service with this label is somebody else's to route. */
const otherProxy = 'service.kubernetes.io/service-proxy-name';

/**
 * The routed ports of a service. Endpoints are the ready ones; where there is none, those that terminate and still
 * serve (KEP-1669); with a Local policy, of this node alone.
 */
export function servicePorts(service: Service, slices: EndpointSlice[], nodeName: string): ServicePortInfo[] {
  if (isHeadless(service) || service.spec.type === 'ExternalName' || service.metadata.labels?.[otherProxy] !== undefined) return [];
  const external = service.spec.type === 'NodePort' || service.spec.type === 'LoadBalancer';
  return (service.spec.ports ?? []).map((port) => {
    const all = endpointsOf(port, slices, nodeName);
    const internalLocal = service.spec.internalTrafficPolicy === 'Local';
    const externalLocal = external && service.spec.externalTrafficPolicy === 'Local';
    return {
      id: `${service.metadata.namespace}/${service.metadata.name}:${port.name ?? ''}/${port.protocol ?? 'TCP'}`,
      namespace: service.metadata.namespace,
      name: service.metadata.name,
      protocol: (port.protocol ?? 'TCP').toLowerCase() as ServicePortInfo['protocol'],
      clusterIp: service.spec.clusterIP as string,
      port: port.port,
      nodePort: external ? port.nodePort : undefined,
      externalIps: service.spec.externalIPs ?? [],
      affinitySeconds: service.spec.sessionAffinity === 'ClientIP' ? (service.spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? 10_800) : 0,
      externalLocal,
      internalLocal,
      healthCheckNodePort: externalLocal ? service.spec.healthCheckNodePort : undefined,
      cluster: usable(internalLocal ? all.filter((e) => e.local) : all),
      external: usable(externalLocal ? all.filter((e) => e.local) : all),
      localReady: all.filter((e) => e.local && e.ready).length,
    };
  });
}

interface Candidate extends Endpoint {
  ready: boolean;
  fallback: boolean;
}

function endpointsOf(port: ServicePort, slices: EndpointSlice[], nodeName: string): Candidate[] {
  const found = new Map<string, Candidate>();
  for (const slice of slices) {
    if (slice.addressType !== 'IPv4') continue;
    const match = slice.ports?.find((p) => (p.name ?? '') === (port.name ?? '') && (p.protocol ?? 'TCP') === (port.protocol ?? 'TCP'));
    if (!match?.port) continue;
    for (const endpoint of slice.endpoints ?? []) {
      const ip = endpoint.addresses[0];
      if (!ip) continue;
      const { ready, serving, terminating } = endpoint.conditions ?? {};
      found.set(`${ip}:${match.port}`, {
        ip,
        port: match.port,
        local: endpoint.nodeName === nodeName,
        ready: ready !== false && terminating !== true,
        fallback: terminating === true && serving !== false,
      });
    }
  }
  return [...found.values()].sort((a, b) => (a.ip < b.ip ? -1 : a.ip > b.ip ? 1 : a.port - b.port));
}

function usable(candidates: Candidate[]): Endpoint[] {
  const ready = candidates.filter((c) => c.ready);
  return (ready.length ? ready : candidates.filter((c) => c.fallback)).map(({ ip, port, local }) => ({ ip, port, local }));
}
