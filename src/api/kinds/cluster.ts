import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { labelProblems } from '../validation.ts';
import { age } from './age.ts';
import { ageColumn, column, columns, nameColumn, orNone } from './column.ts';
import {
  validateEvent,
  validateLease,
  validateNode,
  validatePodDisruptionBudget,
  validatePriorityClass,
  validateRole,
  validateRoleBinding,
} from './policy-validation.ts';
import { canonical, generationOfSpec, specAndStatus } from './spec-and-status.ts';
import { validatePersistentVolume, validatePersistentVolumeClaim, validateStorageClass } from './storage-validation.ts';

export const namespace: KindStrategy = {
  validateName: labelProblems,
  allowUnconditionalUpdate: true,
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
    if (o.spec.podCIDR && !o.spec.podCIDRs?.length) o.spec.podCIDRs = [o.spec.podCIDR];
  },
  validate: validateNode,
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  allowUnconditionalUpdate: true,
  validateUpdate(o, old) {
    const errors: FieldError[] = [];
    if (old.spec?.podCIDR && o.spec?.podCIDR !== old.spec.podCIDR)
      errors.push({ type: 'FieldValueForbidden', field: 'spec.podCIDRs', detail: 'node updates may not change podCIDR except from "" to valid' });
    if (old.spec?.providerID && o.spec?.providerID !== old.spec.providerID)
      errors.push({
        type: 'FieldValueForbidden',
        field: 'spec.providerID',
        detail: 'node updates may not change providerID except from "" to valid',
      });
    return errors;
  },
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

