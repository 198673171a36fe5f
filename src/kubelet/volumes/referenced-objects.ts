import type { Logger } from 'pino';
import type { ConfigMap, Secret } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import type { ResourceType } from '../../api/object.ts';
import type { Client } from '../../client/client.ts';
import type { Clock } from '../../client/clock.ts';
import type { Informer } from '../../client/informer.ts';
import { createInformerFactory } from '../../client/informers.ts';

type Kind = 'configmaps' | 'secrets';
interface Entry {
  informer: Informer<ConfigMap | Secret>;
  users: Set<string>;
  stop(): void;
}

const syncTimeoutMs = 60_000;

/**
 * The ConfigMaps and Secrets that the volumes of this node's pods name, each kept current by a watch of its own: a node may not list others.
 * An object is watched as long as a pod uses it.
 */
export class ReferencedObjects {
  private readonly o: { client: Client; log: Logger; clock: Clock; signal: AbortSignal; onChange(uid: string): void };
  private readonly entries = new Map<string, Entry>();

  constructor(o: { client: Client; log: Logger; clock: Clock; signal: AbortSignal; onChange(uid: string): void }) {
    this.o = o;
  }

  /** The object, undefined where there is none. From now on onChange tells when it changes, until release. */
  async get<K extends Kind>(
    kind: K,
    namespace: string,
    name: string,
    uid: string,
    signal: AbortSignal,
  ): Promise<(K extends 'secrets' ? Secret : ConfigMap) | undefined> {
    const key = `${kind}/${namespace}/${name}`;
    const entry = this.entries.get(key) ?? this.watch(key, kind, namespace, name);
    entry.users.add(uid);
    const deadline = AbortSignal.timeout(syncTimeoutMs);
    try {
      await entry.informer.synced(AbortSignal.any([signal, deadline]));
    } catch (error) {
      if (deadline.aborted) throw new Error(`failed to sync ${kind.slice(0, -1)} cache: timed out waiting for ${namespace}/${name}`);
      throw error;
    }
    return entry.informer.get(`${namespace}/${name}`) as never;
  }

  release(uid: string): void {
    for (const [key, entry] of this.entries) {
      entry.users.delete(uid);
      if (entry.users.size > 0) continue;
      entry.stop();
      this.entries.delete(key);
    }
  }

  private watch(key: string, kind: Kind, namespace: string, name: string): Entry {
    const abort = new AbortController();
    const { client, log, clock } = this.o;
    const factory = createInformerFactory(client, { log, clock, signal: AbortSignal.any([abort.signal, this.o.signal]) });
    const informer = factory.informer(resources[kind] as ResourceType<ConfigMap | Secret>, { namespace, fieldSelector: `metadata.name=${name}` });
    const users = new Set<string>();
    const tell = () => {
      for (const uid of users) this.o.onChange(uid);
    };
    informer.addHandlers({
      onAdd: () => {
        if (informer.hasSynced) tell();
      },
      onUpdate: tell,
      onDelete: tell,
    });
    const entry: Entry = {
      informer,
      users,
      stop: () => {
        abort.abort();
        factory.stop();
      },
    };
    this.entries.set(key, entry);
    return entry;
  }
}
