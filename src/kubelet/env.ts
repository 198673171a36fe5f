import type { ConfigMap, Container, Pod, Secret, Service } from '../api/generated/types.ts';
import { expand } from './expansion.ts';
import { fieldValue, type PodAddresses, resourceFieldValue } from './field-ref.ts';

/** A container cannot be made because what it refers to is missing or bad: waiting reason CreateContainerConfigError. */
export class ContainerConfigError extends Error {}

export interface EnvSources {
  /** undefined where the object does not exist. */
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
  services(): Service[];
  allocatable: Record<string, string>;
}

/** The namespace whose services every pod sees in its environment, beside its own. */
const masterNamespace = 'default';
const masterServices = new Set(['kubernetes']);

const variableName = (name: string) => name.replace(/-/g, '_').toUpperCase();

/** Service variables as Docker links had them: NAME_SERVICE_HOST, NAME_SERVICE_PORT, NAME_PORT_80_TCP … */
export function serviceVariables(services: Service[], namespace: string, enableServiceLinks: boolean): Map<string, string> {
  const chosen = new Map<string, Service>();
  for (const service of services) {
    const ip = service.spec?.clusterIP;
    if (!ip || ip === 'None') continue;
    const { name } = service.metadata;
    if (service.metadata.namespace === masterNamespace && masterServices.has(name)) {
      if (!chosen.has(name)) chosen.set(name, service);
    } else if (service.metadata.namespace === namespace && enableServiceLinks) chosen.set(name, service);
  }
  const env = new Map<string, string>();
  for (const service of chosen.values()) {
    const ip = service.spec!.clusterIP!;
    const prefix = variableName(service.metadata.name);
    const ports = service.spec!.ports ?? [];
    if (ports.length === 0) continue;
    env.set(`${prefix}_SERVICE_HOST`, ip);
    env.set(`${prefix}_SERVICE_PORT`, String(ports[0]!.port));
    for (const port of ports) if (port.name) env.set(`${prefix}_SERVICE_PORT_${variableName(port.name)}`, String(port.port));
    for (const [index, port] of ports.entries()) {
      const protocol = (port.protocol ?? 'TCP').toLowerCase();
      const url = `${protocol}://${ip.includes(':') ? `[${ip}]` : ip}:${port.port}`;
      const name = `${prefix}_PORT_${port.port}_${protocol.toUpperCase()}`;
      if (index === 0) env.set(`${prefix}_PORT`, url);
      env.set(name, url);
      env.set(`${name}_PROTO`, protocol);
      env.set(`${name}_PORT`, String(port.port));
      env.set(`${name}_ADDR`, ip);
    }
  }
  return env;
}

/** The environment of a container: envFrom, then env (which wins), then service variables that are not set otherwise. */
export async function makeEnvironment(
  pod: Pod,
  container: Container,
  addresses: PodAddresses,
  sources: EnvSources,
): Promise<{ key: string; value: string }[]> {
  const { namespace } = pod.metadata;
  const services = serviceVariables(sources.services(), namespace, pod.spec.enableServiceLinks ?? true);
  const result = new Map<string, string>();
  for (const from of container.envFrom ?? []) {
    const prefix = from.prefix ?? '';
    if (from.configMapRef) {
      const map = await sources.configMap(namespace, from.configMapRef.name ?? '');
      if (!map && !from.configMapRef.optional) throw new ContainerConfigError(`configmap "${from.configMapRef.name}" not found`);
      for (const [key, value] of Object.entries(map?.data ?? {})) result.set(prefix + key, value);
    }
    if (from.secretRef) {
      const secret = await sources.secret(namespace, from.secretRef.name ?? '');
      if (!secret && !from.secretRef.optional) throw new ContainerConfigError(`secret "${from.secretRef.name}" not found`);
      for (const [key, value] of Object.entries(secret?.data ?? {})) result.set(prefix + key, Buffer.from(value, 'base64').toString('utf8'));
    }
  }
  const lookup = (name: string) => result.get(name) ?? services.get(name);
  for (const variable of container.env ?? []) {
    const from = variable.valueFrom;
    if (!from) {
      result.set(variable.name, expand(variable.value ?? '', lookup));
      continue;
    }
    const value = await valueFrom(pod, container, from, addresses, sources);
    if (value !== undefined) result.set(variable.name, value);
  }
  for (const [key, value] of services) if (!result.has(key)) result.set(key, value);
  return [...result].map(([key, value]) => ({ key, value }));
}

type ValueFrom = NonNullable<NonNullable<Container['env']>[number]['valueFrom']>;

async function valueFrom(pod: Pod, container: Container, from: ValueFrom, addresses: PodAddresses, sources: EnvSources): Promise<string | undefined> {
  const { namespace } = pod.metadata;
  if (from.fieldRef) return fieldValue(pod, from.fieldRef, addresses);
  if (from.resourceFieldRef) return resourceFieldValue(pod, container, from.resourceFieldRef, sources.allocatable);
  if (from.configMapKeyRef) {
    const { name = '', key, optional } = from.configMapKeyRef;
    const map = await sources.configMap(namespace, name);
    if (!map && !optional) throw new ContainerConfigError(`configmap "${name}" not found`);
    const value = map?.data?.[key];
    if (value === undefined && !optional) throw new ContainerConfigError(`couldn't find key ${key} in ConfigMap ${namespace}/${name}`);
    return value;
  }
  if (from.secretKeyRef) {
    const { name = '', key, optional } = from.secretKeyRef;
    const secret = await sources.secret(namespace, name);
    if (!secret && !optional) throw new ContainerConfigError(`secret "${name}" not found`);
    const value = secret?.data?.[key];
    if (value === undefined && !optional) throw new ContainerConfigError(`couldn't find key ${key} in Secret ${namespace}/${name}`);
    return value === undefined ? undefined : Buffer.from(value, 'base64').toString('utf8');
  }
  throw new ContainerConfigError('environment variable has a source that this kubelet does not know');
}
