import type { PersistentVolumeClaim } from '../../api/generated/types.ts';
import { classOf } from '../../controllers/volumes.ts';
import type { Handle, Plugin } from '../framework.ts';
import type { NodeInfo } from '../node-info.ts';

const TOPOLOGY_LABELS = [
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'failure-domain.beta.kubernetes.io/zone',
  'failure-domain.beta.kubernetes.io/region',
];

/** Volumes labelled with a zone or region go to nodes of that zone or region. */
export function volumeZone(handle: Handle): Plugin {
  return {
    name: 'VolumeZone',
    events: ['NodeAdd', 'NodeLabel', 'Claim', 'Volume', 'StorageClass'],
    prepare({ pod, claims }) {
      const wanted: { key: string; values: Set<string> }[] = [];
      for (const name of claims) {
        const claim = handle.claims.get(`${pod.metadata.namespace}/${name}`);
        const volume = claim?.spec.volumeName ? handle.volumes.get(claim.spec.volumeName) : undefined;
        for (const key of TOPOLOGY_LABELS) {
          const value = volume?.metadata.labels?.[key];
          if (value) wanted.push({ key, values: new Set(value.split('__')) });
        }
      }
      if (wanted.length === 0) return undefined;
      return {
        filter(node) {
          if (!TOPOLOGY_LABELS.some((key) => key in node.labels)) return undefined;
          const fits = wanted.every(({ key, values }) => values.has(node.labels[key] ?? ''));
          return fits ? undefined : { reasons: ['node(s) had no available volume zone'], resolvable: false };
        },
      };
    },
  };
}

/** ReadWriteOncePod: one pod in the cluster. */
export function volumeRestrictions(handle: Handle): Plugin {
  return {
    name: 'VolumeRestrictions',
    events: ['AssignedPodDelete', 'Claim'],
    prepare({ pod, claims }, cache) {
      const exclusive = claims
        .map((name) => `${pod.metadata.namespace}/${name}`)
        .filter((key) => handle.claims.get(key)?.spec.accessModes?.includes('ReadWriteOncePod'));
      if (exclusive.length === 0) return undefined;
      const used = cache.nodes.some((node) => exclusive.some((key) => node.claims.has(key)));
      const reasons = ['node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod'];
      return used ? { filter: () => ({ reasons, resolvable: true }) } : undefined;
    },
  };
}

/** As many volumes of a CSI driver on a node as CSINode says that it can hold. */
export function nodeVolumeLimits(handle: Handle): Plugin {
  /** The driver of a claim's volume, and the volume's name as far as it is known. */
  const volumeOf = (claim: PersistentVolumeClaim | undefined): { driver: string; id: string } | undefined => {
    if (!claim) return undefined;
    const volume = claim.spec.volumeName ? handle.volumes.get(claim.spec.volumeName) : undefined;
    if (volume?.spec.csi) return { driver: volume.spec.csi.driver, id: volume.spec.csi.volumeHandle };
    if (claim.spec.volumeName) return undefined;
    const driver = handle.storageClasses.get(classOf(claim))?.provisioner;
    return driver ? { driver, id: `${claim.metadata.namespace}/${claim.metadata.name}` } : undefined;
  };
  const attachedTo = (node: NodeInfo, driver: string): Set<string> => {
    const ids = new Set<string>();
    for (const key of node.claims.keys()) {
      const volume = volumeOf(handle.claims.get(key));
      if (volume?.driver === driver) ids.add(volume.id);
    }
    for (const attachment of handle.volumeAttachments.byIndex('node', node.name)) {
      const name = attachment.spec.source.persistentVolumeName;
      const csi = name ? handle.volumes.get(name)?.spec.csi : undefined;
      if (csi?.driver === driver) ids.add(csi.volumeHandle);
    }
    return ids;
  };
  return {
    name: 'NodeVolumeLimits',
    events: ['NodeAdd', 'CSINode', 'AssignedPodDelete', 'Claim', 'VolumeAttachment'],
    prepare({ pod, claims }) {
      const wanted = claims.map((name) => volumeOf(handle.claims.get(`${pod.metadata.namespace}/${name}`))).filter((v) => v !== undefined);
      if (wanted.length === 0) return undefined;
      const drivers = [...new Set(wanted.map((v) => v.driver))];
      return {
        filter(node) {
          const limits = handle.csiNodes.get(node.name)?.spec.drivers ?? [];
          for (const driver of drivers) {
            const limit = limits.find((d) => d.name === driver)?.allocatable?.count;
            if (limit === undefined) continue;
            const ids = attachedTo(node, driver);
            const before = ids.size;
            for (const volume of wanted) if (volume.driver === driver) ids.add(volume.id);
            if (ids.size > before && ids.size > limit) return { reasons: ['node(s) exceed max volume count'], resolvable: true };
          }
          return undefined;
        },
      };
    },
  };
}
