import { createHash } from 'node:crypto';
import { tooManyRequests } from '../../api/errors.ts';
import type { FlowSchema, PriorityLevelConfiguration } from '../../api/generated/types.ts';
import { mastersGroup, type UserInfo } from '../authn/user.ts';
import { type Classified, compileRules, rulesMatch } from './classify.ts';
import { defaultLevels, defaultSchemas } from './defaults.ts';
import { PriorityLevel, type Rejection, type Ticket } from './priority-level.ts';

export interface FlowControlOptions {
  /** Requests that only read; with the next, the seats of all priority levels. Upstream's 400. */
  maxRequestsInflight?: number;
  /** Upstream's 200. */
  maxMutatingRequestsInflight?: number;
  /** false: only these two limits hold. */
  priorityAndFairness?: boolean;
  /** The longest that a request waits in a queue, ms; a quarter of the request timeout. */
  waitMs?: number;
}

/** Is told how long requests of a flow waited for their turn, and took then; milliseconds. */
export interface FlowTimes {
  waited(ms: number, executes: boolean): void;
  executed(ms: number, watch: boolean): void;
}

/** The requests of one FlowSchema, as metrics tell of them. */
export interface Flow {
  /** Where its times are kept. */
  times?: FlowTimes | undefined;
  name: string;
  uid: string;
  level: PriorityLevel;
  rules: ReturnType<typeof compileRules>;
  distinguisher: string;
  waiting: number;
  executing: number;
  executingSeats: number;
  dispatched: number;
  rejected: Map<Rejection, number>;
}

const readOnly = new Set(['get', 'list', 'watch']);

/** What a list takes: a seat for so many objects, ten at most; as upstream before it went by size. */
const objectsPerSeat = 100;
const mostSeats = 10;

/** Who gets a seat, and when: API priority and fairness; or, without it, two plain limits. */
export class FlowControl {
  readonly levels = new Map<string, PriorityLevel>();
  flows: Flow[] = [];
  readonly inFlight = { readOnly: 0, mutating: 0 };
  /** Gives each flow a place for its times. */
  timesOf: ((flow: Flow) => FlowTimes) | undefined;
  readonly #o: Required<FlowControlOptions>;
  #known = new Map<string, Flow>();

  constructor(o: FlowControlOptions = {}) {
    this.#o = { maxRequestsInflight: 400, maxMutatingRequestsInflight: 200, priorityAndFairness: true, waitMs: 15_000, ...o };
    this.configure(defaultSchemas, defaultLevels);
  }

  get fair(): boolean {
    return this.#o.priorityAndFairness;
  }

  /** Seats of all levels together. */
  get seats(): number {
    return this.#o.maxRequestsInflight + this.#o.maxMutatingRequestsInflight;
  }

