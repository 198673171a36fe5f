import type { ServedResource } from './scheme.ts';

/** Completes an object in place: the schema's defaults, then the kind's own. */
export function applyDefaults(resource: ServedResource, object: any): void {
  resource.strategy.default?.(object);
}
