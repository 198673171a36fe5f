import type { Service, ServicePort, ServiceSpec } from '../../api/generated/types.ts';
import { type FieldError, internalError, invalid } from '../../api/errors.ts';
import type { KubeObject } from '../../api/object.ts';
import type { Api } from '../api.ts';
import { Hold, nameOf, type ServiceAllocators } from './allocators.ts';
import { clusterIpsOf, RefusedAddress } from './cluster-ips.ts';
import { fillFamilies } from './families.ts';
import type { KindHooks } from './hooks.ts';
import { parseIpv4 } from './ipv4.ts';

/** Gives services their cluster address, node ports and IP family fields, as kube-apiserver's service REST does. */
export const serviceHooks: KindHooks = {
  beforeCreate(api, call, object) {
    const service = object as unknown as Service;
    if (service.spec.clusterIP && !service.spec.clusterIPs?.length) service.spec.clusterIPs = [service.spec.clusterIP];
    fillFamilies(service, undefined);
    return allocate(api, service, undefined, call.dryRun);
  },
  beforeUpdate(api, call, object, old) {
    const service = object as unknown as Service;
    const before = old as unknown as Service;
    patchFromOld(service.spec, before.spec);
    normalizeAddresses(service.spec, before.spec);
    fillFamilies(service, before);
    return allocate(api, service, before, call.dryRun);
  },
  afterRemove: (api, object) => api.services.release(object as unknown as Service),
};

const hasClusterIp = (spec: ServiceSpec) => spec.type !== 'ExternalName';
const hasNodePorts = (spec: ServiceSpec) =>
  spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
const needsHealthCheckPort = (spec: ServiceSpec) => spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
const isReachedFromOutside = (spec: ServiceSpec) =>
  spec.type === 'LoadBalancer' || spec.type === 'NodePort' || (spec.type === 'ClusterIP' && (spec.externalIPs?.length ?? 0) > 0);
const headless = (spec: ServiceSpec) => spec.clusterIP === 'None';

/** A client that knows of one address only changes the list with it. */
function normalizeAddresses(spec: ServiceSpec, old: ServiceSpec): void {
  if (spec.clusterIP === old.clusterIP) return;
  const listUnchanged = String(spec.clusterIPs ?? []) === String(old.clusterIPs ?? []);
  if (!spec.clusterIP && listUnchanged) delete spec.clusterIPs;
  else if (spec.clusterIP && (listUnchanged || !spec.clusterIPs?.length)) spec.clusterIPs = [spec.clusterIP];
}

