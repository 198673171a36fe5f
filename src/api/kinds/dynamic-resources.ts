import type { KindStrategy } from '../scheme.ts';
import { generationOfSpec, specAndStatus } from './spec-and-status.ts';

/** Requests ask for one device where they do not say how many. */
function defaultRequests(devices: any): void {
  for (const request of devices?.requests ?? []) {
    // Before v1, what `exactly` holds stood in the request itself.
    const asks = [request.exactly ?? (request.deviceClassName ? request : undefined), ...(request.firstAvailable ?? [])];
    for (const ask of asks) {
      if (!ask) continue;
      ask.allocationMode ||= 'ExactCount';
      if (ask.allocationMode === 'ExactCount') ask.count ||= 1;
    }
    for (const ask of asks) for (const toleration of ask?.tolerations ?? []) toleration.operator ||= 'Equal';
  }
}

export const deviceClass: KindStrategy = generationOfSpec;
export const resourceSlice: KindStrategy = generationOfSpec;
export const resourceClaim: KindStrategy = {
  default: (o) => defaultRequests(o.spec?.devices),
  prepareForCreate(o) {
    o.status = {};
  },
  prepareForUpdate(o, old) {
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
};
export const resourceClaimTemplate: KindStrategy = { default: (o) => defaultRequests(o.spec?.spec?.devices) };
