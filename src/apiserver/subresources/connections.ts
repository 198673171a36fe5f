import { checkServerIdentity, connect as tlsConnect } from 'node:tls';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import { badRequest, internalError, notFound, serviceUnavailable, StatusError } from '../../api/errors.ts';
import type { EndpointSlice, Node, Pod, Service } from '../../api/generated/types.ts';
import { type Api, type Call, keyFor } from '../api.ts';

/** Where a proxied request goes. */
export interface Destination {
  host: string;
  port: number;
  /** Credentials of this server for kubelets; plain TLS without verification for `https:` pods and services. */
  tls: 'kubelet' | 'insecure' | undefined;
  /** Path and query. */
  path: string;
}

const connectTimeoutMs = 10_000;

/** Opens the connection, with TLS where asked; StatusError 502/503 with what failed. */
export async function openConnection(api: Api, to: Destination, signal?: AbortSignal): Promise<Duplex> {
  const deadline = AbortSignal.timeout(connectTimeoutMs);
  const both = signal ? AbortSignal.any([signal, deadline]) : deadline;
  const where = `${to.host}:${to.port}`;
  let socket: Duplex;
  try {
    socket = await api.dial(to.host, to.port, both);
    // Whoever uses it hears of errors too; without this one an early error would end the process.
    socket.on('error', () => {});
    await connected(socket, both);
  } catch (error) {
    throw unreachable(where, error as Error);
  }
  if (!to.tls) return socket;
  const kubelet = to.tls === 'kubelet' ? api.kubelet : undefined;
  return new Promise<Duplex>((resolve, reject) => {
    const secure = tlsConnect({
      socket,
      ALPNProtocols: ['http/1.1'],
      ...(kubelet ? { cert: kubelet.cert, key: kubelet.key } : {}),
      ...(kubelet?.ca
        ? { ca: kubelet.ca, checkServerIdentity: (_name: string, certificate: any) => checkServerIdentity(to.host, certificate) }
        : { rejectUnauthorized: false }),
    });
    const fail = (error: Error) => {
      secure.destroy();
      reject(unreachable(where, error));
    };
    const onAbort = () => fail(new Error(deadline.aborted ? `no TLS handshake within ${connectTimeoutMs / 1000} s` : 'the client went away'));
    both.addEventListener('abort', onAbort, { once: true });
    secure.once('error', fail);
    secure.once('secureConnect', () => {
      both.removeEventListener('abort', onAbort);
      secure.removeListener('error', fail);
      resolve(secure);
    });
  });
}

/** A socket that is still connecting is waited for. */
function connected(socket: Duplex, signal: AbortSignal): Promise<void> {
  if (!(socket as Socket).connecting) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = () => {
      socket.destroy();
      reject(new Error('i/o timeout'));
    };
    signal.addEventListener('abort', onAbort, { once: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      signal.removeEventListener('abort', onAbort);
      socket.removeListener('error', reject);
      resolve();
    });
  });
}

const unreachable = (where: string, error: Error) => new StatusError(502, 'BadGateway', `error dialing backend: dial tcp ${where}: ${error.message}`);

export async function kubeletOf(api: Api, nodeName: string, path: string, port?: number): Promise<Destination> {
  const entry = await api.registry.storage('', 'v1', 'nodes').read(nodeName);
  if (!entry) throw notFound({ group: '', resource: 'nodes' }, nodeName);
  const node = entry.object as unknown as Node;
  const addresses = node.status?.addresses ?? [];
  const address = (addresses.find((a) => a.type === 'InternalIP') ?? addresses.find((a) => a.type === 'Hostname') ?? addresses[0])?.address;
  if (!address) throw internalError(`no preferred addresses found; known addresses: []`);
  return { host: address, port: port ?? (node.status?.daemonEndpoints?.kubeletEndpoint?.Port || 10250), tls: 'kubelet', path };
}

async function podOf(api: Api, call: Call, name = call.name): Promise<Pod> {
  const entry = await api.registry.storage('', 'v1', 'pods').read(keyFor(call.namespace, name));
  if (!entry) throw notFound({ group: '', resource: 'pods' }, name);
  return entry.object as unknown as Pod;
}

/** The container asked for; the only one where none is. StatusError 400 where that does not decide. */
function containerOf(pod: Pod, asked: string): string {
  const all = [...(pod.spec?.initContainers ?? []), ...(pod.spec?.containers ?? []), ...(pod.spec?.ephemeralContainers ?? [])].map((c) => c.name);
  if (asked) {
    if (!all.includes(asked)) throw badRequest(`container ${asked} is not valid for pod ${pod.metadata.name}`);
    return asked;
  }
  const containers = (pod.spec?.containers ?? []).map((c) => c.name);
  if (containers.length === 1) return containers[0]!;
  const initial = (pod.spec?.initContainers ?? []).map((c) => c.name);
  const choices = initial.length ? `[${containers.join(' ')}] or one of the init containers: [${initial.join(' ')}]` : `[${containers.join(' ')}]`;
  throw badRequest(`a container name must be specified for pod ${pod.metadata.name}, choose one of: ${choices}`);
}

const logOptions = ['follow', 'previous', 'sinceSeconds', 'sinceTime', 'timestamps', 'tailLines', 'limitBytes', 'stream'];

