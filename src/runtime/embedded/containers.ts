import { type FSWatcher, watch } from 'node:fs';
import { access, mkdir, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readJson, writeJson } from '../atomic-file.ts';
import type { ContainerConfig, ContainerState } from '../cri.ts';
import { finish } from './command.ts';
import { unmountImageVolumes } from './image-volumes.ts';
import type { ProcessIdentity } from './processes.ts';

/** A container as it is kept in containers/ID/container.json. */
export interface StoredContainer {
  id: string;
  sandboxId: string;
  config: ContainerConfig;
  imageId: string;
  imageRef: string;
  snapshots: string[];
  state: ContainerState;
  createdAt: number;
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  reason: string;
  message: string;
  cgroup: string;
  stopSignal: string;
  process?: ProcessIdentity;
}

/**
 * Containers on disk, and their ends: conmon writes exits/ID when one ends, which a watch on that folder tells, or the next look after a
 * restart.
 */
export class Containers {
  readonly directory: string;
  readonly exits: string;
  readonly all = new Map<string, StoredContainer>();
  private watcher: FSWatcher | undefined;
  private readonly waiting = new Map<string, Set<() => void>>();
  private readonly onEnd: (container: StoredContainer) => void;

  constructor(root: string, onEnd: (container: StoredContainer) => void) {
    this.directory = join(root, 'containers');
    this.exits = join(root, 'exits');
    this.onEnd = onEnd;
  }

  async load(): Promise<void> {
    await mkdir(this.directory, { recursive: true, mode: 0o711 });
    await mkdir(this.exits, { recursive: true, mode: 0o711 });
    for (const id of await readdir(this.directory)) {
      const container = await readJson<StoredContainer>(join(this.folder(id), 'container.json'));
      if (container) this.all.set(id, container);
      else await this.discard(id);
    }
    this.watcher = watch(this.exits, (_event, name) => {
      if (name && !name.includes('.')) void this.ended(String(name));
    });
    for (const id of await readdir(this.exits)) await this.ended(id);
  }

  folder(id: string): string {
    return join(this.directory, id);
  }

  async save(container: StoredContainer): Promise<void> {
    this.all.set(container.id, container);
    await writeJson(join(this.folder(container.id), 'container.json'), container);
  }

  /** Reads the exit file of a container that runs, if there is one. */
  async ended(id: string): Promise<void> {
    const container = this.all.get(id);
    if (container?.state !== 'CONTAINER_RUNNING') return;
    const file = join(this.exits, id);
    const text = (await readFile(file, 'utf8').catch(() => '')).trim();
    if (!/^\d+$/.test(text) || container.state !== 'CONTAINER_RUNNING') return;
    const code = Number(text);
    const killedForMemory = await access(join(this.folder(id), 'oom')).then(
      () => true,
      () => false,
    );
    await this.finishAs(container, code, killedForMemory ? 'OOMKilled' : code === 0 ? 'Completed' : 'Error', '', (await stat(file)).mtimeMs);
  }

  async finishAs(container: StoredContainer, exitCode: number, reason: string, message: string, finishedAt = Date.now()): Promise<void> {
    const { process: _, ...rest } = container;
    const done: StoredContainer = { ...rest, state: 'CONTAINER_EXITED', exitCode, reason, message, finishedAt: Math.round(finishedAt) };
    await this.save(done);
    for (const tell of this.waiting.get(container.id) ?? []) tell();
    this.waiting.delete(container.id);
    this.onEnd(done);
  }

  /** Resolves to whether the container has ended within timeoutMs. */
  async waitForEnd(id: string, timeoutMs: number): Promise<boolean> {
    if (this.all.get(id)?.state !== 'CONTAINER_RUNNING') return true;
    return new Promise((resolve) => {
      const waiters = this.waiting.get(id) ?? new Set();
      this.waiting.set(id, waiters);
      const timer = setTimeout(() => {
        waiters.delete(tell);
        // A notice may have been missed, as when inotify ran over.
        void this.ended(id).then(() => resolve(this.all.get(id)?.state !== 'CONTAINER_RUNNING'));
      }, timeoutMs);
      const tell = () => {
        clearTimeout(timer);
        resolve(true);
      };
      waiters.add(tell);
      void this.ended(id);
    });
  }

  /** Takes a container's mount and files away. */
  async discard(id: string): Promise<void> {
    await finish('umount', ['-l', join(this.folder(id), 'rootfs')]);
    await unmountImageVolumes(this.folder(id));
    await rm(this.folder(id), { recursive: true, force: true });
    await rm(join(this.exits, id), { force: true });
    this.all.delete(id);
  }

  close(): void {
    this.watcher?.close();
  }
}
