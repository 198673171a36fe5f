/**
 * JSON whose integers keep all their digits. What JSON.parse would round is a bigint in parsed objects: an integer of 64 bits beyond
 * 2^53, as Go keeps it in typed and in untyped objects; everything else is a number, whole numbers beyond 64 bits too, as with Go.
 * JSON.stringify writes them as they are.
 */

declare global {
  interface BigInt {
    toJSON?(): unknown;
  }
  interface JSON {
    rawJSON(text: string): unknown;
  }
}

// An object may be written in many places, some of them in libraries: this teaches all of them at once.
if (!BigInt.prototype.toJSON) {
  Object.defineProperty(BigInt.prototype, 'toJSON', {
    value(this: bigint) {
      return JSON.rawJSON(this.toString());
    },
    configurable: true,
    writable: true,
  });
}

const smallest = -(2n ** 63n);
const largest = 2n ** 63n - 1n;

/** A whole number as parsed objects hold it: a bigint only where it is needed; a rounded number beyond 64 bits. */
export function wholeNumber(value: bigint): number | bigint {
  const rounded = Number(value);
  return Number.isSafeInteger(rounded) || value < smallest || value > largest ? rounded : value;
}

/** JSON.parse, without rounding integers of 64 bits. Throws SyntaxError as that does. */
export function parseJson(text: string): any {
  return hasLongDigits(text, isBare) ? JSON.parse(text, exact as (key: string, value: unknown) => unknown) : JSON.parse(text);
}

function exact(_key: string, value: unknown, { source }: { source?: string }): unknown {
  if (typeof value !== 'number' || Number.isSafeInteger(value) || !source || !/^-?\d+$/.test(source)) return value;
  return wholeNumber(BigInt(source));
}

const digits = 16;
const isDigit = (code: number): boolean => code >= 0x30 && code <= 0x39;

/** Whether digits may be a number of JSON: those of a string that begins or goes on with them are none. */
function isBare(text: string, first: number, last: number): boolean {
  const before = text[text[first - 1] === '-' ? first - 2 : first - 1] ?? '';
  const after = text[last + 1] ?? '';
  return ':,[ \t\r\n'.includes(before) && ',]} \t\r\n.eE'.includes(after);
}

/**
 * Whether 16 digits stand side by side anywhere, fewer than which no rounded integer has: one look at every 16th character tells.
 * `counts` may leave out some.
 */
export function hasLongDigits(text: string, counts?: (text: string, first: number, last: number) => boolean): boolean {
  const { length } = text;
  for (let i = digits - 1; i < length; i += digits) {
    if (!isDigit(text.charCodeAt(i))) continue;
    let first = i;
    while (first > 0 && isDigit(text.charCodeAt(first - 1))) first--;
    let last = i;
    while (last + 1 < length && isDigit(text.charCodeAt(last + 1))) last++;
    if (last - first + 1 >= digits && (!counts || counts(text, first, last))) return true;
  }
  return false;
}
