import { labelProblems, subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';
import { validateDriverName } from './storage.ts';

/** Findings about a volume's source at a path; `persistent` where it is a PersistentVolume's, whose secrets have namespaces. */
type Check = (found: Findings, source: any, at: string, persistent: boolean) => void;

const needs =
  (...fields: string[]): Check =>
  (found, source, at) => {
    for (const field of fields) if (!source[field]?.length) found.required(`${at}.${field}`);
  };

const disk =
  (id: string): Check =>
  (found, source, at) => {
    if (!source[id]) found.required(`${at}.${id}`);
    if (source.partition < 0 || source.partition > 255)
      found.invalid(`${at}.partition`, source.partition, 'must be between 1 and 255, inclusive');
  };

function validateSecretReference(found: Findings, ref: any, at: string, persistent: boolean): void {
  if (!ref) return;
  if (!ref.name) found.required(`${at}.name`);
  if (persistent && !ref.namespace) found.required(`${at}.namespace`);
}

/** A path no part of which leads upwards. */
export function validateNoBacksteps(found: Findings, path: string, field: string): void {
  if (path.split('/').includes('..')) found.invalid(field, path, "must not contain '..'");
}

const hostPathTypes = ['', 'BlockDevice', 'CharDevice', 'Directory', 'DirectoryOrCreate', 'File', 'FileOrCreate', 'Socket'];
const managedUri = '/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}';
const blobUri = 'https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd';

const azureDisk: Check = (found, source, at) => {
  const uri: string = source.diskURI ?? '';
  if (!source.diskName) found.required(`${at}.diskName`);
  if (!uri) found.required(`${at}.diskURI`);
  if (source.cachingMode !== undefined) found.oneOf(`${at}.cachingMode`, source.cachingMode, ['None', 'ReadOnly', 'ReadWrite']);
  if (source.kind === undefined) return;
  found.oneOf(`${at}.kind`, source.kind, ['Dedicated', 'Managed', 'Shared']);
  if (source.kind === 'Managed' && !uri.startsWith('/subscriptions/')) found.oneOf(`${at}.diskURI`, uri, [managedUri]);
  if (source.kind !== 'Managed' && !uri.startsWith('https://')) found.oneOf(`${at}.diskURI`, uri, [blobUri]);
};

const initiatorForms: Record<string, RegExp> = {
  iqn: /iqn\.\d{4}-\d{2}\.([A-Za-z0-9\-.]+)(:[^,;*&$|\s]+)$/,
  eui: /^eui.[0-9a-fA-F]{16}$/,
  naa: /^naa.[0-9a-fA-F]{32}$/,
};

function validateInitiator(found: Findings, name: string, field: string, persistent: boolean): void {
  const form = Object.keys(initiatorForms).find((prefix) => name.startsWith(prefix));
  if (!form) found.invalid(field, name, persistent ? 'must be valid format' : 'must be valid format starting with iqn, eui, or naa');
  else if (!initiatorForms[form]!.test(name)) found.invalid(field, name, 'must be valid format');
}

const iscsi: Check = (found, source, at, persistent) => {
  if (!source.targetPortal) found.required(`${at}.targetPortal`);
  if (!source.iqn) found.required(`${at}.iqn`);
  else validateInitiator(found, source.iqn, `${at}.iqn`, persistent);
  found.between(`${at}.lun`, source.lun ?? 0, 0, 255);
  if ((source.chapAuthDiscovery || source.chapAuthSession) && !source.secretRef) found.required(`${at}.secretRef`);
  if (persistent && source.secretRef && !source.secretRef.name) found.required(`${at}.secretRef.name`);
  if (source.initiatorName !== undefined) validateInitiator(found, source.initiatorName, `${at}.initiatorname`, persistent);
};

const fc: Check = (found, source, at) => {
  const names = source.targetWWNs ?? [];
  const ids = source.wwids ?? [];
  if (!names.length && !ids.length) found.required(`${at}.targetWWNs`, 'must specify either targetWWNs or wwids, but not both');
  if (names.length && ids.length) found.invalid(`${at}.targetWWNs`, names, 'targetWWNs and wwids can not be specified simultaneously');
  if (!names.length) return;
  if (source.lun === undefined) found.required(`${at}.lun`, 'lun is required if targetWWNs is specified');
  else found.between(`${at}.lun`, source.lun, 0, 255);
};

const flexVolume: Check = (found, source, at) => {
  if (!source.driver) found.required(`${at}.driver`);
  for (const key of Object.keys(source.options ?? {}).sort()) {
    const namespace = `.${key.split('/')[0]!.toLowerCase()}`;
    if (namespace.endsWith('.kubernetes.io') || namespace.endsWith('.k8s.io'))
      found.invalid(`${at}.options[${key}]`, key, 'kubernetes.io and k8s.io namespaces are reserved');
  }
};

const flocker: Check = (found, source, at) => {
  const { datasetName: name = '', datasetUUID: id = '' } = source;
  if (!name && !id) found.required(at, 'one of datasetName and datasetUUID is required');
  if (name && id) found.invalid(at, 'resource', 'datasetName and datasetUUID can not be specified simultaneously');
  if (name.includes('/')) found.invalid(`${at}.datasetName`, name, "must not contain '/'");
};

const quobyte: Check = (found, source, at) => {
  const pairs = 'must be a host:port pair or multiple pairs separated by commas';
  if (!source.registry) found.required(`${at}.registry`, pairs);
  else if ((source.tenant ?? '').length >= 65) found.required(`${at}.tenant`, 'must be a UUID and may not exceed a length of 64 characters');
  else
    for (const pair of source.registry.split(','))
      if (!/^([^:[\]]*|\[[^[\]]*\]):[^:]*$/.test(pair)) found.invalid(`${at}.registry`, source.registry, pairs);
  if (!source.volume) found.required(`${at}.volume`);
};

const storageos: Check = (found, source, at, persistent) => {
  if (!source.volumeName) found.required(`${at}.volumeName`);
  else found.problems(`${at}.volumeName`, source.volumeName, labelProblems);
  if (source.volumeNamespace) found.problems(`${at}.volumeNamespace`, source.volumeNamespace, labelProblems);
  validateSecretReference(found, source.secretRef, `${at}.secretRef`, persistent);
};

const csi: Check = (found, source, at, persistent) => {
  validateDriverName(found, `${at}.driver`, source.driver);
  if (!persistent) {
    const ref = source.nodePublishSecretRef;
    if (ref && !ref.name) found.required(`${at}.nodePublishSecretRef.name`);
    else if (ref) found.problems(`${at}.name`, ref.name, subdomainProblems);
    return;
  }
  if (!source.volumeHandle) found.required(`${at}.volumeHandle`);
  for (const field of ['controllerPublishSecretRef', 'controllerExpandSecretRef', 'nodePublishSecretRef', 'nodeExpandSecretRef']) {
    const ref = source[field];
    if (!ref) continue;
    found.name(`${at}.${field}.name`, ref.name, subdomainProblems);
    found.name(`${at}.${field}.namespace`, ref.namespace, labelProblems);
  }
};

/** Checks by the name of the source's field. */
export const sourceChecks: Record<string, Check> = {
  hostPath(found, source, at) {
    if (!source.path) found.required(`${at}.path`);
    validateNoBacksteps(found, source.path ?? '', `${at}.path`);
    if (source.type !== undefined) found.oneOf(`${at}.type`, source.type, hostPathTypes);
  },
  gcePersistentDisk: disk('pdName'),
  awsElasticBlockStore: disk('volumeID'),
  glusterfs(found, source, at, persistent) {
    needs('endpoints', 'path')(found, source, at, persistent);
    const namespace = source.endpointsNamespace;
    if (!persistent || namespace === undefined) return;
    if (namespace === '') found.invalid(`${at}.endpointsNamespace`, '', 'if the endpointnamespace is set, it must be a valid namespace name');
    else found.problems(`${at}.endpointsNamespace`, namespace, labelProblems);
  },
  flocker,
  nfs(found, source, at, persistent) {
    needs('server', 'path')(found, source, at, persistent);
    if (!source.path?.startsWith('/')) found.invalid(`${at}.path`, source.path ?? '', 'must be an absolute path');
  },
  rbd: needs('monitors', 'image'),
  quobyte,
  cephfs: needs('monitors'),
  iscsi,
  cinder(found, source, at, persistent) {
    needs('volumeID')(found, source, at, persistent);
    validateSecretReference(found, source.secretRef, `${at}.secretRef`, persistent);
  },
  fc,
  flexVolume,
  azureFile(found, source, at, persistent) {
    needs('secretName', 'shareName')(found, source, at, persistent);
    if (persistent && source.secretNamespace === '') found.required(`${at}.secretNamespace`);
  },
  vsphereVolume: needs('volumePath'),
  photonPersistentDisk: needs('pdID'),
  portworxVolume: needs('volumeID'),
  azureDisk,
  scaleIO: needs('gateway', 'system', 'volumeName'),
  local(found, source, at) {
    if (!source.path) found.required(`${at}.path`);
    validateNoBacksteps(found, source.path ?? '', `${at}.path`);
  },
  storageos,
  csi,
};

/** Fields that upstream's messages call otherwise. */
const misnamed: Record<string, string> = { cephfs: 'cephFS', downwardAPI: 'downwarAPI' };

/** Which of these sources are given; the first is checked, the others are too many. */
export function validateSources(found: Findings, spec: any, order: readonly string[], at: string, check: (kind: string) => void): number {
  let count = 0;
  for (const kind of order) {
    if (spec[kind] === undefined || spec[kind] === null) continue;
    if (count++ > 0) found.forbidden(`${at}.${misnamed[kind] ?? kind}`, 'may not specify more than 1 volume type');
    else check(kind);
  }
  return count;
}
