import type { Status } from '../../api/generated/types.ts';
import { StatusError } from '../../api/errors.ts';
import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import type { ServedResource } from '../../api/scheme.ts';
import { varintBytes } from '../../api/protobuf-encode.ts';
import { makeTable } from '../../api/table.ts';
import type { Registered } from '../registry.ts';
import type { HistogramSeries, NumberSeries } from '../../client/metrics.ts';
import type { CacheEvent } from '../storage/cache.ts';
import type { Entry } from '../storage/entry.ts';
import type { WatchSink, WatchType } from '../verbs/watch.ts';
import { partialMetadata, protobufBody, protobufOf } from './encode.ts';
import type { ResponseStream } from './exchange.ts';
import { fanOut } from './fan-out.ts';
import type { Format, Negotiated } from './negotiate.ts';

/** Changes that a watcher may lag behind before it is cut off; it then resumes from its last revision, or lists. */
const backlogLimit = 10_000;
const chunkBytes = 256 * 1024;

type Item = { type: WatchType; entry: Entry; event: CacheEvent | undefined } | { bytes: Buffer };

const prefixes: Record<WatchType, Buffer> = {
  ADDED: Buffer.from('{"type":"ADDED","object":'),
  MODIFIED: Buffer.from('{"type":"MODIFIED","object":'),
  DELETED: Buffer.from('{"type":"DELETED","object":'),
};
const suffix = Buffer.from('}\n');

/** A frame of a protobuf watch: its length, then a WatchEvent whose object is a whole body. */
function protobufFrame(type: string, body: Buffer): Buffer {
  const name = Buffer.from(type);
  const raw = Buffer.concat([Buffer.from([0x0a]), varintBytes(body.length)]);
  const object = Buffer.concat([Buffer.from([0x12]), varintBytes(raw.length + body.length), raw]);
  const length = 2 + name.length + object.length + body.length;
  const size = Buffer.allocUnsafe(4);
  size.writeUInt32BE(length);
  return Buffer.concat([size, Buffer.from([0x0a, name.length]), name, object, body]);
}

/** A bookmark in a table is the row of an object that has nothing but its revision. */
function bookmarkTable(served: ServedResource, object: KubeObject): object {
  const metadata = { resourceVersion: object.metadata.resourceVersion };
  return { ...makeTable(served, [object], { includeObject: 'Metadata', metadata, noHeaders: true }), columnDefinitions: null };
}

/** An event that is no object's: a bookmark or an error. */
function ownEvent(type: string, object: object, format: Format): Buffer {
  return format === 'protobuf' ? protobufFrame(type, protobufOf(object)) : Buffer.from(`${JSON.stringify({ type, object })}\n`);
}

/** Writes a watch's events to a response; encodes when the reader has room, many events to a write. */
export class WatchResponse implements WatchSink {
  #stream: ResponseStream;
  #target: Registered;
  #wanted: Negotiated;
  #includeObject: 'None' | 'Metadata' | 'Object';
  #queue: Item[] = [];
  #at = 0;
  #initial = 0;
  #scheduled = false;
  #blocked = false;
  #ended = false;
  #headersSent = false;
  readonly #counted: { events: NumberSeries; sizes: HistogramSeries };
  /** Ends the watch; set once it has begun. */
  stop: () => void = () => {};

  constructor(stream: ResponseStream, target: Registered, wanted: Negotiated, includeObject: string | null, counted: { events: NumberSeries; sizes: HistogramSeries }) {
    this.#counted = counted;
    this.#stream = stream;
    this.#target = target;
    this.#wanted = wanted;
    this.#includeObject = includeObject === 'None' || includeObject === 'Object' ? includeObject : 'Metadata';
    stream.onDrain(() => {
      this.#blocked = false;
      this.#schedule();
    });
  }

