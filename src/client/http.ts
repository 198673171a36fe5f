import { type Draft, apiVersionOf, type KubeList, type KubeObject, type ResourceType } from '../api/object.ts';
import { parseJson } from '../api/json.ts';
import { StatusError } from '../api/errors.ts';
import type { DeleteOptions, Status } from '../api/generated/types.ts';
import type {
  Client,
  ListOptions,
  ObjectKey,
  PatchType,
  RawRequest,
  RawResponse,
  ReadOptions,
  WatchEvent,
  WatchOptions,
  WriteOptions,
} from './client.ts';
import type { ClientConfig } from './config.ts';
import { deepFreeze } from './freeze.ts';
import { componentMetrics } from './metrics.ts';
import { HttpTransport, reasonOf, type TransportResponse } from './http-transport.ts';

const requests = componentMetrics.counter('rest_client_requests_total', 'Number of HTTP requests, partitioned by status code, method, and host.', ['code', 'host', 'method']);
const latencies = componentMetrics.histogram(
  'rest_client_request_duration_seconds',
  'Request latency in seconds. Broken down by verb, and host.',
  ['host', 'verb'],
  [0.005, 0.025, 0.1, 0.25, 0.5, 1, 2, 4, 8, 15, 30, 60],
);

export type { ClientConfig } from './config.ts';

const patchContentType: Record<PatchType, string> = {
  json: 'application/json-patch+json',
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
  apply: 'application/apply-patch+yaml',
};

/** A Kubernetes client over HTTP/2. */
export function createHttpClient(config: ClientConfig): Client {
  return new HttpClient(new HttpTransport(config));
}

type Query = Record<string, string | number | boolean | undefined>;

function pathOf(type: ResourceType<unknown>, namespace: string | undefined, name?: string, subresource?: string, query: Query = {}): string {
  const root = type.group ? `/apis/${type.group}/${type.version}` : `/api/${type.version}`;
  const scope = type.namespaced && namespace ? `/namespaces/${encodeURIComponent(namespace)}` : '';
  const object = name === undefined ? '' : `/${encodeURIComponent(name)}${subresource ? `/${subresource}` : ''}`;
  const parameters = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined && value !== '') parameters.set(key, String(value));
  const text = parameters.toString();
  return `${root}${scope}/${type.resource}${object}${text ? `?${text}` : ''}`;
}

const listQuery = (o: ListOptions): Query => ({
  labelSelector: o.labelSelector,
  fieldSelector: o.fieldSelector,
  limit: o.limit,
  continue: o.continue,
  resourceVersion: o.resourceVersion,
  resourceVersionMatch: o.resourceVersionMatch,
});
const writeQuery = (o: WriteOptions): Query => ({ dryRun: o.dryRun ? 'All' : undefined, fieldManager: o.fieldManager, force: o.force });

class HttpClient implements Client {
  readonly #transport: HttpTransport;
  constructor(transport: HttpTransport) {
    this.#transport = transport;
  }

