import { Counter, Gauge, type Registry } from 'prom-client';
import type { FlowControl } from './flow-control.ts';

/** Flow control's figures under upstream's names, read when they are asked for. */
export function flowMetrics(flow: FlowControl, registry: Registry): void {
  const registers = [registry];
  const gauge = (name: string, help: string, labelNames: string[], collect: (set: (labels: Record<string, string>, value: number) => void) => void) =>
    new Gauge({
      name,
      help,
      labelNames,
      registers,
      collect() {
        this.reset();
        collect((labels, value) => this.set(labels, value));
      },
    });
  gauge('apiserver_current_inflight_requests', 'Maximal number of currently used inflight request limit of this apiserver per request kind.', ['request_kind'], (set) => {
    set({ request_kind: 'readOnly' }, flow.inFlight.readOnly);
    set({ request_kind: 'mutating' }, flow.inFlight.mutating);
  });
  if (!flow.fair) return;
  const byFlow = ['priority_level', 'flow_schema'];
  const perFlow = (name: string, help: string, value: (f: FlowControl['flows'][number]) => number) =>
    gauge(`apiserver_flowcontrol_${name}`, help, byFlow, (set) => {
      for (const f of flow.flows) set({ priority_level: f.level.name, flow_schema: f.name }, value(f));
    });
  perFlow('current_inqueue_requests', 'Number of requests currently pending in queues of the API Priority and Fairness subsystem', (f) => f.waiting);
  perFlow('current_executing_requests', 'Number of requests in initial execution stage in the API Priority and Fairness subsystem', (f) => f.executing);
  perFlow('current_executing_seats', 'Concurrency (number of seats) occupied by the currently executing requests', (f) => f.executingSeats);
  const perLevel = (name: string, help: string, value: (l: FlowControl['flows'][number]['level']) => number) =>
    gauge(`apiserver_flowcontrol_${name}`, help, ['priority_level'], (set) => {
      for (const l of flow.levels.values()) set({ priority_level: l.name }, value(l));
    });
  perLevel('nominal_limit_seats', 'Nominal number of execution seats configured for each priority level', (l) => l.nominal);
  perLevel('lower_limit_seats', 'Configured lower bound on number of execution seats available to each priority level', (l) => l.nominal - l.lendable);
  perLevel('upper_limit_seats', 'Configured upper bound on number of execution seats available to each priority level', (l) => l.upper);
  perLevel('current_limit_seats', 'current derived number of execution seats available to each priority level', (l) => l.limit);
  new Counter({
    name: 'apiserver_flowcontrol_dispatched_requests_total',
    help: 'Number of requests executed by API Priority and Fairness subsystem',
    labelNames: byFlow,
    registers,
    collect() {
      this.reset();
      for (const f of flow.flows) this.inc({ priority_level: f.level.name, flow_schema: f.name }, f.dispatched);
    },
  });
  new Counter({
    name: 'apiserver_flowcontrol_rejected_requests_total',
    help: 'Number of requests rejected by API Priority and Fairness subsystem',
    labelNames: [...byFlow, 'reason'],
    registers,
    collect() {
      this.reset();
      for (const f of flow.flows) for (const [reason, n] of f.rejected) this.inc({ priority_level: f.level.name, flow_schema: f.name, reason }, n);
    },
  });
}
