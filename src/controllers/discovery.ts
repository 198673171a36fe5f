import type { ResourceType } from '../api/object.ts';
import { builtinResources } from '../api/generated/resources.ts';
import type { Client } from '../client/client.ts';

/** A resource as discovery shows it. */
export interface DiscoveredResource extends ResourceType {
  verbs: string[];
}

interface AggregatedDiscovery {
  items?: {
    metadata?: { name?: string };
    versions?: {
      version: string;
      resources?: { resource: string; responseKind?: { kind?: string }; scope?: string; verbs?: string[] }[];
    }[];
  }[];
}

const ACCEPT = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList, application/json';

/**
 * The resources that the server serves, each in its preferred version. A server without aggregated discovery is taken to serve the
 * built-in ones. Throws where the server cannot be reached or answers with an error.
 */
export async function discover(client: Client, signal?: AbortSignal): Promise<DiscoveredResource[]> {
  const found = new Map<string, DiscoveredResource>();
  for (const path of ['/api', '/apis']) {
    const response = await client.raw({ method: 'GET', path, headers: { accept: ACCEPT }, signal });
    const text = await response.text();
    if (response.status === 404 || response.status === 501) return builtin();
    if (response.status !== 200) throw new Error(`discovery: GET ${path} answered ${response.status}`);
    const list = JSON.parse(text) as AggregatedDiscovery;
    if (!list.items) return builtin();
    for (const item of list.items) {
      const group = item.metadata?.name ?? '';
      for (const { version, resources } of item.versions ?? []) {
        for (const r of resources ?? []) {
          const key = `${group}/${r.resource}`;
          // The first version is the preferred one.
          if (found.has(key)) continue;
          found.set(key, {
            group,
            version,
            resource: r.resource,
            kind: r.responseKind?.kind ?? '',
            namespaced: r.scope === 'Namespaced',
            verbs: r.verbs ?? [],
          });
        }
      }
    }
  }
  return [...found.values()];
}

function builtin(): DiscoveredResource[] {
  const found = new Map<string, DiscoveredResource>();
  for (const { group, version, resource, kind, namespaced, verbs } of builtinResources) {
    const key = `${group}/${resource}`;
    if (!found.has(key)) found.set(key, { group, version, resource, kind, namespaced, verbs });
  }
  return [...found.values()];
}
