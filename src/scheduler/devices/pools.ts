import type { Device, DeviceTaint, DeviceTaintRule, Node, NodeSelector, ResourceSlice } from '../../api/generated/types.ts';
import { toMilli } from '../../api/quantity.ts';
import { nodeSelectorMatches } from '../../controllers/node-matching.ts';
import { selects } from '../../controllers/resourceclaim/taints.ts';

/** A device with what its slice says of it. */
export interface PooledDevice {
  /** driver/pool/device */
  id: string;
  driver: string;
  pool: string;
  device: Device;
  taints: readonly DeviceTaint[];
  /** Where it can be used; nothing of both: on every node. */
  nodeName?: string;
  nodeSelector?: NodeSelector;
}

export interface Pool {
  driver: string;
  name: string;
  /** Why its devices cannot be given away now. */
  problem?: 'incomplete' | 'invalid';
  /** Those that can be used on the node. */
  devices: PooledDevice[];
  /** Counter sets of the pool: set to counter to its value in thousandths. */
  counters: Map<string, Map<string, number>>;
}

export const deviceId = (driver: string, pool: string, device: string): string => `${driver}/${pool}/${device}`;

/** Slices by pool, in their latest generation. What concerns no node yet, so that a pod's cycle does it once. */
export function groupSlices(slices: readonly ResourceSlice[]): ResourceSlice[][] {
  const groups = new Map<string, ResourceSlice[]>();
  for (const slice of slices) {
    const key = `${slice.spec.driver}/${slice.spec.pool.name}`;
    const group = groups.get(key);
    const newest = group?.[0]?.spec.pool.generation ?? -1;
    if (!group || slice.spec.pool.generation > newest) groups.set(key, [slice]);
    else if (slice.spec.pool.generation === newest) group.push(slice);
  }
  return [...groups.values()].map((group) => group.sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1)));
}

/** The pools that have something for the node. */
export function poolsOn(node: Node, groups: readonly ResourceSlice[][], rules: readonly DeviceTaintRule[]): Pool[] {
  const pools: Pool[] = [];
  for (const group of groups) {
    const devices = group.flatMap((slice) => devicesOn(node, slice, rules));
    if (devices.length === 0) continue;
    const { driver, pool } = group[0]!.spec;
    const names = group.flatMap((slice) => (slice.spec.devices ?? []).map((d) => d.name));
    const problem = group.length < pool.resourceSliceCount ? 'incomplete' : new Set(names).size < names.length ? 'invalid' : undefined;
    const counters = new Map<string, Map<string, number>>();
    for (const set of group.flatMap((slice) => slice.spec.sharedCounters ?? []))
      counters.set(set.name, new Map(Object.entries(set.counters).map(([name, { value }]) => [name, toMilli(String(value))])));
    pools.push({ driver, name: pool.name, ...(problem ? { problem } : {}), devices, counters });
  }
  return pools;
}

function devicesOn(node: Node, { spec }: ResourceSlice, rules: readonly DeviceTaintRule[]): PooledDevice[] {
  const usable = (where: { nodeName?: string; nodeSelector?: NodeSelector; allNodes?: boolean }) =>
    where.nodeName
      ? where.nodeName === node.metadata.name
      : where.allNodes === true || (where.nodeSelector !== undefined && nodeSelectorMatches(where.nodeSelector, node));
  if (!spec.perDeviceNodeSelection && !usable(spec)) return [];
  const found: PooledDevice[] = [];
  for (const device of spec.devices ?? []) {
    const where = spec.perDeviceNodeSelection ? device : spec;
    if (spec.perDeviceNodeSelection && !usable(device)) continue;
    const applied = rules.filter((rule) => selects(rule, { driver: spec.driver, pool: spec.pool.name, device: device.name }));
    found.push({
      id: deviceId(spec.driver, spec.pool.name, device.name),
      driver: spec.driver,
      pool: spec.pool.name,
      device,
      taints: [...(device.taints ?? []), ...applied.map((rule) => rule.spec.taint)],
      ...(where.nodeName ? { nodeName: where.nodeName } : {}),
      ...(where.nodeSelector ? { nodeSelector: where.nodeSelector } : {}),
    });
  }
  return found;
}
