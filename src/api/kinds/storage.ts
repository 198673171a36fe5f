import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { parseQuantity } from '../quantity.ts';
import type { KindStrategy } from '../scheme.ts';
import { qualifiedNameProblems, subdomainProblems } from '../validation.ts';
import { ageColumn, column, columns, nameColumn } from './column.ts';
import { Findings } from './findings.ts';
import { validateLabelSelector } from './scheduling-validation.ts';
import { specAndStatus } from './spec-and-status.ts';

/** A driver or provisioner by name; those without one are reported after everything else, by upstream's declared rules. */
function validateProvisioner(found: Findings, declared: Findings, field: string, name: string | undefined): void {
  if (!name) declared.required(field);
  else found.problems(field, name.toLowerCase(), qualifiedNameProblems);
}

const mostParameters = 512;
const parametersSize = 256 * 1024;

function validateParameters(found: Findings, parameters: Record<string, string> | undefined, mayBeEmpty: boolean): void {
  const entries = Object.entries(parameters ?? {});
  if (entries.length > mostParameters) return found.tooLong('parameters', `may not be more than ${mostParameters} bytes`);
  let size = 0;
  for (const [key, value] of entries) {
    if (!key) found.invalid('parameters', key, 'field can not be empty.');
    size += Buffer.byteLength(key) + Buffer.byteLength(value);
  }
  if (size > parametersSize) found.tooLong('parameters', `may not be more than ${parametersSize} bytes`);
  if (!mayBeEmpty && !entries.length) found.required('parameters', 'must contain at least one key/value pair');
}

function validateTopologies(found: Findings, topologies: any[]): void {
  // The empty term counts as seen, in upstream as here.
  const seen = new Set<string>(topologies.length ? [''] : []);
  topologies.forEach((term, i) => {
    const at = `allowedTopologies[${i}].matchLabelExpressions`;
    const sets = new Map<string, string>();
    (term.matchLabelExpressions ?? []).forEach((e: any, j: number) => {
      const values: string[] = e.values ?? [];
      if (!values.length) found.required(`${at}[${j}].values`);
      const own = new Set<string>();
      values.forEach((value, k) => {
        if (own.has(value)) found.duplicate(`${at}[${j}].values[${k}]`, value);
        own.add(value);
      });
      found.problems(`${at}[${j}].key`, e.key ?? '', qualifiedNameProblems);
      if (sets.has(e.key)) found.duplicate(`${at}[${j}].key`, e.key);
      sets.set(e.key, [...own].sort().join());
    });
    const id = [...sets].sort().join(';');
    if (seen.has(id)) found.duplicate(at, '');
    seen.add(id);
  });
}

const isDefault = (o: any) => o.metadata?.annotations?.['storageclass.kubernetes.io/is-default-class'] === 'true';

export const storageClass: KindStrategy = {
  default(o) {
    o.reclaimPolicy ??= 'Delete';
    o.volumeBindingMode ??= 'Immediate';
  },
  validate(o) {
    const found = new Findings();
    const declared = new Findings();
    validateProvisioner(found, declared, 'provisioner', o.provisioner);
    validateParameters(found, o.parameters, true);
    if (o.reclaimPolicy) found.oneOf('reclaimPolicy', o.reclaimPolicy, ['Delete', 'Retain']);
    found.oneOf('volumeBindingMode', o.volumeBindingMode, ['Immediate', 'WaitForFirstConsumer']);
    validateTopologies(found, o.allowedTopologies ?? []);
    return [...found.errors, ...declared.errors];
  },
  validateUpdate(o, old) {
    const found = new Findings();
    for (const field of ['provisioner', 'parameters', 'reclaimPolicy', 'volumeBindingMode'])
      if (canonicalJson(o[field]) !== canonicalJson(old[field])) found.invalid(field, null, 'field is immutable');
    return found.errors;
  },
  columns: [
    { ...nameColumn, cell: (o) => `${o.metadata?.name}${isDefault(o) ? ' (default)' : ''}` },
    column('Provisioner', (o) => o.provisioner ?? ''),
    column('ReclaimPolicy', (o) => o.reclaimPolicy ?? ''),
    column('VolumeBindingMode', (o) => o.volumeBindingMode ?? ''),
    column('AllowVolumeExpansion', (o) => o.allowVolumeExpansion ?? false),
    ageColumn,
  ],
};

/** What is wrong with a subdomain in which capitals are allowed. */
function caselessProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 253) problems.push('must be no more than 253 bytes');
  if (!/^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$/.test(name))
    problems.push(
      "an RFC 1123 subdomain must consist of alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'Example.com', regex used for validation is '[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?(\\.[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)*')",
    );
  return problems;
}

