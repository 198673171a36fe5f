import { convert } from '../../api/convert.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import { decodeProtobuf } from '../../api/protobuf.ts';
import type { ServedResource } from '../../api/scheme.ts';
import { encodeForStore, respliced, type Spliced, splice } from './encoding.ts';
import { clone, deepFreeze } from './json.ts';
import { encodeMessage } from '../../api/protobuf-encode.ts';

/** What upstream's API server writes to the same etcd. */
const isProtobuf = (stored: Buffer) => stored.length > 4 && stored.readUInt32BE(0) === 0x6b387300;

/** Its type is left out where it is the resource's own. */
function fromProtobuf(resource: ServedResource, stored: Buffer): KubeObject {
  const object = decodeProtobuf(stored, resource.definition) as unknown as KubeObject;
  return { ...object, apiVersion: object.apiVersion ?? apiVersionOf(resource), kind: object.kind ?? resource.kind };
}

const noLabels: Readonly<Record<string, string>> = Object.freeze({});

/** One object at one revision, as its storage version's JSON; parsed, frozen and converted only when first asked for. */
export class Entry {
  /** namespace/name, or name. */
  readonly key: string;
  readonly revision: number;
  readonly resource: ServedResource;
  #spliced: Spliced;
  #object: KubeObject | undefined;
  #fields: Readonly<Record<string, string>> | undefined;
  #versions: Map<string, Entry> | undefined;
  #protobuf: Buffer | undefined;

  constructor(resource: ServedResource, key: string, revision: number, spliced: Spliced, object?: KubeObject) {
    this.resource = resource;
    this.key = key;
    this.revision = revision;
    this.#spliced = spliced;
    this.#object = object;
  }

  static fromStore(resource: ServedResource, key: string, revision: number, stored: Buffer): Entry {
    return new Entry(resource, key, revision, splice(isProtobuf(stored) ? encodeForStore(fromProtobuf(resource, stored)) : stored, revision));
  }

  /** Of an object that was just encoded as `stored`; saves parsing it again. The object is kept and frozen. */
  static fromObject(resource: ServedResource, key: string, revision: number, stored: Buffer, object: KubeObject): Entry {
    const { managedFields: _mf, selfLink: _sl, ...metadata } = object.metadata as KubeObject['metadata'] & { selfLink?: string };
    const kept = { ...object, metadata: { ...metadata, resourceVersion: String(revision) } };
    return new Entry(resource, key, revision, splice(stored, revision), deepFreeze(kept));
  }

  /** JSON with resourceVersion. Never to be written to. */
  get bytes(): Buffer {
    return this.#spliced.bytes;
  }

  /** Its protobuf message without envelope, with resourceVersion; made when first asked for. Only for kinds that have one. */
  get protobuf(): Buffer {
    if (!this.#protobuf) {
      const bytes = encodeMessage(this.resource.definition, this.object);
      if (!bytes) throw new Error(`${this.resource.definition} has no protobuf message`);
      this.#protobuf = bytes;
    }
    return this.#protobuf;
  }

  get parsed(): boolean {
    return this.#object !== undefined;
  }

  /** Frozen; carries resourceVersion. */
  get object(): KubeObject {
    if (!this.#object) this.#object = deepFreeze(JSON.parse(this.bytes.toString('utf8')) as KubeObject);
    return this.#object;
  }

  get labels(): Readonly<Record<string, string>> {
    return (this.object.metadata.labels as Record<string, string> | undefined) ?? noLabels;
  }

  /** What field selectors can ask for. */
  get fields(): Readonly<Record<string, string>> {
    if (!this.#fields) this.#fields = selectableFields(this.resource, this.object);
    return this.#fields;
  }

  /** The same at a later revision: what a watcher is told of a deleted object. */
  at(revision: number): Entry {
    return new Entry(
      this.resource,
      this.key,
      revision,
      respliced(this.#spliced, this.revision, revision),
      this.#object && deepFreeze({ ...this.#object, metadata: { ...this.#object.metadata, resourceVersion: String(revision) } }),
    );
  }

  /** In another served version of the resource. */
  as(resource: ServedResource): Entry {
    if (resource === this.resource) return this;
    const id = apiVersionOf(resource);
    this.#versions ??= new Map();
    let entry = this.#versions.get(id);
    if (!entry) {
      const object = convertTo(this.object, this.resource, resource);
      entry = new Entry(resource, this.key, this.revision, splice(encodeForStore(object), this.revision), deepFreeze(object));
      this.#versions.set(id, entry);
    }
    return entry;
  }
}

/** Converts between served versions of one resource; the result is a copy. */
export function convertTo(object: KubeObject, from: ServedResource, to: ServedResource): KubeObject {
  if (from.group === to.group && from.version === to.version) return object;
  const converted = convert(clone(object), from, to) as KubeObject;
  return { ...converted, apiVersion: apiVersionOf(to), kind: to.kind };
}

export function selectableFields(resource: ServedResource, object: KubeObject): Record<string, string> {
  const fields: Record<string, string> = { 'metadata.name': object.metadata.name ?? '' };
  if (resource.namespaced) fields['metadata.namespace'] = object.metadata.namespace ?? '';
  const own = resource.strategy.selectableFields?.(object);
  return own ? Object.assign(fields, own) : fields;
}
