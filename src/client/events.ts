import type { KubeObject } from '../api/object.ts';

export interface EventRecorder {
  /** Records a core/v1 Event on the object, aggregated as upstream does; never throws, never blocks the caller. */
  event(about: KubeObject, type: 'Normal' | 'Warning', reason: string, message: string): void;
}
