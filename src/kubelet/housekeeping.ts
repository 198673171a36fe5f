import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { type Clock, sleep } from '../client/clock.ts';
import type { Runtime } from '../runtime/cri.ts';
import type { PodVolumes } from './context.ts';
import type { DynamicResources } from './dynamic-resources/manager.ts';
import { ImageGc } from './image-gc.ts';
import { nodeLabel, podUidLabel } from './labels.ts';
import { rotateLogs } from './log-rotation.ts';
import type { Paths } from './paths.ts';
import type { PodManager } from './pod-manager.ts';
import type { PodStateReader } from './pod-state.ts';
import { unmountBelow } from './volumes/mounts.ts';

const defaultPeriodMs = 60_000;
const imagePeriods = 5;

export interface HousekeepingOptions {
  runtime: Runtime;
  pods: PodManager;
  volumes: PodVolumes;
  dynamicResources: Pick<DynamicResources, 'users' | 'unprepare'>;
  states: PodStateReader;
  paths: Paths;
  nodeName: string;
  log: Logger;
  clock: Clock;
  signal: AbortSignal;
  periodMs?: number;
}

/** Does, once a minute, what no event asks for: takes away what nobody needs any more, until the signal aborts. Never rejects. */
export async function keepHouse(o: HousekeepingOptions): Promise<void> {
  const images = new ImageGc(o);
  const step = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work();
    } catch (error) {
      if (!o.signal.aborted) o.log.warn({ err: error }, `cannot ${what}, will retry`);
    }
  };
  for (let round = 0; !o.signal.aborted; round++) {
    if (round > 0) await step('end pods that are gone', () => o.pods.endOrphans());
    if (round > 0) await step('grow file systems of claims', () => o.volumes.growClaimed(o.signal));
    if (round > 0)
      for (const uid of o.dynamicResources.users())
        if (!o.pods.get(uid)) await step('take devices back from a pod that is gone', () => o.dynamicResources.unprepare(uid));
    await step('remove old sandboxes', () => removeOldSandboxes(o));
    await step('remove files of pods that are gone', () => removeOrphanDirectories(o));
    await step('rotate container logs', () => rotateLogs({ ...o, now: () => o.clock.now() }));
    if (round % imagePeriods === 0) await step('remove unused images', () => images.collect());
    await sleep(o.clock, o.periodMs ?? defaultPeriodMs, o.signal).catch(() => {});
  }
}

/** A sandbox that was replaced stays for its dead containers' logs; without them it has no use. */
export async function removeOldSandboxes(o: Pick<HousekeepingOptions, 'runtime' | 'nodeName' | 'pods'>): Promise<void> {
  const labels = { [nodeLabel]: o.nodeName };
  const [sandboxes, containers] = await Promise.all([o.runtime.listPodSandbox({ labels }), o.runtime.listContainers({ labels })]);
  const used = new Set(containers.map((c) => c.podSandboxId));
  const newest = new Map<string, number>();
  for (const s of sandboxes) newest.set(s.metadata.uid, Math.max(newest.get(s.metadata.uid) ?? 0, s.metadata.attempt));
  for (const s of sandboxes) {
    if (s.state === 'SANDBOX_READY' || used.has(s.id) || s.metadata.attempt === newest.get(s.metadata.uid)) continue;
    if (o.pods.get(s.metadata.uid)) await o.runtime.removePodSandbox(s.id);
  }
}

/** Directories of pods that neither the API server nor the runtime knows; what is mounted there is unmounted first. */
export async function removeOrphanDirectories(o: Pick<HousekeepingOptions, 'runtime' | 'pods' | 'paths' | 'volumes' | 'log'>): Promise<void> {
  for (const uid of await readdir(o.paths.pods).catch(() => [] as string[])) {
    if (o.pods.get(uid)) continue;
    const sandboxes = await o.runtime.listPodSandbox({ labels: { [podUidLabel]: uid } });
    if (sandboxes.length > 0 || o.pods.get(uid)) continue;
    o.log.info({ uid }, 'removing the files of a pod that is gone');
    await o.volumes.unmount({ metadata: { uid, name: '', namespace: '' } });
    const directory = join(o.paths.pods, uid);
    await unmountBelow(directory);
    await rm(directory, { recursive: true, force: true });
  }
}
