import { parseAllDocuments } from 'yaml';
import { builtinResources } from '../api/generated/resources.ts';
import { apiVersionOf, type ResourceType } from '../api/object.ts';
import type { Client } from '../client/client.ts';
import type { AnyObject, KindReference, Reference } from './types.ts';

export interface Target {
  type: ResourceType<AnyObject>;
  name: string;
  namespace: string;
}

type Known = ResourceType<AnyObject> & { shortNames?: string[]; singular?: string };

const isStable = (version: string) => /^v\d+$/.test(version);
/** The stable version of each built-in resource first. */
const builtin: Known[] = [...builtinResources].sort((a, b) => Number(isStable(b.version)) - Number(isStable(a.version)));

function fits(r: Known, word: string): boolean {
  const [plural = '', ...rest] = word.split('.');
  if (rest.length && rest.join('.') !== r.group) return false;
  const lower = plural.toLowerCase();
  return r.resource === lower || r.kind.toLowerCase() === lower || r.singular === lower || (r.shortNames?.includes(lower) ?? false);
}

/** Finds out what a kind is served as; kinds of CustomResourceDefinitions by the API's own discovery. */
export class Resources {
  private readonly client: Client;
  constructor(client: Client) {
    this.client = client;
  }

  async find(kind: KindReference, signal?: AbortSignal): Promise<ResourceType<AnyObject>> {
    const matches = (r: Known) => (typeof kind === 'string' ? fits(r, kind) : r.kind === kind.kind && apiVersionOf(r) === kind.apiVersion);
    const known = builtin.find(matches);
    if (known) return known;
    const found = (await this.discover(signal)).find(matches);
    if (!found) throw new Error(`the cluster serves no kind ${typeof kind === 'string' ? kind : `${kind.kind} of ${kind.apiVersion}`}`);
    return found;
  }

  private async discover(signal?: AbortSignal): Promise<Known[]> {
    const accept = 'application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList';
    const answer = await this.client.raw({ method: 'GET', path: '/apis', headers: { accept }, ...(signal ? { signal } : {}) });
    const { items = [] } = JSON.parse(await answer.text());
    return items.flatMap((group: any) =>
      group.versions.flatMap((version: any) =>
        version.resources.map((r: any) => ({
          group: group.metadata.name,
          version: version.version,
          resource: r.resource,
          kind: r.responseKind?.kind,
          singular: r.singularResource,
          namespaced: r.scope === 'Namespaced',
          shortNames: r.shortNames ?? [],
        })),
      ),
    );
  }

  async resolve(what: Reference, signal?: AbortSignal): Promise<Target> {
    if (typeof what === 'string') {
      const parts = what.split('/');
      const [kind, second, third] = parts;
      if (!kind || !second || parts.length > 3) throw new Error(`'${what}' names no object: write kind/name or kind/namespace/name`);
      return this.target(await this.find(kind, signal), third ?? second, third === undefined ? undefined : second);
    }
    const type = await this.find(what.apiVersion ? { apiVersion: what.apiVersion, kind: what.kind } : what.kind, signal);
    const { name, namespace } = 'metadata' in what ? what.metadata : what;
    return this.target(type, name, namespace);
  }

  private target(type: ResourceType<AnyObject>, name: string, namespace: string | undefined): Target {
    return { type, name, namespace: type.namespaced ? (namespace ?? 'default') : '' };
  }
}

export const keyOfTarget = (t: Target) => (t.namespace ? { namespace: t.namespace, name: t.name } : { name: t.name });

/** For people: `Deployment default/web`. */
export const describeTarget = (t: Target): string => `${t.type.kind} ${t.namespace ? `${t.namespace}/` : ''}${t.name}`;

/** The objects of a manifest, Lists taken apart. Throws naming the document that is none. */
export function objectsOf(manifest: string | object | readonly object[]): AnyObject[] {
  const documents =
    typeof manifest === 'string'
      ? parseAllDocuments(manifest, { version: '1.1' }).map((document, n) => {
          const [error] = document.errors;
          if (error) throw new Error(`document ${n + 1} of the manifest is no YAML: ${error.message}`);
          return document.toJS();
        })
      : Array.isArray(manifest)
        ? manifest
        : [manifest];
  return documents
    .filter((document) => document !== null && document !== undefined)
    .flatMap((document: any, n) => {
      if (typeof document !== 'object' || typeof document.kind !== 'string' || typeof document.apiVersion !== 'string')
        throw new Error(`document ${n + 1} of the manifest has no apiVersion and kind`);
      return document.kind.endsWith('List') && Array.isArray(document.items) ? objectsOf(document.items) : [document as AnyObject];
    });
}
