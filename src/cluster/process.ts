import { flushCompileCache } from 'node:module';
import { type Logger, pino } from 'pino';
import type { ChildMessage } from './supervisor-protocol.ts';

/** What every supervised process does: log, tell the supervisor, and end once and in order. */
export interface SupervisedProcess {
  log: Logger;
  /** Aborts with SIGTERM or SIGINT. */
  signal: AbortSignal;
  ready(): void;
  /** Runs at the end, last registered first; each has 10 s. */
  onStop(stop: () => Promise<void> | void): void;
}

export function superviseThis(name: string): SupervisedProcess {
  const log = pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'info', base: undefined, timestamp: pino.stdTimeFunctions.isoTime });
  const controller = new AbortController();
  const stops: (() => Promise<void> | void)[] = [];
  const tell = (message: ChildMessage) => {
    if (process.connected) process.send?.(message, undefined, undefined, () => {});
  };
  let stopping = false;
  const stop = async (why: string) => {
    if (stopping) return;
    stopping = true;
    log.info(`${name} stops: ${why}`);
    controller.abort(new Error(`${name} stops`));
    for (const each of stops.reverse()) {
      let timer: NodeJS.Timeout | undefined;
      const limit = new Promise<void>((resolve) => {
        timer = setTimeout(resolve, 10_000);
      });
      await Promise.race([
        Promise.resolve()
          .then(each)
          .catch((error) => log.error({ err: error }, 'while stopping')),
        limit,
      ]);
      clearTimeout(timer);
    }
    process.exit(0);
  };
  process.on('SIGTERM', () => void stop('SIGTERM'));
  process.on('SIGINT', () => void stop('SIGINT'));
  // The supervisor's end is not ours: a new one replaces this process in order.
  process.on('disconnect', () => {});
  process.on('unhandledRejection', (error) => log.error({ err: error }, 'unhandled rejection'));
  process.on('uncaughtException', (error) => {
    log.fatal({ err: error }, 'uncaught exception');
    tell({ type: 'error', message: error.message });
    process.exit(1);
  });
  return {
    log,
    signal: controller.signal,
    ready: () => {
      tell({ type: 'ready' });
      // Compiled code is kept at the end else, which a SIGKILL leaves out.
      setTimeout(() => flushCompileCache(), 5000).unref();
    },
    onStop: (each) => stops.push(each),
  };
}
