import { parse } from 'yaml';
import { scheme } from '../../api/scheme.ts';
import { KmsProvider } from './kms.ts';
import { aesCbc, aesGcm, identity, type Key, type Provider, secretbox } from './providers.ts';

/** How the values of some resources are written (by the first provider) and read (by whichever wrote them). */
export interface EncryptionRule {
  /** The part of a store's key behind /registry/, as `secrets`; undefined for every resource. */
  matches(registryPath: string): boolean;
  providers: Provider[];
}

const secretSizes: Record<string, number[]> = { aescbc: [16, 24, 32], aesgcm: [16, 24, 32], secretbox: [32] };

/**
 * Reads an EncryptionConfiguration (apiserver.config.k8s.io/v1), YAML or JSON. Throws with the field's path where it is wrong, as
 * kube-apiserver does at its start.
 */
export function parseEncryptionConfiguration(text: string): EncryptionRule[] {
  const config = parse(text);
  if (config?.kind !== 'EncryptionConfiguration' || config.apiVersion !== 'apiserver.config.k8s.io/v1')
    throw new Error('not an EncryptionConfiguration of apiserver.config.k8s.io/v1');
  if (!Array.isArray(config.resources) || config.resources.length === 0) throw new Error('resources: Required value: at least one is needed');
  return config.resources.map((rule: any, i: number) => {
    const path = `resources[${i}]`;
    if (!Array.isArray(rule?.resources) || rule.resources.length === 0) throw new Error(`${path}.resources: Required value`);
    if (!Array.isArray(rule.providers) || rule.providers.length === 0) throw new Error(`${path}.providers: Required value`);
    const matchers = rule.resources.map((name: unknown, j: number) => matcherOf(String(name), `${path}.resources[${j}]`));
    return {
      matches: (registryPath: string) => matchers.some((matches: (p: string) => boolean) => matches(registryPath)),
      providers: rule.providers.flatMap((p: unknown, j: number) => providersOf(p, `${path}.providers[${j}]`)),
    };
  });
}

/** `secrets`, `deployments.apps`, `*.apps`, `*.` (the core group) or `*.*`. */
function matcherOf(name: string, path: string): (registryPath: string) => boolean {
  if (name === '*.*') return () => true;
  const dot = name.indexOf('.');
  const [resource, group] = dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot + 1)];
  if (resource !== name && resource === '*') {
    const paths = new Set(scheme.resources.filter((r) => r.group === group).map((r) => r.registryPath));
    return (registryPath) => paths.has(registryPath) || (group !== '' && registryPath.startsWith(`${group}/`));
  }
  if (resource === '*' || resource === '') throw new Error(`${path}: Invalid value: "${name}": use '*.*' to cover all resources`);
  const served = scheme.resources.find((r) => r.group === group && r.resource === resource);
  const wanted = served?.registryPath ?? `${group}/${resource}`;
  if (!served && !group) throw new Error(`${path}: Invalid value: "${name}": no such resource`);
  return (registryPath) => registryPath === wanted;
}

function providersOf(provider: any, path: string): Provider[] {
  const kinds = Object.keys(provider ?? {}).filter((k) => provider[k] !== undefined);
  if (kinds.length !== 1) throw new Error(`${path}: Invalid value: provider must contain one of aesgcm, aescbc, secretbox, kms, identity`);
  const [kind] = kinds as [string];
  const config = provider[kind];
  switch (kind) {
    case 'identity':
      return [identity];
    case 'aescbc':
      return keysOf(config, kind, `${path}.${kind}`).map(aesCbc);
    case 'aesgcm':
      return keysOf(config, kind, `${path}.${kind}`).map(aesGcm);
    case 'secretbox':
      return keysOf(config, kind, `${path}.${kind}`).map(secretbox);
    case 'kms': {
      if (config?.apiVersion !== 'v2') throw new Error(`${path}.kms.apiVersion: Unsupported value: "${config?.apiVersion ?? 'v1'}": supported values: "v2"`);
      if (!config.name) throw new Error(`${path}.kms.name: Required value`);
      if (!/^unix:\/\//.test(config.endpoint ?? '')) throw new Error(`${path}.kms.endpoint: Invalid value: unix:///path/to/socket is needed`);
      const seconds = /^(\d+(?:\.\d+)?)s$/.exec(config.timeout ?? '3s')?.[1];
      if (!seconds) throw new Error(`${path}.kms.timeout: Invalid value: "${config.timeout}": write it as 3s`);
      return [new KmsProvider({ name: config.name, endpoint: config.endpoint, timeoutMs: Number(seconds) * 1000 })];
    }
    default:
      throw new Error(`${path}: Invalid value: provider must contain one of aesgcm, aescbc, secretbox, kms, identity`);
  }
}

function keysOf(config: any, kind: string, path: string): Key[] {
  if (!Array.isArray(config?.keys) || config.keys.length === 0) throw new Error(`${path}.keys: Required value: at least one key is needed`);
  const names = new Set<string>();
  return config.keys.map((key: any, i: number) => {
    const at = `${path}.keys[${i}]`;
    if (!key?.name) throw new Error(`${at}.name: Required value`);
    if (/:/.test(key.name) || names.has(key.name)) throw new Error(`${at}.name: Invalid value: "${key.name}": must be unique and without ':'`);
    names.add(key.name);
    const secret = Buffer.from(String(key.secret ?? ''), 'base64');
    const sizes = secretSizes[kind] as number[];
    // The secret itself is in no message.
    if (!sizes.includes(secret.length))
      throw new Error(`${at}.secret: Invalid value: must be base64 of ${sizes.join(', ')} bytes, and is of ${secret.length}`);
    return { name: key.name, secret };
  });
}
