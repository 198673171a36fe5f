import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { scheme, type ServedResource } from '../../src/api/scheme.ts';

export interface Sample {
  /** As `apps/v1 Deployment full`. */
  title: string;
  resource: ServedResource;
  object: any;
}

/** The namespace in which namespaced samples live. */
export const namespace = 'interop';

/** Every valid object of the corpus. */
export function samples(): Sample[] {
  const folder = join(import.meta.dirname, 'corpus');
  return readdirSync(folder)
    .sort()
    .flatMap((file) => parseAllDocuments(readFileSync(join(folder, file), 'utf8')).map((d) => d.toJS()))
    .map((object) => {
      const [group, version] = object.apiVersion.includes('/') ? object.apiVersion.split('/') : ['', object.apiVersion];
      const resource = scheme.findKind(group, version, object.kind);
      if (!resource) throw new Error(`the corpus holds a ${object.apiVersion} ${object.kind}, which is no kind`);
      return { title: `${object.apiVersion} ${object.kind} ${object.metadata.name}`, resource, object };
    });
}

export function collectionPath(r: ServedResource): string {
  const root = r.group ? `/apis/${r.group}/${r.version}` : `/api/${r.version}`;
  return r.namespaced ? `${root}/namespaces/${namespace}/${r.resource}` : `${root}/${r.resource}`;
}
