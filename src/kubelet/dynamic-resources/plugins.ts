import { type FSWatcher, watch } from 'node:fs';
import { mkdir, readdir, stat } from 'node:fs/promises';
import { isAbsolute, join } from 'node:path';
import type { Logger } from 'pino';
import { resources } from '../../api/generated/resources.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';

/** Loaded when there is a plugin to talk to: most nodes have none. */
const api = () => import('./plugin-api.ts');

/** A driver that may come back under another socket, as in an update, before its slices go. */
const wipeAfterMs = 30_000;
const retryMs = 2_000;

export interface Plugin {
  driver: string;
  endpoint: string;
  service: string;
}
export interface PluginsOptions {
  /** Where drivers put the sockets by which they are found. */
  directory: string;
  client: Client;
  nodeName: string;
  clock: Clock;
  log: Logger;
  signal: AbortSignal;
  /** A driver has come. */
  onRegistered(driver: string): void;
}

/** The drivers of dynamic resources on this node: each is found by a socket in the registration directory, and goes with it. */
export class Plugins {
  private readonly o: PluginsOptions;
  /** By registration socket. */
  private readonly found = new Map<string, { inode: string; plugin?: Plugin }>();
  private readonly wipes = new Map<string, () => void>();
  private watcher: FSWatcher | undefined;
  private looking = false;
  private again = false;

  constructor(o: PluginsOptions) {
    this.o = o;
  }

  async start(): Promise<void> {
    await mkdir(this.o.directory, { recursive: true, mode: 0o750 });
    this.watcher = watch(this.o.directory, () => void this.look());
    this.watcher.on('error', (error) => this.o.log.error({ err: error }, 'cannot watch the registration directory of plugins'));
    this.o.signal.addEventListener('abort', () => this.watcher?.close(), { once: true });
    await this.look();
  }

  get(driver: string): Plugin | undefined {
    // The one that came last: of two during an update the new one.
    return [...this.found.values()].reverse().find((one) => one.plugin?.driver === driver)?.plugin;
  }

  /** Brings what is known in line with the directory. */
  private async look(): Promise<void> {
    if (this.looking) {
      this.again = true;
      return;
    }
    this.looking = true;
    try {
      do {
        this.again = false;
        await this.compare();
      } while (this.again && !this.o.signal.aborted);
    } finally {
      this.looking = false;
    }
  }

  private async compare(): Promise<void> {
    const present = new Map<string, string>();
    for (const name of await readdir(this.o.directory).catch(() => [] as string[])) {
      const path = join(this.o.directory, name);
      const status = await stat(path).catch(() => undefined);
      if (status?.isSocket() && !name.startsWith('.')) present.set(path, `${status.ino}/${status.ctimeMs}`);
    }
    for (const [socket, known] of [...this.found]) {
      if (present.get(socket) === known.inode) continue;
      this.found.delete(socket);
      if (known.plugin) this.gone(known.plugin.driver);
    }
    for (const [socket, inode] of present) if (!this.found.has(socket)) await this.register(socket, inode);
  }

  private async register(socket: string, inode: string): Promise<void> {
    const { log, clock } = this.o;
    try {
      const { getInfo, notifyRegistration, serviceOf } = await api();
      const info = await getInfo(socket);
      if (info.type !== 'DRAPlugin') {
        this.found.set(socket, { inode });
        return;
      }
      const service = serviceOf(info.supportedVersions);
      if (!service) {
        this.found.set(socket, { inode });
        await notifyRegistration(socket, `none of the versions ${info.supportedVersions.join(', ')} is supported`);
        return;
      }
      const endpoint = !info.endpoint ? socket : isAbsolute(info.endpoint) ? info.endpoint : join(this.o.directory, info.endpoint);
      this.found.set(socket, { inode, plugin: { driver: info.name, endpoint, service } });
      this.wipes.get(info.name)?.();
      this.wipes.delete(info.name);
      await notifyRegistration(socket);
      log.info({ driver: info.name, endpoint }, 'a driver of dynamic resources has registered');
      this.o.onRegistered(info.name);
    } catch (error) {
      if (this.o.signal.aborted) return;
      log.warn({ err: error, socket }, 'cannot register a plugin, will retry');
      this.found.delete(socket);
      const cancel = clock.after(retryMs, () => void this.look());
      this.o.signal.addEventListener('abort', cancel, { once: true });
    }
  }

  /** Devices of a driver that stays away are not to be given to pods. */
  private gone(driver: string): void {
    if (this.get(driver)) return;
    const { client, nodeName, clock, log } = this.o;
    log.info({ driver }, 'a driver of dynamic resources is gone');
    this.wipes.get(driver)?.();
    const cancel = clock.after(wipeAfterMs, () => {
      this.wipes.delete(driver);
      if (this.o.signal.aborted || this.get(driver)) return;
      client
        .deleteCollection(resources.resourceslices, { fieldSelector: `spec.nodeName=${nodeName},spec.driver=${driver}` })
        .catch((error: unknown) => log.warn({ err: error, driver }, 'cannot delete the ResourceSlices of a driver that is gone'));
    });
    this.wipes.set(driver, cancel);
    this.o.signal.addEventListener('abort', cancel, { once: true });
  }
}
