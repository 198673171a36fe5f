import type { Logger } from 'pino';
import type { Client } from '../client/client.ts';
import type { Clock } from '../client/clock.ts';
import type { InformerFactory } from '../client/informer.ts';
import type { EventRecorder } from '../client/events.ts';

/** What a controller sees of the world: nothing else is reached for, so that a test can replace all of it. */
export interface ControllerContext {
  client: Client;
  /** Informers shared by all controllers of a process. */
  informers: InformerFactory;
  clock: Clock;
  events: EventRecorder;
  log: Logger;
  /** Aborts when the process stops or loses its leadership. */
  signal: AbortSignal;
}

/** A running controller; done resolves when its workers have ended after the signal aborted. */
export interface Controller {
  name: string;
  done: Promise<void>;
}

export type StartController = (context: ControllerContext) => Controller;
