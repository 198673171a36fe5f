import type { DeviceTaint, DeviceTaintRule, DeviceToleration } from '../../api/generated/types.ts';

/** Whether the toleration is for the taint. Without a key it is for every one; Equal, which is also the default, compares values. */
export const tolerates = (toleration: DeviceToleration, taint: DeviceTaint): boolean =>
  (!toleration.effect || toleration.effect === taint.effect) &&
  (!toleration.key || toleration.key === taint.key) &&
  (toleration.operator === 'Exists' || (toleration.value ?? '') === (taint.value ?? ''));

/** Whether the rule's taint is on the device. A rule without a selector is for none. */
export const selects = ({ spec: { deviceSelector: s } }: DeviceTaintRule, device: { driver: string; pool: string; device: string }): boolean =>
  s !== undefined && (!s.driver || s.driver === device.driver) && (!s.pool || s.pool === device.pool) && (!s.device || s.device === device.device);
