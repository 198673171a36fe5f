import type { KubeObject } from '../../api/object.ts';
import type { Api, Call } from '../api.ts';
import { serviceHooks } from './service.ts';

/** Something held for an object until its write has reached the caches, or has failed. */
export interface Allocation {
  /** The write succeeded at this revision. */
  commit(revision: number): void;
  release(): void;
}

/** What a kind needs from the server's own state before it is written, by registry path. */
export interface KindHooks {
  beforeCreate?(api: Api, call: Call, object: KubeObject): Allocation | undefined | Promise<Allocation | undefined>;
  beforeUpdate?(api: Api, call: Call, object: KubeObject, old: KubeObject): Allocation | undefined | Promise<Allocation | undefined>;
}

export const kindHooks: Record<string, KindHooks | undefined> = {
  'services/specs': serviceHooks,
};
