import type { Service } from '../api/generated/types.ts';

// Objects for tests of cluster DNS, in the namespace shop.

export const namespace = (name: string) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name } });

export const service = (
  name: string,
  spec: Omit<Partial<Service['spec']>, 'ports'> & { ports?: { name?: string; port: number; protocol?: string }[] },
) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name, namespace: 'shop' },
  spec,
});

/** The one EndpointSlice of a service. */
export const slice = (
  name: string,
  endpoints: { ip: string; hostname?: string; ready?: boolean }[],
  ports: { name: string; port: number }[] = [],
) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: `${name}-x`, namespace: 'shop', labels: { 'kubernetes.io/service-name': name } },
  addressType: 'IPv4',
  endpoints: endpoints.map(({ ip, hostname, ready = true }) => ({ addresses: [ip], conditions: { ready }, ...(hostname ? { hostname } : {}) })),
  ports: ports.map((p) => ({ ...p, protocol: 'TCP' })),
});
