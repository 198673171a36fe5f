import type { KubeObject } from '../../api/object.ts';
import type { Api, Call } from '../api.ts';
import { serviceHooks } from './service.ts';

/** Something held for an object until its write has succeeded or failed. */
export interface Allocation {
  /** The write succeeded at this revision. */
  commit(revision: number): Promise<void>;
  /** It failed (with this), or was not made. */
  release(error?: unknown): Promise<void>;
}

/** What a kind needs from the server's own state before it is written, by registry path. */
export interface KindHooks {
  beforeCreate?(api: Api, call: Call, object: KubeObject): Promise<Allocation | undefined>;
  beforeUpdate?(api: Api, call: Call, object: KubeObject, old: KubeObject): Promise<Allocation | undefined>;
  /** After an object is gone; its last state. Does not fail. */
  afterRemove?(api: Api, object: KubeObject): Promise<void>;
}

export const kindHooks: Record<string, KindHooks | undefined> = {
  'services/specs': serviceHooks,
};
