import { isIP } from 'node:net';
import { canonicalJson } from '../api/equality.ts';
import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { DiscoveryV1EndpointPort, Endpoint, EndpointAddress, EndpointSlice, Endpoints, Service } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { controllerRef } from './ownership.ts';
import { isNamespaceTerminating } from './pod-control.ts';
import { startReconciler } from './reconciler.ts';
import { WrittenObjects } from './written-objects.ts';

const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
const SERVICE_NAME = 'kubernetes.io/service-name';
const SKIP_MIRROR = 'endpointslice.kubernetes.io/skip-mirror';
const MANAGER = 'endpointslicemirroring-controller.k8s.io';
const LEADER = 'control-plane.alpha.kubernetes.io/leader';
const NOT_COPIED = new Set(['endpoints.kubernetes.io/last-change-trigger-time', 'kubectl.kubernetes.io/last-applied-configuration']);
/** Addresses of one subset that are mirrored at most. */
const MAX_ADDRESSES = 1000;

/** Endpoints of one address family with the same ports: one slice. */
interface Mirror {
  addressType: string;
  ports: DiscoveryV1EndpointPort[];
  /** By address. */
  endpoints: Map<string, Endpoint>;
}

/**
 * EndpointSlices of services without a selector, whose Endpoints somebody keeps by hand: what reads slices sees them too.
 * Watches Endpoints, services and the slices.
 */
