import { apiVersionOf, type KubeObject } from '../../api/object.ts';
import type { ServedResource } from '../../api/scheme.ts';
import { type Entry, convertTo, settleConverted } from './entry.ts';
import { clone } from './json.ts';

/**
 * Asks the conversion webhook of a custom resource for those of these objects that are kept in another version, so that `as` can answer at
 * once. Undefined where nothing is to be asked, which is the case for all but custom resources with a webhook.
 */
export function settle(entries: Iterable<Entry>, served: ServedResource): Promise<void> | undefined {
  const conversion = served.custom?.conversion;
  if (!conversion) return undefined;
  const foreign: Entry[] = [];
  for (const entry of entries) if (entry.needsConversion(served)) foreign.push(entry);
  if (foreign.length === 0) return undefined;
  return conversion
    .convert(
      foreign.map((e) => e.completed(served)),
      apiVersionOf(served),
    )
    .then((objects) => foreign.forEach((entry, i) => settleConverted(entry, served, objects[i] as KubeObject)));
}

/** An object of a request's version in the version in which the resource is stored. */
export async function toStored(object: KubeObject, served: ServedResource, stored: ServedResource): Promise<KubeObject> {
  const conversion = stored.custom?.conversion;
  if (!conversion || served.version === stored.version) return convertTo(object, served, stored);
  const [converted] = await conversion.convert([clone(object)], apiVersionOf(stored));
  stored.custom?.prune(converted);
  return converted as KubeObject;
}
