import { isConflict, isNotFound } from '../api/errors.ts';
import type { KubeObject, ResourceType } from '../api/object.ts';
import { statusEqual } from './canonical.ts';
import type { ControllerContext } from './controller.ts';

/**
 * Writes an object's status where it differs from what the object shows. A conflict is met by reading anew, twice; an object that is
 * gone, or another of its name by now, is left alone. Returns the object as it is now.
 */
export async function writeStatus<T extends KubeObject & { status?: unknown }>(
  { client }: ControllerContext,
  type: ResourceType<T>,
  object: T,
  statusOf: (current: T) => T['status'],
): Promise<T> {
  let current = object;
  for (let attempt = 0; ; attempt++) {
    const status = statusOf(current);
    if (statusEqual(status, current.status)) return current;
    try {
      return await client.update(type, { ...current, status }, { subresource: 'status' });
    } catch (error) {
      if (isNotFound(error)) return current;
      if (!isConflict(error) || attempt >= 2) throw error;
      const live = await client.get(type, object.metadata).catch((e) => {
        if (isNotFound(e)) return undefined;
        throw e;
      });
      if (live?.metadata.uid !== object.metadata.uid) return current;
      current = live;
    }
  }
}
