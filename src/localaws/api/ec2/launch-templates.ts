import type { Operations } from '../cloud.ts';

export const launchTemplateOperations = {} satisfies Operations;
