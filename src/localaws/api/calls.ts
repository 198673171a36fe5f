import { setTimeout as pause } from 'node:timers/promises';
import { AwsError } from './errors.ts';

/** One call that the endpoint answered. */
export interface RecordedCall {
  /** Milliseconds since the epoch. */
  at: number;
  /** As in a signature's scope: ec2, elasticloadbalancing. */
  service: string;
  operation: string;
  input: unknown;
  /** ARN of the caller. */
  caller: string;
  /** The error's code and message; undefined when it succeeded. */
  code?: string;
  message?: string;
  durationMs: number;
}

/** A failure that is made on purpose. Conditions left out fit every call. */
export interface CallFault {
  service?: string;
  /** A name, or a beginning and `*`: `Describe*`. */
  operation?: string;
  /** The error to answer with, as `RequestLimitExceeded`; left out, calls are only delayed. */
  code?: string;
  message?: string;
  /** HTTP status; 503 for throttling and unavailability, 500 for internal errors, else 400. */
  status?: number;
  /** How many calls it is for: 1. */
  count?: number;
  /** Waits so long before it goes on, milliseconds. */
  delayMs?: number;
  /** The call takes effect, and then the error is answered, as when an answer is lost. */
  afterEffect?: boolean;
}

const kept = 2000;

function statusOf({ status, code = '' }: CallFault): number {
  if (status) return status;
  if (/Throttl|RequestLimitExceeded|Unavailable/.test(code)) return 503;
  return /^Internal/.test(code) ? 500 : 400;
}

function fits(fault: CallFault, service: string, operation: string): boolean {
  if (fault.service !== undefined && fault.service !== service) return false;
  if (fault.operation === undefined) return true;
  return fault.operation.endsWith('*') ? operation.startsWith(fault.operation.slice(0, -1)) : fault.operation === operation;
}

/** What was called of late, and what shall fail. */
export class Calls {
  private readonly recorded: RecordedCall[] = [];
  private readonly faults: { fault: CallFault; left: number }[] = [];

  /** The last 2,000, oldest first. */
  recent(): RecordedCall[] {
    return [...this.recorded];
  }

  record(call: RecordedCall): void {
    this.recorded.push(call);
    if (this.recorded.length > kept) this.recorded.splice(0, kept / 4);
  }

  /** Injects a fault. Returns its end, which says how many calls it has met. */
  inject(fault: CallFault): () => number {
    const count = fault.count ?? 1;
    const entry = { fault, left: count };
    this.faults.push(entry);
    return () => {
      const at = this.faults.indexOf(entry);
      if (at >= 0) this.faults.splice(at, 1);
      return count - entry.left;
    };
  }

  clearFaults(): void {
    this.faults.length = 0;
  }

  /** Runs an operation under the first fault that fits it. */
  async under<T>(service: string, operation: string, run: () => Promise<T>): Promise<T> {
    const entry = this.faults.find((one) => one.left > 0 && fits(one.fault, service, operation));
    if (!entry) return run();
    entry.left--;
    if (entry.left <= 0) this.faults.splice(this.faults.indexOf(entry), 1);
    const { fault } = entry;
    if (fault.delayMs) await pause(fault.delayMs, undefined, { ref: false });
    if (fault.code === undefined) return run();
    if (fault.afterEffect) await run();
    throw new AwsError(fault.code, fault.message ?? `${operation} fails since a test asked for it`, statusOf(fault));
  }
}
