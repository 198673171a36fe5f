import type { Operations } from '../cloud.ts';

export const keyPairOperations = {} satisfies Operations;
