/** When something is due again and again. Times are milliseconds since the epoch. */
export interface Schedule {
  /** The first time after this one; undefined where there is none in the next five years. */
  next(after: number): number | undefined;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const macros: Record<string, string> = {
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
  '@monthly': '0 0 1 * *',
  '@weekly': '0 0 * * 0',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@hourly': '0 * * * *',
};
const months = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const weekdays = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

interface Field {
  values: ReadonlySet<number>;
  /** `*` or `?`: says nothing about the day. */
  any: boolean;
}

/**
 * Parses a schedule as upstream's cron library does: five fields, the macros, `@every DURATION`, and a time zone as `TZ=` before it
 * (which the API refuses in new objects). Without a time zone, times are UTC.
 * @throws Error that says what is wrong
 */
export function parseSchedule(text: string, timeZone?: string): Schedule {
  const zoned = /^(?:CRON_)?TZ=(\S+)\s+(.*)$/.exec(text);
  if (zoned) return parseSchedule(zoned[2]!, zoned[1]);
  const offset = zoneOffset(timeZone ?? 'UTC');
  const every = /^@every (\S+)$/.exec(text);
  if (every) {
    const interval = Math.max(1000, Math.floor(parseDuration(every[1]!) / 1000) * 1000);
    return { next: (after) => Math.floor(after / 1000) * 1000 + interval };
  }
  if (text.startsWith('@') && !macros[text]) throw new Error(`unrecognized descriptor: ${text}`);
  const fields = (macros[text] ?? text).trim().split(/\s+/);
  if (fields.length !== 5) throw new Error(`expected exactly 5 fields, found ${fields.length}: [${fields.join(' ')}]`);
  const [minute, hour, day, month, weekday] = [
    parseField(fields[0]!, 0, 59),
    parseField(fields[1]!, 0, 23),
    parseField(fields[2]!, 1, 31),
    parseField(fields[3]!, 1, 12, months, 1),
    parseField(fields[4]!, 0, 6, weekdays),
  ];
  return { next: (after) => nextMatch({ minute, hour, day, month, weekday }, after, offset) };
}

function parseField(text: string, min: number, max: number, names: string[] = [], firstName = 0): Field {
  const values = new Set<number>();
  let any = false;
  const number = (word: string) => {
    const named = names.indexOf(word.toLowerCase());
    if (named >= 0) return named + firstName;
    if (!/^\d+$/.test(word)) throw new Error(`failed to parse int from ${word}`);
    return Number(word);
  };
  for (const part of text.split(',')) {
    const m = /^([^/-]+)(?:-([^/-]+))?(?:\/(\d+))?$/.exec(part);
    if (!m) throw new Error(`syntax error in "${part}"`);
    const star = m[1] === '*' || m[1] === '?';
    const step = m[3] === undefined ? 1 : Number(m[3]);
    const first = star ? min : number(m[1]!);
    const last = star ? max : m[2] !== undefined ? number(m[2]) : m[3] !== undefined ? max : first;
    if (step === 0) throw new Error(`step of range should be a positive number: ${part}`);
    if (first < min) throw new Error(`beginning of range (${first}) below minimum (${min}): ${part}`);
    if (last > max) throw new Error(`end of range (${last}) above maximum (${max}): ${part}`);
    if (first > last) throw new Error(`beginning of range (${first}) beyond end of range (${last}): ${part}`);
    if (star && step === 1) any = true;
    for (let value = first; value <= last; value += step) values.add(value);
  }
  return { values, any };
}

/** A duration as Go writes them, such as 1h30m or 90s, in milliseconds. */
function parseDuration(text: string): number {
  const units: Record<string, number> = { h: HOUR, m: MINUTE, s: 1000, ms: 1, us: 0.001, µs: 0.001, ns: 0.000001 };
  let total = 0;
  const rest = text.replace(/(\d+(?:\.\d+)?|\.\d+)(ms|us|µs|ns|h|m|s)/g, (_, n, unit) => {
    total += Number(n) * units[unit]!;
    return '';
  });
  if (rest !== '' || text === '') throw new Error(`failed to parse duration @every ${text}: time: invalid duration "${text}"`);
  return total;
}

type ZoneOffset = (at: number) => number;

/** What to add to a time to have the zone's clock, milliseconds. */
function zoneOffset(timeZone: string): ZoneOffset {
  if (timeZone === 'UTC' || timeZone === 'Etc/UTC') return () => 0;
  let format: Intl.DateTimeFormat;
  try {
    format = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
  } catch {
    throw new Error(`unknown time zone ${timeZone}`);
  }
  return (at) => {
    const parts: Record<string, number> = {};
    for (const { type, value } of format.formatToParts(at)) parts[type] = Number(value);
    const local = Date.UTC(parts['year']!, parts['month']! - 1, parts['day']!, parts['hour']!, parts['minute']!, parts['second']!);
    return local - Math.floor(at / 1000) * 1000;
  };
}

interface Fields {
  minute: Field;
  hour: Field;
  day: Field;
  month: Field;
  weekday: Field;
}

/** Where both day fields say something, one of them is enough. */
function dayMatches({ day, weekday }: Fields, local: Date): boolean {
  const byDay = day.values.has(local.getUTCDate());
  const byWeekday = weekday.values.has(local.getUTCDay());
  return day.any || weekday.any ? byDay && byWeekday : byDay || byWeekday;
}

/**
 * Times that a change to summer time leaves out do not match; hours that the way back repeats match twice, as upstream's library has it.
 */
function nextMatch(f: Fields, after: number, offset: ZoneOffset): number | undefined {
  let at = (Math.floor(after / MINUTE) + 1) * MINUTE;
  const until = after + 5 * 366 * DAY;
  while (at < until) {
    const local = new Date(at + offset(at));
    if (!f.month.values.has(local.getUTCMonth() + 1)) at = startOfDay(local.getUTCFullYear(), local.getUTCMonth() + 1, 1, offset);
    else if (!dayMatches(f, local)) at = startOfDay(local.getUTCFullYear(), local.getUTCMonth(), local.getUTCDate() + 1, offset);
    else if (!f.hour.values.has(local.getUTCHours())) at += HOUR - (local.getTime() % HOUR);
    else if (!f.minute.values.has(local.getUTCMinutes())) at += MINUTE;
    else return at;
  }
  return undefined;
}

/** The first moment of a day on the zone's clock; not midnight where a change of the clock leaves that out. */
function startOfDay(year: number, month: number, day: number, offset: ZoneOffset): number {
  const midnight = Date.UTC(year, month, day);
  let at = midnight - offset(midnight);
  at = midnight - offset(at);
  // The gap is at midnight: on to its end.
  while (at + offset(at) < midnight) at += MINUTE * 15;
  return at;
}

/** RFC 3339 on the zone's clock. */
export function zonedTimestamp(at: number, timeZone = 'UTC'): string {
  const shift = zoneOffset(timeZone)(at);
  const text = new Date(at + shift).toISOString().slice(0, 19);
  if (shift === 0) return `${text}Z`;
  const minutes = Math.abs(shift) / MINUTE;
  const two = (n: number) => String(n).padStart(2, '0');
  return `${text}${shift < 0 ? '-' : '+'}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
}
