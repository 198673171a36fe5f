import { createPrivateKey, X509Certificate } from 'node:crypto';
import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { labelProblems, pathSegmentProblems } from '../validation.ts';
import { age } from './age.ts';
import { coreEvent, newEvent } from './events.ts';
import { ageColumn, column, columns, nameColumn, orNone } from './column.ts';
import {
  validateLease,
  validateNode,
  validateNodeUpdate,
  validatePodDisruptionBudget,
  validateControllerRevision,
  validatePriorityClass,
  validatePriorityClassUpdate,
  validateRole,
  validateRoleBinding,
} from './policy-validation.ts';
import { validateSigningRequest } from './signing-request-validation.ts';
import { generationOfSpec, specAndStatus } from './spec-and-status.ts';
import {
  validatePersistentVolume,
  validatePersistentVolumeClaim,
  validatePersistentVolumeClaimUpdate,
  validatePersistentVolumeUpdate,
} from './storage-validation.ts';

export const namespace: KindStrategy = {
  validateName: labelProblems,
  default(o) {
    o.metadata.labels = { ...o.metadata.labels, ...(o.metadata.name ? { 'kubernetes.io/metadata.name': o.metadata.name } : {}) };
  },
  prepareForCreate(o) {
    o.spec = { ...o.spec, finalizers: [...new Set([...(o.spec?.finalizers ?? []), 'kubernetes'])] };
    o.status = { phase: 'Active' };
  },
  prepareForUpdate(o, old) {
    o.spec = { ...o.spec, finalizers: old.spec?.finalizers };
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  selectableFields: (o) => ({ 'status.phase': o.status?.phase ?? '' }),
  columns: columns(column('Status', (o) => o.status?.phase ?? '')),
};

const roles = (o: any) =>
  Object.entries(o.metadata?.labels ?? {})
    .flatMap(([k, v]) =>
      k.startsWith('node-role.kubernetes.io/') ? [k.slice('node-role.kubernetes.io/'.length)] : k === 'kubernetes.io/role' && v ? [String(v)] : [],
    )
    .filter(Boolean)
    .sort()
    .join(',');
const address = (o: any, type: string) => (o.status?.addresses ?? []).find((a: any) => a.type === type)?.address ?? '<none>';

export const node: KindStrategy = {
  default(o) {
    o.spec ??= {};
    // The older field is the first of the newer one.
    if (o.spec.podCIDR && o.spec.podCIDRs?.[0] !== o.spec.podCIDR) o.spec.podCIDRs = [o.spec.podCIDR];
    else if (!o.spec.podCIDR && o.spec.podCIDRs?.length) o.spec.podCIDR = o.spec.podCIDRs[0];
    if (o.status?.capacity && !o.status.allocatable) o.status.allocatable = { ...o.status.capacity };
  },
  prepareForCreate(o) {
    delete o.spec?.configSource;
    delete o.status?.config;
  },
  validate: validateNode,
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validateUpdate: validateNodeUpdate,
  warnings: (o) => (o.spec?.externalID ? ['spec.externalID: this field is deprecated, and is unused by Kubernetes'] : []),
  selectableFields: (o) => ({ 'spec.unschedulable': String(o.spec?.unschedulable ?? false) }),
  columns: [
    ...columns(
      column('Status', (o) => {
        const ready = (o.status?.conditions ?? []).find((c: any) => c.type === 'Ready');
        const text = ready ? (ready.status === 'True' ? 'Ready' : 'NotReady') : 'Unknown';
        return o.spec?.unschedulable ? `${text},SchedulingDisabled` : text;
      }),
      column('Roles', (o) => orNone(roles(o))),
    ),
    column('Version', (o) => o.status?.nodeInfo?.kubeletVersion ?? ''),
    column('Internal-IP', (o) => address(o, 'InternalIP'), { wide: true }),
    column('External-IP', (o) => address(o, 'ExternalIP'), { wide: true }),
    column('OS-Image', (o) => o.status?.nodeInfo?.osImage || '<unknown>', { wide: true }),
    column('Kernel-Version', (o) => o.status?.nodeInfo?.kernelVersion || '<unknown>', { wide: true }),
    column('Container-Runtime', (o) => o.status?.nodeInfo?.containerRuntimeVersion || '<unknown>', { wide: true }),
  ],
};

const modes: Record<string, string> = { ReadWriteOnce: 'RWO', ReadOnlyMany: 'ROX', ReadWriteMany: 'RWX', ReadWriteOncePod: 'RWOP' };
const accessModes = (list: string[] | undefined) => (list ?? []).map((m) => modes[m] ?? m).join(',');
const claimPhase = (o: any) => (o.metadata?.deletionTimestamp ? 'Terminating' : (o.status?.phase ?? ''));

/** What a claim is filled from stands in two fields: the older takes snapshots and claims only, and the newer has what it has. */
function normalizeDataSources(spec: any, old?: any): void {
  if (!spec) return;
  const { dataSource: source, dataSourceRef: ref } = spec;
  const isOld = (s: any) =>
    ((s.apiGroup ?? '') === '' && s.kind === 'PersistentVolumeClaim') || (s.apiGroup === 'snapshot.storage.k8s.io' && s.kind === 'VolumeSnapshot');
  // What is there already stays as it is, and is refused if it is no more of that kind.
  if (source && !isOld(source) && !old?.dataSource && !old?.dataSourceRef) delete spec.dataSource;
  if (ref?.namespace) return;
  if (spec.dataSource && !ref) spec.dataSourceRef = { ...spec.dataSource };
  else if (ref && !spec.dataSource) spec.dataSource = { apiGroup: ref.apiGroup, kind: ref.kind, name: ref.name };
}

export const persistentVolumeClaim: KindStrategy = {
  prepareForCreate(o) {
    o.status = { phase: 'Pending' };
    normalizeDataSources(o.spec);
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
    normalizeDataSources(o.spec, old.spec);
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  default(o) {
    o.spec ??= {};
    o.spec.volumeMode ??= 'Filesystem';
  },
  validate: validatePersistentVolumeClaim,
  validateUpdate: validatePersistentVolumeClaimUpdate,
  columns: [
    nameColumn,
    column('Status', claimPhase),
    column('Volume', (o) => o.spec?.volumeName ?? ''),
    column('Capacity', (o) => (o.spec?.volumeName ? (o.status?.capacity?.storage ?? '0') : '')),
    column('Access Modes', (o) => (o.spec?.volumeName ? accessModes(o.status?.accessModes) : '')),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName || '<unset>'),
    ageColumn,
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ],
};

export const persistentVolume: KindStrategy = {
  prepareForCreate(o, ctx) {
    o.status = { phase: 'Pending', lastPhaseTransitionTime: ctx.now };
  },
  validate: validatePersistentVolume,
  validateUpdate: validatePersistentVolumeUpdate,
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  default(o) {
    o.spec ??= {};
    o.spec.persistentVolumeReclaimPolicy ??= 'Retain';
    o.spec.volumeMode ??= 'Filesystem';
    if (o.spec.hostPath) o.spec.hostPath.type ??= '';
  },
  columns: [
    nameColumn,
    column('Capacity', (o) => o.spec?.capacity?.storage ?? ''),
    column('Access Modes', (o) => accessModes(o.spec?.accessModes)),
    column('Reclaim Policy', (o) => o.spec?.persistentVolumeReclaimPolicy ?? ''),
    column('Status', claimPhase),
    column('Claim', (o) => (o.spec?.claimRef ? `${o.spec.claimRef.namespace}/${o.spec.claimRef.name}` : '')),
    column('StorageClass', (o) => o.spec?.storageClassName ?? ''),
    column('VolumeAttributesClass', (o) => o.spec?.volumeAttributesClassName || '<unset>'),
    column('Reason', (o) => o.status?.reason ?? ''),
    ageColumn,
    column('VolumeMode', (o) => o.spec?.volumeMode ?? '<unset>', { wide: true }),
  ],
};


const base64 = /^[A-Za-z0-9+/]*={0,2}$/;
const dataKey = /^[-._a-zA-Z0-9]+$/;
const dataLimit = 1024 * 1024;
const reservedKey = (key: string): string | undefined => {
  if (key.length > 253) return 'must be no more than 253 characters';
  if (!dataKey.test(key))
    return "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
  if (key === '.' || key === '..') return `must not be '${key}'`;
  return key.startsWith('..') ? "must not start with '..'" : undefined;
};
function validateData(o: any, maps: string[], whole: string): FieldError[] {
  const errors: FieldError[] = [];
  let size = 0;
  for (const map of maps) {
    for (const [key, value] of Object.entries(o[map] ?? {})) {
      size += map === 'data' && maps.length > 1 ? Buffer.byteLength(String(value)) : Buffer.byteLength(String(value), 'base64');
      const detail = reservedKey(key);
      if (detail) errors.push({ type: 'FieldValueInvalid', field: `${map}[${key}]`, value: key, detail });
      if (map === 'data' && maps.length > 1 && o.binaryData && Object.hasOwn(o.binaryData, key))
        errors.push({ type: 'FieldValueInvalid', field: `data[${key}]`, value: key, detail: 'duplicate of key present in binaryData' });
    }
  }
  if (size > dataLimit) errors.push({ type: 'FieldValueTooLong', field: whole, detail: `may not be more than ${dataLimit} bytes` });
  return errors;
}
function immutableData(o: any, old: any): FieldError[] {
  if (!old.immutable) return [];
  if (!o.immutable) return [{ type: 'FieldValueForbidden', field: 'immutable', detail: 'field is immutable when `immutable` is set' }];
  for (const map of ['data', 'binaryData'])
    if (canonicalJson(o[map]) !== canonicalJson(old[map]))
      return [{ type: 'FieldValueForbidden', field: map, detail: 'field is immutable when `immutable` is set' }];
  return [];
}
export const configMap: KindStrategy = {
  validate: (o) => validateData(o, ['data', 'binaryData'], '[]'),
  validateUpdate: immutableData,
  columns: columns(column('Data', (o) => Object.keys(o.data ?? {}).length + Object.keys(o.binaryData ?? {}).length, { type: 'integer' })),
};
/** Why a value in base64 is no JSON, in the words of Go's decoder; undefined where it is. */
function jsonProblem(value: string): string | undefined {
  const text = Buffer.from(value, 'base64').toString('utf8');
  if (!text.trim()) return 'unexpected end of JSON input';
  try {
    JSON.parse(text);
    return undefined;
  } catch {
    return `invalid character '${text.trim()[0]}' looking for beginning of value`;
  }
}

/** What a server that wanted to use this certificate and key would say. */
function tlsProblems(certificate: string | undefined, key: string | undefined): string[] {
  const pem = (text: string | undefined) => Buffer.from(text ?? '', 'base64').toString('latin1');
  if (!/-----BEGIN CERTIFICATE-----[\s\S]*-----END CERTIFICATE-----/.test(pem(certificate)))
    return ['tls: failed to find any PEM data in certificate input'];
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*-----END/.test(pem(key))) return ['tls: failed to find any PEM data in key input'];
  try {
    const matches = new X509Certificate(pem(certificate)).checkPrivateKey(createPrivateKey(pem(key)));
    return matches ? [] : ['tls: private key does not match public key'];
  } catch {
    // What the two parsers say differs; that something is wrong is not hidden.
    return ['tls: failed to parse private key'];
  }
}
export const secret: KindStrategy = {
  default(o) {
    o.type ??= 'Opaque';
    if (!o.stringData) return;
    o.data = { ...o.data };
    for (const [key, value] of Object.entries(o.stringData)) o.data[key] = Buffer.from(String(value)).toString('base64');
    delete o.stringData;
  },
  validate(o) {
    const errors = validateData(o, ['data'], 'data');
    for (const [key, value] of Object.entries(o.data ?? {}))
      if (!base64.test(String(value)))
        errors.push({ type: 'FieldValueInvalid', field: `data[${key}]`, value: '<omitted>', detail: 'illegal base64 data' });
    const docker: Record<string, string> = { 'kubernetes.io/dockerconfigjson': '.dockerconfigjson', 'kubernetes.io/dockercfg': '.dockercfg' };
    const key = docker[o.type];
    if (key && o.data?.[key] === undefined) errors.push({ type: 'FieldValueRequired', field: `data[${key}]`, detail: '' });
    else if (key) {
      const detail = jsonProblem(o.data[key]);
      if (detail) errors.push({ type: 'FieldValueInvalid', field: `data[${key}]`, value: '<secret contents redacted>', detail });
    }
    if (o.type === 'kubernetes.io/ssh-auth' && !o.data?.['ssh-privatekey'])
      errors.push({ type: 'FieldValueRequired', field: 'data[ssh-privatekey]', detail: '' });
    if (o.type === 'kubernetes.io/basic-auth' && o.data?.username === undefined && o.data?.password === undefined)
      for (const k of ['username', 'password']) errors.push({ type: 'FieldValueRequired', field: `data[${k}]`, detail: '' });
    if (o.type === 'kubernetes.io/service-account-token' && !o.metadata?.annotations?.['kubernetes.io/service-account.name'])
      errors.push({ type: 'FieldValueRequired', field: 'metadata.annotations[kubernetes.io/service-account.name]', detail: '' });
    if (o.type === 'kubernetes.io/tls')
      for (const k of ['tls.crt', 'tls.key'])
        if (o.data?.[k] === undefined) errors.push({ type: 'FieldValueRequired', field: `data[${k}]`, detail: '' });
    return errors;
  },
  updateFirst(o, old) {
    return [
      ...(o.type === old.type ? [] : [{ type: 'FieldValueInvalid' as const, field: 'type', value: o.type, detail: 'field is immutable' }]),
      ...immutableData(o, old),
    ];
  },
  warnings: (o) => (o.type === 'kubernetes.io/tls' ? tlsProblems(o.data?.['tls.crt'], o.data?.['tls.key']) : []),
  selectableFields: (o) => ({ type: o.type ?? '' }),
  columns: columns(
    column('Type', (o) => o.type ?? ''),
    column('Data', (o) => Object.keys(o.data ?? {}).length, { type: 'integer' }),
  ),
};
/** Of the secrets that an account may use, only the names are kept. */
const onlyNames = (o: any) => {
  if (o.secrets) o.secrets = o.secrets.map((s: any) => (s.name ? { name: s.name } : {}));
};
export const serviceAccount: KindStrategy = { prepareForCreate: onlyNames, prepareForUpdate: onlyNames, columns: columns() };
/** Fields of a feature that is off by default: coordinated leader election. */
const dropLeaseFields = (o: any) => {
  delete o.spec?.strategy;
  delete o.spec?.preferredHolder;
};
export const lease: KindStrategy = {
  prepareForCreate: dropLeaseFields,
  prepareForUpdate: dropLeaseFields,
  validate: validateLease,
  columns: columns(column('Holder', (o) => o.spec?.holderIdentity ?? '')),
};
export const certificateSigningRequest: KindStrategy = {
  validateName: (name, prefix) => (prefix ? [] : pathSegmentProblems(name)),
  validate: validateSigningRequest,
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    o.spec = old.spec;
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  selectableFields: (o) => ({ 'spec.signerName': o.spec?.signerName ?? '' }),
  columns: [
    nameColumn,
    ageColumn,
    column('SignerName', (o) => orNone(o.spec?.signerName)),
    column('Requestor', (o) => o.spec?.username ?? ''),
    column('RequestedDuration', (o) => (o.spec?.expirationSeconds ? `${o.spec.expirationSeconds}s` : '<none>')),
    column('Condition', (o) => {
      const types = (o.status?.conditions ?? []).map((c: any) => c.type);
      const state = types.includes('Denied') ? 'Denied' : types.includes('Approved') ? 'Approved' : types.includes('Failed') ? 'Failed' : 'Pending';
      return o.status?.certificate ? `${state},Issued` : state;
    }),
  ],
};
const eventColumns = [
  column('Last Seen', (o) =>
    age(o.series?.lastObservedTime ?? o.lastTimestamp ?? o.deprecatedLastTimestamp ?? o.eventTime ?? o.metadata?.creationTimestamp),
  ),
  column('Type', (o) => o.type ?? ''),
  column('Reason', (o) => o.reason ?? ''),
  column('Object', (o) => {
    const about = o.involvedObject ?? o.regarding ?? {};
    return `${(about.kind ?? '').toLowerCase()}/${about.name ?? ''}`;
  }),
  column('Subobject', (o) => (o.involvedObject ?? o.regarding)?.fieldPath ?? '', { wide: true }),
  column(
    'Source',
    (o) => {
      const source = o.source ?? o.deprecatedSource ?? {};
      const component = source.component || o.reportingComponent || o.reportingController;
      return [component, source.component ? source.host : o.reportingInstance].filter(Boolean).join(', ');
    },
    { wide: true },
  ),
  column('Message', (o) => (o.message ?? o.note ?? '').trim()),
  column('First Seen', (o) => age(o.firstTimestamp ?? o.deprecatedFirstTimestamp ?? o.eventTime ?? o.metadata?.creationTimestamp), { wide: true }),
  column('Count', (o) => o.series?.count ?? o.count ?? o.deprecatedCount ?? 1, { type: 'integer', wide: true }),
  { ...nameColumn, priority: 1 },
];
const event: KindStrategy = {
  selectableFields: (o) => {
    const about = o.involvedObject ?? o.regarding ?? {};
    const fields: Record<string, string> = {
      reason: o.reason ?? '',
      type: o.type ?? '',
      source: o.source?.component ?? o.reportingComponent ?? '',
      reportingComponent: o.reportingComponent ?? o.reportingController ?? '',
      reportingController: o.reportingComponent ?? o.reportingController ?? '',
    };
    for (const key of ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath']) {
      fields[`involvedObject.${key}`] = about[key] ?? '';
      fields[`regarding.${key}`] = about[key] ?? '';
    }
    return fields;
  },
  columns: eventColumns,
};
export const events = { core: { ...event, ...coreEvent }, new: { ...event, ...newEvent } };
const createdAt = column('Created At', (o) => o.metadata?.creationTimestamp ?? '');
export const role: KindStrategy = { validate: validateRole, columns: [nameColumn, createdAt] };
export const clusterRole: KindStrategy = { validate: validateRole };
const binding = [column('Role', (o) => `${o.roleRef?.kind}/${o.roleRef?.name}`)];
const subjects = (kind: string) => (o: any) =>
  (o.subjects ?? [])
    .filter((s: any) => s.kind === kind)
    .map((s: any) => (kind === 'ServiceAccount' ? `${s.namespace}/${s.name}` : s.name))
    .join(', ');
