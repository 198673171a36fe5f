import { CelError, Duration, Timestamp } from '../values.ts';
import { library } from './library.ts';

const second = 1_000_000_000n;
const units: Record<string, bigint> = {
  ns: 1n,
  us: 1000n,
  µs: 1000n,
  μs: 1000n,
  ms: 1_000_000n,
  s: second,
  m: 60n * second,
  h: 3600n * second,
};

/** Go's durations, such as 1h30m. undefined where the text is none. */
export function parseDuration(text: string): Duration | undefined {
  const match = /^([-+]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/.exec(text);
  if (!match) return undefined;
  let ns = 0n;
  for (const [, whole = '', , fraction = '', unit = ''] of (match[2] as string).matchAll(/(\d*)(\.(\d*))?(ns|us|µs|μs|ms|s|m|h)/g)) {
    const size = units[unit] as bigint;
    ns += BigInt(whole || '0') * size;
    if (fraction) ns += (BigInt(fraction) * size) / 10n ** BigInt(fraction.length);
  }
  if (ns > 0x7fff_ffff_ffff_ffffn) return undefined;
  return new Duration(match[1] === '-' ? -ns : ns);
}

/** RFC 3339. undefined where the text is none. */
export function parseTimestamp(text: string): Timestamp | undefined {
  const match = /^(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d+))?([Zz]|[+-]\d{2}:\d{2})$/.exec(text);
  if (!match) return undefined;
  const [, date, time, fraction = '', zone = ''] = match;
  const ms = Date.parse(`${date}T${time}${zone.toUpperCase()}`);
  if (Number.isNaN(ms)) return undefined;
  return new Timestamp(BigInt(ms) * 1_000_000n + BigInt(fraction.slice(0, 9).padEnd(9, '0') || '0'));
}

const least = -62_135_596_800n * second;
const most = 253_402_300_799n * second + 999_999_999n;
const checked = (ns: bigint): Timestamp => {
  if (ns < least || ns > most) throw new CelError('timestamp overflow');
  return new Timestamp(ns);
};
const span = (ns: bigint): Duration => {
  if (ns > 0x7fff_ffff_ffff_ffffn || ns < -0x8000_0000_0000_0000n) throw new CelError('integer overflow');
  return new Duration(ns);
};

const fractionText = (ns: bigint): string => {
  const rest = ((ns % second) + second) % second;
  return rest === 0n ? '' : `.${rest.toString().padStart(9, '0').replace(/0+$/, '')}`;
};

export function timestampText(at: Timestamp): string {
  const ms = Number((at.ns - (((at.ns % second) + second) % second)) / 1_000_000n);
  return `${new Date(ms).toISOString().slice(0, 19)}${fractionText(at.ns)}Z`;
}

/** As protobuf's JSON has durations: seconds with a fraction. */
export function durationText(span_: Duration): string {
  const negative = span_.ns < 0n;
  const ns = negative ? -span_.ns : span_.ns;
  return `${negative ? '-' : ''}${ns / second}${fractionText(ns)}s`;
}

/** The moment's fields in a time zone: a name, or an offset such as -08:00. */
function inZone(at: Timestamp, zone: string): Date {
  const ms = Number(at.ns / 1_000_000n);
  if (zone === '' || zone === 'UTC') return new Date(ms);
  const offset = /^([+-]?)(\d{2}):(\d{2})$/.exec(zone);
  if (offset) return new Date(ms + (offset[1] === '-' ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3])) * 60_000);
  try {
    const parts = new Intl.DateTimeFormat('en-US', {
      timeZone: zone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    }).formatToParts(new Date(ms));
    const of = (type: string) => Number(parts.find((p) => p.type === type)?.value);
    return new Date(Date.UTC(of('year'), of('month') - 1, of('day'), of('hour'), of('minute'), of('second')) + (ms % 1000));
  } catch {
    throw new CelError(`unknown time zone ${zone}`);
  }
}

const dayOfYear = (d: Date): number =>
  Math.floor((Date.UTC(d.getUTCFullYear(), d.getUTCMonth(), d.getUTCDate()) - Date.UTC(d.getUTCFullYear(), 0, 1)) / 86_400_000);

