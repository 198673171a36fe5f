import { existsSync, readFileSync, rmSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { parse, stringify } from 'yaml';
import { callersHome, writeForCaller } from './calling-user.ts';
import { UserError } from './state.ts';

interface Named {
  name: string;
  [key: string]: unknown;
}
interface Kubeconfig {
  apiVersion?: string;
  kind?: string;
  clusters?: Named[];
  contexts?: Named[];
  users?: Named[];
  'current-context'?: string;
  [key: string]: unknown;
}

/**
 * The file that kubectl would write to: --kubeconfig, the first file of $KUBECONFIG that exists (else its last), else
 * ~/.kube/config; under sudo, of the user who called.
 */
export function kubeconfigPath(flag?: string): string {
  if (flag) return flag;
  const fromEnvironment = (process.env['KUBECONFIG'] ?? '').split(delimiter).filter(Boolean);
  if (fromEnvironment.length) return fromEnvironment.find((f) => existsSync(f)) ?? (fromEnvironment.at(-1) as string);
  return join(callersHome(), '.kube/config');
}

export const contextName = (cluster: string) => `kumulus-${cluster}`;

/** A kubeconfig with one context, as `get kubeconfig` prints it. */
export function clusterKubeconfig(
  cluster: string,
  server: string,
  ca: string,
  admin: { cert: string; key: string },
  /** Name in the server's certificate, where it is not the server's. */
  tlsServerName?: string,
): Kubeconfig {
  const name = contextName(cluster);
  const base64 = (text: string) => Buffer.from(text).toString('base64');
  return {
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [
      { name, cluster: { 'certificate-authority-data': base64(ca), server, ...(tlsServerName ? { 'tls-server-name': tlsServerName } : {}) } },
    ],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
    users: [{ name, user: { 'client-certificate-data': base64(admin.cert), 'client-key-data': base64(admin.key) } }],
  };
}

export const kubeconfigText = (config: Kubeconfig): string => stringify(config);

function read(path: string): Kubeconfig {
  if (!existsSync(path)) return {};
  const text = readFileSync(path, 'utf8');
  try {
    return (parse(text) as Kubeconfig | null) ?? {};
  } catch (error) {
    throw new UserError(`${path} is not a kubeconfig (${(error as Error).message.split('\n')[0]}); mend it, or name another with --kubeconfig`);
  }
}

function write(path: string, config: Kubeconfig): void {
  try {
    writeForCaller(path, stringify(config));
  } catch (error) {
    throw new UserError(`cannot write the kubeconfig ${path}: ${(error as Error).message}; name another with --kubeconfig or KUBECONFIG`);
  }
}

/** Throws where mergeKubeconfig would fail, before anything is built. */
export function checkKubeconfigWritable(path: string): void {
  const config = read(path);
  const isNew = !existsSync(path);
  write(path, config);
  if (isNew) rmSync(path, { force: true });
}

const without = (list: Named[] | undefined, name: string) => (list ?? []).filter((n) => n.name !== name);

/** Adds the cluster's context and switches to it; everything else in the file stays. */
export function mergeKubeconfig(path: string, added: Kubeconfig): void {
  const config = read(path);
  const name = added['current-context'] as string;
  write(path, {
    ...config,
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [...without(config.clusters, name), ...(added.clusters ?? [])],
    contexts: [...without(config.contexts, name), ...(added.contexts ?? [])],
    users: [...without(config.users, name), ...(added.users ?? [])],
    'current-context': name,
  });
}

/** Takes the cluster's context out of the file, and the current context where it was that. */
export function removeFromKubeconfig(path: string, cluster: string): void {
  if (!existsSync(path)) return;
  const config = read(path);
  const name = contextName(cluster);
  if (![config.clusters, config.contexts, config.users].some((l) => l?.some((n) => n.name === name))) return;
  const { 'current-context': current, ...rest } = config;
  write(path, {
    ...rest,
    clusters: without(config.clusters, name),
    contexts: without(config.contexts, name),
    users: without(config.users, name),
    ...(current && current !== name ? { 'current-context': current } : {}),
  });
}