/** A reference as upstream's internal type shows it in messages. */
const internalRole = (ref: any) => ({ APIGroup: ref?.apiGroup ?? '', Kind: ref?.kind ?? '', Name: ref?.name ?? '' });
export const roleBinding: KindStrategy = {
  validate: validateRoleBinding,
  default(o) {
    o.roleRef ??= {};
    o.roleRef.apiGroup ||= 'rbac.authorization.k8s.io';
    for (const s of o.subjects ?? []) if (s.kind === 'User' || s.kind === 'Group') s.apiGroup ||= 'rbac.authorization.k8s.io';
  },
  validateUpdate: (o, old) =>
    canonicalJson(o.roleRef) === canonicalJson(old.roleRef)
      ? []
      : [{ type: 'FieldValueInvalid', field: 'roleRef', value: internalRole(o.roleRef), detail: 'field is immutable' }],
  columns: [
    ...columns(...binding),
    column('Users', subjects('User'), { wide: true }),
    column('Groups', subjects('Group'), { wide: true }),
    column('ServiceAccounts', subjects('ServiceAccount'), { wide: true }),
  ],
};
export const podDisruptionBudget: KindStrategy = {
  ...specAndStatus,
  validateName: pathSegmentProblems,
  validate: validatePodDisruptionBudget,
  columns: columns(
    column('Min Available', (o) => String(o.spec?.minAvailable ?? 'N/A')),
    column('Max Unavailable', (o) => String(o.spec?.maxUnavailable ?? 'N/A')),
    column('Allowed Disruptions', (o) => o.status?.disruptionsAllowed ?? 0, { type: 'integer' }),
  ),
};
export const priorityClass: KindStrategy = {
  prepareForCreate: generationOfSpec.prepareForCreate,
  updateValidatesAll: true,
  validate: validatePriorityClass,
  validateUpdate: validatePriorityClassUpdate,
  default(o) {
    o.preemptionPolicy ??= 'PreemptLowerPriority';
  },
  columns: [
    nameColumn,
    column('Value', (o) => o.value ?? 0, { type: 'integer' }),
    column('Global-Default', (o) => o.globalDefault ?? false, { type: 'boolean' }),
    ageColumn,
    column('PreemptionPolicy', (o) => o.preemptionPolicy ?? ''),
  ],
};
export const controllerRevision: KindStrategy = {
  updateValidatesAll: true,
  validate: (o) => validateControllerRevision(o),
  validateUpdate: validateControllerRevision,
  columns: columns(
    column('Controller', (o) => {
      const owner = (o.metadata?.ownerReferences ?? []).find((r: any) => r.controller);
      return owner ? `${owner.kind.toLowerCase()}.${owner.apiVersion.split('/')[0]}/${owner.name}` : '<none>';
    }),
    column('Revision', (o) => o.revision ?? 0, { type: 'integer' }),
  ),
};
