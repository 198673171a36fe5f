import type { Container, Pod, Quantity } from '../api/generated/types.ts';
import { toBytes, toMilli } from '../api/quantity.ts';

/** Amounts of resources by name: cpu in thousandths, everything else in whole units (bytes, devices, pods). */
export type Amounts = Record<string, number>;

/** What a pod that asks for nothing is counted with when nodes are scored: 0.1 CPU and 200 MB, as upstream. */
const DEFAULT_CPU = 100;
const DEFAULT_MEMORY = 200 * 1024 * 1024;

export function amountsOf(list: Record<string, Quantity> | undefined): Amounts {
  const amounts: Amounts = {};
  for (const name in list) amounts[name] = name === 'cpu' ? toMilli(list[name]!) : toBytes(list[name]!);
  return amounts;
}

export function add(to: Amounts, what: Amounts, sign = 1): void {
  for (const name in what) to[name] = (to[name] ?? 0) + sign * what[name]!;
}

function raise(to: Amounts, what: Amounts): void {
  for (const name in what) to[name] = Math.max(to[name] ?? 0, what[name]!);
}

type Of = (container: Container) => Amounts;
const requested: Of = (c) => amountsOf(c.resources?.requests);
const countedForScores: Of = (c) => ({ cpu: DEFAULT_CPU, memory: DEFAULT_MEMORY, ...amountsOf(c.resources?.requests) });

/**
 * What a pod occupies: the larger of its containers together and of its init containers one after the other, where restartable
 * init containers run on beside what comes after them; then the overhead. Pod-level requests replace the sum.
 */
function total(pod: Pod, of: Of): Amounts {
  const running: Amounts = {};
  const peak: Amounts = {};
  for (const container of pod.spec.initContainers ?? []) {
    const own = of(container);
    if (container.restartPolicy === 'Always') {
      add(running, own);
      raise(peak, running);
    } else {
      const together = { ...running };
      add(together, own);
      raise(peak, together);
    }
  }
  for (const container of pod.spec.containers) add(running, of(container));
  raise(running, peak);
  Object.assign(running, amountsOf(pod.spec.resources?.requests));
  add(running, amountsOf(pod.spec.overhead));
  return running;
}

export const podRequests = (pod: Pod): Amounts => total(pod, requested);

/** CPU (thousandths) and memory (bytes) that a pod counts with in scores. */
export function scoreRequests(pod: Pod): { cpu: number; memory: number } {
  const { cpu = 0, memory = 0 } = total(pod, countedForScores);
  return { cpu, memory };
}