/** What an update leaves out keeps its value: a client need not know its addresses to change its ports. */
function patchFromOld(spec: ServiceSpec, old: ServiceSpec): void {
  if (hasClusterIp(spec) && hasClusterIp(old)) {
    if (!spec.clusterIP && old.clusterIP !== undefined) spec.clusterIP = old.clusterIP;
    if (!spec.clusterIPs?.length && old.clusterIPs !== undefined && spec.clusterIP === old.clusterIP) spec.clusterIPs = old.clusterIPs;
    spec.ipFamilies ??= old.ipFamilies;
    spec.ipFamilyPolicy ??= old.ipFamilyPolicy;
    if (spec.ipFamilies === undefined) delete spec.ipFamilies;
    if (spec.ipFamilyPolicy === undefined) delete spec.ipFamilyPolicy;
  } else if (hasClusterIp(old) && !hasClusterIp(spec)) {
    // What came back unchanged with a type that has none is dropped, not refused.
    for (const field of ['clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy'] as const) if (String(spec[field]) === String(old[field])) delete spec[field];
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

async function allocate(api: Api, service: Service, old: Service | undefined, dryRun: boolean): Promise<Hold> {
  const hold = new Hold(api.services, service, old, dryRun);
  try {
    const { spec } = service;
    if (hasClusterIp(spec)) await allocateAddress(api.services, service, old, hold);
    // As upstream: a balancer that wants none may still name some.
    if (spec.type === 'NodePort' || spec.type === 'LoadBalancer') {
      if (old) await updatePorts(api.services, service, old, hold);
      else await createPorts(api.services, service, hold);
    }
    if (needsHealthCheckPort(spec) && !(old && needsHealthCheckPort(old.spec))) await allocateHealthCheckPort(api.services, spec, hold);
    return hold;
  } catch (error) {
    await hold.release();
    throw error;
  }
}

async function allocateAddress(allocators: ServiceAllocators, service: Service, old: Service | undefined, hold: Hold): Promise<void> {
  const { spec } = service;
  if (headless(spec)) return;
  const { ips } = allocators;
  if (!spec.clusterIP) {
    let address: string;
    if (hold.dryRun) address = ips.dryRun(undefined);
    else {
      const taken = await ips.takeAny(nameOf(service));
      if (!taken) throw internalError(`failed to allocate a serviceIP for Service "${nameOf(service).name}": range is full`);
      hold.address(taken);
      ({ address } = taken);
    }
    spec.clusterIP = address;
    spec.clusterIPs = [address];
    return;
  }
  if (old && clusterIpsOf(old)[0] === spec.clusterIP) return;
  // Anything that is no address is validation's to refuse, and so is any other address than the one it has.
  if (parseIpv4(spec.clusterIP) === undefined || (old && hasClusterIp(old.spec))) return;
  try {
    if (hold.dryRun) ips.dryRun(spec.clusterIP);
    else hold.address(await ips.take(spec.clusterIP, nameOf(service)));
  } catch (error) {
    if (!(error instanceof RefusedAddress)) throw error;
    const detail = `failed to allocate IP ${spec.clusterIP}: ${error.message}`;
    throw refusal(service, { type: 'FieldValueInvalid', field: 'spec.clusterIPs', value: spec.clusterIPs, detail });
  }
}

/** Ports with the same number, as TCP and UDP of one, share a node port. */
async function createPorts(allocators: ServiceAllocators, service: Service, hold: Hold): Promise<void> {
  const ports = service.spec.ports ?? [];
  const shared = new Map<number, number>();
  for (const [i, port] of ports.entries()) {
    if (!port.nodePort && !hasNodePorts(service.spec)) continue;
    const known = shared.get(port.port);
    if (known === undefined) {
      const wanted = ports.find((p) => p.port === port.port && p.nodePort)?.nodePort;
      port.nodePort = wanted ? await takePort(allocators, service, i, wanted, hold) : await takeAnyPort(allocators, hold);
      shared.set(port.port, port.nodePort);
    } else if (!port.nodePort) port.nodePort = known;
    else if (port.nodePort !== known) await takePort(allocators, service, i, port.nodePort, hold);
  }
}

async function updatePorts(allocators: ServiceAllocators, service: Service, old: Service, hold: Hold): Promise<void> {
  const had = new Set((old.spec.ports ?? []).flatMap((p) => (p.nodePort ? [p.nodePort] : [])));
  for (const [i, port] of (service.spec.ports ?? []).entries()) {
    if (port.nodePort) {
      if (!had.has(port.nodePort)) await takePort(allocators, service, i, port.nodePort, hold);
      had.add(port.nodePort);
    } else if (hasNodePorts(service.spec)) port.nodePort = await takeAnyPort(allocators, hold);
  }
}

async function allocateHealthCheckPort(allocators: ServiceAllocators, spec: ServiceSpec, hold: Hold): Promise<void> {
  const wanted = spec.healthCheckNodePort;
  if (!wanted) {
    spec.healthCheckNodePort = await takeAnyPort(allocators, hold, 'failed to allocate a HealthCheck NodePort 0: range is full');
    return;
  }
  const problem = await portProblem(allocators, wanted, hold);
  if (problem) throw internalError(`failed to allocate requested HealthCheck NodePort ${wanted}: ${problem}`);
}

async function takePort(allocators: ServiceAllocators, service: Service, i: number, port: number, hold: Hold): Promise<number> {
  const problem = await portProblem(allocators, port, hold);
  if (problem) throw refusal(service, { type: 'FieldValueInvalid', field: `spec.ports[${i}].nodePort`, value: port, detail: problem });
  return port;
}

/** Takes it, or says why not. */
async function portProblem({ ports }: ServiceAllocators, port: number, hold: Hold): Promise<string | undefined> {
  const taken = 'provided port is already allocated';
  const [first, last] = ports.range;
  if (hold.dryRun) {
    if (hold.imagined.includes(port) || (await ports.isTaken(port))) return taken;
    hold.imagined.push(port);
    return undefined;
  }
  if (port < first || port > last) return `provided port is not in the valid range. The range of valid ports is ${first}-${last}`;
  if ((await ports.take(port)) === undefined) return taken;
  hold.port(port);
  return undefined;
}

async function takeAnyPort({ ports }: ServiceAllocators, hold: Hold, full = 'failed to allocate a nodePort: range is full'): Promise<number> {
  if (hold.dryRun) {
    // A number that no cluster gives, as upstream's.
    const next = (hold.imagined.length ? Math.max(...hold.imagined) : 32768) + 1;
    hold.imagined.push(next);
    return next;
  }
  const port = await ports.take();
  if (port === undefined) throw internalError(full);
  hold.port(port);
  return port;
}

const refusal = (service: Service, error: FieldError) =>
  invalid({ group: '', kind: 'Service' }, (service as unknown as KubeObject).metadata.name ?? '', [error]);
