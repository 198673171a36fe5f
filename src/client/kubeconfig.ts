import { existsSync, readFileSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { parse } from 'yaml';
import type { ClientConfig } from './config.ts';
import { type ExecSpec, execCredentials } from './exec-credentials.ts';

export interface KubeconfigOptions {
  /** This file alone; else those of $KUBECONFIG, else ~/.kube/config. */
  path?: string;
  /** The files' current context where left out. */
  context?: string;
  env?: NodeJS.ProcessEnv;
}

export interface LoadedKubeconfig {
  config: ClientConfig;
  /** The context's; `default` where it has none. */
  namespace: string;
  context: string;
}

interface Cluster {
  server?: string;
  'certificate-authority'?: string;
  'certificate-authority-data'?: string;
  'insecure-skip-tls-verify'?: boolean;
  'tls-server-name'?: string;
  'proxy-url'?: string;
  extensions?: { name: string; extension: unknown }[];
}
interface User {
  'client-certificate'?: string;
  'client-certificate-data'?: string;
  'client-key'?: string;
  'client-key-data'?: string;
  token?: string;
  tokenFile?: string;
  username?: string;
  as?: string;
  'as-uid'?: string;
  'as-groups'?: string[];
  'as-user-extra'?: Record<string, string[]>;
  'auth-provider'?: { name?: string };
  exec?: ExecSpec & { provideClusterInfo?: boolean };
}
interface Context {
  cluster?: string;
  user?: string;
  namespace?: string;
}
interface Merged {
  clusters: Map<string, Cluster>;
  users: Map<string, User>;
  contexts: Map<string, Context>;
  currentContext: string;
}

/** Certificates in files are looked at again after this: they rotate. */
const certificateAgeMs = 60_000;
/** As in client-go: the extension of a cluster that is told to an exec plugin. */
const execExtension = 'client.authentication.k8s.io/exec';

/**
 * How to reach the cluster of a kubeconfig, as kubectl reads it: several files merge, the first that names something wins; paths are
 * relative to their file; data wins over files. Throws an Error that says what is missing or wrong, and in which file.
 */
export function loadKubeconfig(options: KubeconfigOptions = {}): LoadedKubeconfig {
  const env = options.env ?? process.env;
  const listed = (env['KUBECONFIG'] ?? '').split(delimiter).filter(Boolean);
  const paths = options.path ? [options.path] : listed.length ? listed : [join(env['HOME'] || homedir(), '.kube/config')];
  const found = paths.filter((path) => existsSync(path));
  if (!found.length) throw new Error(`there is no kubeconfig: ${paths.join(', ')} ${paths.length > 1 ? 'do' : 'does'} not exist`);
  const where = found.join(', ');
  const merged = merge(found);
  const name = options.context ?? merged.currentContext;
  if (!name) throw new Error(`no context is chosen in ${where}`);
  const context = merged.contexts.get(name);
  if (!context) throw new Error(`context ${JSON.stringify(name)} does not exist in ${where}`);
  const cluster = merged.clusters.get(context.cluster ?? '');
  if (!cluster) throw new Error(`cluster ${JSON.stringify(context.cluster ?? '')} of context ${JSON.stringify(name)} does not exist in ${where}`);
  const user = context.user ? merged.users.get(context.user) : {};
  if (!user) throw new Error(`user ${JSON.stringify(context.user)} of context ${JSON.stringify(name)} does not exist in ${where}`);
  return {
    config: { ...clusterConfig(cluster, context.cluster ?? ''), ...userConfig(user, cluster) },
    namespace: context.namespace || 'default',
    context: name,
  };
}

/** How a pod reaches its own cluster, by its service account; undefined outside of pods. */
export function inClusterConfig(
  env: NodeJS.ProcessEnv = process.env,
  directory = '/var/run/secrets/kubernetes.io/serviceaccount',
): LoadedKubeconfig | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'];
  const port = env['KUBERNETES_SERVICE_PORT'];
  const tokenFile = join(directory, 'token');
  if (!host || !port || !existsSync(tokenFile)) return undefined;
  const read = (name: string) => (existsSync(join(directory, name)) ? readFileSync(join(directory, name), 'utf8') : undefined);
  const ca = read('ca.crt');
  const server = `https://${host.includes(':') ? `[${host}]` : host}:${port}`;
  return { config: { server, tokenFile, ...(ca ? { ca } : {}) }, namespace: read('namespace')?.trim() || 'default', context: '' };
}

