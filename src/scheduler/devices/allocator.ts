import { randomUUID } from 'node:crypto';
import type {
  AllocationResult,
  DeviceAllocationConfiguration,
  DeviceAttribute,
  DeviceClass,
  DeviceConstraint,
  DeviceRequest,
  DeviceRequestAllocationResult,
  DeviceSubRequest,
  ExactDeviceRequest,
  NodeSelector,
  ResourceV1ResourceClaim as ResourceClaim,
} from '../../api/generated/types.ts';
import { toMilli } from '../../api/quantity.ts';
import { keyOf } from '../../api/object.ts';
import { tolerates } from '../../controllers/resourceclaim/taints.ts';
import { hasCapacity, quantityOf, sharedConsumption } from './capacity.ts';
import type { DevicesInUse } from './in-use.ts';
import type { Pool, PooledDevice } from './pools.ts';
import { matchesSelectors } from './selectors.ts';

/** The most devices that one claim can have. */
const mostResults = 32;
/** Devices tried for one pod on one node before it is given up. */
const mostSteps = 50_000;

/** Nothing is wrong with the claim, but it cannot be had on this node now. */
class NotHere extends Error {}

interface Alternative extends Pick<ExactDeviceRequest, 'adminAccess'>, Omit<DeviceSubRequest, 'name'> {
  /** As results name it: REQUEST or REQUEST/SUBREQUEST. */
  name: string;
  request: string;
  class: DeviceClass;
}

interface Chosen {
  device: PooledDevice;
  alternative: Alternative;
  /** Thousandths, of a device that is shared. */
  consumption?: Record<string, number>;
}

interface Wanted {
  claim: ResourceClaim;
  requests: Alternative[][];
  constraints: DeviceConstraint[];
}

export interface AllocationInput {
  claims: ResourceClaim[];
  pools: Pool[];
  inUse: DevicesInUse;
  classOf(name: string): DeviceClass | undefined;
}

/**
 * The devices that the node can give to all of the claims, an allocation for each; undefined where it cannot. Tries devices in the order of their
 * slices and goes back where a later request finds none. Throws where an expression of a claim or a class is wrong.
 */
export function allocate({ claims, pools, inUse, classOf }: AllocationInput): AllocationResult[] | undefined {
  const wanted = claims.map((claim) => wantedOf(claim, classOf));
  const search = new Search(wanted, pools, inUse);
  try {
    if (!search.run()) return undefined;
  } catch (error) {
    if (error instanceof NotHere) return undefined;
    throw error;
  }
  return wanted.map((one, index) => resultOf(one, search.chosen[index]!));
}

function wantedOf(claim: ResourceClaim, classOf: AllocationInput['classOf']): Wanted {
  const devices = claim.spec.devices ?? {};
  const alternative = (request: DeviceRequest, of: ExactDeviceRequest | DeviceSubRequest): Alternative => {
    const found = classOf(of.deviceClassName);
    const name = 'name' in of ? `${request.name}/${of.name}` : request.name;
    if (!found) throw new Error(`claim ${keyOf(claim)}, request ${name}: could not retrieve device class ${of.deviceClassName}`);
    return { ...of, name, request: request.name, class: found };
  };
  return {
    claim,
    requests: (devices.requests ?? []).map((request) =>
      request.exactly ? [alternative(request, request.exactly)] : (request.firstAvailable ?? []).map((sub) => alternative(request, sub)),
    ),
    constraints: devices.constraints ?? [],
  };
}

const attributeText = (a: DeviceAttribute): string => JSON.stringify([a.string, a.int === undefined ? undefined : String(a.int), a.bool, a.version]);

/** An attribute by its full name; one that a device has without a domain is of its driver's. */
function attributeOf({ device, driver }: PooledDevice, name: string): string | undefined {
  const slash = name.indexOf('/');
  const found = device.attributes?.[name] ?? (name.slice(0, slash) === driver ? device.attributes?.[name.slice(slash + 1)] : undefined);
  return found && attributeText(found);
}

const concerns = (names: readonly string[] | undefined, { name, request }: Alternative) =>
  !names?.length || names.includes(name) || names.includes(request);

class Search {
  readonly chosen: Chosen[][];
  readonly #wanted: Wanted[];
  readonly #pools: Pool[];
  /** Those of pools without a problem. */
  readonly #devices: PooledDevice[];
  readonly #inUse: DevicesInUse;
  readonly #taken = new Set<string>();
  readonly #matches = new Map<string, boolean>();
  #steps = 0;

