import type { Operations } from '../cloud.ts';

export const imageOperations = {} satisfies Operations;
