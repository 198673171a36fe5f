import type { PriorityLevelConfiguration } from '../../api/generated/types.ts';
import type { Flow } from './flow-control.ts';

export type Rejection = 'queue-full' | 'concurrency-limit' | 'time-out' | 'cancelled';

/** A request that has, or waits for, its seats. */
export interface Ticket {
  level: PriorityLevel;
  flow: Flow;
  seats: number;
  queue: Queue | undefined;
  /** Of performance.now(): when its execution began. */
  started: number;
  /** When it had its seats, and the milliseconds that it waited for them. */
  began: number;
  waitedMs: number;
  watches: boolean;
}

interface Waiting {
  ticket: Ticket;
  go(rejection?: Rejection): void;
}

/** Requests of some flows that wait; its work so far, in seat-milliseconds, is what fairness goes by. */
interface Queue {
  waiting: Waiting[];
  seats: number;
  executing: number;
  virtual: number;
}

/** Before a request has run, it is taken to run for so long (ms) for each of its seats. */
const expectedMs = 3;

/**
 * Requests of one priority, which share its seats. Where none is free they wait in queues: a flow's requests go to the shortest of the
 * few that its hash deals it, and the queue that has had least of the seats is served next.
 */
export class PriorityLevel {
  readonly name: string;
  uid = '';
  exempt = false;
  /** Seats that are its own. */
  nominal = 0;
  /** Of those, what others may use while it does not. */
  lendable = 0;
  /** The most it may use. */
  upper = Infinity;
  executingSeats = 0;
  #queues: Queue[] = [];
  #handSize = 1;
  #queueLimit = 0;
  #virtual = 0;
  #waitingSeats = 0;
  #spare: (asking: PriorityLevel) => number;

  constructor(name: string, spare: (asking: PriorityLevel) => number) {
    this.name = name;
    this.#spare = spare;
  }

