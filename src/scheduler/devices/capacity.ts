import type { CapacityRequirements, Device, DeviceCapacity } from '../../api/generated/types.ts';
import { formatQuantity, parseQuantity, toMilli } from '../../api/quantity.ts';

const milli = (text: unknown) => toMilli(String(text));

/** Thousandths as a quantity, written as the request or the capacity was. */
export function quantityOf(thousandths: number, like: string): string {
  const parsed = parseQuantity(like);
  return formatQuantity({ ...parsed, nano: BigInt(Math.round(thousandths)) * 1_000_000n });
}

/** What a request takes of a shared device's capacity, in thousandths; undefined where the policy allows nothing that large. */
function consumptionOf({ value, requestPolicy: policy }: DeviceCapacity, requested: unknown): number | undefined {
  if (requested === undefined) return policy?.default === undefined ? milli(value) : milli(policy.default);
  const wanted = milli(requested);
  if (policy?.validValues?.length) {
    const fitting = policy.validValues.map(milli).filter((valid) => valid >= wanted);
    return fitting.length ? Math.min(...fitting) : undefined;
  }
  const range = policy?.validRange;
  if (!range) return wanted;
  const min = milli(range.min);
  const step = range.step === undefined ? undefined : milli(range.step);
  let taken = Math.max(min, wanted);
  if (step) taken = min + Math.ceil((taken - min) / step) * step;
  return range.max !== undefined && taken > milli(range.max) ? undefined : taken;
}

/** What a request takes of each capacity of a device that is shared; undefined where it cannot be given. */
export function sharedConsumption(
  device: Device,
  wanted: CapacityRequirements | undefined,
  used: (capacity: string) => number,
): Record<string, number> | undefined {
  for (const name of Object.keys(wanted?.requests ?? {})) if (!device.capacity?.[name]) return undefined;
  const consumption: Record<string, number> = {};
  for (const [name, capacity] of Object.entries(device.capacity ?? {})) {
    const taken = consumptionOf(capacity, wanted?.requests?.[name]);
    if (taken === undefined || used(name) + taken > milli(capacity.value)) return undefined;
    consumption[name] = taken;
  }
  return consumption;
}

/** Whether a device that one claim gets whole has at least what is asked. */
export const hasCapacity = (device: Device, wanted: CapacityRequirements | undefined): boolean =>
  Object.entries(wanted?.requests ?? {}).every(
    ([name, amount]) => device.capacity?.[name] !== undefined && milli(device.capacity[name].value) >= milli(amount),
  );
