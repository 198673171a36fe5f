import type { PersistentVolumeClaim, StorageClass } from '../../api/generated/types.ts';
import type { AdmissionPlugin } from './chain.ts';

const defaultAnnotation = 'storageclass.kubernetes.io/is-default-class';

/** A claim that names no class gets the default one: the newest, if there are several. */
export const defaultStorageClass: AdmissionPlugin = {
  name: 'DefaultStorageClass',
  admit({ api, group, resource, subresource, operation, object }) {
    if (group !== '' || resource !== 'persistentvolumeclaims' || subresource || operation !== 'CREATE') return;
    const claim = object as PersistentVolumeClaim;
    if (
      !claim.spec ||
      claim.spec.storageClassName !== undefined ||
      claim.metadata.annotations?.['volume.beta.kubernetes.io/storage-class'] !== undefined
    )
      return;
    const classes = api.registry
      .cache('storage.k8s.io', 'v1', 'storageclasses')
      .list()
      .map((e) => e.object as unknown as StorageClass)
      .filter((c) => c.metadata.annotations?.[defaultAnnotation] === 'true')
      .sort((a, b) => {
        const [x, y] = [a.metadata.creationTimestamp ?? '', b.metadata.creationTimestamp ?? ''];
        return x === y ? (a.metadata.name! < b.metadata.name! ? -1 : 1) : x > y ? -1 : 1;
      });
    if (classes[0]) claim.spec.storageClassName = classes[0].metadata.name!;
  },
};

const protections: Record<string, string> = {
  '/persistentvolumeclaims': 'kubernetes.io/pvc-protection',
  '/persistentvolumes': 'kubernetes.io/pv-protection',
  'storage.k8s.io/volumeattributesclasses': 'kubernetes.io/vac-protection',
};

/** Claims and volumes stay until nothing uses them: a finalizer that a controller removes. */
export const storageObjectInUseProtection: AdmissionPlugin = {
  name: 'StorageObjectInUseProtection',
  admit({ group, resource, subresource, operation, object }) {
    const finalizer = protections[`${group}/${resource}`];
    if (!finalizer || subresource || operation !== 'CREATE') return;
    const { metadata } = object;
    if (!metadata.finalizers?.includes(finalizer)) metadata.finalizers = [...(metadata.finalizers ?? []), finalizer];
  },
};
