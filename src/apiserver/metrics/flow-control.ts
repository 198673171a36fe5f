import type { MetricRegistry } from '../../client/metrics.ts';
import type { FlowControl } from '../flow-control/flow-control.ts';

/** Flow control's figures under upstream's names; levels and counts are read when they are asked for. */
export function flowMetrics(flow: FlowControl, registry: MetricRegistry): void {
  registry.collected('gauge', 'apiserver_current_inflight_requests', 'Maximal number of currently used inflight request limit of this apiserver per request kind in last second.', ['request_kind'], (set) => {
    set(flow.inFlight.readOnly, 'readOnly');
    set(flow.inFlight.mutating, 'mutating');
  });
  if (!flow.fair) return;
  const byFlow = ['flow_schema', 'priority_level'];
  const perFlow = (type: 'gauge' | 'counter', name: string, help: string, value: (f: FlowControl['flows'][number]) => number) =>
    registry.collected(type, `apiserver_flowcontrol_${name}`, help, byFlow, (set) => {
      for (const f of flow.flows) set(value(f), f.name, f.level.name);
    });
  perFlow('gauge', 'current_inqueue_requests', 'Number of requests currently pending in queues of the API Priority and Fairness subsystem', (f) => f.waiting);
  perFlow('gauge', 'current_executing_requests', 'Number of requests in initial (for a WATCH) or any (for a non-WATCH) execution stage in the API Priority and Fairness subsystem', (f) => f.executing);
  perFlow('gauge', 'current_executing_seats', 'Concurrency (number of seats) occupied by the currently executing (initial stage for a WATCH, any stage otherwise) requests in the API Priority and Fairness subsystem', (f) => f.executingSeats);
  perFlow('counter', 'dispatched_requests_total', 'Number of requests executed by API Priority and Fairness subsystem', (f) => f.dispatched);
  const perLevel = (name: string, help: string, value: (l: FlowControl['flows'][number]['level']) => number) =>
    registry.collected('gauge', `apiserver_flowcontrol_${name}`, help, ['priority_level'], (set) => {
      for (const l of flow.levels.values()) set(value(l), l.name);
    });
  perLevel('nominal_limit_seats', 'Nominal number of execution seats configured for each priority level', (l) => l.nominal);
  perLevel('lower_limit_seats', 'Configured lower bound on number of execution seats available to each priority level', (l) => l.nominal - l.lendable);
  perLevel('upper_limit_seats', 'Configured upper bound on number of execution seats available to each priority level', (l) => l.upper);
  perLevel('current_limit_seats', 'current derived number of execution seats available to each priority level', (l) => l.limit);
  registry.collected('counter', 'apiserver_flowcontrol_rejected_requests_total', 'Number of requests rejected by API Priority and Fairness subsystem', [...byFlow, 'reason'], (set) => {
    for (const f of flow.flows) for (const [reason, n] of f.rejected) set(n, f.name, f.level.name, reason);
  });
  const buckets = [0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30];
  const waits = registry.histogram('apiserver_flowcontrol_request_wait_duration_seconds', 'Length of time a request spent waiting in its queue', ['execute', ...byFlow], buckets);
  const executions = registry.histogram(
    'apiserver_flowcontrol_request_execution_seconds',
    'Duration of initial stage (for a WATCH) or any (for a non-WATCH) stage of request execution in the API Priority and Fairness subsystem',
    [...byFlow, 'type'],
    buckets,
  );
  flow.timesOf = (f) => {
    const waited = waits.of('true', f.name, f.level.name);
    const regular = executions.of(f.name, f.level.name, 'regular');
    const watch = executions.of(f.name, f.level.name, 'watch');
    return {
      waited: (ms, executes) => (executes ? waited : waits.of('false', f.name, f.level.name)).observe(ms / 1000),
      executed: (ms, isWatch) => (isWatch ? watch : regular).observe(ms / 1000),
    };
  };
}
