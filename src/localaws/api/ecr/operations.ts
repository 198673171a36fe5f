import type { Operations } from '../cloud.ts';

export const ecrOperations = {} satisfies Operations;