  constructor(wanted: Wanted[], pools: Pool[], inUse: DevicesInUse) {
    this.#wanted = wanted;
    this.#pools = pools;
    this.#devices = pools.flatMap((pool) => (pool.problem ? [] : pool.devices));
    this.#inUse = inUse;
    this.chosen = wanted.map(() => []);
  }

  run(): boolean {
    return this.#claim(0);
  }

  #claim(index: number): boolean {
    return index === this.#wanted.length || this.#request(index, 0);
  }

  #request(claim: number, index: number): boolean {
    const { requests } = this.#wanted[claim]!;
    if (index === requests.length) return this.#claim(claim + 1);
    const next = () => this.#request(claim, index + 1);
    for (const alternative of requests[index]!) {
      if (
        alternative.allocationMode === 'All' ? this.#all(claim, alternative, next) : this.#some(claim, alternative, alternative.count ?? 1, 0, next)
      )
        return true;
    }
    return false;
  }

  /** So many devices, from the given one on. */
  #some(claim: number, alternative: Alternative, left: number, from: number, next: () => boolean): boolean {
    if (left === 0) return next();
    const devices = this.#devices;
    for (let at = from; at < devices.length; at++) {
      // A shared device may serve one request more than once.
      const again = devices[at]!.device.allowMultipleAllocations ? at : at + 1;
      const chosen = this.#take(claim, alternative, devices[at]!);
      if (!chosen) continue;
      if (this.#some(claim, alternative, left - 1, again, next)) return true;
      this.#giveBack(claim, chosen);
    }
    return false;
  }

  /** Every device that matches, at least one. */
  #all(claim: number, alternative: Alternative, next: () => boolean): boolean {
    const where = `claim ${keyOf(this.#wanted[claim]!.claim)}, request ${alternative.name}`;
    const taken: Chosen[] = [];
    const undo = () => {
      for (const one of taken.reverse()) this.#giveBack(claim, one);
      return false;
    };
    for (const pool of this.#pools) {
      for (const device of pool.devices) {
        if (!this.#fits(claim, alternative, device)) continue;
        if (pool.problem) throw new NotHere(`${where}: asks for all devices, but resource pool ${pool.driver}/${pool.name} is ${pool.problem}`);
        const chosen = this.#take(claim, alternative, device);
        if (!chosen) return undo();
        taken.push(chosen);
      }
    }
    return (taken.length > 0 && next()) || undo();
  }

  /** Whether the device's class and the request's selectors are for it. */
  #fits(claim: number, alternative: Alternative, { id, device, driver }: PooledDevice): boolean {
    const key = `${claim}\n${alternative.name}\n${id}`;
    let fits = this.#matches.get(key);
    if (fits === undefined) {
      const { class: own, name, selectors } = alternative;
      const where = `claim ${keyOf(this.#wanted[claim]!.claim)}, request ${name}`;
      fits = matchesSelectors(device, driver, own.spec.selectors, `class ${own.metadata.name}`) && matchesSelectors(device, driver, selectors, where);
      this.#matches.set(key, fits);
    }
    return fits;
  }

  #take(claim: number, alternative: Alternative, device: PooledDevice): Chosen | undefined {
    if (++this.#steps > mostSteps) throw new NotHere('too many combinations');
    const { adminAccess, tolerations, capacity } = alternative;
    // Conditions that have to be met before binding are not waited for: such a device is nobody's.
    if (device.device.bindingConditions?.length || this.chosen[claim]!.length >= mostResults) return undefined;
    if (!this.#fits(claim, alternative, device)) return undefined;
    const harmful = device.taints.filter((taint) => taint.effect === 'NoSchedule' || taint.effect === 'NoExecute');
    if (harmful.some((taint) => !tolerations?.some((one) => tolerates(one, taint)))) return undefined;
    const chosen: Chosen = { device, alternative };
    if (adminAccess) {
      if (this.chosen[claim]!.some((c) => c.device.id === device.id && c.alternative.name === alternative.name)) return undefined;
    } else if (device.device.allowMultipleAllocations) {
      const consumption = sharedConsumption(
        device.device,
        capacity,
        (name) => this.#inUse.consumed(device.id, name) + this.#sharedHere(device.id, name),
      );
      if (!consumption) return undefined;
      chosen.consumption = consumption;
    } else if (this.#taken.has(device.id) || this.#inUse.isTaken(device.id) || !hasCapacity(device.device, capacity)) return undefined;
    if (!this.#agrees(claim, chosen) || (!adminAccess && !this.#hasCounters(device))) return undefined;
    if (!adminAccess) this.#taken.add(device.id);
    this.chosen[claim]!.push(chosen);
    return chosen;
  }

  #giveBack(claim: number, chosen: Chosen): void {
    this.chosen[claim]!.splice(this.chosen[claim]!.lastIndexOf(chosen), 1);
    const { id } = chosen.device;
    if (!this.chosen.flat().some((c) => c.device.id === id && !c.alternative.adminAccess)) this.#taken.delete(id);
  }

  #sharedHere(id: string, capacity: string): number {
    return this.chosen.flat().reduce((sum, c) => sum + (c.device.id === id ? (c.consumption?.[capacity] ?? 0) : 0), 0);
  }

  #agrees(claim: number, { device, alternative }: Chosen): boolean {
    return this.#wanted[claim]!.constraints.every(({ matchAttribute, distinctAttribute, requests }) => {
      const attribute = matchAttribute ?? distinctAttribute;
      if (!attribute || !concerns(requests, alternative)) return true;
      const own = attributeOf(device, attribute);
      if (own === undefined) return false;
      const others = this.chosen[claim]!.filter((c) => concerns(requests, c.alternative)).map((c) => attributeOf(c.device, attribute));
      return matchAttribute ? others.every((other) => other === own) : !others.includes(own);
    });
  }

  /** Whether the pool has left what the device, a part of a whole, takes of its counters. */
  #hasCounters(device: PooledDevice): boolean {
    const consumed = device.device.consumesCounters ?? [];
    if (consumed.length === 0 || this.#taken.has(device.id) || this.#inUse.isUsed(device.id)) return true;
    const pool = this.#pools.find((p) => p.driver === device.driver && p.name === device.pool)!;
    const users = pool.devices.filter((d) => this.#inUse.isUsed(d.id) || this.#taken.has(d.id));
    return consumed.every(({ counterSet, counters }) =>
      Object.entries(counters).every(([name, { value }]) => {
        const total = pool.counters.get(counterSet)?.get(name);
        const used = users.flatMap((d) => d.device.consumesCounters ?? []).filter((c) => c.counterSet === counterSet);
        const sum = used.reduce((n, c) => n + toMilli(String(c.counters[name]?.value ?? '0')), 0);
        return total !== undefined && sum + toMilli(String(value)) <= total;
      }),
    );
  }
}

