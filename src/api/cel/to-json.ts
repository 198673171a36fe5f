import { wholeNumber } from '../json.ts';
import { durationText, timestampText } from './library/time.ts';
import { CelError, Duration, isList, isMap, itemsOfList, Optional, Timestamp, typeNameOf, Uint, type Value } from './values.ts';

/** A value as JSON: what mutations put into objects. CelError where it has no form there. */
export function toJson(value: Value): unknown {
  if (value === null || typeof value === 'boolean' || typeof value === 'string' || typeof value === 'number') return value;
  if (typeof value === 'bigint') return wholeNumber(value);
  if (value instanceof Uint) return wholeNumber(value.value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (value instanceof Timestamp) return timestampText(value);
  if (value instanceof Duration) return durationText(value);
  if (value instanceof Optional) return value.value === undefined ? null : toJson(value.value);
  if (isList(value)) return [...itemsOfList(value)].map(toJson);
  if (isMap(value)) {
    const object: Record<string, unknown> = {};
    for (const key of value.keys()) {
      if (typeof key !== 'string') throw new CelError(`unsupported map key type: ${typeNameOf(key)}`);
      Object.defineProperty(object, key, { value: toJson(value.get(key) as Value), enumerable: true, configurable: true, writable: true });
    }
    return object;
  }
  throw new CelError(`unsupported type conversion: ${typeNameOf(value)}`);
}
