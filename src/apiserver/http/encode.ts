import { gzip } from 'node:zlib';
import { stringify } from 'yaml';
import { notAcceptable, type StatusError } from '../../api/errors.ts';
import { apiVersionOf, groupVersionOf, type KubeObject } from '../../api/object.ts';
import { encodeMessage, encodeProtobuf, envelope, varintBytes } from '../../api/protobuf-encode.ts';
import { definitionOfKind, messageOf } from '../../api/protobuf-messages.ts';
import { makeTable, type TableOptions } from '../../api/table.ts';
import type { Registered } from '../registry.ts';
import type { Entry } from '../storage/entry.ts';
import type { ListResult } from '../verbs/list.ts';
import { header, type HttpRequest, type HttpResponse, sizeOf } from './exchange.ts';
import { allFormats, contentTypes, type Format, type Negotiated, textFormats } from './negotiate.ts';

export const objectKinds = ['Table.meta.k8s.io/v1', 'PartialObjectMetadata.meta.k8s.io/v1'] as const;
export const listKinds = ['Table.meta.k8s.io/v1', 'PartialObjectMetadataList.meta.k8s.io/v1'] as const;

const gzipFrom = 128 * 1024;

const isPretty = (request: HttpRequest): boolean => {
  const asked = request.query.get('pretty');
  if (asked !== null) return asked !== 'false' && asked !== '0';
  return /^(curl|Wget|Mozilla)/.test(header(request, 'user-agent'));
};

/** The formats that objects of a resource can be had in. */
export const formatsOf = (target: Registered): readonly Format[] => (messageOf(target.served.definition) ? allFormats : textFormats);

/** Any object of a known kind in protobuf. StatusError 406 where it has no message. */
export function protobufOf(value: { apiVersion?: string; kind?: string }): Buffer {
  const { apiVersion = '', kind = '' } = value;
  const { group, version } = groupVersionOf(apiVersion);
  const definition = definitionOfKind(group, version, kind);
  const bytes = definition && encodeProtobuf(value, definition);
  if (bytes) return bytes;
  throw notAcceptable(`object *${version}.${kind} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message`);
}

function textOf(request: HttpRequest, value: unknown, format: 'json' | 'yaml'): string {
  if (format === 'yaml') return stringify(value, { version: '1.1', lineWidth: 0, aliasDuplicateObjects: false });
  return isPretty(request) ? `${JSON.stringify(value, undefined, 2)}\n` : JSON.stringify(value);
}

/** Any value as the body of an answer. */
export function sendValue(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  value: unknown,
  format: Format = 'json',
  more: Record<string, string> = {},
): Promise<void> | undefined {
  const body = format === 'protobuf' ? protobufOf(value as object) : Buffer.from(textOf(request, value, format));
  return sendBytes(request, response, status, body, contentTypes[format], more);
}

export function sendBytes(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  body: Buffer | Buffer[],
  contentType: string,
  more: Record<string, string> = {},
): Promise<void> | undefined {
  const headers = { 'content-type': contentType, 'cache-control': 'no-cache, private', ...more };
  const size = Array.isArray(body) ? sizeOf(body) : body.length;
  if (size < gzipFrom || !/\bgzip\b/.test(header(request, 'accept-encoding'))) {
    response.send(status, headers, body);
    return undefined;
  }
  return new Promise((resolve) => {
    gzip(Array.isArray(body) ? Buffer.concat(body) : body, { level: 1 }, (error, compressed) => {
      if (error) response.send(status, headers, body);
      else response.send(status, { ...headers, 'content-encoding': 'gzip', vary: 'Accept-Encoding' }, compressed);
      resolve();
    });
  });
}

export function sendError(request: HttpRequest, response: HttpResponse, error: StatusError, format: Format = 'json'): void {
  void sendValue(request, response, error.code, error.status, format, error.headers);
}

export const partialMetadata = (object: KubeObject) => ({ kind: 'PartialObjectMetadata', apiVersion: 'meta.k8s.io/v1', metadata: object.metadata });

const tableOptions = (request: HttpRequest): TableOptions => {
  const include = request.query.get('includeObject');
  return include === 'None' || include === 'Object' ? { includeObject: include } : { includeObject: 'Metadata' };
};

