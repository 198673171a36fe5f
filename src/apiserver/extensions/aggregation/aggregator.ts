import { canonicalJson, sameJson } from '../../../api/equality.ts';
import { trackOwnStatus } from '../../verbs/managed-fields.ts';
import { isNotFound, StatusError } from '../../../api/errors.ts';
import type { APIService, EndpointSlice, Service } from '../../../api/generated/types.ts';
import type { Client } from '../../../client/client.ts';
import { type Api, keyFor } from '../../api.ts';
import { clone } from '../../storage/json.ts';
import { apiServices, localCondition, now, registerLocalServices } from './local-services.ts';
import { RemoteServer } from './remote.ts';

/** Milliseconds between looks at whether a remote server still answers. */
const checkEveryMs = 30_000;
/** Milliseconds before the first look is repeated where it failed. */
const retryMs = 2000;

interface Condition {
  status: 'True' | 'False';
  reason: string;
  message: string;
}

/** A group version that another server serves. */
export interface RemoteVersion {
  name: string;
  group: string;
  version: string;
  server: RemoteServer;
  available: boolean;
  groupPriority: number;
  versionPriority: number;
  /** Its part of aggregated discovery: an APIVersionDiscovery. */
  discovery: { version: string; resources: any[]; freshness: string } | undefined;
  /** Its group's OpenAPI v2 document. */
  openapi: any;
  from: string;
}

/** Follows APIServices: passes their groups on to the servers behind them, says which are available, and merges their discovery. */
export class Aggregator {
  #api: Api;
  #client: Client;
  #remotes = new Map<string, RemoteVersion>();
  #queue = new Set<string>();
  #running = false;
  #retries = new Set<string>();
  #registered = '';
  /** Counts APIServices that are gone: those of custom resources come back. */
  #gone = 0;
  #once = new Set<string>();
  #registering = false;
  /** Counts changes of what remote servers serve. */
  generation = 0;

  constructor(api: Api, client: Client) {
    this.#api = api;
    this.#client = client;
  }

