/** A quantity as an exact number: value × 10^-9. Kubernetes' quantities are no finer than nano. */
export interface Quantity {
  nano: bigint;
  format: 'DecimalSI' | 'BinarySI' | 'DecimalExponent';
}

const decimal: Record<string, number> = { n: -9, u: -6, m: -3, '': 0, k: 3, M: 6, G: 9, T: 12, P: 15, E: 18 };
const binary: Record<string, number> = { Ki: 10, Mi: 20, Gi: 30, Ti: 40, Pi: 50, Ei: 60 };
const grammar = /^([+-]?)(\d*)(?:\.(\d*))?(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d+))?$/;
/** What is right but for its suffix. */
const loose = /^[+-]?[0-9.]+[eEinumkKMGTP]*[-+]?[0-9]*$/;
const maxInt64 = 2n ** 63n - 1n;
const syntaxError = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const suffixError = "unable to parse quantity's suffix";

/**
 * Parses a quantity such as 100m, 1.5Gi, 12e6. Throws Error on bad syntax, in upstream's words. Values finer than nano are rounded
 * up, those of binary suffixes capped at 2^63-1.
 */
export function parseQuantity(text: string | number | bigint): Quantity {
  const s = String(text).trim();
  const m = s.length > 100 ? null : grammar.exec(s);
  if (!m || !/[\d.]/.test(s)) throw new Error(loose.test(s) && !/\..*\./.test(s) ? suffixError : syntaxError);
  const fraction = m[3] ?? '';
  const suffix = m[4] ?? '';
  let digits = BigInt(`${m[2]}${fraction}` || '0');
  let exponent = 9 - fraction.length;
  let format: Quantity['format'] = 'DecimalSI';
  if (binary[suffix] !== undefined) {
    digits <<= BigInt(binary[suffix]);
    format = 'BinarySI';
  } else if (m[5] !== undefined) {
    exponent += Math.max(-1000, Math.min(1000, Number(m[5])));
    format = 'DecimalExponent';
  } else exponent += decimal[suffix] ?? 0;
  let nano: bigint;
  if (exponent >= 0) nano = digits * 10n ** BigInt(exponent);
  else {
    const divisor = 10n ** BigInt(-exponent);
    nano = (digits + divisor - 1n) / divisor;
  }
  if (format === 'BinarySI' && nano > maxInt64 * 10n ** 9n) nano = maxInt64 * 10n ** 9n;
  return { nano: m[1] === '-' ? -nano : nano, format };
}

const abs = (n: bigint) => (n < 0n ? -n : n);
/** Division that rounds away from zero, as Quantity.Value does. */
const divideUp = (n: bigint, by: bigint): bigint => {
  const q = abs(n) / by + (abs(n) % by === 0n ? 0n : 1n);
  return n < 0n ? -q : q;
};

/** No finer than thousandths, away from zero. */
export const roundUpToMilli = (q: Quantity): Quantity =>
  q.nano % 1_000_000n === 0n ? q : { nano: divideUp(q.nano, 1_000_000n) * 1_000_000n, format: q.format };

/** The text that Kubernetes gives an exact quantity: no fraction, the largest suffix that keeps it exact. */
export function formatQuantity(q: Quantity): string {
  if (q.nano === 0n) return '0';
  const sign = q.nano < 0n ? '-' : '';
  let n = abs(q.nano);
  const giga = 10n ** 9n;
  // Binary suffixes only for whole numbers of at least 1024.
  if (q.format === 'BinarySI' && n >= 1024n * giga && n % giga === 0n) {
    n /= giga;
    const names = ['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'];
    let i = 0;
    while (i < 6 && n % 1024n === 0n) {
      n /= 1024n;
      i++;
    }
    return `${sign}${n}${names[i]}`;
  }
  let exponent = -9;
  const largest = q.format === 'DecimalExponent' ? Number.POSITIVE_INFINITY : 18;
  while (exponent < largest && n % 1000n === 0n) {
    n /= 1000n;
    exponent += 3;
  }
  if (q.format === 'DecimalExponent') return exponent === 0 ? `${sign}${n}` : `${sign}${n}e${exponent}`;
  const names: Record<string, string> = { '-9': 'n', '-6': 'u', '-3': 'm', 0: '', 3: 'k', 6: 'M', 9: 'G', 12: 'T', 15: 'P', 18: 'E' };
  return `${sign}${n}${names[exponent]}`;
}

/** The canonical text of a quantity: 1000m is 1, 0.5 is 500m, 1024Ki is 1Mi. Throws Error on bad syntax. */
export const canonicalQuantity = (text: string | number): string => formatQuantity(parseQuantity(text));

/** In thousandths, rounded away from zero: CPU in millicores. 0 where absent. */
export const toMilli = (text: string | number | undefined): number =>
  text === undefined ? 0 : Number(divideUp(parseQuantity(text).nano, 1_000_000n));

/** In whole units, rounded away from zero: memory and storage in bytes. 0 where absent. */
export const toBytes = (text: string | number | undefined): number =>
  text === undefined ? 0 : Number(divideUp(parseQuantity(text).nano, 1_000_000_000n));

/** Below, equal, above zero as a is less than, equal to, more than b. */
export function compareQuantities(a: string | number, b: string | number): number {
  const d = parseQuantity(a).nano - parseQuantity(b).nano;
  return d < 0n ? -1 : d > 0n ? 1 : 0;
}

const combine = (a: string | number, b: string | number, sign: bigint): string => {
  const x = parseQuantity(a);
  const y = parseQuantity(b);
  return formatQuantity({ nano: x.nano + sign * y.nano, format: x.nano === 0n ? y.format : x.format });
};
export const addQuantities = (a: string | number, b: string | number): string => combine(a, b, 1n);
export const subtractQuantities = (a: string | number, b: string | number): string => combine(a, b, -1n);
