import { parseQuantity } from '../quantity.ts';
import { labelProblems, subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';

const hostPathTypes = ['', 'BlockDevice', 'CharDevice', 'Directory', 'DirectoryOrCreate', 'File', 'FileOrCreate', 'Socket'];
const downwardFields = ['metadata.annotations', 'metadata.labels', 'metadata.name', 'metadata.namespace', 'metadata.uid'];
const shortestTokenSeconds = 600;

/** Findings about the volumes of a pod. */
export function validateVolumes(found: Findings, volumes: any[], path: string): void {
  const names = new Set<string>();
  volumes.forEach((v, i) => {
    const at = `${path}[${i}]`;
    const sources = Object.keys(v).filter((k) => k !== 'name' && v[k] !== undefined && v[k] !== null);
    for (const extra of sources.slice(1)) found.forbidden(`${at}.${extra}`, 'may not specify more than 1 volume type');
    if (sources[0]) validateSource(found, sources[0], v[sources[0]], `${at}.${sources[0]}`);
    if (!v.name) found.required(`${at}.name`);
    else {
      found.problems(`${at}.name`, v.name, labelProblems);
      if (names.has(v.name)) found.duplicate(`${at}.name`, v.name);
      names.add(v.name);
    }
  });
}

function validateSource(found: Findings, kind: string, source: any, at: string): void {
  switch (kind) {
    case 'emptyDir':
      if (source.sizeLimit !== undefined && parseQuantity(source.sizeLimit).nano < 0n)
        found.forbidden(`${at}.sizeLimit`, 'SizeLimit field must be a valid resource quantity');
      return;
    case 'hostPath':
      if (!source.path) found.required(`${at}.path`);
      else if (source.path.split('/').includes('..')) found.invalid(`${at}.path`, source.path, "must not contain '..'");
      if (source.type) found.oneOf(`${at}.type`, source.type, hostPathTypes);
      return;
    case 'persistentVolumeClaim':
      if (!source.claimName) found.required(`${at}.claimName`);
      return;
    case 'configMap':
    case 'secret': {
      const name = kind === 'secret' ? 'secretName' : 'name';
      if (!source[name]) found.required(`${at}.${name}`);
      validateMode(found, source.defaultMode, `${at}.defaultMode`);
      validateItems(found, source.items, `${at}.items`);
      return;
    }
    case 'downwardAPI':
      validateMode(found, source.defaultMode, `${at}.defaultMode`);
      for (const item of source.items ?? []) validateDownward(found, item, at);
      return;
    case 'projected':
      validateMode(found, source.defaultMode, `${at}.defaultMode`);
      (source.sources ?? []).forEach((s: any, i: number) => {
        validateProjection(found, s, at, `${at}.sources[${i}]`);
      });
      return;
    case 'csi':
      if (!source.driver) found.required(`${at}.driver`);
      return;
    case 'nfs':
      if (!source.server) found.required(`${at}.server`);
      if (!source.path) found.required(`${at}.path`);
      if (!source.path?.startsWith('/')) found.invalid(`${at}.path`, source.path ?? '', 'must be an absolute path');
  }
}

function validateProjection(found: Findings, source: any, volume: string, at: string): void {
  const { configMap, secret, downwardAPI, serviceAccountToken: token } = source;
  for (const [kind, one] of [
    ['configMap', configMap],
    ['secret', secret],
  ] as const) {
    if (!one) continue;
    if (!one.name) found.required(`${at}.${kind}.name`);
    else found.problems(`${at}.${kind}.name`, one.name, subdomainProblems);
    validateItems(found, one.items, `${at}.${kind}.items`);
  }
  for (const item of downwardAPI?.items ?? []) validateDownward(found, item, `${at}.downwardAPI`);
  if (!token) return;
  const seconds = token.expirationSeconds;
  if (seconds < shortestTokenSeconds)
    found.invalid(`${at}.serviceAccountToken.expirationSeconds`, seconds, 'may not specify a duration less than 10 minutes');
  if (!token.path) found.required(`${volume}.path`);
  else validateLocalPath(found, token.path, `${volume}.path`);
}

function validateItems(found: Findings, items: any[] | undefined, path: string): void {
  (items ?? []).forEach((item, i) => {
    if (!item.key) found.required(`${path}[${i}].key`);
    if (!item.path) found.required(`${path}[${i}].path`);
    else validateLocalPath(found, item.path, `${path}[${i}].path`);
    validateMode(found, item.mode, `${path}[${i}].mode`);
  });
}

function validateDownward(found: Findings, item: any, at: string): void {
  if (!item.path) found.required(`${at}.path`);
  else validateLocalPath(found, item.path, `${at}.path`);
  const field = item.fieldRef?.fieldPath;
  if (item.fieldRef && item.resourceFieldRef) found.invalid(at, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously');
  else if (!item.fieldRef && !item.resourceFieldRef) found.required(at, 'one of fieldRef and resourceFieldRef is required');
  else if (item.fieldRef && !/^metadata\.(labels|annotations)\['.*'\]$/.test(field ?? '')) {
    if (!field) found.required(`${at}.fieldRef.fieldPath`);
    else found.oneOf(`${at}.fieldRef.fieldPath`, field, downwardFields);
  }
  validateMode(found, item.mode, `${at}.mode`);
}

/** A path below the volume's root, no part of which could lead out of it or hide among our own. */
function validateLocalPath(found: Findings, path: string, field: string): void {
  if (path.startsWith('/')) found.invalid(field, path, 'must be a relative path');
  if (path.split('/').includes('..')) found.invalid(field, path, "must not contain '..'");
  if (path.startsWith('..')) found.invalid(field, path, "must not start with '..'");
}

function validateMode(found: Findings, mode: number | undefined, field: string): void {
  if (mode !== undefined && (mode < 0 || mode > 0o777)) found.invalid(field, mode, 'must be a number between 0 and 0777 (octal), both inclusive');
}
