import type { Operations } from '../cloud.ts';

export const ssmOperations = {} satisfies Operations;
