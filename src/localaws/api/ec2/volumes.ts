import type { Operations } from '../cloud.ts';

export const volumeOperations = {} satisfies Operations;