  configure(configuration: PriorityLevelConfiguration): void {
    this.uid = configuration.metadata?.uid ?? '';
    this.exempt = configuration.spec?.type === 'Exempt';
    const response = configuration.spec?.limited?.limitResponse;
    const queuing = response?.type === 'Queue' ? response.queuing : undefined;
    this.#handSize = queuing?.handSize ?? 8;
    this.#queueLimit = queuing?.queueLengthLimit ?? 50;
    const wanted = response?.type === 'Queue' ? (queuing?.queues ?? 64) : 0;
    if (wanted === this.#queues.length) return;
    const before = this.#queues;
    this.#queues = Array.from({ length: wanted }, () => ({ waiting: [], seats: 0, executing: 0, virtual: 0 }));
    // Who waited in queues that are no more goes to the first; without queues nobody waits.
    for (const one of before.flatMap((q) => q.waiting)) {
      const to = this.#queues[0];
      if (!to) one.go('concurrency-limit');
      else {
        one.ticket.queue = to;
        to.waiting.push(one);
        to.seats += one.ticket.seats;
      }
    }
    this.#waitingSeats = this.#queues.reduce((sum, q) => sum + q.seats, 0);
  }

  get waitingSeats(): number {
    return this.#waitingSeats;
  }

  /** What it uses beyond its own. */
  get borrowed(): number {
    return this.exempt ? 0 : Math.max(0, this.executingSeats - this.nominal);
  }

  /** Seats it may use now. */
  get limit(): number {
    return Math.max(this.nominal, Math.min(this.upper, this.nominal + this.#spare(this)));
  }

  /** Whether there is room; a request wider than the level is runs when nothing else does. */
  #fits(seats: number): boolean {
    if (this.executingSeats + seats <= this.nominal || this.executingSeats === 0) return true;
    return this.executingSeats + seats <= this.limit;
  }

  /** A ticket to run with at once, or a promise of one; a reason where there is neither room nor place to wait. */
  enter(flow: Flow, hash: () => number, seats: number): Ticket | { wait: Promise<Rejection | undefined>; ticket: Ticket; leave(r: Rejection): void } | Rejection {
    const ticket: Ticket = { level: this, flow, seats, queue: undefined, started: 0, began: 0, waitedMs: 0, watches: false };
    if (this.exempt || (this.#waitingSeats === 0 && this.#fits(seats))) {
      this.#start(ticket);
      return ticket;
    }
    if (this.#queues.length === 0) return 'concurrency-limit';
    const queue = this.#deal(hash());
    if (queue.waiting.length >= this.#queueLimit) return 'queue-full';
    ticket.queue = queue;
    // A queue that was idle has no credit from that time.
    if (queue.waiting.length === 0 && queue.executing === 0) queue.virtual = Math.max(queue.virtual, this.#virtual);
    let settle: (rejection?: Rejection) => void = () => {};
    const wait = new Promise<Rejection | undefined>((resolve) => {
      settle = resolve;
    });
    const waiting: Waiting = { ticket, go: settle };
    queue.waiting.push(waiting);
    queue.seats += seats;
    this.#waitingSeats += seats;
    flow.waiting++;
    const leave = (rejection: Rejection) => {
      const at = ticket.queue?.waiting.indexOf(waiting) ?? -1;
      if (at < 0) return;
      this.#remove(ticket.queue as Queue, at);
      settle(rejection);
    };
    this.dispatch();
    return { wait, ticket, leave };
  }

  #remove(queue: Queue, at: number): void {
    const [one] = queue.waiting.splice(at, 1);
    if (!one) return;
    queue.seats -= one.ticket.seats;
    this.#waitingSeats -= one.ticket.seats;
    one.ticket.flow.waiting--;
  }

  #start(ticket: Ticket): void {
    this.executingSeats += ticket.seats;
    ticket.flow.executing++;
    ticket.flow.executingSeats += ticket.seats;
    ticket.flow.dispatched++;
    if (ticket.queue) {
      ticket.started = performance.now();
      ticket.queue.executing++;
      ticket.queue.virtual += ticket.seats * expectedMs;
    }
  }

  /** A request has been answered. */
  leave(ticket: Ticket): void {
    this.executingSeats -= ticket.seats;
    ticket.flow.executing--;
    ticket.flow.executingSeats -= ticket.seats;
    const { queue } = ticket;
    if (queue) {
      queue.executing--;
      queue.virtual += ticket.seats * (performance.now() - ticket.started - expectedMs);
    }
    if (this.#waitingSeats > 0) this.dispatch();
  }

  /** Lets run what there is room for, from the queue that has had least. */
  dispatch(): void {
    while (this.#waitingSeats > 0) {
      let next: Queue | undefined;
      for (const queue of this.#queues) if (queue.waiting.length > 0 && (!next || queue.virtual < next.virtual)) next = queue;
      const first = next?.waiting[0];
      if (!next || !first || !this.#fits(first.ticket.seats)) return;
      this.#virtual = Math.max(this.#virtual, next.virtual);
      this.#remove(next, 0);
      this.#start(first.ticket);
      first.go();
    }
  }

  /** The shortest of the queues that a flow is dealt, as from a deck of cards: each at most once. */
  #deal(hash: number): Queue {
    const deck = this.#queues.map((_, i) => i);
    let best: Queue | undefined;
    let rest = hash;
    for (let i = 0; i < Math.min(this.#handSize, this.#queues.length); i++) {
      const left = deck.length - i;
      const card = rest % left;
      rest = Math.floor(rest / left);
      const queue = this.#queues[deck[card] as number] as Queue;
      deck[card] = deck[left - 1] as number;
      if (!best || queue.seats < best.seats) best = queue;
    }
    return best as Queue;
  }

  /** For people: queues that are not empty. */
  dump(): { index: number; requests: number; executing: number; seats: number; virtual: number }[] {
    return this.#queues.flatMap((q, index) =>
      q.waiting.length || q.executing ? [{ index, requests: q.waiting.length, executing: q.executing, seats: q.seats, virtual: q.virtual }] : [],
    );
  }
}