function merge(paths: string[]): Merged {
  const merged: Merged = { clusters: new Map(), users: new Map(), contexts: new Map(), currentContext: '' };
  for (const path of paths) {
    const file = read(path);
    const directory = dirname(path);
    const absolute = <T extends object>(entry: T, ...fields: (keyof T)[]): T => {
      const copy = { ...entry };
      for (const field of fields) {
        const value = copy[field];
        if (typeof value === 'string' && value && !isAbsolute(value)) copy[field] = join(directory, value) as T[keyof T];
      }
      return copy;
    };
    const add = <T extends object>(into: Map<string, T>, list: unknown, key: string, complete: (entry: T) => T) => {
      if (list === undefined || list === null) return;
      if (!Array.isArray(list)) throw new Error(`${path}: ${key}s is not a list`);
      for (const item of list as ({ name?: string } & Record<string, unknown>)[]) {
        if (!item?.name) throw new Error(`${path}: one of the ${key}s has no name`);
        if (!into.has(item.name)) into.set(item.name, complete((item[key] ?? {}) as T));
      }
    };
    add(merged.clusters, file['clusters'], 'cluster', (c) => absolute(c, 'certificate-authority'));
    add(merged.contexts, file['contexts'], 'context', (c) => c);
    add(merged.users, file['users'], 'user', (u) => {
      const user = absolute(u, 'client-certificate', 'client-key', 'tokenFile');
      // A bare name is looked for in $PATH.
      return user.exec?.command?.includes('/') ? { ...user, exec: absolute(user.exec, 'command') } : user;
    });
    merged.currentContext ||= typeof file['current-context'] === 'string' ? file['current-context'] : '';
  }
  return merged;
}

function read(path: string): Record<string, unknown> {
  let content: unknown;
  try {
    content = parse(readFileSync(path, 'utf8'));
  } catch (error) {
    throw new Error(`cannot read the kubeconfig ${path}: ${(error as Error).message.split('\n')[0]}`, { cause: error });
  }
  if (content === null || content === undefined) return {};
  if (typeof content !== 'object' || Array.isArray(content)) throw new Error(`${path} is not a kubeconfig`);
  const { kind } = content as { kind?: unknown };
  if (kind !== undefined && kind !== 'Config') throw new Error(`${path} is not a kubeconfig, but a ${String(kind)}`);
  return content as Record<string, unknown>;
}

const decode = (data: string): string => Buffer.from(data, 'base64').toString('utf8');

function contents(what: string, path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw new Error(`cannot read the ${what}: ${(error as Error).message}`, { cause: error });
  }
}

function clusterConfig(cluster: Cluster, name: string): ClientConfig {
  if (!cluster.server) throw new Error(`cluster ${JSON.stringify(name)} has no server`);
  if (cluster['proxy-url']) throw new Error(`cluster ${JSON.stringify(name)} is behind a proxy (proxy-url), which is not supported`);
  const server = /^https?:\/\//.test(cluster.server) ? cluster.server : `https://${cluster.server}`;
  if (!URL.canParse(server)) throw new Error(`cluster ${JSON.stringify(name)} has the server ${JSON.stringify(cluster.server)}, which is not a URL`);
  const insecure = cluster['insecure-skip-tls-verify'] === true;
  const data = cluster['certificate-authority-data'];
  const file = cluster['certificate-authority'];
  if (insecure && (data || file))
    throw new Error(`cluster ${JSON.stringify(name)}: a certificate authority is not allowed together with insecure-skip-tls-verify`);
  const ca = data ? decode(data) : file ? contents(`certificate authority of cluster ${JSON.stringify(name)}`, file) : undefined;
  return {
    server,
    ...(ca ? { ca } : {}),
    ...(insecure ? { insecureSkipTlsVerify: true } : {}),
    ...(cluster['tls-server-name'] ? { serverName: cluster['tls-server-name'] } : {}),
  };
}

