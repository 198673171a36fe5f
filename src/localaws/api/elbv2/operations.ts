import type { Operations } from '../cloud.ts';

export const elbOperations = {} satisfies Operations;
