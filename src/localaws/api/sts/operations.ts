import type { Operations } from '../cloud.ts';

export const stsOperations = {} satisfies Operations;
