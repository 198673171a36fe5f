import { createHash } from 'node:crypto';
import { isAlreadyExists, isNotFound } from '../api/errors.ts';
import type { CSIPersistentVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, Pod, VolumeAttachment } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import { semanticEqual } from './canonical.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { readyCondition } from './nodelifecycle.ts';
import { isPodTerminal } from './pod-facts.ts';
import { startReconciler } from './reconciler.ts';
import { claimKeysOf, indexByClaim, podsUsing } from './volume-users.ts';

/** How long a node that is not healthy may keep a volume mounted before it is taken away, in milliseconds; 6 minutes as upstream. */
const MAX_UNMOUNT_WAIT = 6 * 60_000;
const OUT_OF_SERVICE = 'node.kubernetes.io/out-of-service';

export interface AttachDetachOptions {
  maxWaitForUnmountMs?: number;
}

/** The name of a CSI volume in Node.status.volumesInUse and volumesAttached. */
const uniqueName = (csi: CSIPersistentVolumeSource): string => `kubernetes.io/csi/${csi.driver}^${csi.volumeHandle}`;

/** The name of the VolumeAttachment of a volume and a node, as upstream's CSI attacher makes it. */
export const attachmentName = (csi: CSIPersistentVolumeSource, node: string): string =>
  `csi-${createHash('sha256')
    .update(csi.volumeHandle + csi.driver + node)
    .digest('hex')}`;

/** Attachments under other names are somebody else's. */
const isOurs = (attachment: VolumeAttachment): boolean => /^csi-[0-9a-f]{64}$/.test(attachment.metadata.name);

/**
 * Asks for CSI volumes to be attached to the nodes whose pods use them, by VolumeAttachments, and to be detached when no pod there
 * does and the node has unmounted them. A volume for one node goes to the next only when the attachment to the first is gone.
 * Watches pods, claims, volumes, nodes, CSIDrivers and VolumeAttachments.
 */