function resultOf({ claim }: Wanted, chosen: Chosen[]): AllocationResult {
  const results = chosen.map(({ device, alternative, consumption }): DeviceRequestAllocationResult => {
    const { name, adminAccess, tolerations } = alternative;
    const capacities =
      consumption && Object.entries(consumption).map(([key, value]) => [key, quantityOf(value, String(device.device.capacity![key]!.value))]);
    return {
      request: name,
      driver: device.driver,
      pool: device.pool,
      device: device.device.name,
      ...(adminAccess ? { adminAccess } : {}),
      ...(tolerations?.length ? { tolerations } : {}),
      ...(consumption ? { shareID: randomUUID() } : {}),
      ...(capacities?.length ? { consumedCapacity: Object.fromEntries(capacities) } : {}),
    };
  });
  const config: DeviceAllocationConfiguration[] = [];
  const alternatives = new Set(chosen.map((c) => c.alternative));
  for (const { class: own, name } of alternatives)
    for (const { opaque } of own.spec.config ?? []) config.push({ source: 'FromClass', requests: [name], ...(opaque ? { opaque } : {}) });
  for (const { opaque, requests } of claim.spec.devices?.config ?? []) {
    if (requests?.length && ![...alternatives].some((a) => concerns(requests, a))) continue;
    config.push({ source: 'FromClaim', ...(requests?.length ? { requests } : {}), ...(opaque ? { opaque } : {}) });
  }
  const nodeSelector = selectorOf(chosen.map((c) => c.device));
  return { devices: { results, ...(config.length ? { config } : {}) }, ...(nodeSelector ? { nodeSelector } : {}) };
}

/** The nodes on which all of the devices can be used; undefined: on every one. */
function selectorOf(devices: PooledDevice[]): NodeSelector | undefined {
  const local = devices.find((d) => d.nodeName);
  if (local) return { nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: [local.nodeName!] }] }] };
  const terms = [...new Set(devices.flatMap((d) => d.nodeSelector?.nodeSelectorTerms[0] ?? []))];
  if (terms.length === 0) return undefined;
  const all = <T>(lists: (T[] | undefined)[]) => [...new Map(lists.flatMap((list) => list ?? []).map((one) => [JSON.stringify(one), one])).values()];
  const matchFields = all(terms.map((term) => term.matchFields));
  const matchExpressions = all(terms.map((term) => term.matchExpressions));
  return { nodeSelectorTerms: [{ ...(matchFields.length ? { matchFields } : {}), ...(matchExpressions.length ? { matchExpressions } : {}) }] };
}
