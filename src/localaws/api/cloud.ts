import type { Logger } from 'pino';
import type { Calls } from './calls.ts';
import type { Clock } from './clock.ts';
import type { Consoles } from './ec2/consoles.ts';
import type { Keys, Principal } from './keys.ts';
import type { State } from './state/state.ts';
import type { Tables } from './state/tables.ts';

/** What every operation works on. */
export interface Cloud {
  region: string;
  /** Names of the availability zones, such as us-east-1a. */
  zones: string[];
  accountId: string;
  tables: Tables;
  state: State;
  keys: Keys;
  consoles: Consoles;
  clock: Clock;
  calls: Calls;
  log: Logger;
  /** Where the endpoint keeps what is too big for its state. */
  directory: string;
}

export interface CallContext extends Cloud {
  requestId: string;
  principal: Principal;
}

/** An operation: from the SDK's input type to its output type. It runs in a transaction; a promise's later changes need their own. */
export type Handler<I = any, O = any> = (input: I, call: CallContext) => O | Promise<O>;
export type Operations = Record<string, Handler>;

export function now(cloud: Cloud): Date {
  return new Date(cloud.clock.now());
}