export function startAttachDetachController(context: ControllerContext, options: AttachDetachOptions = {}): Controller {
  const { client, clock, events, informers } = context;
  const maxWait = options.maxWaitForUnmountMs ?? MAX_UNMOUNT_WAIT;
  const pods = informers.informer(resources.pods);
  const claims = informers.informer(resources.persistentvolumeclaims);
  const volumes = informers.informer(resources.persistentvolumes);
  const nodes = informers.informer(resources.nodes);
  const drivers = informers.informer(resources.csidrivers);
  const attachments = informers.informer(resources.volumeattachments);
  /** When a detachment was first wanted, by the attachment's uid. */
  const unwantedSince = new Map<string, number>();
  /** Attachments whose deletion is being asked for: their node must not take them for attached. */
  const detaching = new Set<string>();
  /** Waiting pods that have been told so: volume and node. */
  const told = new Set<string>();
  indexByClaim(pods);
  attachments.addIndex('volume', (a) => [a.spec.source.persistentVolumeName ?? '']);
  attachments.addIndex('node', (a) => [a.spec.nodeName]);
  const loop = startReconciler(context, {
    name: 'persistentvolume-attach-detach-controller',
    workers: 10,
    waitFor: [pods, claims, volumes, nodes, drivers, attachments],
    reconcile,
  });
  const enqueueVolume = (name: string | undefined) => {
    if (name) loop.enqueue(`volume/${name}`);
  };
  const onPod = (pod: Pod) => {
    for (const key of claimKeysOf(pod)) enqueueVolume(claims.get(key)?.spec.volumeName);
  };
  const onClaim = (claim: PersistentVolumeClaim) => enqueueVolume(claim.spec.volumeName);
  const onAttachment = (attachment: VolumeAttachment) => {
    enqueueVolume(attachment.spec.source.persistentVolumeName);
    loop.enqueue(`node/${attachment.spec.nodeName}`);
  };
  const onNode = (node: Node) => {
    for (const attachment of attachments.byIndex('node', node.metadata.name)) enqueueVolume(attachment.spec.source.persistentVolumeName);
  };
  pods.addHandlers({
    onAdd: onPod,
    onUpdate(before, after) {
      if (before.spec.nodeName !== after.spec.nodeName || before.status?.phase !== after.status?.phase) onPod(after);
    },
    onDelete: onPod,
  });
  claims.addHandlers({ onAdd: onClaim, onUpdate: (_, after) => onClaim(after) });
  volumes.addHandlers({ onAdd: (volume) => enqueueVolume(volume.metadata.name) });
  attachments.addHandlers({
    onAdd: onAttachment,
    onUpdate: (_, after) => onAttachment(after),
    onDelete(attachment) {
      unwantedSince.delete(attachment.metadata.uid);
      detaching.delete(attachment.metadata.uid);
      onAttachment(attachment);
    },
  });
  nodes.addHandlers({
    onAdd(node) {
      loop.enqueue(`node/${node.metadata.name}`);
      onNode(node);
    },
    onUpdate(before, after) {
      const face = (n: Node) => [n.status?.volumesInUse, readyCondition(n)?.status, n.spec.taints];
      if (!semanticEqual(face(before), face(after))) onNode(after);
    },
    onDelete: onNode,
  });
  return loop;

  async function reconcile(key: string): Promise<void> {
    const slash = key.indexOf('/');
    const name = key.slice(slash + 1);
    if (key.startsWith('node/')) await reportAttached(name);
    else await reconcileVolume(name);
  }

  async function reconcileVolume(name: string): Promise<void> {
    const volume = volumes.get(name);
    const present = attachments.byIndex('volume', name);
    const wanted = volume?.spec.csi && needsAttachment(volume.spec.csi.driver) ? usersByNode(volume) : new Map<string, Pod[]>();
    for (const attachment of present) {
      if (wanted.has(attachment.spec.nodeName)) unwantedSince.delete(attachment.metadata.uid);
      else if (isOurs(attachment) && !attachment.metadata.deletionTimestamp) await detach(attachment, volume);
    }
    if (!volume?.spec.csi || volume.metadata.deletionTimestamp) return;
    for (const [node, users] of wanted) await attach(volume, node, users, present);
  }

  function needsAttachment(driver: string): boolean {
    return drivers.get(driver)?.spec.attachRequired !== false;
  }

  /** The nodes on which pods use the volume; a pod on its way out counts until it is gone. */
  function usersByNode(volume: PersistentVolume): Map<string, Pod[]> {
    const ref = volume.spec.claimRef;
    const claim = ref && claims.get(`${ref.namespace}/${ref.name}`);
    const users = new Map<string, Pod[]>();
    if (!claim || claim.spec.volumeName !== volume.metadata.name) return users;
    for (const pod of podsUsing(pods, claim)) {
      const { nodeName } = pod.spec;
      if (!nodeName || isPodTerminal(pod)) continue;
      const there = users.get(nodeName);
      if (there) there.push(pod);
      else users.set(nodeName, [pod]);
    }
    return users;
  }

  async function attach(volume: PersistentVolume, node: string, users: Pod[], present: VolumeAttachment[]): Promise<void> {
    const csi = volume.spec.csi!;
    const mark = `${volume.metadata.name}/${node}`;
    if (present.some((a) => a.spec.nodeName === node)) return void told.delete(mark);
    const elsewhere = present.filter((a) => a.spec.nodeName !== node);
    if (elsewhere.length > 0 && !mayAttachToMany(volume)) {
      if (told.has(mark)) return;
      told.add(mark);
      sayWhoHasIt(volume, users, elsewhere);
      return;
    }
    told.delete(mark);
    const spec = { attacher: csi.driver, nodeName: node, source: { persistentVolumeName: volume.metadata.name } };
    // The cache may lag: one made for another node meanwhile is seen by asking.
    if (!mayAttachToMany(volume)) {
      const live = await client.list(resources.volumeattachments);
      if (live.items.some((a) => a.spec.source.persistentVolumeName === volume.metadata.name && a.spec.nodeName !== node))
        return loop.enqueueAfter(`volume/${volume.metadata.name}`, 1000);
    }
    try {
      await client.create(resources.volumeattachments, { metadata: { name: attachmentName(csi, node) }, spec });
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
    }
  }

  function sayWhoHasIt(volume: PersistentVolume, users: Pod[], elsewhere: VolumeAttachment[]): void {
    const others = [...usersByNode(volume)].filter(([node]) => elsewhere.some((a) => a.spec.nodeName === node)).flatMap(([, list]) => list);
    for (const pod of users) {
      const local = others.filter((p) => p.metadata.namespace === pod.metadata.namespace).map((p) => p.metadata.name);
      const why = local.length
        ? `Volume is already used by pod(s) ${local.join(', ')}`
        : 'Volume is already exclusively attached to one node, waiting on detach before it can be attached to another node';
      events.event(pod, 'Warning', 'FailedAttachVolume', `Waiting for detach for volume "${volume.metadata.name}" ${why}`);
    }
  }

  /** Gives a volume up where the node has unmounted it, or can no longer be asked to. */
  async function detach(attachment: VolumeAttachment, volume: PersistentVolume | undefined): Promise<void> {
    const { uid, name } = attachment.metadata;
    const since = unwantedSince.get(uid) ?? clock.now();
    unwantedSince.set(uid, since);
    const node = nodes.get(attachment.spec.nodeName);
    const inUse = !!volume?.spec.csi && !!node?.status?.volumesInUse?.includes(uniqueName(volume.spec.csi));
    if (inUse) {
      const outOfService = node!.spec.taints?.some((t) => t.key === OUT_OF_SERVICE && t.effect === 'NoExecute');
      const left = since + maxWait - clock.now();
      const healthy = readyCondition(node!)?.status === 'True';
      if (!outOfService && (healthy || left > 0)) {
        if (!healthy) loop.enqueueAfter(`volume/${volume!.metadata.name}`, Math.max(left, 1000));
        return;
      }
    }
    detaching.add(uid);
    try {
      if (node) await reportAttached(node.metadata.name);
      // Since the node was told, it may have begun to use it: then it says so first.
      if (!inUse && node && volume?.spec.csi && (await usesAfterAll(node.metadata.name, volume.spec.csi))) {
        detaching.delete(uid);
        loop.enqueue(`node/${node.metadata.name}`);
        return;
      }
      await client.delete(resources.volumeattachments, { name }, { preconditions: { uid } });
    } catch (error) {
      if (isNotFound(error)) return;
      detaching.delete(uid);
      loop.enqueue(`node/${attachment.spec.nodeName}`);
      throw error;
    }
  }

  async function usesAfterAll(node: string, csi: CSIPersistentVolumeSource): Promise<boolean> {
    try {
      const live = await client.get(resources.nodes, { name: node });
      return !!live.status?.volumesInUse?.includes(uniqueName(csi));
    } catch (error) {
      if (isNotFound(error)) return false;
      throw error;
    }
  }

  /** Writes node.status.volumesAttached: what the kubelet may mount. */
  async function reportAttached(name: string): Promise<void> {
    const node = nodes.get(name);
    if (!node) return;
    const volumesAttached = attachments
      .byIndex('node', name)
      .filter((a) => a.status?.attached && !a.metadata.deletionTimestamp && !detaching.has(a.metadata.uid))
      .map((a) => volumes.get(a.spec.source.persistentVolumeName ?? '')?.spec.csi)
      .filter((csi) => csi !== undefined)
      .map((csi) => ({ name: uniqueName(csi), devicePath: '' }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
    const before = [...(node.status?.volumesAttached ?? [])].sort((a, b) => (a.name < b.name ? -1 : 1));
    if (semanticEqual(before, volumesAttached)) return;
    const patch = { metadata: { uid: node.metadata.uid }, status: { volumesAttached } };
    await client.patch(resources.nodes, { name }, 'merge', patch, { subresource: 'status' });
  }
}

const mayAttachToMany = (volume: PersistentVolume): boolean =>
  (volume.spec.accessModes ?? []).some((mode) => mode === 'ReadWriteMany' || mode === 'ReadOnlyMany');