export function startEndpointSliceMirroringController(context: ControllerContext): Controller {
  const { client, events, informers } = context;
  const services = informers.informer(resources.services);
  const allEndpoints = informers.informer(resources.endpoints);
  const slices = informers.informer(resources.endpointslices, { labelSelector: `${MANAGED_BY}=${MANAGER}` });
  const written = new WrittenObjects(slices);
  const keyOfSlice = (slice: EndpointSlice) => `${slice.metadata.namespace}/${slice.metadata.labels?.[SERVICE_NAME]}`;
  slices.addIndex('service', (slice) => [keyOfSlice(slice)]);
  const waitFor = [services, allEndpoints, slices];
  const loop = startReconciler(context, { name: 'endpointslice-mirroring-controller', workers: 5, waitFor, reconcile });
  const enqueue = (object: Endpoints | Service) => loop.enqueue(keyOf(object));
  services.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (!before.spec.selector !== !after.spec.selector) enqueue(after);
    },
    onDelete: enqueue,
  });
  allEndpoints.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after), onDelete: enqueue });
  slices.addHandlers({
    onAdd: (slice) => loop.enqueue(keyOfSlice(slice)),
    onUpdate: (_, after) => loop.enqueue(keyOfSlice(after)),
    onDelete(slice) {
      written.removed(keyOfSlice(slice), slice);
      loop.enqueue(keyOfSlice(slice));
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    if (!written.isCurrent(key)) return loop.enqueueAfter(key, 1000);
    const endpoints = allEndpoints.get(key);
    const service = services.get(key);
    const existing = slices.byIndex('service', key).filter((s) => !s.metadata.deletionTimestamp);
    if (!endpoints || !service || service.spec.selector || !isMirrored(endpoints)) {
      for (const slice of existing) await remove(key, slice);
      return;
    }
    const wanted = mirrorsOf(endpoints);
    const byId = Map.groupBy(existing, (s) => mirrorId(s.addressType, s.ports ?? []));
    // Slices that nobody needs take over others' content before new ones are made.
    const spare = [...byId].flatMap(([id, own]) => (wanted.has(id) ? own.slice(1) : own));
    for (const [id, mirror] of wanted) {
      const slice = byId.get(id)?.[0] ?? takeSpare(spare, mirror.addressType);
      if (slice) await update(key, endpoints, slice, mirror);
      else await create(key, endpoints, mirror);
    }
    for (const slice of spare) await remove(key, slice);
  }

  function mirrorsOf(endpoints: Endpoints): Map<string, Mirror> {
    const mirrors = new Map<string, Mirror>();
    let invalid = 0;
    let skipped = 0;
    for (const subset of endpoints.subsets ?? []) {
      const ports = (subset.ports ?? []).map(({ name = '', port, protocol = 'TCP', appProtocol }) => ({
        name,
        port,
        protocol,
        ...(appProtocol ? { appProtocol } : {}),
      }));
      let added = 0;
      const addresses = [...(subset.addresses ?? []).map((a) => ({ a, ready: true })), ...(subset.notReadyAddresses ?? []).map((a) => ({ a, ready: false }))];
      for (const { a, ready } of addresses) {
        const version = isIP(a.ip);
        if (version === 0) invalid++;
        else if (added >= MAX_ADDRESSES) skipped++;
        else {
          added++;
          const addressType = version === 4 ? 'IPv4' : 'IPv6';
          const id = mirrorId(addressType, ports);
          let mirror = mirrors.get(id);
          if (!mirror) mirrors.set(id, (mirror = { addressType, ports, endpoints: new Map() }));
          if (ready || !mirror.endpoints.has(a.ip)) mirror.endpoints.set(a.ip, endpointOf(a, ready));
        }
      }
    }
    if (invalid) events.event(endpoints, 'Warning', 'InvalidIPAddress', `Skipped ${invalid} invalid IP addresses when mirroring to EndpointSlices`);
    if (skipped) {
      const message = `A max of ${MAX_ADDRESSES} addresses can be mirrored to EndpointSlices per Endpoints subset. ${skipped} addresses were skipped`;
      events.event(endpoints, 'Warning', 'TooManyAddressesToMirror', message);
    }
    return mirrors;
  }

  async function create(key: string, endpoints: Endpoints, mirror: Mirror): Promise<void> {
    const { name, namespace } = endpoints.metadata;
    const metadata = { generateName: `${name}-`, namespace, ...copied(endpoints), ownerReferences: [controllerRef(endpoints)] };
    const { addressType, ports } = mirror;
    try {
      written.note(key, await client.create(resources.endpointslices, { metadata, addressType, ports, endpoints: [...mirror.endpoints.values()] }));
    } catch (error) {
      if (!isNamespaceTerminating(error)) throw error;
    }
  }

  async function update(key: string, source: Endpoints, slice: EndpointSlice, { ports, endpoints: wanted }: Mirror): Promise<void> {
    const { labels, annotations } = copied(source);
    const left = new Map(wanted);
    const unchanged = (slice.endpoints ?? []).every((e) => semanticEqual(e, left.get(e.addresses[0]!)) && left.delete(e.addresses[0]!)) && left.size === 0;
    const { metadata } = slice;
    if (unchanged && semanticEqual(labels, metadata.labels) && semanticEqual(annotations, metadata.annotations) && semanticEqual(ports, slice.ports)) return;
    const ownerReferences = [controllerRef(source)];
    const after = { ...slice, metadata: { ...metadata, labels, annotations, ownerReferences }, ports, endpoints: [...wanted.values()] };
    written.note(key, await client.update(resources.endpointslices, after));
  }

  async function remove(key: string, slice: EndpointSlice): Promise<void> {
    written.removed(key, slice);
    await client.delete(resources.endpointslices, slice.metadata, { preconditions: { uid: slice.metadata.uid } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}

const mirrorId = (addressType: string, ports: readonly DiscoveryV1EndpointPort[]) => `${addressType}-${canonicalJson(ports.map(canonicalJson).sort())}`;

const isMirrored = ({ metadata }: Endpoints): boolean =>
  !metadata.deletionTimestamp && metadata.labels?.[SKIP_MIRROR] !== 'true' && metadata.annotations?.[LEADER] === undefined;

function takeSpare(spare: EndpointSlice[], addressType: string): EndpointSlice | undefined {
  const index = spare.findIndex((s) => s.addressType === addressType);
  return index < 0 ? undefined : spare.splice(index, 1)[0];
}

function endpointOf({ ip, hostname, nodeName, targetRef }: EndpointAddress, ready: boolean): Endpoint {
  return {
    addresses: [ip],
    conditions: { ready },
    ...(hostname ? { hostname } : {}),
    ...(nodeName ? { nodeName } : {}),
    ...(targetRef ? { targetRef } : {}),
  };
}

function copied({ metadata }: Endpoints): { labels: Record<string, string>; annotations: Record<string, string> } {
  const annotations = Object.fromEntries(Object.entries(metadata.annotations ?? {}).filter(([key]) => !NOT_COPIED.has(key)));
  return { labels: { ...metadata.labels, [SERVICE_NAME]: metadata.name, [MANAGED_BY]: MANAGER }, annotations };
}