  start(): void {
    const { registry, clock, stopping } = this.#api;
    const cache = registry.cache(apiServices.group, apiServices.version, apiServices.resource);
    cache.onChange(({ entry }) => this.#enqueue(entry.key));
    for (const { key } of cache.list()) this.#enqueue(key);
    const related = (namespace: string | undefined, name: string | undefined) => {
      for (const remote of this.#remotes.values()) {
        const { service } = remote.server.spec;
        if (service?.namespace === namespace && service?.name === name) this.#enqueue(remote.name);
      }
    };
    registry.cache('', 'v1', 'services').onChange(({ entry }) => {
      if (this.#remotes.size > 0) related(entry.object.metadata.namespace, entry.object.metadata.name);
    });
    registry.cache('discovery.k8s.io', 'v1', 'endpointslices').onChange(({ entry }) => {
      if (this.#remotes.size > 0) related(entry.object.metadata.namespace, entry.labels['kubernetes.io/service-name']);
    });
    registry.onChange(() => void this.#register());
    const again = () => {
      if (stopping.aborted) return;
      for (const { name } of this.#remotes.values()) this.#enqueue(name);
      clock.after(checkEveryMs, again);
    };
    clock.after(checkEveryMs, again);
    stopping.addEventListener('abort', () => {
      for (const { server } of this.#remotes.values()) server.close();
    });
    void this.#register();
  }

  /** The server that serves a group version in this one's place. */
  find(group: string, version: string): RemoteVersion | undefined {
    return this.#remotes.size === 0 ? undefined : this.#remotes.get(`${version}.${group}`);
  }

  /** All group versions of other servers, those with the highest priority first. */
  all(): RemoteVersion[] {
    return [...this.#remotes.values()].sort(
      (a, b) => b.groupPriority - a.groupPriority || (a.group < b.group ? -1 : a.group > b.group ? 1 : b.versionPriority - a.versionPriority),
    );
  }

  async #register(): Promise<void> {
    if (this.#registering) return;
    this.#registering = true;
    try {
      const generationNow = () => `${this.#api.registry.generation} ${this.#gone}`;
      while (this.#registered !== generationNow() && !this.#api.stopping.aborted) {
        const generation = generationNow();
        await this.#api.hub.current();
        await registerLocalServices(this.#api, this.#client, this.#once);
        this.#registered = generation;
      }
    } catch (error) {
      if (this.#api.stopping.aborted) return;
      this.#api.log.error({ err: error }, 'APIServices of what this server serves could not be registered');
      this.#api.clock.after(retryMs, () => void this.#register());
    } finally {
      this.#registering = false;
    }
  }

  #enqueue(name: string): void {
    this.#queue.add(name);
    if (this.#running) return;
    this.#running = true;
    void this.#run();
  }

  async #run(): Promise<void> {
    await Promise.resolve();
    while (this.#queue.size > 0 && !this.#api.stopping.aborted) {
      const names = [...this.#queue];
      this.#queue.clear();
      await Promise.all(
        names.map(async (name) => {
          try {
            await this.#sync(name);
          } catch (error) {
            if (this.#api.stopping.aborted || isNotFound(error)) return;
            this.#api.log.error({ err: error, apiservice: name }, 'an APIService could not be looked at');
            this.#api.clock.after(retryMs, () => this.#enqueue(name));
          }
        }),
      );
    }
    this.#running = false;
  }

  async #sync(name: string): Promise<void> {
    const cache = this.#api.registry.cache(apiServices.group, apiServices.version, apiServices.resource);
    const service = cache.get(name)?.object as unknown as APIService | undefined;
    const known = this.#remotes.get(name);
    if (!service?.spec?.service) {
      if (known) {
        known.server.close();
        this.#remotes.delete(name);
        this.generation++;
      }
      if (!service) {
        this.#gone++;
        void this.#register();
      } else await this.#write(name, { status: 'True', reason: 'Local', message: localCondition('').message });
      return;
    }
    const { spec } = service;
    const from = canonicalJson(spec);
    let remote = known;
    if (!remote || remote.from !== from) {
      remote?.server.close();
      remote = {
        name,
        group: spec.group ?? '',
        version: spec.version ?? '',
        server: new RemoteServer(this.#api, spec),
        available: known?.available ?? false,
        groupPriority: spec.groupPriorityMinimum,
        versionPriority: spec.versionPriority,
        discovery: undefined,
        openapi: undefined,
        from,
      };
      this.#remotes.set(name, remote);
      this.generation++;
    }
    const condition = await this.#check(remote);
    const available = condition.status === 'True';
    if (available) await this.#discover(remote);
    if (remote.available !== available) {
      remote.available = available;
      this.generation++;
    }
    await this.#write(name, condition);
    if (!available) this.#again(name);
  }

  /** Looks again soon, once. */
  #again(name: string): void {
    if (this.#retries.has(name)) return;
    this.#retries.add(name);
    this.#api.clock.after(retryMs, () => {
      this.#retries.delete(name);
      this.#enqueue(name);
    });
  }

  async #check({ server, group, version }: RemoteVersion): Promise<Condition> {
    const { namespace = '', name = '', port = 443 } = server.spec.service ?? {};
    const no = (reason: string, message: string): Condition => ({ status: 'False', reason, message });
    const { registry } = this.#api;
    const where = `service/${name} in ${JSON.stringify(namespace)}`;
    const service = registry.cache('', 'v1', 'services').get(keyFor(namespace, name))?.object as unknown as Service | undefined;
    if (!service) return no('ServiceNotFound', `${where} is not present`);
    if (service.spec?.type !== 'ExternalName') {
      const own = service.spec?.ports?.find((p) => p.port === port);
      if (!own) return no('ServicePortError', `${where} is not listening on port ${port}`);
      const slices = registry
        .cache('discovery.k8s.io', 'v1', 'endpointslices')
        .list(namespace)
        .map((e) => e.object as unknown as EndpointSlice)
        .filter((s) => s.metadata.labels?.['kubernetes.io/service-name'] === name);
      if (slices.length === 0) return no('EndpointsNotFound', `cannot find endpointslices for ${where}`);
      const portName = own.name ?? '';
      const ready = slices.some((s) => s.ports?.some((p) => (p.name ?? '') === portName) && s.endpoints?.some((e) => e.conditions?.ready !== false));
      if (!ready) return no('MissingEndpoints', `endpointslices for ${where} have no addresses with port name ${JSON.stringify(portName)}`);
    }
    const path = `/apis/${group}/${version}`;
    try {
      const { status } = await server.get(path);
      // Even a refusal shows that somebody is there.
      if ((status >= 200 && status < 300) || status === 401 || status === 403) return { status: 'True', reason: 'Passed', message: 'all checks passed' };
      return no('FailedDiscoveryCheck', `failing or missing response from https://${server.serverName}:${port}${path}: bad status from https://${server.serverName}:${port}${path}: ${status}`);
    } catch (error) {
      return no('FailedDiscoveryCheck', `failing or missing response from https://${server.serverName}:${port}${path}: Get "https://${server.serverName}:${port}${path}": ${(error as Error).message}`);
    }
  }

  async #discover(remote: RemoteVersion): Promise<void> {
    try {
      const discovery = await discoveryOf(remote);
      const openapi = await openapiOf(remote);
      if (sameJson(discovery, remote.discovery) && sameJson(openapi, remote.openapi)) return;
      remote.discovery = discovery;
      remote.openapi = openapi;
      this.generation++;
    } catch (error) {
      this.#api.log.warn({ err: error, apiservice: remote.name }, 'discovery of an aggregated API server failed');
      if (remote.discovery) remote.discovery = { ...remote.discovery, freshness: 'Stale' };
    }
  }

  async #write(name: string, condition: Condition): Promise<void> {
    const storage = this.#api.registry.storage(apiServices.group, apiServices.version, apiServices.resource);
    await storage.update(name, (current) => {
      if (!current) return { keep: true };
      const next = clone(current.object) as unknown as APIService;
      next.status ??= {};
      const conditions = (next.status.conditions ??= []);
      const known = conditions.find((c) => c.type === 'Available');
      if (!known) conditions.push({ type: 'Available', ...condition, lastTransitionTime: now(this.#api) } as never);
      else if (known.status === condition.status && known.reason === condition.reason && known.message === condition.message) return { keep: true };
      else Object.assign(known, condition, known.status === condition.status ? {} : { lastTransitionTime: now(this.#api) });
      trackOwnStatus(this.#api, apiServices, current.object, next as never);
      return { put: next as never };
    });
  }
}

/** A server's own aggregated discovery of its group version, or the same made of its list of resources. */
async function discoveryOf({ server, group, version }: RemoteVersion): Promise<RemoteVersion['discovery']> {
  const aggregated = await server.get('/apis', { accept: 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList, application/json' });
  const list = aggregated.status === 200 ? JSON.parse(aggregated.body.toString('utf8')) : undefined;
  if (list?.kind === 'APIGroupDiscoveryList') {
    const found = list.items?.find((i: any) => i.metadata?.name === group)?.versions?.find((v: any) => v.version === version);
    if (found) return { ...found, freshness: 'Current' };
  }
  const { status, body } = await server.get(`/apis/${group}/${version}`);
  if (status !== 200) throw new StatusError(status, '', `discovery answered ${status}`);
  const { resources = [] } = JSON.parse(body.toString('utf8'));
  return { version, resources: resources.filter((r: any) => !r.name.includes('/')).map((r: any) => aggregatedResource(r, resources, group, version)), freshness: 'Current' };
}

function aggregatedResource(r: any, all: any[], group: string, version: string) {
  const kind = (x: any) => ({ group: x.group || group, version: x.version || version, kind: x.kind });
  const parts = all.filter((x) => x.name.startsWith(`${r.name}/`));
  return {
    resource: r.name,
    responseKind: kind(r),
    scope: r.namespaced ? 'Namespaced' : 'Cluster',
    singularResource: r.singularName ?? '',
    verbs: r.verbs ?? [],
    ...(r.shortNames ? { shortNames: r.shortNames } : {}),
    ...(r.categories ? { categories: r.categories } : {}),
    ...(parts.length ? { subresources: parts.map((p) => ({ subresource: p.name.slice(r.name.length + 1), responseKind: kind(p), verbs: p.verbs ?? [] })) } : {}),
  };
}

async function openapiOf({ server, group, version }: RemoteVersion): Promise<any> {
  const { status, body } = await server.get('/openapi/v2', { accept: 'application/json' }, 10_000);
  if (status !== 200) return undefined;
  const document = JSON.parse(body.toString('utf8'));
  const prefix = `/apis/${group}/${version}/`;
  const paths = Object.fromEntries(Object.entries(document.paths ?? {}).filter(([path]) => path.startsWith(prefix)));
  return { paths, definitions: document.definitions ?? {} };
}