  /** Takes up what is stored. What must be there is, whatever is stored. */
  configure(schemas: FlowSchema[], configurations: PriorityLevelConfiguration[]): void {
    const mandatory = <T extends { metadata?: { name?: string } }>(list: T[], defaults: T[]): T[] => [
      ...list,
      ...defaults.filter((d) => ['exempt', 'catch-all'].includes(d.metadata?.name ?? '') && !list.some((one) => one.metadata?.name === d.metadata?.name)),
    ];
    const wanted = mandatory(configurations, defaultLevels);
    for (const name of this.levels.keys()) if (!wanted.some((c) => c.metadata?.name === name)) this.levels.delete(name);
    const sharesOf = (c: PriorityLevelConfiguration) => (c.spec?.type === 'Exempt' ? c.spec.exempt?.nominalConcurrencyShares ?? 0 : c.spec?.limited?.nominalConcurrencyShares ?? 30);
    const shares = wanted.reduce((sum, c) => sum + sharesOf(c), 0) || 1;
    for (const configuration of wanted) {
      const name = configuration.metadata?.name as string;
      let level = this.levels.get(name);
      if (!level) this.levels.set(name, (level = new PriorityLevel(name, (asking) => this.#spare(asking))));
      level.nominal = Math.ceil((this.seats * sharesOf(configuration)) / shares);
      const { limited, exempt } = configuration.spec ?? {};
      level.lendable = Math.round((level.nominal * (limited?.lendablePercent ?? exempt?.lendablePercent ?? 0)) / 100);
      const borrowing = limited?.borrowingLimitPercent;
      level.upper = borrowing === undefined || borrowing === null ? this.seats : level.nominal + Math.round((level.nominal * borrowing) / 100);
      level.configure(configuration);
    }
    const flows = mandatory(schemas, defaultSchemas).flatMap((schema): Flow[] => {
      const level = this.levels.get(schema.spec?.priorityLevelConfiguration.name ?? '');
      if (!level) return [];
      const name = schema.metadata?.name as string;
      const before = this.#known.get(name);
      const flow = before ?? { name, uid: '', level, rules: [], distinguisher: '', waiting: 0, executing: 0, executingSeats: 0, dispatched: 0, rejected: new Map() };
      Object.assign(flow, { uid: schema.metadata?.uid ?? '', level, rules: compileRules(schema), distinguisher: schema.spec?.distinguisherMethod?.type ?? '', times: undefined });
      return [flow];
    });
    const precedence = new Map(mandatory(schemas, defaultSchemas).map((s) => [s.metadata?.name, s.spec?.matchingPrecedence ?? 1000]));
    flows.sort((a, b) => (precedence.get(a.name) as number) - (precedence.get(b.name) as number) || (a.name < b.name ? -1 : 1));
    this.flows = flows;
    this.#known = new Map(flows.map((f) => [f.name, f]));
    for (const level of this.levels.values()) level.dispatch();
  }

  /** Seats that the others can lend now. */
  #spare(asking: PriorityLevel): number {
    let spare = 0;
    for (const level of this.levels.values()) {
      if (level === asking) continue;
      spare += Math.max(0, Math.min(level.lendable, level.nominal - level.executingSeats - level.waitingSeats)) - level.borrowed;
    }
    return Math.max(0, spare);
  }

  classify(user: UserInfo, request: Classified): Flow {
    const { flows } = this;
    for (const flow of flows) if (rulesMatch(flow.rules, user, request)) return flow;
    return flows.at(-1) as Flow;
  }

  /**
   * A ticket for a request that is not long-running; end() it. At once wherever there is room. StatusError 429 where there is none, nor
   * place to wait. `objects` is how many there are of what is listed; the signal is asked for only where it has to wait.
   */
  begin(user: UserInfo, request: Classified, objects: number, headers: Record<string, string | string[]> | undefined, client: { readonly signal?: AbortSignal | undefined }): Ticket | Promise<Ticket> {
    const reads = readOnly.has(request.verb) || !request.isResource;
    if (!this.#o.priorityAndFairness) return this.#plain(user, reads);
    const flow = this.classify(user, request);
    const { level } = flow;
    if (headers) {
      headers['x-kubernetes-pf-flowschema-uid'] = flow.uid;
      headers['x-kubernetes-pf-prioritylevel-uid'] = level.uid;
    }
    const seats = request.verb === 'list' ? Math.min(mostSeats, Math.max(1, Math.ceil(objects / objectsPerSeat))) : 1;
    const times = (flow.times ??= this.timesOf?.(flow));
    const entered = level.enter(flow, () => hashOf(flow, user, request), seats);
    if (typeof entered === 'string') throw rejected(flow, entered);
    const watches = request.verb === 'watch';
    if ('wait' in entered) {
      const since = performance.now();
      const told = (executes: boolean) => times?.waited((entered.ticket.waitedMs = performance.now() - since), executes);
      return this.#wait(flow, entered, client.signal).then(
        () => {
          told(true);
          return this.#count(entered.ticket, reads, watches);
        },
        (error) => {
          told(false);
          throw error;
        },
      );
    }
    times?.waited(0, true);
    return this.#count(entered, reads, watches);
  }

  #count(ticket: Ticket, reads: boolean, watches = false): Ticket {
    ticket.began = performance.now();
    ticket.watches = watches;
    if (reads) this.inFlight.readOnly++;
    else this.inFlight.mutating++;
    (ticket as Ticket & { reads: boolean }).reads = reads;
    return ticket;
  }

  async #wait(flow: Flow, { wait, leave }: { wait: Promise<Rejection | undefined>; leave(r: Rejection): void }, signal: AbortSignal | undefined): Promise<void> {
    const timer = setTimeout(() => leave('time-out'), this.#o.waitMs);
    const gone = () => leave('cancelled');
    signal?.addEventListener('abort', gone, { once: true });
    const rejection = await wait;
    clearTimeout(timer);
    signal?.removeEventListener('abort', gone);
    if (rejection) throw rejected(flow, rejection);
  }

  /** Without fairness: a limit for those that read and one for those that write. Nobody turns an administrator away. */
  #plain(user: UserInfo, reads: boolean): Ticket {
    const [now, most] = reads ? [this.inFlight.readOnly, this.#o.maxRequestsInflight] : [this.inFlight.mutating, this.#o.maxMutatingRequestsInflight];
    if (most > 0 && now >= most && !user.groups.includes(mastersGroup)) throw tooManyRequests('Too many requests, please try again later.');
    return this.#count({ level: undefined, flow: undefined, seats: 0, queue: undefined, started: 0, began: 0, waitedMs: 0, watches: false } as unknown as Ticket, reads);
  }

  end(ticket: Ticket): void {
    if ((ticket as Ticket & { reads: boolean }).reads) this.inFlight.readOnly--;
    else this.inFlight.mutating--;
    ticket.flow?.times?.executed(performance.now() - ticket.began, ticket.watches);
    ticket.level?.leave(ticket);
  }
}

function rejected(flow: Flow, reason: Rejection) {
  flow.rejected.set(reason, (flow.rejected.get(reason) ?? 0) + 1);
  return tooManyRequests('Too many requests, please try again later.');
}

function hashOf(flow: Flow, user: UserInfo, request: Classified): number {
  const by = flow.distinguisher === 'ByUser' ? user.name : flow.distinguisher === 'ByNamespace' ? request.namespace : '';
  return createHash('sha256').update(JSON.stringify([flow.name, by])).digest().readUIntBE(0, 6);
}
