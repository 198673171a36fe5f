import { convert } from '../../api/convert.ts';
import { sameJson } from '../../api/equality.ts';
import { parseJson } from '../../api/json.ts';
import { apiVersionOf, groupVersionOf, type KubeObject } from '../../api/object.ts';
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

/** How the values of a resource begin that this server writes. */
const ownHeads = new WeakMap<ServedResource, Buffer>();

/** The value in the version in which this server keeps the resource. Custom resources are converted when they are asked for. */
function inStoredVersion(resource: ServedResource, stored: Buffer): Buffer {
  if (resource.custom) return stored;
  let head = ownHeads.get(resource);
  if (!head) ownHeads.set(resource, (head = Buffer.from(`{"apiVersion":"${apiVersionOf(resource)}","kind":"${resource.kind}",`)));
  if (stored.length > head.length && head.compare(stored, 0, head.length) === 0) return stored;
  const object = isProtobuf(stored) ? fromProtobuf(resource, stored) : (parseJson(stored.toString('utf8')) as KubeObject);
  return encodeForStore(convert(object, { ...groupVersionOf(object.apiVersion), kind: object.kind }, resource) as KubeObject);
}

const metadataHead = '"metadata":{'.length;
const noLabels: Readonly<Record<string, string>> = Object.freeze({});

/** One object at one revision, as its storage version's JSON; parsed, frozen and converted only when first asked for. */
export class Entry {
  /** namespace/name, or name. */
  readonly key: string;
  readonly revision: number;
  readonly resource: ServedResource;
  #spliced: Spliced;
  /** Weak: whoever works with it keeps it; thousands that nobody looks at are bytes alone. */
  #object: WeakRef<KubeObject> | undefined;
  #labels: Readonly<Record<string, string>> | undefined;
  #fields: Readonly<Record<string, string>> | undefined;
  #versions: Map<string, Entry> | undefined;
  #protobuf: WeakRef<Buffer> | undefined;
  /** Of custom resources: this object as their versions have it, which change with the definition. */
  #custom: WeakMap<ServedResource, Entry> | undefined;
  #settled = false;

  constructor(resource: ServedResource, key: string, revision: number, spliced: Spliced, object?: KubeObject) {
    this.resource = resource;
    this.key = key;
    this.revision = revision;
    this.#spliced = spliced;
    this.#object = object && new WeakRef(object);
  }

  static fromStore(resource: ServedResource, key: string, revision: number, stored: Buffer): Entry {
    return new Entry(resource, key, revision, splice(inStoredVersion(resource, stored), revision));
  }

  /** Of an object that was just encoded as `stored`; saves parsing it again. The object is kept and frozen. */
  static fromObject(resource: ServedResource, key: string, revision: number, stored: Buffer, object: KubeObject): Entry {
    const { selfLink: _sl, ...metadata } = object.metadata as KubeObject['metadata'] & { selfLink?: string };
    const kept = { ...object, metadata: { ...metadata, resourceVersion: String(revision) } };
    return new Entry(resource, key, revision, splice(stored, revision), deepFreeze(kept));
  }

  /** JSON with resourceVersion. Never to be written to. */
  get bytes(): Buffer {
    return this.#spliced.bytes;
  }

  /** `bytes` from `"metadata"` on: what stands in a list, whose items do not say their type again. */
  get typeless(): Buffer {
    return this.#spliced.bytes.subarray(this.#spliced.offset - metadataHead);
  }

  /** Its protobuf message without envelope, with resourceVersion; made when first asked for. Only for kinds that have one. */
  get protobuf(): Buffer {
    const known = this.#protobuf?.deref();
    if (known) return known;
    const bytes = encodeMessage(this.resource.definition, this.object);
    if (!bytes) throw new Error(`${this.resource.definition} has no protobuf message`);
    this.#protobuf = new WeakRef(bytes);
    return bytes;
  }

  /** Frozen; carries resourceVersion. */
  get object(): KubeObject {
    const known = this.#object?.deref();
    if (known) return known;
    const object = deepFreeze(parseJson(this.bytes.toString('utf8')) as KubeObject);
    this.#object = new WeakRef(object);
    return object;
  }