  get<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, o: ReadOptions & { subresource?: string } = {}): Promise<T> {
    return this.#json('GET', pathOf(type, key.namespace, key.name, o.subresource, { resourceVersion: o.resourceVersion }), undefined, o.signal);
  }

  async list<T = KubeObject>(type: ResourceType<T>, o: ListOptions = {}): Promise<KubeList<T>> {
    const list = await this.#call<KubeList<T>>('GET', pathOf(type, o.namespace, undefined, undefined, listQuery(o)), undefined, o.signal);
    list.items ??= [];
    for (const item of list.items as KubeObject[]) {
      item.apiVersion ??= apiVersionOf(type);
      item.kind ??= type.kind;
    }
    return deepFreeze(list);
  }

  async *watch<T = KubeObject>(type: ResourceType<T>, o: WatchOptions = {}): AsyncIterable<WatchEvent<T>> {
    const query = {
      ...listQuery(o),
      watch: true,
      allowWatchBookmarks: o.allowWatchBookmarks,
      sendInitialEvents: o.sendInitialEvents,
      // The server wants it said.
      ...(o.sendInitialEvents ? { resourceVersionMatch: 'NotOlderThan' } : {}),
      timeoutSeconds: o.timeoutSeconds,
    };
    const response = await this.#send('GET', pathOf(type, o.namespace, undefined, undefined, query), undefined, o.signal);
    try {
      let rest = '';
      response.stream.setEncoding('utf8');
      for await (const chunk of response.stream) {
        const lines = (rest + chunk).split('\n');
        rest = lines.pop() as string;
        for (const line of lines) if (line) yield deepFreeze(parseJson(line) as WatchEvent<T>);
      }
      if (o.signal?.aborted) throw reasonOf(o.signal);
    } catch (error) {
      throw o.signal?.aborted ? reasonOf(o.signal) : error;
    } finally {
      response.stream.destroy();
    }
  }

  create<T = KubeObject>(type: ResourceType<T>, object: Draft<T>, o: WriteOptions = {}): Promise<T> {
    const body = { apiVersion: apiVersionOf(type), kind: type.kind, ...object };
    return this.#json('POST', pathOf(type, object.metadata.namespace, undefined, undefined, writeQuery(o)), body, o.signal);
  }

  update<T extends { metadata: { name: string; namespace?: string } }>(type: ResourceType<T>, object: T, o: WriteOptions = {}): Promise<T> {
    const { name, namespace } = object.metadata;
    return this.#json(
      'PUT',
      pathOf(type, namespace, name, o.subresource, writeQuery(o)),
      { apiVersion: apiVersionOf(type), kind: type.kind, ...object },
      o.signal,
    );
  }

  patch<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, patchType: PatchType, patch: unknown, o: WriteOptions = {}): Promise<T> {
    return this.#json('PATCH', pathOf(type, key.namespace, key.name, o.subresource, writeQuery(o)), patch, o.signal, patchContentType[patchType]);
  }

  delete<T = KubeObject>(type: ResourceType<T>, key: ObjectKey, o: Partial<DeleteOptions> & { signal?: AbortSignal } = {}): Promise<T | Status> {
    const { signal, ...options } = o;
    const body = Object.keys(options).length ? { apiVersion: 'v1', kind: 'DeleteOptions', ...options } : undefined;
    return this.#json('DELETE', pathOf(type, key.namespace, key.name), body, signal);
  }

  async deleteCollection<T = KubeObject>(type: ResourceType<T>, o: ListOptions & { deleteOptions?: Partial<DeleteOptions> } = {}): Promise<void> {
    const body = o.deleteOptions ? { apiVersion: 'v1', kind: 'DeleteOptions', ...o.deleteOptions } : undefined;
    await this.#call('DELETE', pathOf(type, o.namespace, undefined, undefined, listQuery(o)), body, o.signal);
  }

  createSubresource<R = unknown>(type: ResourceType<unknown>, key: ObjectKey, subresource: string, body: unknown, o: WriteOptions = {}): Promise<R> {
    return this.#json('POST', pathOf(type, key.namespace, key.name, subresource, writeQuery(o)), body, o.signal);
  }

  async raw(request: RawRequest): Promise<RawResponse> {
    const response = await this.#transport.request(request);
    return { status: response.status, headers: response.headers, body: response.stream, text: () => textOf(response) };
  }

  close(): void {
    this.#transport.close();
  }

  async #json<R>(method: string, path: string, body: unknown, signal?: AbortSignal, contentType?: string): Promise<R> {
    return deepFreeze(await this.#call<R>(method, path, body, signal, contentType));
  }

  async #call<R>(method: string, path: string, body: unknown, signal?: AbortSignal, contentType?: string): Promise<R> {
    const response = await this.#send(method, path, body, signal, contentType);
    const text = await textOf(response, signal);
    try {
      return parseJson(text) as R;
    } catch (error) {
      throw new Error(`${method} ${path}: the answer is not whole, or not JSON: ${(error as Error).message}`, { cause: error });
    }
  }

  /** The answer's head; an error status becomes a StatusError. */
  async #send(method: string, path: string, body: unknown, signal?: AbortSignal, contentType = 'application/json'): Promise<TransportResponse> {
    const started = performance.now();
    const { host } = this.#transport;
    const counted = (code: string) => {
      requests.of(code, host, method).inc();
      latencies.of(host, method).observe((performance.now() - started) / 1000);
    };
    const asked = this.#transport.request({
      method,
      path,
      headers: { accept: 'application/json', ...(body === undefined ? {} : { 'content-type': contentType }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal ? { signal } : {}),
    });
    const response = await asked.catch((error) => {
      counted('<error>');
      throw error;
    });
    counted(String(response.status));
    if (response.status < 400) return response;
    throw statusError(response.status, await textOf(response, signal));
  }
}

function statusError(code: number, text: string): StatusError {
  try {
    const status = JSON.parse(text) as Status;
    if (status.kind === 'Status') return StatusError.fromStatus({ ...status, code: status.code ?? code });
  } catch {
    // Not from the API server itself: a proxy's page, or plain text.
  }
  return new StatusError(code, code === 404 ? 'NotFound' : 'Unknown', text.slice(0, 500) || `the server answered ${code}`);
}

async function textOf(response: TransportResponse, signal?: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of response.stream) chunks.push(Buffer.isBuffer(chunk) ? chunk : Buffer.from(chunk));
  } catch (error) {
    throw signal?.aborted ? reasonOf(signal) : error;
  }
  if (signal?.aborted) throw reasonOf(signal);
  return Buffer.concat(chunks).toString('utf8');
}