/** Undefined where the pod runs nowhere yet. */
export async function logDestination(api: Api, call: Call, query: URLSearchParams): Promise<Destination | undefined> {
  const pod = await podOf(api, call);
  const container = containerOf(pod, query.get('container') ?? '');
  for (const name of ['tailLines', 'limitBytes', 'sinceSeconds']) {
    const value = query.get(name);
    if (value !== null && !/^\d+$/.test(value)) throw badRequest(`invalid value ${JSON.stringify(value)} for ${name}`);
  }
  if (query.has('sinceSeconds') && query.has('sinceTime')) throw badRequest('at most one of `sinceTime` or `sinceSeconds` may be specified');
  if (!pod.spec?.nodeName) return undefined;
  const passed = new URLSearchParams();
  for (const name of logOptions) if (query.has(name)) passed.set(name, query.get(name)!);
  const text = passed.toString();
  return kubeletOf(api, pod.spec.nodeName, `/containerLogs/${call.namespace}/${call.name}/${container}${text ? `?${text}` : ''}`);
}

const isTrue = (value: string | null) => value !== null && value !== 'false' && value !== '0';

/** exec, attach and portforward, under the kubelet's own parameter names. */
export async function streamDestination(api: Api, call: Call, query: URLSearchParams): Promise<Destination> {
  call.permit.demand('create');
  const pod = await podOf(api, call);
  const passed = new URLSearchParams();
  let path: string;
  if (call.subresource === 'portforward') {
    path = `/portForward/${call.namespace}/${call.name}`;
    const ports = query.getAll('ports').join(',');
    if (ports) passed.set('port', ports);
  } else {
    const container = containerOf(pod, query.get('container') ?? '');
    path = `/${call.subresource}/${call.namespace}/${call.name}/${container}`;
    if (isTrue(query.get('stdin'))) passed.set('input', '1');
    if (isTrue(query.get('stdout'))) passed.set('output', '1');
    if (isTrue(query.get('stderr'))) passed.set('error', '1');
    if (isTrue(query.get('tty'))) passed.set('tty', '1');
    for (const part of query.getAll('command')) passed.append('command', part);
    if (call.subresource === 'exec' && !query.has('command')) throw badRequest('you must specify at least one command for the container');
  }
  if (!pod.spec?.nodeName) throw badRequest(`pod ${call.name} does not have a host assigned`);
  const text = passed.toString();
  return kubeletOf(api, pod.spec.nodeName, text ? `${path}?${text}` : path);
}

/** `scheme:name:port` as the name in proxy paths: scheme and port may be left out. */
function splitName(name: string): { scheme: string; name: string; port: string } {
  const parts = name.split(':');
  if (parts.length === 3) return { scheme: parts[0]!, name: parts[1]!, port: parts[2]! };
  if (parts.length === 2) return { scheme: '', name: parts[0]!, port: parts[1]! };
  return { scheme: '', name, port: '' };
}

export async function proxyDestination(api: Api, call: Call, rest: string, search: string): Promise<Destination> {
  const path = `${rest || '/'}${search}`;
  const { scheme, name, port } = splitName(call.name);
  const tls = scheme === 'https' ? 'insecure' : undefined;
  if (call.target.served.resource === 'nodes') {
    const at = await kubeletOf(api, name, path, port ? Number(port) : undefined);
    return at;
  }
  if (call.target.served.resource === 'pods') {
    const pod = await podOf(api, call, name);
    const host = pod.status?.podIP;
    if (!host) throw badRequest('address not allowed');
    const first = pod.spec?.containers?.flatMap((c) => c.ports ?? [])[0]?.containerPort;
    return { host, port: port ? Number(port) : (first ?? 80), tls, path };
  }
  return { ...(await serviceEndpoint(api, call.namespace, name, port)), tls, path };
}

/** A ready endpoint of a service, by port name or number; this server needs no kube-proxy. */
export async function serviceEndpoint(api: Api, namespace: string, name: string, port: string): Promise<{ host: string; port: number }> {
  const entry = await api.registry.storage('', 'v1', 'services').read(keyFor(namespace, name));
  if (!entry) throw notFound({ group: '', resource: 'services' }, name);
  const service = entry.object as unknown as Service;
  const ports = service.spec?.ports ?? [];
  const wanted = port === '' ? ports[0] : ports.find((p) => p.name === port || String(p.port) === port);
  if (!wanted) throw serviceUnavailable(`no service port "${port}" found for service "${name}"`);
  const slices = api.registry.cache('discovery.k8s.io', 'v1', 'endpointslices').list(namespace);
  const choices: { host: string; port: number }[] = [];
  for (const { object } of slices) {
    const slice = object as unknown as EndpointSlice;
    if (slice.metadata.labels?.['kubernetes.io/service-name'] !== name) continue;
    const at = slice.ports?.find((p) => (p.name ?? '') === (wanted.name ?? ''))?.port;
    if (!at) continue;
    for (const endpoint of slice.endpoints ?? []) {
      if (endpoint.conditions?.ready !== false && endpoint.addresses[0]) choices.push({ host: endpoint.addresses[0], port: at });
    }
  }
  const chosen = choices[Math.floor(Math.random() * choices.length)];
  if (!chosen) throw serviceUnavailable(`no endpoints available for service "${name}"`);
  return chosen;
}