export const persistentVolumeClaim: KindStrategy = {
  prepareForCreate(o) {
    o.status = { phase: 'Pending' };
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  default(o) {
    o.spec ??= {};
    o.spec.volumeMode ??= 'Filesystem';
  },
  validate: validatePersistentVolumeClaim,
  validateUpdate(o, old) {
    const rest = (s: any) =>
      canonical({
        ...s,
        resources: undefined,
        volumeName: undefined,
        volumeAttributesClassName: undefined,
        ...(s.storageClassName === undefined ? { storageClassName: undefined } : {}),
      });
    const filled = old.spec.storageClassName === undefined ? { ...old.spec, storageClassName: o.spec.storageClassName } : old.spec;
    const volumeChanged = old.spec.volumeName && o.spec.volumeName !== old.spec.volumeName;
    if (rest(o.spec) === rest(filled) && !volumeChanged) return [];
    return [
      {
        type: 'FieldValueForbidden',
        field: 'spec',
        detail: 'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims',
      },
    ];
  },
  columns: [
    nameColumn,
    column('Status', claimPhase),
    column('Volume', (o) => o.spec?.volumeName ?? ''),
    column('Capacity', (o) => (o.spec?.volumeName ? (o.status?.capacity?.storage ?? '') : '')),
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

export const storageClass: KindStrategy = {
  validate: validateStorageClass,
  default(o) {
    o.reclaimPolicy ??= 'Delete';
    o.volumeBindingMode ??= 'Immediate';
  },
  validateUpdate: (o, old) =>
    canonical(o.parameters) === canonical(old.parameters)
      ? []
      : [{ type: 'FieldValueForbidden', field: 'parameters', detail: 'updates to parameters are forbidden.' }],
  columns: [
    {
      ...nameColumn,
      cell: (o) => `${o.metadata?.name}${o.metadata?.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true' ? ' (default)' : ''}`,
    },
    column('Provisioner', (o) => o.provisioner ?? ''),
    column('ReclaimPolicy', (o) => o.reclaimPolicy ?? ''),
    column('VolumeBindingMode', (o) => o.volumeBindingMode ?? ''),
    column('AllowVolumeExpansion', (o) => String(o.allowVolumeExpansion ?? false)),
    ageColumn,
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
    if (canonical(o[map]) !== canonical(old[map]))
      return [{ type: 'FieldValueForbidden', field: map, detail: 'field is immutable when `immutable` is set' }];
  return [];
}
export const configMap: KindStrategy = {
  validate: (o) => validateData(o, ['data', 'binaryData'], '[]'),
  validateUpdate: immutableData,
  allowUnconditionalUpdate: true,
  columns: columns(column('Data', (o) => Object.keys(o.data ?? {}).length + Object.keys(o.binaryData ?? {}).length, { type: 'integer' })),
};
export const secret: KindStrategy = {
  allowUnconditionalUpdate: true,
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
    const needs: Record<string, string> = {
      'kubernetes.io/dockerconfigjson': '.dockerconfigjson',
      'kubernetes.io/dockercfg': '.dockercfg',
      'kubernetes.io/ssh-auth': 'ssh-privatekey',
    };
    const key = needs[o.type];
    if (key && !o.data?.[key]) errors.push({ type: 'FieldValueRequired', field: `data[${key}]`, detail: '' });
    if (o.type === 'kubernetes.io/basic-auth' && o.data?.username === undefined && o.data?.password === undefined)
      for (const k of ['username', 'password']) errors.push({ type: 'FieldValueRequired', field: `data[${k}]`, detail: '' });
    if (o.type === 'kubernetes.io/service-account-token' && !o.metadata?.annotations?.['kubernetes.io/service-account.name'])
      errors.push({ type: 'FieldValueRequired', field: 'metadata.annotations[kubernetes.io/service-account.name]', detail: '' });
    if (o.type === 'kubernetes.io/tls')
      for (const k of ['tls.crt', 'tls.key'])
        if (o.data?.[k] === undefined) errors.push({ type: 'FieldValueRequired', field: `data[${k}]`, detail: '' });
    return errors;
  },
  validateUpdate(o, old) {
    return [
      ...(o.type === old.type ? [] : [{ type: 'FieldValueInvalid' as const, field: 'type', value: o.type, detail: 'field is immutable' }]),
      ...immutableData(o, old),
    ];
  },
  selectableFields: (o) => ({ type: o.type ?? '' }),
  columns: columns(
    column('Type', (o) => o.type ?? ''),
    column('Data', (o) => Object.keys(o.data ?? {}).length, { type: 'integer' }),
  ),
};
export const serviceAccount: KindStrategy = { allowUnconditionalUpdate: true, columns: columns() };
export const lease: KindStrategy = {
  allowCreateOnUpdate: true,
  validate: validateLease,
  columns: columns(column('Holder', (o) => o.spec?.holderIdentity ?? '')),
};
export const csiNode: KindStrategy = { columns: columns(column('Drivers', (o) => (o.spec?.drivers ?? []).length, { type: 'integer' })) };
export const volumeAttachment: KindStrategy = {
  prepareForCreate(o) {
    o.status = { attached: false };
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  columns: columns(
    column('Attacher', (o) => o.spec?.attacher ?? ''),
    column('PV', (o) => o.spec?.source?.persistentVolumeName ?? ''),
    column('Node', (o) => o.spec?.nodeName ?? ''),
    column('Attached', (o) => String(o.status?.attached ?? false)),
  ),
};
export const certificateSigningRequest: KindStrategy = {
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    o.spec = old.spec;
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  default(o) {
    o.spec ??= {};
    o.spec.usages ??= ['digital signature', 'key encipherment'];
  },
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
  column('Source', (o) => [o.source?.component ?? o.reportingController, o.source?.host].filter(Boolean).join(', '), { wide: true }),
  column('Message', (o) => (o.message ?? o.note ?? '').trim()),
  column('First Seen', (o) => age(o.firstTimestamp ?? o.deprecatedFirstTimestamp ?? o.eventTime ?? o.metadata?.creationTimestamp), { wide: true }),
  column('Count', (o) => o.series?.count ?? o.count ?? o.deprecatedCount ?? 1, { type: 'integer', wide: true }),
  { ...nameColumn, priority: 1 },
];
export const event: KindStrategy = {
  validate: validateEvent,
  allowCreateOnUpdate: true,
  allowUnconditionalUpdate: true,
  selectableFields: (o) => {
    const about = o.involvedObject ?? o.regarding ?? {};
    const fields: Record<string, string> = {
      reason: o.reason ?? '',
      type: o.type ?? '',
      source: o.source?.component ?? o.reportingComponent ?? '',
      reportingComponent: o.reportingComponent ?? o.reportingController ?? '',
    };
    for (const key of ['kind', 'namespace', 'name', 'uid', 'apiVersion', 'resourceVersion', 'fieldPath']) {
      fields[`involvedObject.${key}`] = about[key] ?? '';
      fields[`regarding.${key}`] = about[key] ?? '';
    }
    return fields;
  },
  columns: eventColumns,
};
const createdAt = column('Created At', (o) => o.metadata?.creationTimestamp ?? '');
export const role: KindStrategy = { validate: validateRole, columns: [nameColumn, createdAt] };
export const clusterRole: KindStrategy = { validate: validateRole };
const binding = [column('Role', (o) => `${o.roleRef?.kind}/${o.roleRef?.name}`)];
const subjects = (kind: string) => (o: any) =>
  (o.subjects ?? [])
    .filter((s: any) => s.kind === kind)
    .map((s: any) => (kind === 'ServiceAccount' ? `${s.namespace}/${s.name}` : s.name))
    .join(', ');
export const roleBinding: KindStrategy = {
  validate: validateRoleBinding,
  default(o) {
    if (o.roleRef) o.roleRef.apiGroup ||= 'rbac.authorization.k8s.io';
    for (const s of o.subjects ?? []) if (s.kind !== 'ServiceAccount') s.apiGroup ||= 'rbac.authorization.k8s.io';
  },
  validateUpdate: (o, old) =>
    canonical(o.roleRef) === canonical(old.roleRef)
      ? []
      : [{ type: 'FieldValueInvalid', field: 'roleRef', value: o.roleRef, detail: 'cannot change roleRef' }],
  columns: [
    ...columns(...binding),
    column('Users', subjects('User'), { wide: true }),
    column('Groups', subjects('Group'), { wide: true }),
    column('ServiceAccounts', subjects('ServiceAccount'), { wide: true }),
  ],
};
export const podDisruptionBudget: KindStrategy = {
  ...specAndStatus,
  validate: validatePodDisruptionBudget,
  columns: columns(
    column('Min Available', (o) => String(o.spec?.minAvailable ?? 'N/A')),
    column('Max Unavailable', (o) => String(o.spec?.maxUnavailable ?? 'N/A')),
    column('Allowed Disruptions', (o) => o.status?.disruptionsAllowed ?? 0, { type: 'integer' }),
  ),
};
export const priorityClass: KindStrategy = {
  ...generationOfSpec,
  validate: validatePriorityClass,
  default(o) {
    o.preemptionPolicy ??= 'PreemptLowerPriority';
  },
  validateUpdate: (o, old) =>
    o.value === old.value ? [] : [{ type: 'FieldValueForbidden', field: 'value', detail: 'may not be changed in an update.' }],
  columns: columns(
    column('Value', (o) => o.value ?? 0, { type: 'integer' }),
    column('Global-Default', (o) => o.globalDefault ?? false, { type: 'boolean' }),
    column('PreemptionPolicy', (o) => o.preemptionPolicy ?? ''),
  ),
};
export const controllerRevision: KindStrategy = {
  columns: columns(
    column('Controller', (o) => {
      const owner = (o.metadata?.ownerReferences ?? []).find((r: any) => r.controller);
      return owner ? `${owner.kind.toLowerCase()}.${owner.apiVersion.split('/')[0]}/${owner.name}` : '<none>';
    }),
    column('Revision', (o) => o.revision ?? 0, { type: 'integer' }),
  ),
};

export const limitRange: KindStrategy = {
  default(o) {
    // A default limit is the default request, too, and the limit what it is where nothing else is said.
    for (const item of o.spec?.limits ?? []) {
      if (item.type !== 'Container') continue;
      const limits = { ...item.max, ...item.default };
      if (Object.keys(limits).length) item.default = limits;
      const requests = { ...item.default, ...item.min, ...item.defaultRequest };
      if (Object.keys(requests).length) item.defaultRequest = requests;
    }
  },
};
export const resourceQuota: KindStrategy = {
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
};
export const networkPolicy: KindStrategy = {
  ...generationOfSpec,
  default(o) {
    o.spec ??= {};
    if (!o.spec.policyTypes?.length) o.spec.policyTypes = o.spec.egress?.length ? ['Ingress', 'Egress'] : ['Ingress'];
  },
};
