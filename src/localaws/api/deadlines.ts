import type { Cloud } from './cloud.ts';

export function armDeadlines(_cloud: Cloud): () => void {
  return () => {};
}
