import type { Draft, KubeObject } from '../api/object.ts';
import type { Pod, PodTemplateSpec } from '../api/generated/types.ts';
import { isNotFound, StatusError } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import { controllerRef } from './ownership.ts';
import type { ControllerContext } from './controller.ts';

/** True for the refusal to create something in a namespace that is being deleted. */
export function isNamespaceTerminating(error: unknown): boolean {
  return error instanceof StatusError && (error.status.details?.causes ?? []).some((c) => c.reason === 'NamespaceTerminating');
}

/** The pod that a controller makes from its template. */
export function podFromTemplate(template: PodTemplateSpec, owner: KubeObject): Draft<Pod> {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: {
      namespace: owner.metadata.namespace,
      generateName: `${owner.metadata.name}-`,
      ...(labels ? { labels: { ...labels } } : {}),
      ...(annotations ? { annotations: { ...annotations } } : {}),
      ...(finalizers ? { finalizers: [...finalizers] } : {}),
      ownerReferences: [controllerRef(owner)],
    },
    spec: structuredClone(template.spec!),
  };
}

/** Creates a pod of the owner and says so in an event. Refusals are events too, but those of a namespace that goes away. */
export async function createPod({ client, events }: ControllerContext, owner: KubeObject, pod: Draft<Pod>): Promise<Pod> {
  try {
    const created = await client.create(resources.pods, pod);
    events.event(owner, 'Normal', 'SuccessfulCreate', `Created pod: ${created.metadata.name}`);
    return created;
  } catch (error) {
    if (!isNamespaceTerminating(error)) events.event(owner, 'Warning', 'FailedCreate', `Error creating: ${(error as Error).message}`);
    throw error;
  }
}

/** Deletes a pod of the owner and says so in an event. A pod that is gone already is no error; false then, for no event will tell of it. */
export async function deletePod({ client, events }: ControllerContext, owner: KubeObject, pod: Pod): Promise<boolean> {
  try {
    await client.delete(resources.pods, pod.metadata, { preconditions: { uid: pod.metadata.uid } });
    events.event(owner, 'Normal', 'SuccessfulDelete', `Deleted pod: ${pod.metadata.name}`);
    return true;
  } catch (error) {
    if (isNotFound(error)) return false;
    events.event(owner, 'Warning', 'FailedDelete', `Error deleting: ${(error as Error).message}`);
    throw error;
  }
}
