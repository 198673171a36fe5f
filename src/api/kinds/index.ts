import type { KindStrategy } from '../scheme.ts';

const strategies: Record<string, KindStrategy> = {};

/** The strategy of a kind; an empty one where the schema says it all. */
export const strategyOf = (group: string, kind: string): KindStrategy => strategies[`${group}/${kind}`] ?? {};