/** Findings about a CSI driver's name. */
export function validateDriverName(found: Findings, field: string, name: string | undefined): void {
  if (!name) return found.required(field);
  if (name.length > 63) found.tooLong(field, 'may not be more than 63 bytes');
  for (const problem of subdomainProblems(name.toLowerCase())) found.invalid(field, name, problem);
}

function validateTokenRequests(found: Findings, requests: any[]): void {
  const audiences = new Set<string>();
  requests.forEach((r, i) => {
    const at = `spec.tokenRequests[${i}]`;
    const audience = r.audience ?? '';
    if (audiences.has(audience)) return found.duplicate(`${at}.audience`, audience);
    audiences.add(audience);
    const seconds = r.expirationSeconds;
    if (seconds === undefined) return;
    if (seconds < 600) found.invalid(`${at}.expirationSeconds`, seconds, 'may not specify a duration less than 10 minutes');
    if (seconds > 2 ** 32) found.invalid(`${at}.expirationSeconds`, seconds, 'may not specify a duration larger than 2^32 seconds');
  });
}

export const csiDriver: KindStrategy = {
  prepareForUpdate(o, old) {
    if (canonicalJson(o.spec) !== canonicalJson(old.spec)) o.metadata.generation = (old.metadata.generation ?? 0) + 1;
  },
  default(o) {
    const s = (o.spec ??= {});
    s.attachRequired ??= true;
    s.podInfoOnMount ??= false;
    s.storageCapacity ??= false;
    s.fsGroupPolicy ??= 'ReadWriteOnceWithFSType';
    if (!s.volumeLifecycleModes?.length) s.volumeLifecycleModes = ['Persistent'];
    s.requiresRepublish ??= false;
    s.seLinuxMount ??= false;
    s.preventPodSchedulingIfMissing ??= false;
  },
  validate(o) {
    const found = new Findings();
    const s = o.spec ?? {};
    if (s.fsGroupPolicy !== undefined) found.oneOf('spec.fsGroupPolicy', s.fsGroupPolicy, ['File', 'None', 'ReadWriteOnceWithFSType']);
    validateTokenRequests(found, s.tokenRequests ?? []);
    for (const mode of s.volumeLifecycleModes ?? []) found.oneOf('spec.volumeLifecycleModes', mode, ['Persistent', 'Ephemeral']);
    const period = s.nodeAllocatableUpdatePeriodSeconds;
    if (period !== undefined && period < 10)
      found.invalid('spec.nodeAllocatableUpdatePeriodSeconds', period, 'must be greater than or equal to 10 seconds');
    const inSecrets = s.serviceAccountTokenInSecrets;
    if (inSecrets !== undefined && !s.tokenRequests?.length) {
      const detail = 'serviceAccountTokenInSecrets is set but no tokenRequests are specified';
      found.invalid('spec.serviceAccountTokenInSecrets', inSecrets, detail);
    }
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    found.immutable('spec.attachedRequired', o.spec?.attachRequired, old.spec?.attachRequired);
    if (canonicalJson(o.spec?.volumeLifecycleModes) !== canonicalJson(old.spec?.volumeLifecycleModes))
      found.invalid('spec.volumeLifecycleModes', o.spec?.volumeLifecycleModes, 'field is immutable');
    return found.errors;
  },
  warnings(o, old) {
    const unset = (d: any) => d?.spec?.tokenRequests?.length && d.spec.serviceAccountTokenInSecrets === undefined;
    if (!unset(o) || (old && unset(old) && canonicalJson(o.spec.tokenRequests) === canonicalJson(old.spec.tokenRequests))) return [];
    return [
      'spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging of tokens in volume attributes',
    ];
  },
  columns: columns(
    column('AttachRequired', (o) => o.spec?.attachRequired ?? true, { type: 'boolean' }),
    column('PodInfoOnMount', (o) => o.spec?.podInfoOnMount ?? false, { type: 'boolean' }),
    column('StorageCapacity', (o) => o.spec?.storageCapacity ?? false, { type: 'boolean' }),
    column('TokenRequests', (o) => (o.spec?.tokenRequests ? o.spec.tokenRequests.map((t: any) => t.audience).join(',') : '<unset>')),
    column('RequiresRepublish', (o) => o.spec?.requiresRepublish ?? false, { type: 'boolean' }),
    column('Modes', (o) => (o.spec?.volumeLifecycleModes ?? []).join(',') || '<none>'),
  ),
};

const longestNodeId = 256;
const keyOf = (driver: any) => canonicalJson({ ...driver, allocatable: undefined });

