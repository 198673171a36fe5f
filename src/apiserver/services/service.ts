import type { Service, ServicePort, ServiceSpec } from '../../api/generated/types.ts';
import { type FieldError, internalError, invalid } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Api } from '../api.ts';
import { type Hold, parseIpv4, type ServiceAllocators } from './allocators.ts';
import type { KindHooks } from './hooks.ts';

/** Gives services their cluster address, node ports and IP family fields, as kube-apiserver's service REST does. */
export const serviceHooks: KindHooks = {
  beforeCreate(api, _call, object) {
    const service = object as unknown as Service;
    fillFamilies(service.spec);
    return allocate(api, service, undefined);
  },
  beforeUpdate(api, _call, object, old) {
    const service = object as unknown as Service;
    const before = old as unknown as Service;
    patchFromOld(service.spec, before.spec);
    fillFamilies(service.spec);
    return allocate(api, service, before);
  },
};

const hasClusterIp = (spec: ServiceSpec) => spec.type !== 'ExternalName';
const hasNodePorts = (spec: ServiceSpec) =>
  spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
const needsHealthCheckPort = (spec: ServiceSpec) => spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
const isReachedFromOutside = (spec: ServiceSpec) =>
  spec.type === 'LoadBalancer' || spec.type === 'NodePort' || (spec.type === 'ClusterIP' && (spec.externalIPs?.length ?? 0) > 0);
const headless = (spec: ServiceSpec) => spec.clusterIP === 'None';

function fillFamilies(spec: ServiceSpec): void {
  if (!hasClusterIp(spec)) {
    delete spec.clusterIP;
    delete spec.clusterIPs;
    delete spec.ipFamilies;
    delete spec.ipFamilyPolicy;
    return;
  }
  if (!spec.clusterIP && spec.clusterIPs?.length) spec.clusterIP = spec.clusterIPs[0]!;
  if (spec.clusterIP) spec.clusterIPs = spec.clusterIPs?.length ? spec.clusterIPs : [spec.clusterIP];
  spec.ipFamilies ??= ['IPv4'];
  spec.ipFamilyPolicy ??= 'SingleStack';
}

/** What an update leaves out keeps its value: a client need not know its addresses to change its ports. */
function patchFromOld(spec: ServiceSpec, old: ServiceSpec): void {
  if (hasClusterIp(spec) && hasClusterIp(old)) {
    if (!spec.clusterIP) {
      if (old.clusterIP !== undefined) spec.clusterIP = old.clusterIP;
      if (old.clusterIPs !== undefined) spec.clusterIPs = old.clusterIPs;
    }
    spec.ipFamilies ??= old.ipFamilies;
    spec.ipFamilyPolicy ??= old.ipFamilyPolicy;
    if (spec.ipFamilies === undefined) delete spec.ipFamilies;
    if (spec.ipFamilyPolicy === undefined) delete spec.ipFamilyPolicy;
  } else if (hasClusterIp(old) && !hasClusterIp(spec)) {
    if (spec.clusterIP === old.clusterIP) delete spec.clusterIP;
  }
  if (hasNodePorts(spec) && hasNodePorts(old)) {
    const known = new Map((old.ports ?? []).map((p) => [portKey(p), p.nodePort]));
    for (const port of spec.ports ?? []) {
      const nodePort = known.get(portKey(port));
      if (!port.nodePort && nodePort) port.nodePort = nodePort;
    }
  } else if (!hasNodePorts(spec) && hasNodePorts(old)) {
    // Ports that came back unchanged with a type that has none are dropped, not refused.
    const known = new Set((old.ports ?? []).map((p) => `${portKey(p)} ${p.nodePort}`));
    for (const port of spec.ports ?? [])
      if (port.nodePort && spec.type !== 'LoadBalancer' && known.has(`${portKey(port)} ${port.nodePort}`)) delete port.nodePort;
  }
  if (needsHealthCheckPort(spec) && needsHealthCheckPort(old) && !spec.healthCheckNodePort && old.healthCheckNodePort) {
    spec.healthCheckNodePort = old.healthCheckNodePort;
  } else if (!needsHealthCheckPort(spec) && needsHealthCheckPort(old) && spec.healthCheckNodePort === old.healthCheckNodePort) {
    delete spec.healthCheckNodePort;
  }
  if (isReachedFromOutside(old) && !isReachedFromOutside(spec) && spec.externalTrafficPolicy === old.externalTrafficPolicy)
    delete spec.externalTrafficPolicy;
  if (old.type === 'LoadBalancer' && spec.type !== 'LoadBalancer' && spec.loadBalancerClass === old.loadBalancerClass) delete spec.loadBalancerClass;
}

