import type { Operations } from '../cloud.ts';

export const iamOperations = {} satisfies Operations;
