import { canonicalJson } from '../api/equality.ts';
import { isNotFound } from '../api/errors.ts';
import { keyOf } from '../api/object.ts';
import type { DiscoveryV1EndpointPort, Endpoint, EndpointSlice, Pod, Service } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import {
  endpointChanged,
  HEADLESS_LABEL,
  hasSelector,
  hostnameOf,
  isHeadless,
  mayServe,
  podAddresses,
  refTo,
  targetPortOf,
} from './endpoint-facts.ts';
import { controllerRef } from './ownership.ts';
import { isNamespaceTerminating } from './pod-control.ts';
import { isPodReady } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { SelectedPods } from './selected-pods.ts';
import { TriggerTimes, withTriggerTime } from './trigger-time.ts';
import { WrittenObjects } from './written-objects.ts';

const MANAGED_BY = 'endpointslice.kubernetes.io/managed-by';
const SERVICE_NAME = 'kubernetes.io/service-name';
const MANAGER = 'endpointslice-controller.k8s.io';
const ZONE = 'topology.kubernetes.io/zone';
/** Endpoints in one slice at most; upstream's max-endpoints-per-slice. */
const MAX_ENDPOINTS = 100;

type Family = 'IPv4' | 'IPv6';
/** Whose slices are written, and for which change. */
interface Target {
  key: string;
  service: Service;
  family: Family;
  triggered: string | undefined;
}
/** Endpoints with the same ports, and the slices that hold them now. */
interface Group {
  ports: DiscoveryV1EndpointPort[];
  endpoints: Endpoint[];
}

