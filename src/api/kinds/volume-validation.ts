import { parseQuantity } from '../quantity.ts';
import { labelProblems, subdomainProblems } from '../validation.ts';
import { podCertificatePaths, validatePodCertificateProjection, validateTrustBundleProjection } from './certificate-projections.ts';
import { validateContainerResourceReference, validateFieldReference } from './container-validation.ts';
import type { Findings } from './findings.ts';
import { validateClaimSpec } from './storage-validation.ts';
import { sourceChecks, validateNoBacksteps, validateSources } from './volume-sources.ts';

const downwardFields = ['metadata.annotations', 'metadata.labels', 'metadata.name', 'metadata.namespace', 'metadata.uid'];
const shortestTokenSeconds = 600;
const longestTokenSeconds = 2 ** 32;
const modeProblem = 'must be a number between 0 and 0777 (octal), both inclusive';

/** In the order in which upstream looks at them. */
const sources = [
  ...['emptyDir', 'hostPath', 'gitRepo', 'gcePersistentDisk', 'awsElasticBlockStore', 'secret', 'nfs', 'iscsi', 'glusterfs', 'flocker'],
  ...['persistentVolumeClaim', 'rbd', 'cinder', 'cephfs', 'quobyte', 'downwardAPI', 'fc', 'flexVolume', 'configMap', 'azureFile', 'vsphereVolume'],
  ...['photonPersistentDisk', 'portworxVolume', 'azureDisk', 'storageos', 'projected', 'scaleIO', 'csi', 'ephemeral', 'image'],
];

/** Finds what is wrong with the volumes of a pod, with whose name the claims of ephemeral ones begin. Returns the good ones: only those can be mounted. */
export function validateVolumes(found: Findings, volumes: any[], path: string, podName?: string): Map<string, any> {
  const good = new Map<string, any>();
  const names = new Set<string>();
  volumes.forEach((v, i) => {
    const at = `${path}[${i}]`;
    const before = found.errors.length;
    const count = validateSources(found, v, sources, at, (kind) => validateSource(found, kind, v, at, podName));
    if (!count) found.required(at, 'must specify a volume type');
    if (!v.name) found.required(`${at}.name`);
    else {
      found.problems(`${at}.name`, v.name, labelProblems);
      if (names.has(v.name)) found.duplicate(`${at}.name`, v.name);
    }
    if (found.errors.length > before) return;
    names.add(v.name);
    good.set(v.name, v);
  });
  return good;
}

function validateSource(found: Findings, kind: string, volume: any, path: string, podName: string | undefined): void {
  const source = volume[kind];
  const at = `${path}.${kind === 'gcePersistentDisk' ? 'persistentDisk' : kind}`;
  switch (kind) {
    case 'emptyDir':
      if (source.sizeLimit !== undefined && parseQuantity(source.sizeLimit).nano < 0n)
        found.forbidden(`${at}.sizeLimit`, 'SizeLimit field must be a valid resource quantity');
      if (source.mode !== undefined && (source.mode < 0 || source.mode > 0o1777))
        found.invalid(`${at}.mode`, source.mode, 'must be a number between 0 and 01777 (octal), both inclusive');
      return;
    case 'gitRepo':
      if (!source.repository) found.required(`${at}.repository`);
      if (source.directory?.startsWith('/')) found.invalid(`${at}.directory`, source.directory, 'must be a relative path');
      return validateNoBacksteps(found, source.directory ?? '', `${at}.directory`);
    case 'persistentVolumeClaim':
      if (!source.claimName) found.required(`${at}.claimName`);
      return;
    case 'configMap':
    case 'secret': {
      const name = kind === 'secret' ? 'secretName' : 'name';
      if (!source[name]) found.required(`${at}.${name}`);
      validateMode(found, source.defaultMode, `${at}.defaultMode`);
      return validateItems(found, source.items, `${at}.items`, at, new Set());
    }
    case 'downwardAPI':
      validateMode(found, source.defaultMode, `${at}.defaultMode`);
      for (const item of source.items ?? []) validateDownward(found, item, at);
      return;
    case 'projected': {
      validateMode(found, source.defaultMode, `${at}.defaultMode`);
      const paths = new Set<string>();
      (source.sources ?? []).forEach((s: any, i: number) => {
        validateProjection(found, s, at, `${at}.sources[${i}]`, paths);
      });
      return;
    }
    case 'ephemeral': {
      const template = source.volumeClaimTemplate;
      if (!template) found.required(`${at}.volumeClaimTemplate`);
      else {
        validateClaimSpec(found, template.spec ?? {}, `${at}.volumeClaimTemplate.spec`);
        if (podName && volume.name) {
          const claim = `${podName}-${volume.name}`;
          for (const detail of subdomainProblems(claim)) found.invalid(`${path}.name`, volume.name, `PVC name ${JSON.stringify(claim)}: ${detail}`);
        }
      }
      return;
    }
    case 'image':
      if (!source.reference) found.required(`${at}.reference`);
      if (source.pullPolicy) found.oneOf(`${at}.pullPolicy`, source.pullPolicy, ['Always', 'IfNotPresent', 'Never']);
      return;
    default:
      sourceChecks[kind]?.(found, source, at, false);
      if (kind === 'iscsi' && source.initiatorName !== undefined && `${volume.name}:${source.targetPortal}`.length > 64) {
        const detail = 'Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if iscsi.initiatorName is specified.';
        found.invalid(`${path}.name`, volume.name, detail);
      }
  }
}

