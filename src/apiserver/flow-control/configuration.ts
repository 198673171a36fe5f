import type { Logger } from 'pino';
import { resources } from '../../api/generated/resources.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '../../api/generated/types.ts';
import type { Client } from '../../client/client.ts';
import type { Registry } from '../registry.ts';
import type { ResourceCache } from '../storage/cache.ts';
import { defaultLevels, defaultSchemas } from './defaults.ts';
import type { FlowControl } from './flow-control.ts';

const group = 'flowcontrol.apiserver.k8s.io';
const fieldManager = 'api-priority-and-fairness-config-consumer-v1';

/** Keeps flow control at what is stored, and the objects that must be there stored. */
export class FlowConfiguration {
  readonly #flow: FlowControl;
  readonly #schemas: ResourceCache;
  readonly #levels: ResourceCache;
  readonly #client: Client;
  readonly #log: Logger;
  #pending = false;
  #started = false;

  constructor(flow: FlowControl, registry: Registry, client: Client, log: Logger) {
    this.#flow = flow;
    this.#client = client;
    this.#log = log;
    this.#schemas = registry.cache(group, 'v1', 'flowschemas');
    this.#levels = registry.cache(group, 'v1', 'prioritylevelconfigurations');
    for (const cache of [this.#schemas, this.#levels]) cache.onChange(() => this.#changed());
    if (this.#schemas.size > 0) this.#apply();
  }

  /** Stores the default objects that are not there; from now on what is mandatory comes back. */
  async start(): Promise<void> {
    await this.#store(() => true);
    this.#started = true;
    this.#apply();
    this.#tell();
  }

  #changed(): void {
    if (this.#pending) return;
    this.#pending = true;
    setImmediate(() => {
      this.#pending = false;
      this.#apply();
      if (!this.#started) return;
      const mandatory = (name: string) => name === 'exempt' || name === 'catch-all';
      this.#store(mandatory).catch((error) => this.#log.warn({ err: error }, 'the mandatory objects of flow control could not be stored'));
      this.#tell();
    });
  }

  #tell(): void {
    this.#tellDangling().catch((error) => this.#log.warn({ err: error }, 'the status of a flow schema could not be stored'));
  }

  #apply(): void {
    if (this.#schemas.size === 0 || this.#levels.size === 0) return;
    const objects = <T>(cache: ResourceCache) => [...cache.entries.values()].map((entry) => entry.object as unknown as T);
    this.#flow.configure(objects<FlowSchema>(this.#schemas), objects<PriorityLevelConfiguration>(this.#levels));
  }

  async #store(wanted: (name: string) => boolean): Promise<void> {
    for (const [type, cache, defaults] of [
      [resources.prioritylevelconfigurations, this.#levels, defaultLevels],
      [resources.flowschemas, this.#schemas, defaultSchemas],
    ] as const) {
      for (const object of defaults) {
        const name = object.metadata?.name as string;
        if (!wanted(name) || cache.get(name)) continue;
        await this.#client.create(type as never, object as never).catch((error: { reason?: string }) => {
          if (error.reason !== 'AlreadyExists') throw error;
        });
      }
    }
  }

  /** Says in each schema's status whether its priority level is there. */
  async #tellDangling(): Promise<void> {
    for (const entry of [...this.#schemas.entries.values()]) {
      const schema = entry.object as unknown as FlowSchema;
      const level = schema.spec?.priorityLevelConfiguration.name ?? '';
      const dangling = !this.#levels.get(level);
      const before = schema.status?.conditions?.find((c) => c.type === 'Dangling');
      if (before?.status === (dangling ? 'True' : 'False')) continue;
      const condition = dangling
        ? { status: 'True', reason: 'NotFound', message: `This FlowSchema references the PriorityLevelConfiguration object named "${level}" but there is no such object` }
        : { status: 'False', reason: 'Found', message: `This FlowSchema references the PriorityLevelConfiguration object named "${level}" and it exists` };
      const conditions = [{ type: 'Dangling', lastTransitionTime: new Date().toISOString().replace(/\.\d+Z$/, 'Z'), ...condition }];
      const name = schema.metadata?.name as string;
      const body = { apiVersion: `${group}/v1`, kind: 'FlowSchema', metadata: { name }, status: { conditions } };
      await this.#client
        .patch(resources.flowschemas, { name }, 'apply', body, { subresource: 'status', fieldManager, force: true })
        .catch((error: { reason?: string }) => {
          // It is gone meanwhile, or another server was first.
          if (error.reason !== 'NotFound' && error.reason !== 'Conflict') throw error;
        });
    }
  }
}
