import type { Operations } from '../cloud.ts';

export const instanceTypeOperations = {} satisfies Operations;