const part = (fn: string, id: string, read: (d: Date) => number) => ({
  [fn]: [
    [`timestamp_to_${id}`, 'timestamp.() int', (at: Timestamp) => BigInt(read(inZone(at, '')))],
    [`timestamp_to_${id}_with_tz`, 'timestamp.(string) int', (at: Timestamp, zone: string) => BigInt(read(inZone(at, zone)))],
  ] as [string, string, (...args: any[]) => bigint][],
});
const withSpan = (rows: ReturnType<typeof part>, fn: string, id: string, size: bigint) => ({
  [fn]: [...(rows[fn] as NonNullable<(typeof rows)[string]>), [`duration_to_${id}`, 'duration.() int', (d: Duration) => d.ns / size]] as [
    string,
    string,
    (...args: any[]) => bigint,
  ][],
});

export const timeLibrary = library({
  ...part('getFullYear', 'year', (d) => d.getUTCFullYear()),
  ...part('getMonth', 'month', (d) => d.getUTCMonth()),
  ...part('getDate', 'day_of_month_1_based', (d) => d.getUTCDate()),
  ...part('getDayOfMonth', 'day_of_month', (d) => d.getUTCDate() - 1),
  ...part('getDayOfWeek', 'day_of_week', (d) => d.getUTCDay()),
  ...part('getDayOfYear', 'day_of_year', dayOfYear),
  ...withSpan(
    part('getHours', 'hours', (d) => d.getUTCHours()),
    'getHours',
    'hours',
    3600n * second,
  ),
  ...withSpan(
    part('getMinutes', 'minutes', (d) => d.getUTCMinutes()),
    'getMinutes',
    'minutes',
    60n * second,
  ),
  ...withSpan(
    part('getSeconds', 'seconds', (d) => d.getUTCSeconds()),
    'getSeconds',
    'seconds',
    second,
  ),
  ...withSpan(
    part('getMilliseconds', 'milliseconds', (d) => d.getUTCMilliseconds()),
    'getMilliseconds',
    'milliseconds',
    1_000_000n,
  ),
  '_+_': [
    ['add_timestamp_duration', '(timestamp, duration) timestamp', (a: Timestamp, b: Duration) => checked(a.ns + b.ns)],
    ['add_duration_timestamp', '(duration, timestamp) timestamp', (a: Duration, b: Timestamp) => checked(a.ns + b.ns)],
    ['add_duration_duration', '(duration, duration) duration', (a: Duration, b: Duration) => span(a.ns + b.ns)],
  ],
  '_-_': [
    ['subtract_timestamp_timestamp', '(timestamp, timestamp) duration', (a: Timestamp, b: Timestamp) => span(a.ns - b.ns)],
    ['subtract_timestamp_duration', '(timestamp, duration) timestamp', (a: Timestamp, b: Duration) => checked(a.ns - b.ns)],
    ['subtract_duration_duration', '(duration, duration) duration', (a: Duration, b: Duration) => span(a.ns - b.ns)],
  ],
  timestamp: [
    ['timestamp_to_timestamp', '(timestamp) timestamp', (a: Timestamp) => a],
    ['int64_to_timestamp', '(int) timestamp', (a: bigint) => checked(a * second)],
    [
      'string_to_timestamp',
      '(string) timestamp',
      (text: string) => {
        const parsed = parseTimestamp(text);
        if (!parsed) throw new CelError(`parsing time ${JSON.stringify(text)} as "2006-01-02T15:04:05Z07:00": cannot parse`);
        return parsed;
      },
    ],
  ],
  duration: [
    ['duration_to_duration', '(duration) duration', (a: Duration) => a],
    ['int64_to_duration', '(int) duration', (a: bigint) => span(a)],
    [
      'string_to_duration',
      '(string) duration',
      (text: string) => {
        const parsed = parseDuration(text);
        if (!parsed) throw new CelError(`time: invalid duration ${JSON.stringify(text)}`);
        return parsed;
      },
    ],
  ],
});