function validateProjection(found: Findings, source: any, volume: string, at: string, paths: Set<string>): void {
  const { configMap, secret, downwardAPI, serviceAccountToken: token } = source;
  for (const [kind, one] of [
    ['secret', secret],
    ['configMap', configMap],
  ] as const) {
    if (!one) continue;
    if (!one.name) found.required(`${at}.${kind}.name`);
    validateItems(found, one.items, `${at}.${kind}.items`, volume, paths, one.name);
  }
  for (const item of downwardAPI?.items ?? []) {
    validateDownward(found, item, `${at}.downwardAPI`);
    if (item.path && paths.has(item.path)) found.invalid(volume, item.path, 'conflicting duplicate paths');
    paths.add(item.path);
  }
  if (token) {
    const seconds = token.expirationSeconds;
    const field = `${at}.serviceAccountToken.expirationSeconds`;
    if (seconds < shortestTokenSeconds) found.invalid(field, seconds, 'may not specify a duration less than 10 minutes');
    if (seconds > longestTokenSeconds) found.invalid(field, seconds, 'may not specify a duration larger than 2^32 seconds');
    if (!token.path) found.required(`${volume}.path`);
    else validateLocalPath(found, token.path, `${volume}.path`);
  }
  const claim = (path: string, field: string) => {
    validateLocalPath(found, path, field);
    if (paths.has(path)) found.invalid(volume, path, 'conflicting duplicate paths');
    paths.add(path);
  };
  const { clusterTrustBundle: bundle, podCertificate: certificate } = source;
  if (bundle) {
    validateTrustBundleProjection(found, bundle, `${at}.clusterTrustBundle`);
    claim(bundle.path ?? '', `${at}.clusterTrustBundle.path`);
  }
  if (certificate) {
    validatePodCertificateProjection(found, certificate, `${at}.podCertificate`);
    const named = podCertificatePaths.filter((name) => certificate[name]);
    for (const name of named) claim(certificate[name], `${at}.podCertificate.${name}`);
    if (named.length === 0) found.required(`${at}.podCertificate`, 'specify at least one of credentialBundlePath, keyPath, and certificateChainPath');
  }
  const kinds = ['secret', 'configMap', 'downwardAPI', 'serviceAccountToken', 'clusterTrustBundle', 'podCertificate'].filter((kind) => source[kind]);
  if (kinds.length > 1) found.forbidden(at, 'may not specify more than 1 volume type per source');
}

function validateItems(found: Findings, items: any[] | undefined, path: string, volume: string, paths: Set<string>, name?: string): void {
  (items ?? []).forEach((item, i) => {
    if (!item.key) found.required(`${path}[${i}].key`);
    if (!item.path) found.required(`${path}[${i}].path`);
    validateLocalPath(found, item.path ?? '', `${path}[${i}].path`);
    validateMode(found, item.mode, `${path}[${i}].mode`);
    if (name === undefined || !item.path) return;
    if (paths.has(item.path)) found.invalid(volume, name, 'conflicting duplicate paths');
    paths.add(item.path);
  });
}

function validateDownward(found: Findings, item: any, at: string): void {
  if (!item.path) found.required(`${at}.path`);
  validateLocalPath(found, item.path ?? '', `${at}.path`);
  if (item.fieldRef) {
    validateFieldReference(found, item.fieldRef, `${at}.fieldRef`, downwardFields);
    if (item.resourceFieldRef) found.invalid(at, 'resource', 'fieldRef and resourceFieldRef can not be specified simultaneously');
  } else if (item.resourceFieldRef) validateContainerResourceReference(found, item.resourceFieldRef, `${at}.resourceFieldRef`, true);
  else found.required(at, 'one of fieldRef and resourceFieldRef is required');
  validateMode(found, item.mode, `${at}.mode`);
}

/** A path below the volume's root, no part of which could lead out of it or hide among our own. */
function validateLocalPath(found: Findings, path: string, field: string): void {
  if (path.startsWith('/')) found.invalid(field, path, 'must be a relative path');
  validateNoBacksteps(found, path, field);
  // Reported once where the first part is "..", as above.
  if (path.startsWith('..') && !path.startsWith('../') && path !== '..') found.invalid(field, path, "must not start with '..'");
}

function validateMode(found: Findings, mode: number | undefined, field: string): void {
  if (mode !== undefined && (mode < 0 || mode > 0o777)) found.invalid(field, mode, modeProblem);
}
