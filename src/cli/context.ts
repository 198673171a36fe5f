import { createProgress, type Progress } from '../cluster/progress.ts';
import { UserError } from '../cluster/state.ts';

/** Aborts with the first Ctrl-C (or SIGTERM), so that a command can roll back; the second ends the process at once. */
export const interruption = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    if (interruption.signal.aborted) process.exit(130);
    interruption.abort(new UserError('interrupted', 130));
  });
}

export const defaultName = 'kumulus';

/** Progress goes to standard error, so that what -o json prints stays alone on standard output. */
export const progressFor = (options: { quiet?: boolean }): Progress => createProgress(process.stderr, options.quiet ?? false);

/** Milliseconds of `30s`, `5m`, `1h`, `1m30s`, or a number of seconds, as Go's durations. */
export function parseDuration(text: string): number {
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h)/g)];
  if (!parts.length || parts.map((p) => p[0]).join('') !== text) throw new UserError(`invalid duration '${text}': write it as 30s, 5m or 1h30m`, 2);
  const factor: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };
  return parts.reduce((sum, p) => sum + Number(p[1]) * (factor[p[2] as string] as number), 0);
}

export function parseCount(text: string, most = 500): number {
  if (!/^\d+$/.test(text) || Number(text) > most) throw new UserError(`'${text}' is not a number of nodes (0 to ${most})`, 2);
  return Number(text);
}

export function checkOutput(output: string | undefined, allowed: string[]): void {
  if (output !== undefined && !allowed.includes(output)) throw new UserError(`unknown output '${output}': one of ${allowed.join(', ')}`, 2);
}

/** Columns as kubectl prints them. */
export function table(rows: string[][]): string {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((r) => (r[i] ?? '').length)));
  return rows
    .map((r) =>
      r
        .map((c, i) => (i === r.length - 1 ? c : c.padEnd((widths[i] ?? 0) + 3)))
        .join('')
        .trimEnd(),
    )
    .join('\n');
}

/** Throws a UserError for what is no URL of an AWS that a data plane can stand beside. */
export function checkEndpoint(option: string, endpoint: string): void {
  let url: URL;
  try {
    url = new URL(endpoint);
  } catch {
    throw new UserError(`${option} '${endpoint}' is not a URL such as http://127.0.0.1:4566`, 2);
  }
  if (/(^|\.)amazonaws\.com(\.cn)?$|\.aws$/.test(url.hostname)) {
    throw new UserError(`${option} ${endpoint}: instances of AWS itself run at AWS; this is for LocalStack, moto and the embedded AWS`, 2);
  }
}