export const csiNode: KindStrategy = {
  prepareForCreate(o) {
    delete o.status;
  },
  prepareForUpdate(o, old) {
    if (old.status) o.status = old.status;
    else delete o.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validate(o) {
    const found = new Findings();
    const names = new Set<string>();
    (o.spec?.drivers ?? []).forEach((d: any, i: number) => {
      const at = `spec.drivers[${i}]`;
      validateDriverName(found, `${at}.name`, d.name);
      if (!d.nodeID) found.required(`${at}.nodeID`);
      else if (d.nodeID.length > longestNodeId) found.invalid(`${at}.nodeID`, d.nodeID, `must be ${longestNodeId} characters or less`);
      found.nonNegative(`${at}.allocatable.count`, d.allocatable?.count);
      if (names.has(d.name)) found.duplicate(`${at}.name`, d.name);
      names.add(d.name);
      const keys = new Set<string>();
      for (const key of d.topologyKeys ?? []) {
        if (!key) found.required(at);
        if (keys.has(key)) found.duplicate(at, key);
        keys.add(key);
        found.problems(at, key, qualifiedNameProblems);
      }
    });
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    for (const before of old.spec?.drivers ?? [])
      for (const now of o.spec?.drivers ?? [])
        if (before.name === now.name && keyOf(before) !== keyOf(now)) found.invalid('spec.drivers', internalDriver(now), 'field is immutable');
    return found.errors;
  },
  columns: columns(column('Drivers', (o) => (o.spec?.drivers ?? []).length, { type: 'integer' })),
};

/** A driver as upstream's internal type shows it in messages. */
const internalDriver = (d: any) => ({ Name: d.name ?? '', NodeID: d.nodeID ?? '', TopologyKeys: d.topologyKeys ?? null, Allocatable: null });

export const csiStorageCapacity: KindStrategy = {
  validate(o) {
    const found = new Findings();
    if (o.nodeTopology) validateLabelSelector(found, o.nodeTopology, 'nodeTopology');
    found.problems('storageClassName', o.storageClassName ?? '', subdomainProblems);
    if (o.capacity !== undefined && parseQuantity(o.capacity).nano < 0n) found.invalid('capacity', o.capacity, 'must be greater than or equal to 0');
    return found.errors;
  },
  validateUpdate(o, old) {
    const found = new Findings();
    found.immutable('nodeTopology', o.nodeTopology, old.nodeTopology);
    found.immutable('storageClassName', o.storageClassName, old.storageClassName);
    return found.errors;
  },
};

export const volumeAttachment: KindStrategy = {
  prepareForCreate(o) {
    o.status = { attached: false };
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  validate(o): FieldError[] {
    const found = new Findings();
    const declared = new Findings();
    const s = o.spec ?? {};
    if (!s.attacher) found.required('spec.attacher');
    else {
      declared.problems('spec.attacher', s.attacher, caselessProblems);
      if (s.attacher.length > 63) declared.tooLong('spec.attacher', 'may not be more than 63 characters');
    }
    const { persistentVolumeName: name, inlineVolumeSpec: inline } = s.source ?? {};
    const one = 'must specify exactly one of inlineVolumeSpec and persistentVolumeName';
    if (inline && name !== undefined) found.forbidden('spec.source', one);
    else if (!inline && name === undefined) found.required('spec.source', one);
    else if (name === '') found.required('spec.source.persistentVolumeName', 'must specify non empty persistentVolumeName');
    found.problems('spec.nodeName', s.nodeName ?? '', subdomainProblems);
    if (name !== undefined) found.problems('spec.source.persistentVolumeName', name, subdomainProblems);
    return [...found.errors, ...declared.errors];
  },
  validateUpdate(o, old) {
    const found = new Findings();
    if (canonicalJson(o.spec) !== canonicalJson(old.spec)) found.invalid('spec', null, 'field is immutable');
    return found.errors;
  },
  columns: columns(
    column('Attacher', (o) => o.spec?.attacher ?? ''),
    column('PV', (o) => o.spec?.source?.persistentVolumeName ?? ''),
    column('Node', (o) => o.spec?.nodeName ?? ''),
    column('Attached', (o) => o.status?.attached ?? false, { type: 'boolean' }),
  ),
};

export const volumeAttributesClass: KindStrategy = {
  validate(o) {
    const found = new Findings();
    const declared = new Findings();
    validateProvisioner(found, declared, 'driverName', o.driverName);
    validateParameters(found, o.parameters, false);
    return [...found.errors, ...declared.errors];
  },
  updateFirst(o, old) {
    const found = new Findings();
    if (o.driverName !== old.driverName) found.forbidden('driverName', 'updates to driverName are forbidden.');
    if (canonicalJson(o.parameters) !== canonicalJson(old.parameters)) found.forbidden('parameters', 'updates to parameters are forbidden.');
    return found.errors;
  },
  columns: columns(column('DriverName', (o) => o.driverName ?? '')),
};
