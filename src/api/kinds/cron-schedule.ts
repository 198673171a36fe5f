/** What is wrong with a schedule of a CronJob, in the words of the parser that upstream uses; undefined where it is right. */
interface Bounds {
  least: number;
  most: number;
  names?: Record<string, number>;
}
const named = (list: string, from: number) => Object.fromEntries(list.split(' ').map((name, i) => [name, i + from]));
const fieldBounds: Bounds[] = [
  { least: 0, most: 59 },
  { least: 0, most: 23 },
  { least: 1, most: 31 },
  { least: 1, most: 12, names: named('jan feb mar apr may jun jul aug sep oct nov dec', 1) },
  { least: 0, most: 6, names: named('sun mon tue wed thu fri sat', 0) },
];
const descriptors = new Set(['@yearly', '@annually', '@monthly', '@weekly', '@daily', '@midnight', '@hourly']);
const duration = /^[+-]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*$/;

export function scheduleProblem(schedule: string): string | undefined {
  if (schedule === '') return 'empty spec string';
  let rest = schedule;
  if (/^(TZ|CRON_TZ)=/.test(rest)) {
    const space = rest.indexOf(' ');
    const zone = rest.slice(rest.indexOf('=') + 1, space < 0 ? undefined : space);
    if (!isLocation(zone)) return `provided bad location ${zone}: unknown time zone ${zone}`;
    rest = space < 0 ? '' : rest.slice(space).trim();
  }
  if (rest.startsWith('@')) {
    if (descriptors.has(rest)) return undefined;
    if (!rest.startsWith('@every ')) return `unrecognized descriptor: ${rest}`;
    const text = rest.slice('@every '.length);
    return duration.test(text) || text === '0' ? undefined : `failed to parse duration ${rest}: time: invalid duration ${JSON.stringify(text)}`;
  }
  const fields = rest.split(/\s+/).filter(Boolean);
  if (fields.length !== 5) return `expected exactly 5 fields, found ${fields.length}: [${fields.join(' ')}]`;
  for (let i = 0; i < 5; i++)
    for (const part of fields[i]!.split(',').filter(Boolean)) {
      const problem = rangeProblem(part, fieldBounds[i]!);
      if (problem) return problem;
    }
  return undefined;
}

function isLocation(name: string): boolean {
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

function rangeProblem(text: string, bounds: Bounds): string | undefined {
  const [range = '', stepText, ...slashes] = text.split('/');
  const [low = '', high, ...hyphens] = range.split('-');
  try {
    let [start, end] = [bounds.least, bounds.most];
    if (low !== '*' && low !== '?') {
      start = numberOf(low, bounds.names);
      end = high === undefined ? start : numberOf(high, bounds.names);
      if (hyphens.length) return `too many hyphens: ${text}`;
    }
    let step = 1;
    if (stepText !== undefined) {
      step = numberOf(stepText);
      if (high === undefined) end = bounds.most;
    }
    if (slashes.length) return `too many slashes: ${text}`;
    if (start < bounds.least) return `beginning of range (${start}) below minimum (${bounds.least}): ${text}`;
    if (end > bounds.most) return `end of range (${end}) above maximum (${bounds.most}): ${text}`;
    if (start > end) return `beginning of range (${start}) beyond end of range (${end}): ${text}`;
    return step === 0 ? `step of range should be a positive number: ${text}` : undefined;
  } catch (error) {
    return (error as Error).message;
  }
}

function numberOf(text: string, names?: Record<string, number>): number {
  const name = names?.[text.toLowerCase()];
  if (name !== undefined) return name;
  if (!/^[+-]?\d+$/.test(text)) throw new Error(`failed to parse int from ${text}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  const value = Number(text);
  if (value < 0) throw new Error(`negative number (${value}) not allowed: ${text}`);
  return value;
}