  deliver(type: WatchType, entry: Entry, event: CacheEvent | undefined): void {
    if (this.#ended) return;
    if (!event) this.#initial++;
    this.#queue.push({ type, entry, event });
    if (this.#queue.length - this.#at - this.#initial > backlogLimit) {
      this.stop();
      this.#stream.destroy();
      return;
    }
    this.#schedule();
  }

  bookmark(revision: number, endOfInitialEvents: boolean): void {
    if (this.#ended) return;
    const { served } = this.#target;
    const metadata = {
      resourceVersion: String(revision),
      ...(endOfInitialEvents ? { annotations: { 'k8s.io/initial-events-end': 'true' } } : {}),
    } as KubeObject['metadata'];
    const object = { kind: served.kind, apiVersion: apiVersionOf(served), metadata };
    const { as } = this.#wanted;
    const shown = as?.kind === 'Table' ? bookmarkTable(served, object) : as ? partialMetadata(object) : object;
    this.#queue.push({ bytes: ownEvent('BOOKMARK', shown, this.#wanted.format) });
    this.#schedule();
  }

  end(error?: Error): void {
    if (this.#ended) return;
    this.#ended = true;
    if (error) this.#queue.push({ bytes: ownEvent('ERROR', statusOf(error), this.#wanted.format) });
    this.#schedule();
  }

  #schedule(): void {
    if (this.#scheduled || this.#blocked) return;
    this.#scheduled = true;
    fanOut.add(this.#flush);
  }

  #flush = (): void => {
    this.#scheduled = false;
    const chunks: Buffer[] = [];
    let size = 0;
    while (this.#at < this.#queue.length && size < chunkBytes) {
      const item = this.#queue[this.#at++]!;
      const bytes = 'bytes' in item ? item.bytes : this.#encode(item);
      if (!('bytes' in item) && !item.event) this.#initial--;
      chunks.push(bytes);
      size += bytes.length;
      this.#counted.sizes.observe(bytes.length);
    }
    this.#counted.events.inc(chunks.length);
    if (this.#at === this.#queue.length) {
      this.#queue = [];
      this.#at = 0;
    } else if (this.#at > 4096) {
      this.#queue = this.#queue.slice(this.#at);
      this.#at = 0;
    }
    if (size > 0 && !this.#stream.write(chunks.length === 1 ? chunks[0]! : Buffer.concat(chunks, size))) this.#blocked = true;
    if (this.#queue.length > 0) this.#schedule();
    else if (this.#ended) this.#stream.end();
  };

  #encode({ type, entry, event }: { type: WatchType; entry: Entry; event: CacheEvent | undefined }): Buffer {
    const { as, format } = this.#wanted;
    if (as?.kind === 'Table') {
      // The first event of a table watch carries the columns; tables are not shared.
      const options = { includeObject: this.#includeObject, metadata: { resourceVersion: String(entry.revision) }, noHeaders: this.#headersSent };
      this.#headersSent = true;
      return Buffer.from(`${JSON.stringify({ type, object: makeTable(this.#target.served, [entry.object], options) })}\n`);
    }
    const id = `${type} ${entry.resource.version} ${entry.resource.group} ${as?.kind ?? ''} ${format}`;
    const known = event?.encoded.get(id);
    if (known) return known;
    const bytes =
      format === 'protobuf'
        ? protobufFrame(type, as ? protobufOf(partialMetadata(entry.object)) : protobufBody(entry))
        : as
          ? Buffer.from(`${JSON.stringify({ type, object: partialMetadata(entry.object) })}\n`)
          : Buffer.concat([prefixes[type], entry.bytes, suffix]);
    event?.encoded.set(id, bytes);
    return bytes;
  }
}

export function statusOf(error: Error): Status {
  if (error instanceof StatusError) return error.status;
  if (error.name === 'CompactedError') return new StatusError(410, 'Expired', `too old resource version: ${error.message}`).status;
  return new StatusError(500, 'InternalError', `Internal error occurred: ${error.message}`).status;
}
