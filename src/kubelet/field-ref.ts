import type { Container, ObjectFieldSelector, Pod, ResourceFieldSelector } from '../api/generated/types.ts';
import { toBytes, toMilli } from '../api/quantity.ts';

/** Addresses that are known before the API server has them. */
export interface PodAddresses {
  podIPs: string[];
  hostIPs: string[];
}

const formatMap = (map: Record<string, string> | undefined): string =>
  Object.keys(map ?? {})
    .sort()
    .map((key) => `${key}=${JSON.stringify(map![key])}`)
    .join('\n');

/** The value of a downward API field. Throws for paths that the API does not know. */
export function fieldValue(pod: Pod, ref: ObjectFieldSelector, addresses: PodAddresses): string {
  const path = ref.fieldPath;
  const subscript = /^metadata\.(annotations|labels)\['(.*)'\]$/.exec(path);
  if (subscript) return pod.metadata[subscript[1] as 'labels']?.[subscript[2]!] ?? '';
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name;
    case 'metadata.namespace':
      return pod.metadata.namespace;
    case 'metadata.uid':
      return pod.metadata.uid;
    case 'metadata.labels':
      return formatMap(pod.metadata.labels);
    case 'metadata.annotations':
      return formatMap(pod.metadata.annotations);
    case 'spec.nodeName':
      return pod.spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? '';
    case 'status.hostIP':
      return addresses.hostIPs[0] ?? '';
    case 'status.hostIPs':
      return addresses.hostIPs.join(',');
    case 'status.podIP':
      return addresses.podIPs[0] ?? '';
    case 'status.podIPs':
      return addresses.podIPs.join(',');
    default:
      throw new Error(`unsupported fieldPath: ${path}`);
  }
}

/** The value of a resourceFieldRef; a limit that is not set is what the node can give. */
export function resourceFieldValue(pod: Pod, container: Container, ref: ResourceFieldSelector, allocatable: Record<string, string>): string {
  const named = ref.containerName
    ? [...pod.spec.containers, ...(pod.spec.initContainers ?? [])].find((c) => c.name === ref.containerName)
    : container;
  if (!named) throw new Error(`container ${ref.containerName} not found`);
  const dot = ref.resource.indexOf('.');
  const [which, name] = [ref.resource.slice(0, dot), ref.resource.slice(dot + 1)];
  const own = which === 'limits' ? named.resources?.limits?.[name] : (named.resources?.requests?.[name] ?? named.resources?.limits?.[name]);
  const quantity = own ?? (which === 'limits' ? (allocatable[name] ?? '0') : '0');
  const divisor = ref.divisor && toMilli(ref.divisor) !== 0 ? ref.divisor : '1';
  if (name === 'cpu') return String(Math.ceil(toMilli(quantity) / toMilli(divisor)));
  return String(Math.ceil(toBytes(quantity) / toBytes(divisor)));
}
