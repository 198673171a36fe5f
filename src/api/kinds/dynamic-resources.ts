import type { KindStrategy } from '../scheme.ts';
import { now } from '../time.ts';
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
/** A taint without a time has been there since now. */
const defaultTaint = (taint: any): void => {
  if (taint) taint.timeAdded ??= now();
};

export const resourceSlice: KindStrategy = {
  ...generationOfSpec,
  default: (o) => {
    for (const device of o.spec?.devices ?? []) for (const taint of device.taints ?? []) defaultTaint(taint);
  },
};
export const deviceTaintRule: KindStrategy = { ...specAndStatus, default: (o) => defaultTaint(o.spec?.taint) };
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
