import { isIPv4 } from 'node:net';
import type { ObjectReference, Pod, Service, ServicePort } from '../api/generated/types.ts';
import { isPodTerminal } from './pod-facts.ts';

export const HEADLESS_LABEL = 'service.kubernetes.io/headless';
export const MANAGED_ENDPOINTS_LABEL = 'endpoints.kubernetes.io/managed-by';

export const isHeadless = (service: Service): boolean => service.spec.clusterIP === 'None';

/** Whether the service's endpoints are ours to keep: it has a selector and is no alias. */
export const hasSelector = (service: Service): boolean =>
  !!service.spec.selector && Object.keys(service.spec.selector).length > 0 && service.spec.type !== 'ExternalName';

/** The pod's number for a port of the service, or undefined where it has no port of that name. */
export function targetPortOf(pod: Pod, port: ServicePort): number | undefined {
  const target = port.targetPort ?? port.port;
  if (typeof target === 'number') return target;
  const sidecars = (pod.spec.initContainers ?? []).filter((c) => c.restartPolicy === 'Always');
  for (const container of [...pod.spec.containers, ...sidecars]) {
    const found = container.ports?.find((p) => p.name === target && (p.protocol ?? 'TCP') === (port.protocol ?? 'TCP'));
    if (found) return found.containerPort;
  }
  return undefined;
}

export const podAddresses = (pod: Pod, family: 'IPv4' | 'IPv6'): string[] => {
  const all = pod.status?.podIPs?.map((p) => p.ip ?? '') ?? (pod.status?.podIP ? [pod.status.podIP] : []);
  return all.filter((ip) => ip && isIPv4(ip) === (family === 'IPv4'));
};

export const mayServe = (pod: Pod): boolean => !isPodTerminal(pod) && !!(pod.status?.podIP || pod.status?.podIPs?.length);

/** The name that DNS gives the pod under the service, where it asked for one. */
export function hostnameOf(pod: Pod, service: Service): string | undefined {
  const { hostname, subdomain } = pod.spec;
  return hostname && subdomain === service.metadata.name ? hostname : undefined;
}

export const refTo = (pod: Pod): ObjectReference => ({
  kind: 'Pod',
  namespace: pod.metadata.namespace,
  name: pod.metadata.name,
  uid: pod.metadata.uid,
});

/** Whether an update of a pod can make a difference to endpoints. */
export function endpointChanged(before: Pod, after: Pod): boolean {
  const face = (p: Pod) =>
    JSON.stringify([
      p.metadata.labels,
      p.status?.podIPs,
      p.status?.podIP,
      p.spec.nodeName,
      p.spec.hostname,
      p.spec.subdomain,
      p.status?.phase,
      !!p.metadata.deletionTimestamp,
      readyOf(p),
    ]);
  return face(before) !== face(after);
}
const readyOf = (p: Pod) => p.status?.conditions?.find((c) => c.type === 'Ready')?.status;
