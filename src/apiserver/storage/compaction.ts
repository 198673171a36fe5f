import type { Logger } from 'pino';
import type { Clock } from '../../client/clock.ts';
import { CompactedError, type Store } from '../../store/store.ts';

const everyMs = 5 * 60_000;

/** Forgets history that is older than five to ten minutes. Returns what ends it. */
export function compactRegularly(store: Store, clock: Clock, log: Logger): () => void {
  let before = store.revision();
  let cancel: () => void;
  const run = () => {
    const revision = before;
    before = store.revision();
    if (revision > store.compactedRevision() && revision < before) {
      store.compact(revision).catch((error) => {
        // Another API server on the same store was first.
        if (!(error instanceof CompactedError)) log.error({ err: error, revision }, 'compaction failed');
      });
    }
    cancel = clock.after(everyMs, run);
  };
  cancel = clock.after(everyMs, run);
  return () => cancel();
}