/** One object (in the request's version) as asked for. */
export function sendEntry(
  request: HttpRequest,
  response: HttpResponse,
  status: number,
  target: Registered,
  entry: Entry,
  wanted: Negotiated,
): Promise<void> | undefined {
  if (wanted.as?.kind === 'Table') {
    const metadata = { resourceVersion: String(entry.revision) };
    return sendValue(request, response, status, makeTable(target.served, [entry.object], { ...tableOptions(request), metadata }), wanted.format);
  }
  if (wanted.as) return sendValue(request, response, status, partialMetadata(entry.object), wanted.format);
  if (wanted.format === 'json' && !isPretty(request)) return sendBytes(request, response, status, answerBytes(entry), contentTypes.json);
  if (wanted.format === 'protobuf' && entry.revision !== 0) return sendBytes(request, response, status, protobufBody(entry), contentTypes.protobuf);
  return sendValue(request, response, status, withoutZeroVersion(entry.object), wanted.format);
}

/** An entry with its envelope. */
export function protobufBody(entry: Entry): Buffer {
  const raw = entry.protobuf;
  const around = envelope(entry.object.apiVersion, entry.object.kind, raw.length);
  return Buffer.concat([around.head, raw, around.tail]);
}

/** A dry-run creation has no resource version yet. */
const answerBytes = (entry: Entry): Buffer => (entry.revision === 0 ? Buffer.from(JSON.stringify(withoutZeroVersion(entry.object))) : entry.bytes);

function withoutZeroVersion(object: KubeObject): KubeObject {
  if (object.metadata.resourceVersion !== '0') return object;
  const { resourceVersion: _rv, ...metadata } = object.metadata;
  return { ...object, metadata: metadata as KubeObject['metadata'] };
}

export function listMetadata(result: ListResult) {
  return {
    resourceVersion: String(result.revision),
    ...(result.continue ? { continue: result.continue } : {}),
    ...(result.remainingItemCount === undefined ? {} : { remainingItemCount: result.remainingItemCount }),
  };
}

export function sendList(
  request: HttpRequest,
  response: HttpResponse,
  target: Registered,
  result: ListResult,
  wanted: Negotiated,
): Promise<void> | undefined {
  const metadata = listMetadata(result);
  if (wanted.as?.kind === 'Table') {
    const objects = result.entries.map((e) => e.object);
    return sendValue(request, response, 200, makeTable(target.served, objects, { ...tableOptions(request), metadata }), wanted.format);
  }
  if (wanted.as) {
    const items = result.entries.map((e) => partialMetadata(e.object));
    return sendValue(request, response, 200, { kind: 'PartialObjectMetadataList', apiVersion: 'meta.k8s.io/v1', metadata, items }, wanted.format);
  }
  const custom = target.served.custom !== undefined;
  const head = { kind: target.served.custom?.listKind ?? `${target.served.kind}List`, apiVersion: apiVersionOf(target.served), metadata };
  if (wanted.format === 'protobuf') return sendBytes(request, response, 200, protobufList(head, result.entries), contentTypes.protobuf);
  if (wanted.format === 'json' && !isPretty(request))
    return sendBytes(request, response, 200, joinList(JSON.stringify(head), result.entries, custom), contentTypes.json);
  return sendValue(request, response, 200, { ...head, items: result.entries.map((e) => (custom ? e.object : withoutType(e.object))) }, wanted.format);
}

const separators = { first: Buffer.from('{'), next: Buffer.from(',{'), comma: Buffer.from(','), end: Buffer.from(']}') };

/** The items' bytes as they are, between `{…,"items":[` and `]}`, not put together here. Only items of custom resources say their type. */
function joinList(head: string, entries: Entry[], typed: boolean): Buffer[] {
  const parts: Buffer[] = [Buffer.from(`${head.slice(0, -1)},"items":[`)];
  for (let i = 0; i < entries.length; i++) {
    const entry = entries[i] as Entry;
    if (typed && i > 0) parts.push(separators.comma);
    else if (!typed) parts.push(i > 0 ? separators.next : separators.first);
    parts.push(typed ? entry.bytes : entry.typeless);
  }
  parts.push(separators.end);
  return parts;
}

function withoutType({ apiVersion: _a, kind: _k, ...rest }: KubeObject): object {
  return rest;
}

const listMetaDefinition = 'io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta';

/** A list message: its metadata in field 1, the items' bytes as they are in field 2. */
function protobufList(head: { kind: string; apiVersion: string; metadata: object }, entries: Entry[]): Buffer[] {
  const metadata = encodeMessage(listMetaDefinition, head.metadata) as Buffer;
  const parts: Buffer[] = [Buffer.from([0x0a]), varintBytes(metadata.length), metadata];
  let size = parts[1]!.length + 1 + metadata.length;
  for (const entry of entries) {
    const raw = entry.protobuf;
    const frame = varintBytes(raw.length);
    parts.push(itemTag, frame, raw);
    size += 1 + frame.length + raw.length;
  }
  const around = envelope(head.apiVersion, head.kind, size);
  return [around.head, ...parts, around.tail];
}
const itemTag = Buffer.from([0x12]);
