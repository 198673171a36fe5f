import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import { compareQuantities, parseQuantity } from '../quantity.ts';
import { labelProblems, subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';
import { validateLabelSelector, validateNodeSelector } from './scheduling-validation.ts';
import { sourceChecks, validateSources } from './volume-sources.ts';

const accessModes = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];
const volumeModes = ['Block', 'Filesystem'];
/** Volumes in the order in which upstream looks at them. */
const sources = [
  ...['hostPath', 'gcePersistentDisk', 'awsElasticBlockStore', 'glusterfs', 'flocker', 'nfs', 'rbd', 'quobyte', 'cephfs', 'iscsi', 'cinder', 'fc'],
  ...['flexVolume', 'azureFile', 'vsphereVolume', 'photonPersistentDisk', 'portworxVolume', 'azureDisk', 'scaleIO', 'local', 'storageos', 'csi'],
];

function validateAmount(found: Findings, field: string, amount: string): void {
  if (parseQuantity(amount).nano <= 0n) found.invalid(field, amount, 'must be greater than zero');
}

function validateModes(found: Findings, modes: string[], field: string): void {
  for (const mode of modes) found.oneOf(field, mode, accessModes);
  const known = modes.filter((mode) => accessModes.includes(mode));
  if (known.includes('ReadWriteOncePod') && known.some((mode) => mode !== 'ReadWriteOncePod'))
    found.forbidden(field, 'may not use ReadWriteOncePod with other access modes');
}

function validateDataSource(found: Findings, source: any, at: string): void {
  if (!source.name) found.required(`${at}.name`);
  if (!source.kind) found.required(`${at}.kind`);
  if (!source.apiGroup && source.kind !== 'PersistentVolumeClaim')
    found.invalid(at, source.kind ?? '', "must be 'PersistentVolumeClaim' when referencing the default apiGroup");
  if (source.apiGroup) found.problems(`${at}.apiGroup`, source.apiGroup, subdomainProblems);
  if (source.namespace) found.problems(`${at}.namespace`, source.namespace, labelProblems);
}

const reference = (source: any) => `${source.apiGroup ?? ''}/${source.kind}/${source.name}`;

/** The spec of a claim, or of the template of one. */
export function validateClaimSpec(found: Findings, s: any, at: string): void {
  if (!s.accessModes?.length) found.required(`${at}.accessModes`, 'at least 1 access mode is required');
  if (s.selector) validateLabelSelector(found, s.selector, `${at}.selector`);
  validateModes(found, s.accessModes ?? [], `${at}.accessModes`);
  const storage = s.resources?.requests?.storage;
  if (storage === undefined) found.required(`${at}.resources[storage]`);
  else validateAmount(found, `${at}.resources[storage]`, storage);
  if (s.storageClassName) found.problems(`${at}.storageClassName`, s.storageClassName, subdomainProblems);
  if (s.volumeMode !== undefined) found.oneOf(`${at}.volumeMode`, s.volumeMode, volumeModes);
  const { dataSource: source, dataSourceRef: ref } = s;
  if (source) validateDataSource(found, source, `${at}.dataSource`);
  if (ref) validateDataSource(found, ref, `${at}.dataSourceRef`);
  if (source && ref?.namespace) found.invalid(at, {}, 'may not be specified when dataSourceRef.namespace is specified');
  else if (source && ref && reference(source) !== reference(ref)) found.invalid(at, {}, 'must match dataSourceRef');
  if (s.volumeAttributesClassName) found.problems(`${at}.volumeAttributesClassName`, s.volumeAttributesClassName, subdomainProblems);
}

export function validatePersistentVolumeClaim(o: any): FieldError[] {
  const found = new Findings();
  validateClaimSpec(found, o.spec ?? {}, 'spec');
  return found.errors;
}

const immutableSpec = 'spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims';

/** Bound claims may ask for more, and for another class of attributes; nothing else changes. */
export function validatePersistentVolumeClaimUpdate(o: any, old: any): FieldError[] {
  const found = new Findings();
  const mine = structuredClone(o.spec ?? {});
  const before = structuredClone(old.spec ?? {});
  const bound = o.status?.phase === 'Bound';
  if (!before.volumeName) before.volumeName = mine.volumeName;
  if (before.storageClassName === undefined && mine.storageClassName !== undefined) mine.storageClassName = before.storageClassName;
  if (bound && mine.resources?.requests) mine.resources.requests.storage = before.resources?.requests?.storage;
  if (bound) mine.volumeAttributesClassName = before.volumeAttributesClassName;
  if (canonicalJson(mine) !== canonicalJson(before)) found.forbidden('spec', immutableSpec);
  const [was, is] = [old.spec?.resources?.requests?.storage ?? '0', o.spec?.resources?.requests?.storage ?? '0'];
  if (compareQuantities(is, was) < 0 && compareQuantities(is, old.status?.capacity?.storage ?? '0') <= 0)
    found.forbidden('spec.resources.requests.storage', 'field can not be less than status.capacity');
  found.immutable('volumeMode', o.spec?.volumeMode, old.spec?.volumeMode);
  return found.errors;
}

