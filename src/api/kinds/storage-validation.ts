import type { FieldError } from '../errors.ts';
import { parseQuantity } from '../quantity.ts';
import { subdomainProblems } from '../validation.ts';
import { Findings } from './findings.ts';

const accessModes = ['ReadOnlyMany', 'ReadWriteMany', 'ReadWriteOnce', 'ReadWriteOncePod'];
const volumeModes = ['Block', 'Filesystem'];
/** What of a PersistentVolumeSpec is no volume. */
const notSources = [
  'accessModes',
  'capacity',
  'claimRef',
  'mountOptions',
  'nodeAffinity',
  'persistentVolumeReclaimPolicy',
  'storageClassName',
  'volumeAttributesClassName',
  'volumeMode',
];

function validateStorage(found: Findings, field: string, amount: string): void {
  if (parseQuantity(amount).nano <= 0n) found.invalid(field, amount, 'must be greater than zero');
}

function validateModes(found: Findings, modes: string[], field: string): void {
  for (const mode of modes) found.oneOf(field, mode, accessModes);
  if (modes.includes('ReadWriteOncePod') && modes.length > 1) found.forbidden(field, 'may not use ReadWriteOncePod with other access modes');
}

export function validatePersistentVolumeClaim(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (!s.accessModes?.length) found.required('spec.accessModes', 'at least 1 access mode is required');
  validateModes(found, s.accessModes ?? [], 'spec.accessModes');
  const storage = s.resources?.requests?.storage;
  if (storage === undefined) found.required('spec.resources[storage]');
  else validateStorage(found, 'spec.resources[storage]', storage);
  if (s.storageClassName) found.problems('spec.storageClassName', s.storageClassName, subdomainProblems);
  if (s.volumeMode) found.oneOf('spec.volumeMode', s.volumeMode, volumeModes);
  return found.errors;
}

export function validatePersistentVolume(o: any): FieldError[] {
  const found = new Findings();
  const s = o.spec ?? {};
  if (!s.accessModes?.length) found.required('spec.accessModes');
  validateModes(found, s.accessModes ?? [], 'spec.accessModes');
  const names = Object.keys(s.capacity ?? {});
  if (!names.length) found.required('spec.capacity');
  if (!names.includes('storage') || names.length > 1) found.oneOf('spec.capacity', s.capacity ?? null, ['storage']);
  if (s.capacity?.storage !== undefined) validateStorage(found, 'spec.capacity[storage]', s.capacity.storage);
  if (s.persistentVolumeReclaimPolicy)
    found.oneOf('spec.persistentVolumeReclaimPolicy', s.persistentVolumeReclaimPolicy, ['Delete', 'Recycle', 'Retain']);
  const sources = Object.keys(s).filter((k) => !notSources.includes(k) && s[k]);
  if (!sources.length) found.required('spec', 'must specify a volume type');
  for (const extra of sources.slice(1)) found.forbidden(`spec.${extra}`, 'may not specify more than 1 volume type');
  if (s.storageClassName) found.problems('spec.storageClassName', s.storageClassName, subdomainProblems);
  if (s.volumeMode) found.oneOf('spec.volumeMode', s.volumeMode, volumeModes);
  return found.errors;
}

export function validateStorageClass(o: any): FieldError[] {
  const found = new Findings();
  if (o.reclaimPolicy) found.oneOf('reclaimPolicy', o.reclaimPolicy, ['Delete', 'Retain']);
  if (o.volumeBindingMode) found.oneOf('volumeBindingMode', o.volumeBindingMode, ['Immediate', 'WaitForFirstConsumer']);
  if (!o.provisioner) found.required('provisioner');
  return found.errors;
}