const portKey = (port: ServicePort) => `${port.protocol ?? 'TCP'}/${port.port}`;

function allocate(api: Api, service: Service, old: Service | undefined): Hold {
  const hold = api.services.hold();
  try {
    const { spec } = service;
    if (hasClusterIp(spec)) allocateAddress(api.services, service, old?.spec, hold);
    if (hasNodePorts(spec)) allocatePorts(api.services, service, old?.spec, hold);
    if (needsHealthCheckPort(spec)) {
      if (!spec.healthCheckNodePort) {
        const port = api.services.takePort(['TCP'], hold);
        if (port === undefined) throw internalError('failed to allocate a health check node port: range is full');
        spec.healthCheckNodePort = port;
      } else if (spec.healthCheckNodePort !== old?.spec.healthCheckNodePort) {
        if (api.services.portInUse('TCP', spec.healthCheckNodePort)) throw portTaken(service, 'spec.healthCheckNodePort', spec.healthCheckNodePort);
        hold.port('TCP', spec.healthCheckNodePort);
      }
    }
    return hold;
  } catch (error) {
    hold.release();
    throw error;
  }
}

function allocateAddress(allocators: ServiceAllocators, service: Service, old: ServiceSpec | undefined, hold: Hold): void {
  const { spec } = service;
  if (headless(spec)) return;
  if (!spec.clusterIP) {
    const address = allocators.takeAddress(hold);
    if (!address) throw internalError('failed to allocate a serviceIP: range is full');
    spec.clusterIP = address;
    spec.clusterIPs = [address];
    return;
  }
  if (old && old.clusterIP === spec.clusterIP) return;
  const refuse = (detail: string) => refusal(service, { type: 'FieldValueInvalid', field: 'spec.clusterIPs', value: spec.clusterIPs, detail });
  const address = parseIpv4(spec.clusterIP);
  // Anything that is no address is validation's to refuse.
  if (address === undefined) return;
  if (!allocators.contains(address))
    throw refuse(
      `failed to allocate IP ${spec.clusterIP}: the provided IP (${spec.clusterIP}) is not in the valid range. The range of valid IPs is ${allocators.cidr}`,
    );
  if (allocators.addressInUse(address)) throw refuse(`failed to allocate IP ${spec.clusterIP}: provided IP is already allocated`);
  hold.address(address);
}

function allocatePorts(allocators: ServiceAllocators, service: Service, old: ServiceSpec | undefined, hold: Hold): void {
  const owned = new Set(old ? (old.ports ?? []).filter((p) => p.nodePort).map((p) => `${p.protocol ?? 'TCP'}/${p.nodePort}`) : []);
  const chosen = new Map<number, number>();
  const ports = service.spec.ports ?? [];
  ports.forEach((port, i) => {
    if (!port.nodePort) return;
    const protocol = port.protocol ?? 'TCP';
    if (owned.has(`${protocol}/${port.nodePort}`)) return;
    const field = `spec.ports[${i}].nodePort`;
    const [from, to] = allocators.ports;
    if (port.nodePort < from || port.nodePort > to) {
      throw refusal(service, {
        type: 'FieldValueInvalid',
        field,
        value: port.nodePort,
        detail: `provided port is not in the valid range. The range of valid ports is ${from}-${to}`,
      });
    }
    if (allocators.portInUse(protocol, port.nodePort)) throw portTaken(service, field, port.nodePort);
    hold.port(protocol, port.nodePort);
  });
  for (const port of ports) {
    if (port.nodePort) {
      chosen.set(port.port, port.nodePort);
      continue;
    }
    const protocol = port.protocol ?? 'TCP';
    // The same port number with another protocol shares its node port where it can.
    const shared = chosen.get(port.port);
    if (shared !== undefined && !allocators.portInUse(protocol, shared)) {
      hold.port(protocol, shared);
      port.nodePort = shared;
      continue;
    }
    const nodePort = allocators.takePort([protocol], hold);
    if (nodePort === undefined) throw internalError('failed to allocate a nodePort: range is full');
    port.nodePort = nodePort;
    chosen.set(port.port, nodePort);
  }
}

const refusal = (service: Service, error: FieldError) =>
  invalid({ group: '', kind: 'Service' }, (service as unknown as KubeObject).metadata.name ?? '', [error]);
const portTaken = (service: Service, field: string, port: number) =>
  refusal(service, { type: 'FieldValueInvalid', field, value: port, detail: 'provided port is already allocated' });
