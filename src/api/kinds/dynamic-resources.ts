import type { KindStrategy } from '../scheme.ts';
import {
  validateDeviceClass,
  validateResourceClaim,
  validateResourceClaimStatus,
  validateResourceClaimTemplate,
  validateResourceClaimUpdate,
} from './device-claim-validation.ts';
import { longNameProblems } from './device-names.ts';
import { validateResourceSlice } from './resource-slice-validation.ts';
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

/** Takes away what only features that are off by default would keep. */
function dropUnreleased(devices: any): void {
  for (const request of devices?.requests ?? [])
    for (const ask of [request.exactly, ...(request.firstAvailable ?? [])]) if (ask) delete ask.derivedAttributes;
}

function dropUnreleasedOfSlice(slice: any): void {
  const { spec } = slice;
  if (!spec) return;
  delete spec.partitionTypeAttribute;
  delete spec.skipNodeOperations;
  for (const device of spec.devices ?? []) {
    delete device.nodeAllocatableResources;
    for (const attribute of Object.values((device.attributes ?? {}) as Record<string, any>))
      for (const kind of ['ints', 'bools', 'strings', 'versions']) delete attribute?.[kind];
  }
}

/** A taint without a time has been there since now. */
const defaultTaint = (taint: any): void => {
  if (taint) taint.timeAdded ??= now();
};

export const deviceTaintRule: KindStrategy = { ...specAndStatus, default: (o) => defaultTaint(o.spec?.taint) };
export const deviceClass: KindStrategy = {
  ...generationOfSpec,
  validateName: (name, prefix) => (prefix ? [] : longNameProblems(name)),
  updateValidatesAll: true,
  validate: (o) => validateDeviceClass(o),
  validateUpdate: validateDeviceClass,
};
export const resourceSlice: KindStrategy = {
  selectableFields: (o) => ({
    'spec.nodeName': o.spec?.nodeName ?? '',
    'spec.driver': o.spec?.driver ?? '',
    'spec.pool.name': o.spec?.pool?.name ?? '',
  }),
  default: (o) => {
    for (const device of o.spec?.devices ?? []) for (const taint of device.taints ?? []) defaultTaint(taint);
  },
  prepareForCreate(o, ctx) {
    dropUnreleasedOfSlice(o);
    generationOfSpec.prepareForCreate(o, ctx);
  },
  prepareForUpdate(o, old, ctx) {
    generationOfSpec.prepareForUpdate(o, old, ctx);
    dropUnreleasedOfSlice(o);
  },
  updateValidatesAll: true,
  validate: (o) => validateResourceSlice(o),
  validateUpdate: validateResourceSlice,
};
export const resourceClaim: KindStrategy = {
  default: (o) => defaultRequests(o.spec?.devices),
  prepareForCreate(o) {
    dropUnreleased(o.spec?.devices);
    o.status = {};
  },
  prepareForUpdate(o, old) {
    dropUnreleased(o.spec?.devices);
    o.status = old.status;
  },
  prepareForStatusUpdate: specAndStatus.prepareForStatusUpdate,
  updateValidatesAll: true,
  validate: validateResourceClaim,
  validateUpdate: validateResourceClaimUpdate,
  validateStatusUpdate: validateResourceClaimStatus,
};
export const resourceClaimTemplate: KindStrategy = {
  default: (o) => defaultRequests(o.spec?.spec?.devices),
  prepareForCreate: (o) => dropUnreleased(o.spec?.spec?.devices),
  prepareForUpdate: (o) => dropUnreleased(o.spec?.spec?.devices),
  updateValidatesAll: true,
  validate: (o) => validateResourceClaimTemplate(o),
  validateUpdate: validateResourceClaimTemplate,
};