function userConfig(user: User, cluster: Cluster): Partial<ClientConfig> {
  if (user.username) throw new Error('the user has a name and a password, which API servers no longer take');
  if (user['auth-provider'])
    throw new Error(`no Auth Provider found for name ${JSON.stringify(user['auth-provider'].name ?? '')}: use an exec plugin`);
  const headers = impersonation(user);
  return {
    ...certificates(user),
    // What is in the file wins: it is renewed.
    ...(user.tokenFile ? { tokenFile: user.tokenFile } : user.token ? { token: user.token } : {}),
    ...(user.exec ? { authenticate: execCredentials({ ...user.exec, ...(user.exec.provideClusterInfo ? { cluster: told(cluster) } : {}) }) } : {}),
    ...(Object.keys(headers).length ? { headers } : {}),
  };
}

function certificates(user: User): Partial<ClientConfig> {
  const { 'client-certificate': certFile, 'client-key': keyFile, 'client-certificate-data': certData, 'client-key-data': keyData } = user;
  if (!certFile && !certData && !keyFile && !keyData) return {};
  if (!certFile && !certData) throw new Error('the user has a client key, but no certificate');
  if (!keyFile && !keyData) throw new Error('the user has a client certificate, but no key');
  const load = () => ({
    cert: certData ? decode(certData) : contents('client certificate', certFile as string),
    key: keyData ? decode(keyData) : contents('client key', keyFile as string),
  });
  if (certData && keyData) return load();
  const written = () => [certData ? undefined : certFile, keyData ? undefined : keyFile].map((f) => (f ? statSync(f).mtimeMs : 0)).join();
  let [loaded, version, readAt] = [load(), written(), Date.now()];
  const credentials = () => {
    if (Date.now() - readAt < certificateAgeMs) return loaded;
    readAt = Date.now();
    try {
      // One may be written a moment before the other; then both are read again the next time.
      const current = written();
      if (current !== version) [loaded, version] = [load(), current];
    } catch {
      // What was read before may serve until the file is back.
    }
    return loaded;
  };
  return { credentials };
}

function impersonation(user: User): Record<string, string | string[]> {
  if (!user.as) {
    if (user['as-uid'] || user['as-groups']?.length) throw new Error('the user acts for groups or a uid (as-groups, as-uid), but for no user (as)');
    return {};
  }
  const extra = Object.entries(user['as-user-extra'] ?? {}).map(([key, values]) => [
    `impersonate-extra-${encodeURIComponent(key).toLowerCase()}`,
    values,
  ]);
  return {
    'impersonate-user': user.as,
    ...(user['as-uid'] ? { 'impersonate-uid': user['as-uid'] } : {}),
    ...(user['as-groups']?.length ? { 'impersonate-group': user['as-groups'] } : {}),
    ...Object.fromEntries(extra),
  };
}

/** The cluster as an exec plugin sees it. */
function told(cluster: Cluster): Record<string, unknown> {
  const file = cluster['certificate-authority'];
  const ca = cluster['certificate-authority-data'] ?? (file ? Buffer.from(contents('certificate authority', file)).toString('base64') : undefined);
  return {
    server: cluster.server,
    ...(cluster['tls-server-name'] ? { 'tls-server-name': cluster['tls-server-name'] } : {}),
    ...(cluster['insecure-skip-tls-verify'] ? { 'insecure-skip-tls-verify': true } : {}),
    ...(ca ? { 'certificate-authority-data': ca } : {}),
    config: cluster.extensions?.find((e) => e.name === execExtension)?.extension ?? null,
  };
}
