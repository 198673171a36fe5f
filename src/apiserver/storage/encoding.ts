import { parseJson } from '../../api/json.ts';
import type { KubeObject } from '../../api/object.ts';

/**
 * Stored values are JSON without a resource version: it is the modRevision of the key. Objects are written so that
 * `"metadata":{` comes early, and the resource version is spliced in right behind it.
 */

const marker = '"metadata":{';

export interface Spliced {
  /** JSON with resourceVersion. */
  bytes: Buffer;
  /** Where `"resourceVersion":"N",` stands in bytes. */
  offset: number;
}

/** JSON of the stored form: apiVersion, kind, metadata first; resourceVersion left out. */
export function encodeForStore(object: KubeObject): Buffer {
  const { apiVersion, kind, metadata, ...rest } = object as KubeObject & Record<string, unknown>;
  const { resourceVersion: _rv, selfLink: _sl, ...meta } = metadata as unknown as Record<string, unknown>;
  return Buffer.from(JSON.stringify({ apiVersion, kind, metadata: meta, ...rest }));
}

const resourceVersionText = (revision: number) => `"resourceVersion":"${revision}",`;

/** Adds the resource version to a stored value. A value that someone else wrote in another order is rewritten. */
export function splice(stored: Buffer, revision: number): Spliced {
  // Values of ours start {"apiVersion":"…","kind":"…","metadata":{ ; no string before it can hold the marker.
  const at = stored.indexOf(marker);
  if (at < 0 || at > 160 || !isOurForm(stored, at)) {
    const rewritten = encodeForStore(parseJson(stored.toString('utf8')));
    return insert(rewritten, rewritten.indexOf(marker) + marker.length, revision);
  }
  return insert(stored, at + marker.length, revision);
}

function isOurForm(stored: Buffer, at: number): boolean {
  const head = stored.toString('latin1', 0, at);
  return /^\{"apiVersion":"[^"\\]+","kind":"[^"\\]+",$/.test(head) && stored[at + marker.length] === 0x22;
}

function insert(stored: Buffer, offset: number, revision: number): Spliced {
  const text = resourceVersionText(revision);
  // Memory of its own: in a shared block what is kept would keep what is not.
  const bytes = Buffer.allocUnsafeSlow(stored.length + text.length);
  stored.copy(bytes, 0, 0, offset);
  bytes.write(text, offset, 'latin1');
  stored.copy(bytes, offset + text.length, offset);
  return { bytes, offset };
}

/** The same object at another resource version. */
export function respliced(from: Spliced, oldRevision: number, revision: number): Spliced {
  const old = resourceVersionText(oldRevision).length;
  const text = resourceVersionText(revision);
  const bytes = Buffer.allocUnsafeSlow(from.bytes.length - old + text.length);
  from.bytes.copy(bytes, 0, 0, from.offset);
  bytes.write(text, from.offset, 'latin1');
  from.bytes.copy(bytes, from.offset + text.length, from.offset + old);
  return { bytes, offset: from.offset };
}