/** EndpointSlices of services with a selector. Watches services, pods, nodes (for zones) and the slices. */
export function startEndpointSliceController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const services = informers.informer(resources.services);
  const pods = informers.informer(resources.pods);
  const nodes = informers.informer(resources.nodes);
  const slices = informers.informer(resources.endpointslices, { labelSelector: `${MANAGED_BY}=${MANAGER}` });
  const written = new WrittenObjects(slices);
  slices.addIndex('service', (slice) => [`${slice.metadata.namespace}/${slice.metadata.labels?.[SERVICE_NAME]}`]);
  pods.addIndex('node', (pod) => (pod.spec.nodeName ? [pod.spec.nodeName] : []));
  const loop = startReconciler(context, { name: 'endpointslice-controller', workers: 5, waitFor: [services, pods, nodes, slices], reconcile });

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
  const enqueueOwner = (slice: EndpointSlice) => loop.enqueue(`${slice.metadata.namespace}/${slice.metadata.labels?.[SERVICE_NAME]}`);
  services.addHandlers({
    onAdd: follow,
    onUpdate: (_, after) => follow(after),
    onDelete(service) {
      selected.delete(keyOf(service));
      triggers.forget(keyOf(service));
      loop.enqueue(keyOf(service));
    },
  });
  nodes.addHandlers({
    onUpdate(before, after) {
      if (before.metadata.labels?.[ZONE] === after.metadata.labels?.[ZONE]) return;
      for (const pod of pods.byIndex('node', after.metadata.name)) for (const key of selected.keysOf(pod)) loop.enqueue(key);
    },
  });
  slices.addHandlers({
    onAdd: enqueueOwner,
    onUpdate: (_, after) => enqueueOwner(after),
    onDelete(slice) {
      written.removed(`${slice.metadata.namespace}/${slice.metadata.labels?.[SERVICE_NAME]}`, slice);
      enqueueOwner(slice);
    },
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const service = services.get(key);
    if (!service || !hasSelector(service)) return written.forget(key);
    if (service.metadata.deletionTimestamp) return;
    // The informer's next event brings the key back; the timer is for one that was missed.
    if (!written.isCurrent(key)) return loop.enqueueAfter(key, 1000);
    const members = selected.of(key).filter(mayServe);
    const triggered = triggers.since(key, service, members);
    const families = (service.spec.ipFamilies?.length ? service.spec.ipFamilies : ['IPv4']) as Family[];
    const existing = slices.byIndex('service', key).filter((s) => !s.metadata.deletionTimestamp);
    for (const slice of existing) if (!families.includes(slice.addressType as Family)) await remove(key, slice);
    for (const family of families) {
      const own = existing.filter((s) => s.addressType === family);
      await reconcileFamily({ key, service, family, triggered }, groupByPorts(service, members, family), own);
    }
  }

  function groupByPorts(service: Service, members: Pod[], family: Family): Map<string, Group> {
    const groups = new Map<string, Group>();
    for (const pod of members) {
      const addresses = podAddresses(pod, family);
      if (addresses.length === 0) continue;
      const ports = portsFor(service, pod);
      const id = canonicalJson(ports);
      let group = groups.get(id);
      if (!group) groups.set(id, (group = { ports, endpoints: [] }));
      group.endpoints.push(endpointFor(service, pod, addresses));
    }
    return groups;
  }

  function endpointFor(service: Service, pod: Pod, addresses: string[]): Endpoint {
    const serving = isPodReady(pod);
    const terminating = !!pod.metadata.deletionTimestamp;
    const { nodeName } = pod.spec;
    const zone = nodeName ? nodes.get(nodeName)?.metadata.labels?.[ZONE] : undefined;
    const hostname = hostnameOf(pod, service);
    return {
      addresses: addresses.slice(0, 1),
      conditions: { ready: !!service.spec.publishNotReadyAddresses || (serving && !terminating), serving, terminating },
      targetRef: refTo(pod),
      ...(hostname ? { hostname } : {}),
      ...(nodeName ? { nodeName } : {}),
      ...(zone ? { zone } : {}),
    };
  }

  async function reconcileFamily(target: Target, groups: Map<string, Group>, existing: EndpointSlice[]): Promise<void> {
    // A service without endpoints has one empty slice, so that it can be told from one not looked at yet.
    if (groups.size === 0) groups.set('[]', { ports: [], endpoints: [] });
    const byPorts = Map.groupBy(existing, (slice) => canonicalJson(slice.ports ?? []));
    for (const [id, own] of byPorts) if (!groups.has(id)) for (const slice of own) await remove(target.key, slice);
    for (const [id, group] of groups) await reconcileGroup(target, group, byPorts.get(id) ?? []);
  }

  /** Leaves endpoints in the slices where they are, and writes as few slices as it can. */
  async function reconcileGroup(target: Target, group: Group, existing: EndpointSlice[]): Promise<void> {
    const missing = new Map(group.endpoints.map((e) => [identity(e), e]));
    const plans = existing.map((slice) => {
      const endpoints: Endpoint[] = [];
      for (const endpoint of slice.endpoints ?? []) {
        const id = identity(endpoint);
        const wanted = missing.get(id);
        if (!wanted || endpoints.length >= MAX_ENDPOINTS) continue;
        missing.delete(id);
        endpoints.push(wanted);
      }
      return { slice, endpoints, changed: !semanticEqual(endpoints, slice.endpoints ?? []) };
    });
    const rest = [...missing.values()];
    // New ones go into slices that are written anyway, then into one with room for all of them.
    for (const plan of plans) if (plan.changed) plan.endpoints.push(...rest.splice(0, MAX_ENDPOINTS - plan.endpoints.length));
    if (rest.length > 0) {
      const roomy = plans
        .filter((p) => !p.changed && p.endpoints.length + rest.length <= MAX_ENDPOINTS)
        .sort((a, b) => b.endpoints.length - a.endpoints.length)[0];
      if (roomy) roomy.endpoints.push(...rest.splice(0));
    }
    const needed = group.endpoints.length > 0 ? 0 : 1;
    let kept = 0;
    for (const { slice, endpoints } of plans) {
      if (endpoints.length === 0 && kept >= needed) await remove(target.key, slice);
      else {
        kept++;
        await update(target, slice, endpoints);
      }
    }
    while (rest.length > 0) await create(target, group.ports, rest.splice(0, MAX_ENDPOINTS));
    if (group.endpoints.length === 0 && kept === 0) await create(target, group.ports, []);
  }

  async function create({ key, service, family, triggered }: Target, ports: DiscoveryV1EndpointPort[], endpoints: Endpoint[]): Promise<void> {
    const { name, namespace } = service.metadata;
    const annotations = withTriggerTime(undefined, triggered);
    const metadata = { generateName: `${name}-`, namespace, labels: labelsFor(service), annotations, ownerReferences: [controllerRef(service)] };
    try {
      written.note(key, await client.create(resources.endpointslices, { metadata, addressType: family, ports, endpoints }));
    } catch (error) {
      if (!isNamespaceTerminating(error)) throw error;
    }
  }

  async function update({ key, service, triggered }: Target, slice: EndpointSlice, endpoints: Endpoint[]): Promise<void> {
    const labels = labelsFor(service);
    if (semanticEqual(endpoints, slice.endpoints ?? []) && semanticEqual(labels, slice.metadata.labels)) return;
    const annotations = withTriggerTime(slice.metadata.annotations, triggered);
    written.note(key, await client.update(resources.endpointslices, { ...slice, metadata: { ...slice.metadata, labels, annotations }, endpoints }));
  }

  async function remove(key: string, slice: EndpointSlice): Promise<void> {
    written.removed(key, slice);
    await client.delete(resources.endpointslices, slice.metadata, { preconditions: { uid: slice.metadata.uid } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}

/** The same pod at the same address is the same endpoint. */
const identity = (e: Endpoint) => `${e.addresses.join(',')}/${e.targetRef?.uid}`;

function portsFor(service: Service, pod: Pod): DiscoveryV1EndpointPort[] {
  const ports: DiscoveryV1EndpointPort[] = [];
  for (const port of service.spec.ports ?? []) {
    const number = targetPortOf(pod, port);
    if (number === undefined) continue;
    const { name = '', protocol = 'TCP', appProtocol } = port;
    ports.push({ name, port: number, protocol, ...(appProtocol ? { appProtocol } : {}) });
  }
  return ports;
}

function labelsFor(service: Service): Record<string, string> {
  const { [HEADLESS_LABEL]: _, ...labels } = service.metadata.labels ?? {};
  return { ...labels, [SERVICE_NAME]: service.metadata.name, [MANAGED_BY]: MANAGER, ...(isHeadless(service) ? { [HEADLESS_LABEL]: '' } : {}) };
}