export function validatePersistentVolume(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (!s.accessModes?.length) found.required('spec.accessModes');
  validateModes(found, s.accessModes ?? [], 'spec.accessModes');
  const names = Object.keys(s.capacity ?? {}).sort();
  if (!names.length) found.required('spec.capacity');
  if (!names.includes('storage') || names.length > 1) found.oneOf('spec.capacity', s.capacity ?? null, ['storage']);
  for (const name of names) {
    const { nano } = parseQuantity(s.capacity[name]);
    if (nano < 0n) found.invalid(`spec.capacity[${name}]`, Number(nano / 1_000_000_000n), 'must be a valid resource quantity');
    validateAmount(found, `spec.capacity[${name}]`, s.capacity[name]);
  }
  if (s.persistentVolumeReclaimPolicy)
    found.oneOf('spec.persistentVolumeReclaimPolicy', s.persistentVolumeReclaimPolicy, ['Delete', 'Recycle', 'Retain']);
  if (s.nodeAffinity && !s.nodeAffinity.required) found.required('spec.nodeAffinity.required', 'must specify required node constraints');
  else if (s.nodeAffinity) validateNodeSelector(found, s.nodeAffinity.required, 'spec.nodeAffinity.required');
  const count = validateSources(found, s, sources, 'spec', (kind) => {
    sourceChecks[kind]?.(found, s[kind], `spec.${kind === 'gcePersistentDisk' ? 'persistentDisk' : kind}`, true);
    if (kind === 'local' && !s.nodeAffinity) found.required('spec.nodeAffinity', 'Local volume requires node affinity');
  });
  if (!count) found.required('spec', 'must specify a volume type');
  if (s.hostPath?.path === '/' && s.persistentVolumeReclaimPolicy === 'Recycle')
    found.forbidden('spec.persistentVolumeReclaimPolicy', "may not be 'recycle' for a hostPath mount of '/'");
  if (s.storageClassName) found.problems('spec.storageClassName', s.storageClassName, subdomainProblems);
  if (s.volumeMode !== undefined) found.oneOf('spec.volumeMode', s.volumeMode, volumeModes);
  const attributes = s.volumeAttributesClassName;
  if (attributes !== undefined) {
    if (!attributes) found.required('spec.volumeAttributesClassName', 'an empty string is disallowed');
    else found.problems('spec.volumeAttributesClassName', attributes, subdomainProblems);
    if (!s.csi) found.required('spec.csi', 'has to be specified when using volumeAttributesClassName');
  }
  return found.errors;
}

/** The volume itself never changes, nor where it can be reached from. */
export function validatePersistentVolumeUpdate(o: any, old: any): FieldError[] {
  const found = new Findings();
  const volume = (s: any) => canonicalJson(Object.fromEntries(sources.map((kind) => [kind, s?.[kind]])));
  const mine = structuredClone(o.spec ?? {});
  if (old.spec?.csi && !old.spec.csi.controllerExpandSecretRef && mine.csi) delete mine.csi.controllerExpandSecretRef;
  if (volume(mine) !== volume(old.spec))
    found.forbidden('spec.persistentvolumesource', 'spec.persistentvolumesource is immutable after creation');
  found.immutable('volumeMode', o.spec?.volumeMode, old.spec?.volumeMode);
  if (old.spec?.nodeAffinity && canonicalJson(o.spec?.nodeAffinity) !== canonicalJson(old.spec.nodeAffinity)) {
    const detail = 'field is immutable, except for updating from beta label to GA';
    found.invalid('nodeAffinity', internalAffinity(o.spec?.nodeAffinity), detail);
  }
  if (old.spec?.volumeAttributesClassName !== undefined && o.spec?.volumeAttributesClassName === undefined)
    found.forbidden('spec.volumeAttributesClassName', 'update from non-nil value to nil is forbidden');
  return found.errors;
}

const internalTerms = (list: any[] | undefined) =>
  list?.map((e) => ({ Key: e.key ?? '', Operator: e.operator ?? '', Values: e.values ?? null })) ?? null;

/** A node affinity as upstream's internal type shows it in messages. */
function internalAffinity(affinity: any): unknown {
  if (!affinity) return null;
  const terms = affinity.required?.nodeSelectorTerms;
  if (!affinity.required) return { Required: null };
  return {
    Required: {
      NodeSelectorTerms:
        terms?.map((t: any) => ({ MatchExpressions: internalTerms(t.matchExpressions), MatchFields: internalTerms(t.matchFields) })) ?? null,
    },
  };
}
