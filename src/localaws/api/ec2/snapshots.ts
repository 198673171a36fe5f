import type { Operations } from '../cloud.ts';

export const snapshotOperations = {} satisfies Operations;
