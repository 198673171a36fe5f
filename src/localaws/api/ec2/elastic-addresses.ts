import type { Operations } from '../cloud.ts';

export const elasticAddressOperations = {} satisfies Operations;
