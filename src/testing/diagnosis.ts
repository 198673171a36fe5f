import type { Event } from '../api/generated/types.ts';
import type { Cluster } from '../index.ts';

const shown = 20;

/** What happened in a cluster since a time (milliseconds) that may explain a failure: warnings, pods that are not ready, AWS calls. */
export async function diagnose(cluster: Cluster, since: number): Promise<string> {
  const [events, pods, calls] = await Promise.all([
    cluster.list('Event').catch(() => [] as Event[]),
    cluster.list('Pod').catch(() => []),
    cluster.aws.calls().catch(() => []),
  ]);
  const at = (e: Event) => Date.parse((e.lastTimestamp ?? e.eventTime ?? e.metadata.creationTimestamp) as string);
  // Times of events have whole seconds.
  const recent = events.filter((e) => at(e) >= since - 1000).sort((a, b) => at(a) - at(b));
  const unready = pods.filter(
    (p) => p.status?.phase !== 'Succeeded' && !p.status?.conditions?.some((c) => c.type === 'Ready' && c.status === 'True'),
  );
  const called = calls.filter((c) => c.at >= since);
  const failed = called.filter((c) => c.code !== undefined);
  const changed = called.filter((c) => c.code === undefined && !/^(Describe|Get|List)/.test(c.operation));
  const section = (title: string, lines: string[]) =>
    lines.length
      ? [title, ...lines.slice(-shown).map((line) => `  ${line}`), ...(lines.length > shown ? [`  (${lines.length - shown} before)`] : [])]
      : [];
  const text = [
    ...section(
      'pods that are not ready:',
      unready.map((p) => `${p.metadata.namespace}/${p.metadata.name}: ${p.status?.phase ?? 'unknown'} on ${p.spec.nodeName ?? 'no node'}`),
    ),
    ...section(
      'events since the test began:',
      recent.map((e) => `${e.type} ${e.reason} ${e.involvedObject.kind} ${e.involvedObject.namespace ?? ''}/${e.involvedObject.name}: ${e.message}`),
    ),
    ...section(
      'AWS calls that failed:',
      failed.map((c) => `${c.operation}: ${c.code}: ${c.message}`),
    ),
    ...section(
      'AWS calls that changed something:',
      changed.map((c) => `${c.operation} ${brief(c.input)}`),
    ),
  ];
  return [`cluster ${cluster.name}:`, ...(text.length ? text : ['nothing happened in it'])].join('\n');
}

const brief = (input: unknown): string => {
  const text = JSON.stringify(input) ?? '';
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
};
