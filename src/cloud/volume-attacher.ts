import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { VolumeAttachment } from '../api/generated/types.ts';
import { type CloudContext, type Controller, startReconciler } from './controller.ts';

const finalizer = 'external-attacher/ebs-csi-aws-com';

/**
 * Attaches and detaches volumes as VolumeAttachments of this cloud's CSI driver ask for: what the external-attacher beside the EBS CSI driver
 * does. Where the device is stands in status.attachmentMetadata.devicePath.
 */
export function startVolumeAttacher(context: CloudContext): Controller {
  const { client, cloud, informers, log } = context;
  const { driver } = cloud.volumes;
  const attachments = informers.informer(resources.volumeattachments);
  const volumes = informers.informer(resources.persistentvolumes);
  const nodes = informers.informer(resources.nodes);
  const loop = startReconciler(context, {
    name: 'volume-attacher',
    workers: 20,
    backoff: { firstMs: 500, longestMs: 60_000 },
    waitFor: [attachments, volumes, nodes],
    reconcile,
  });
  const enqueue = (attachment: VolumeAttachment) => {
    if (attachment.spec.attacher === driver) loop.enqueue(attachment.metadata.name);
  };
  attachments.addHandlers({
    onAdd: enqueue,
    onUpdate(before, after) {
      if (before.metadata.deletionTimestamp !== after.metadata.deletionTimestamp) enqueue(after);
    },
  });
  /** Where each node is in the cloud, for as long as it may hold volumes: the Node may go before its attachments. */
  const providerIds = new Map<string, string>();
  nodes.addHandlers({
    onAdd: (node) => node.spec.providerID && providerIds.set(node.metadata.name, node.spec.providerID),
    onUpdate: (_, node) => node.spec.providerID && providerIds.set(node.metadata.name, node.spec.providerID),
  });

  async function reconcile(name: string, signal: AbortSignal): Promise<void> {
    const attachment = attachments.get(name);
    if (!attachment) return;
    if (attachment.metadata.deletionTimestamp !== undefined) await detach(attachment, signal);
    else if (!attachment.status?.attached) await attach(attachment, signal);
  }

  function handleOf(attachment: VolumeAttachment): string | undefined {
    const csi = volumes.get(attachment.spec.source.persistentVolumeName ?? '')?.spec.csi ?? attachment.spec.source.inlineVolumeSpec?.csi;
    return csi?.volumeHandle;
  }

  async function attach(attachment: VolumeAttachment, signal: AbortSignal): Promise<void> {
    const { name } = attachment.metadata;
    try {
      const handle = handleOf(attachment);
      if (!handle) throw new Error(`persistentvolume "${attachment.spec.source.persistentVolumeName}" not found`);
      const node = nodes.get(attachment.spec.nodeName);
      if (!node) throw new Error(`node "${attachment.spec.nodeName}" not found`);
      const finalizers = attachment.metadata.finalizers ?? [];
      // Before the cloud is asked: what is attached must be detached before the object can go.
      if (!finalizers.includes(finalizer))
        await client.patch(resources.volumeattachments, { name }, 'merge', { metadata: { finalizers: [...finalizers, finalizer] } }, { signal });
      const { devicePath } = await cloud.volumes.attach(handle, node);
      const status = { attached: true, attachmentMetadata: { devicePath }, attachError: null };
      await client.patch(resources.volumeattachments, { name }, 'merge', { status }, { subresource: 'status', signal });
      log.info({ attachment: name, volume: handle, node: attachment.spec.nodeName, devicePath }, 'attached');
    } catch (error) {
      await fail(attachment, 'attachError', error, signal);
      throw error;
    }
  }

  async function detach(attachment: VolumeAttachment, signal: AbortSignal): Promise<void> {
    const { name, finalizers = [] } = attachment.metadata;
    if (!finalizers.includes(finalizer)) return;
    try {
      const handle = handleOf(attachment);
      const providerId = providerIds.get(attachment.spec.nodeName);
      if (handle) await cloud.volumes.detach(handle, { name: attachment.spec.nodeName, providerId: providerId ?? '' });
      const left = finalizers.filter((one) => one !== finalizer);
      if (attachment.status?.attached) {
        await client
          .patch(
            resources.volumeattachments,
            { name },
            'merge',
            { status: { attached: false, attachmentMetadata: null } },
            { subresource: 'status', signal },
          )
          .catch(ignoreMissing);
      }
      await client
        .patch(resources.volumeattachments, { name }, 'merge', { metadata: { finalizers: left.length ? left : null } }, { signal })
        .catch(ignoreMissing);
      log.info({ attachment: name, volume: handle, node: attachment.spec.nodeName }, 'detached');
    } catch (error) {
      await fail(attachment, 'detachError', error, signal);
      throw error;
    }
  }

  async function fail(attachment: VolumeAttachment, field: 'attachError' | 'detachError', error: unknown, signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    const time = new Date(context.clock.now()).toISOString().replace(/\.\d+Z$/, 'Z');
    const status = { attached: attachment.status?.attached ?? false, [field]: { time, message: (error as Error).message } };
    await client
      .patch(resources.volumeattachments, { name: attachment.metadata.name }, 'merge', { status }, { subresource: 'status', signal })
      .catch((second) => log.debug({ err: second }, 'the error cannot be noted'));
  }
  return loop.controller;
}

const ignoreMissing = (error: unknown) => {
  if (!isNotFound(error)) throw error;
};
