import type { FlowControl } from './flow-control.ts';

/** What /debug/api_priority_and_fairness/ shows, in upstream's columns as far as there is such a thing here; undefined for other paths. */
export function dumpFlowControl(flow: FlowControl, what: string): string | undefined {
  if (!flow.fair) return undefined;
  const levels = [...flow.levels.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (what === 'dump_priority_levels') {
    const rows = levels.map((level) => {
      const own = flow.flows.filter((f) => f.level === level);
      const sum = (value: (f: (typeof own)[number]) => number) => own.reduce((total, f) => total + value(f), 0);
      const rejected = (reason: string) => sum((f) => f.rejected.get(reason as never) ?? 0);
      const queues = level.dump();
      return [
        level.name,
        queues.length,
        level.executingSeats === 0 && level.waitingSeats === 0,
        false,
        sum((f) => f.waiting),
        sum((f) => f.executing),
        sum((f) => f.dispatched),
        rejected('queue-full') + rejected('concurrency-limit'),
        rejected('time-out'),
        rejected('cancelled'),
      ];
    });
    return table(
      ['PriorityLevelName', 'ActiveQueues', 'IsIdle', 'IsQuiescing', 'WaitingRequests', 'ExecutingRequests', 'DispatchedRequests', 'RejectedRequests', 'TimedoutRequests', 'CancelledRequests'],
      rows,
    );
  }
  if (what === 'dump_queues') {
    const rows = levels.flatMap((level) => level.dump().map((q) => [level.name, q.index, q.requests, q.executing, q.seats, q.virtual.toFixed(3)]));
    return table(['PriorityLevelName', 'Index', 'PendingRequests', 'ExecutingRequests', 'SeatsInUse', 'VirtualStart'], rows);
  }
  return undefined;
}

const table = (head: string[], rows: unknown[][]): string => [head, ...rows].map((row) => `${row.join(', ')}\n`).join('');
