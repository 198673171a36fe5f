import { canonicalJson } from '../api/equality.ts';
import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import { keyOf, splitKey } from '../api/object.ts';
import type { EndpointAddress, EndpointPort, EndpointSubset, Pod, Service } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import {
  endpointChanged,
  HEADLESS_LABEL,
  hasSelector,
  hostnameOf,
  isHeadless,
  MANAGED_ENDPOINTS_LABEL,
  mayServe,
  podAddresses,
  refTo,
  targetPortOf,
} from './endpoint-facts.ts';
import { isNamespaceTerminating } from './pod-control.ts';
import { isPodReady } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { SelectedPods } from './selected-pods.ts';
import { TriggerTimes, withTriggerTime } from './trigger-time.ts';

/** Addresses in one Endpoints object at most; what is more is left out and the annotation over-capacity says so. */
const MAX_ADDRESSES = 1000;
const OVER_CAPACITY = 'endpoints.kubernetes.io/over-capacity';

/** Endpoints of services with a selector, for clients that do not read slices. Watches services, pods and the Endpoints. */
export function startEndpointsController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const services = informers.informer(resources.services);
  const pods = informers.informer(resources.pods);
  const endpoints = informers.informer(resources.endpoints);
  const loop = startReconciler(context, { name: 'endpoints-controller', workers: 5, waitFor: [services, pods, endpoints], reconcile });
  const triggers = new TriggerTimes();
  const selected = new SelectedPods(pods, (key, before, after) => {
    if (!before || !after || endpointChanged(before, after)) loop.enqueue(key);
  });
  const follow = (service: Service) => {
    const key = keyOf(service);
    if (hasSelector(service)) selected.set(key, service.metadata.namespace, { matchLabels: service.spec.selector! });
    else selected.delete(key);
    loop.enqueue(key);
  };
  const enqueue = (object: { metadata: { name: string; namespace: string } }) => loop.enqueue(keyOf(object));
  services.addHandlers({
    onAdd: follow,
    onUpdate: (_, after) => follow(after),
    onDelete(service) {
      selected.delete(keyOf(service));
      triggers.forget(keyOf(service));
      enqueue(service);
    },
  });
  endpoints.addHandlers({ onAdd: enqueue, onUpdate: (_, after) => enqueue(after), onDelete: enqueue });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const service = services.get(key);
    const existing = endpoints.get(key);
    if (!service) {
      if (existing?.metadata.labels?.[MANAGED_ENDPOINTS_LABEL]) await remove(key);
      return;
    }
    if (!hasSelector(service) || service.metadata.deletionTimestamp) return;
    const members = selected.of(key).filter((p) => mayServe(p) && (!p.metadata.deletionTimestamp || service.spec.publishNotReadyAddresses));
    const { subsets, truncated } = subsetsFor(service, members);
    const { [HEADLESS_LABEL]: _, ...own } = service.metadata.labels ?? {};
    const labels = { ...own, [MANAGED_ENDPOINTS_LABEL]: 'endpoint-controller', ...(isHeadless(service) ? { [HEADLESS_LABEL]: '' } : {}) };
    const { [OVER_CAPACITY]: __, ...kept } = existing?.metadata.annotations ?? {};
    const annotations = truncated ? { ...kept, [OVER_CAPACITY]: 'truncated' } : kept;
    const triggered = withTriggerTime(annotations, triggers.since(key, service, members));
    if (existing) {
      const same =
        semanticEqual(subsets, existing.subsets) &&
        semanticEqual(labels, existing.metadata.labels) &&
        semanticEqual(annotations, existing.metadata.annotations);
      if (!same) await client.update(resources.endpoints, { ...existing, metadata: { ...existing.metadata, labels, annotations: triggered }, subsets });
      return;
    }
    try {
      await client.create(resources.endpoints, { metadata: { ...splitKey(key), labels, annotations: triggered }, subsets });
    } catch (error) {
      // It exists: its event is under way and brings the key back.
      if (!isNamespaceTerminating(error) && !isAlreadyExists(error)) throw error;
    }
  }

  async function remove(key: string): Promise<void> {
    await client.delete(resources.endpoints, splitKey(key)).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}

function subsetsFor(service: Service, members: Pod[]): { subsets: EndpointSubset[]; truncated: boolean } {
  const groups = new Map<string, { ports: EndpointPort[]; addresses: EndpointAddress[]; notReadyAddresses: EndpointAddress[] }>();
  const family = (service.spec.ipFamilies?.[0] ?? 'IPv4') as 'IPv4' | 'IPv6';
  for (const pod of members.slice(0, MAX_ADDRESSES)) {
    const [ip] = podAddresses(pod, family);
    const ports = portsFor(service, pod);
    if (!ip || (ports.length === 0 && !(isHeadless(service) && !service.spec.ports?.length))) continue;
    const id = canonicalJson(ports);
    let group = groups.get(id);
    if (!group) groups.set(id, (group = { ports, addresses: [], notReadyAddresses: [] }));
    const hostname = hostnameOf(pod, service);
    const { nodeName } = pod.spec;
    const address = { ip, ...(hostname ? { hostname } : {}), ...(nodeName ? { nodeName } : {}), targetRef: refTo(pod) };
    const ready = service.spec.publishNotReadyAddresses || isPodReady(pod);
    (ready ? group.addresses : group.notReadyAddresses).push(address);
  }
  const byIp = (a: EndpointAddress, b: EndpointAddress) => (a.ip < b.ip ? -1 : 1);
  const subsets = [...groups.entries()]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, { ports, addresses, notReadyAddresses }]) => ({
      ...(addresses.length ? { addresses: addresses.sort(byIp) } : {}),
      ...(notReadyAddresses.length ? { notReadyAddresses: notReadyAddresses.sort(byIp) } : {}),
      ...(ports.length ? { ports } : {}),
    }));
  return { subsets, truncated: members.length > MAX_ADDRESSES };
}

function portsFor(service: Service, pod: Pod): EndpointPort[] {
  const ports: EndpointPort[] = [];
  for (const port of service.spec.ports ?? []) {
    const number = targetPortOf(pod, port);
    if (number === undefined) continue;
    const { name, protocol = 'TCP', appProtocol } = port;
    ports.push({ ...(name ? { name } : {}), port: number, protocol, ...(appProtocol ? { appProtocol } : {}) });
  }
  return ports;
}