  get labels(): Readonly<Record<string, string>> {
    // Kept, as fields are: selectors look at them again and again.
    this.#labels ??= (this.object.metadata.labels as Record<string, string> | undefined) ?? noLabels;
    return this.#labels;
  }

  /** What field selectors can ask for. */
  get fields(): Readonly<Record<string, string>> {
    if (!this.#fields) this.#fields = selectableFields(this.resource, this.object);
    return this.#fields;
  }

  /** The same at a later revision: what a watcher is told of a deleted object. */
  at(revision: number): Entry {
    const object = this.#object?.deref();
    return new Entry(
      this.resource,
      this.key,
      revision,
      respliced(this.#spliced, this.revision, revision),
      object && deepFreeze({ ...object, metadata: { ...object.metadata, resourceVersion: String(revision) } }),
    );
  }

  /** In another served version of the resource. */
  as(resource: ServedResource): Entry {
    if (resource.custom) return this.#asCustom(resource);
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

  /** Whether `as` needs what only the resource's conversion webhook can make. */
  needsConversion(resource: ServedResource): boolean {
    if (!resource.custom?.conversion || (this.#settled && resource === this.resource) || this.#custom?.has(resource)) return false;
    return this.object.apiVersion !== apiVersionOf(resource);
  }

  /** Keeps the form that the object has in a version of its custom resource. */
  settle(resource: ServedResource, object: KubeObject, spliced = splice(encodeForStore(object), this.revision)): Entry {
    const entry = new Entry(resource, this.key, this.revision, spliced, deepFreeze(object));
    entry.#settled = true;
    this.#custom ??= new WeakMap();
    this.#custom.set(resource, entry);
    return entry;
  }

  /** Of a custom resource: a copy with the defaults of the version in which it is stored. Those of another version are for requests. */
  completed(served: ServedResource): KubeObject {
    const copy = clone(this.object);
    served.custom?.versions.get(copy.apiVersion)?.custom?.complete(copy);
    return copy;
  }

  /** Stored bytes pass through where pruning and defaults of the version leave the object as it is. */
  #asCustom(resource: ServedResource): Entry {
    if (this.#settled && resource === this.resource) return this;
    const known = this.#custom?.get(resource);
    if (known) return known;
    const apiVersion = apiVersionOf(resource);
    const own = this.object.apiVersion === apiVersion;
    if (!own && resource.custom?.conversion) throw new Error(`${this.key} was not converted to ${apiVersion}`);
    const object = this.completed(resource);
    if (!own) {
      object.apiVersion = apiVersion;
      resource.custom?.prune(object);
    }
    return own && sameJson(object, this.object) ? this.settle(resource, this.object, this.#spliced) : this.settle(resource, object);
  }
}

/** The object as a webhook converted it for another version, to be kept with the entry. */
export function settleConverted(entry: Entry, resource: ServedResource, object: KubeObject): void {
  resource.custom?.prune(object);
  entry.settle(resource, { ...object, metadata: { ...object.metadata, resourceVersion: String(entry.revision) } });
}

/** Converts between served versions of one resource; the result is a copy. */
export function convertTo(object: KubeObject, from: ServedResource, to: ServedResource): KubeObject {
  if (from.group === to.group && from.version === to.version) return object;
  if (to.custom) {
    const copy = { ...clone(object), apiVersion: apiVersionOf(to) };
    to.custom.prune(copy);
    return copy;
  }
  const converted = convert(clone(object), from, to) as KubeObject;
  return { ...converted, apiVersion: apiVersionOf(to), kind: to.kind };
}

export function selectableFields(resource: ServedResource, object: KubeObject): Record<string, string> {
  const fields: Record<string, string> = { 'metadata.name': object.metadata.name ?? '' };
  if (resource.namespaced) fields['metadata.namespace'] = object.metadata.namespace ?? '';
  const own = resource.strategy.selectableFields?.(object);
  return own ? Object.assign(fields, own) : fields;
}
