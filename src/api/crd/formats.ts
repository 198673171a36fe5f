import { isIPv4, isIPv6 } from 'node:net';
import { dnsLabel, dnsSubdomain } from '../validation.ts';

const uuid = (version: string) => new RegExp(`^[0-9a-f]{8}-?[0-9a-f]{4}-?${version}-?[0-9a-f]{12}$`, 'i');

const isDate = (text: string): boolean =>
  /^\d{4}-\d{2}-\d{2}$/.test(text) && !Number.isNaN(Date.parse(text)) && new Date(text).toISOString().slice(0, 10) === text;

/** As Go's time.ParseDuration, with the long unit names that strfmt knows. */
const isDuration = (text: string): boolean =>
  /^[-+]?(\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))*$/.test(text) ||
  /^[-+]?0$/.test(text) ||
  /^\s*\d+\s*(ns|nano|nanos|nanoseconds?|us|µs|micros?|microseconds?|ms|millis?|milliseconds?|s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|d|days?|w|weeks?)\s*$/.test(
    text,
  );

function isUri(text: string): boolean {
  if (text.startsWith('/')) return !/[\s\x00-\x1f\x7f]/.test(text);
  if (!/^[a-zA-Z][a-zA-Z0-9+.-]*:./.test(text)) return false;
  return URL.canParse(text);
}

const isCidr = (text: string): boolean => {
  const [address = '', bits = '', ...rest] = text.split('/');
  if (rest.length || !/^(0|[1-9]\d{0,2})$/.test(bits)) return false;
  return (isIPv4(address) && Number(bits) <= 32) || (isIPv6(address) && !address.includes('%') && Number(bits) <= 128);
};

function luhnOfIsbn10(text: string): boolean {
  const digits = text.replace(/[- ]/g, '');
  if (!/^\d{9}[\dX]$/.test(digits)) return false;
  const sum = [...digits].reduce((total, c, i) => total + (c === 'X' ? 10 : Number(c)) * (10 - i), 0);
  return sum % 11 === 0;
}

function checkOfIsbn13(text: string): boolean {
  const digits = text.replace(/[- ]/g, '');
  if (!/^\d{13}$/.test(digits)) return false;
  return [...digits].reduce((total, c, i) => total + Number(c) * (i % 2 ? 3 : 1), 0) % 10 === 0;
}

const creditCard =
  /^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})$/;

const byte = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

const checks: Record<string, (text: string) => boolean> = {
  bsonobjectid: (t) => /^[0-9a-f]{24}$/i.test(t),
  uri: isUri,
  email: (t) => /^([^<>]*<)?[^\s@<>"(),:;[\]\\]+@[^\s@<>]+>?$/.test(t),
  hostname: (t) =>
    t.length <= 255 && /^([a-zA-Z0-9_]([a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_])?)(\.[a-zA-Z0-9_]([a-zA-Z0-9-_]{0,61}[a-zA-Z0-9_])?)*\.?$/.test(t),
  ipv4: isIPv4,
  ipv6: (t) => isIPv6(t) && !t.includes('%'),
  cidr: isCidr,
  mac: (t) =>
    /^([0-9a-f]{2}([:-]))([0-9a-f]{2}\2){4}[0-9a-f]{2}$/i.test(t) ||
    /^([0-9a-f]{2}([:-]))([0-9a-f]{2}\2){6}[0-9a-f]{2}$/i.test(t) ||
    /^([0-9a-f]{4}\.){2}[0-9a-f]{4}$/i.test(t),
  uuid: (t) => uuid('[0-9a-f]{4}-?[0-9a-f]{4}').test(t),
  uuid3: (t) => uuid('3[0-9a-f]{3}-?[0-9a-f]{4}').test(t),
  uuid4: (t) => uuid('4[0-9a-f]{3}-?[89ab][0-9a-f]{3}').test(t),
  uuid5: (t) => uuid('5[0-9a-f]{3}-?[89ab][0-9a-f]{3}').test(t),
  isbn: (t) => luhnOfIsbn10(t) || checkOfIsbn13(t),
  isbn10: luhnOfIsbn10,
  isbn13: checkOfIsbn13,
  creditcard: (t) => creditCard.test(t.replace(/\D/g, '')),
  ssn: (t) => /^\d{3}[- ]?\d{2}[- ]?\d{4}$/.test(t),
  hexcolor: (t) => /^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$/.test(t),
  rgbcolor: (t) => {
    const parts = /^rgb\(\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*\)$/.exec(t);
    return parts?.slice(1).every((p) => Number(p) <= 255) ?? false;
  },
  byte: (t) => byte.test(t),
  password: () => true,
  date: isDate,
  duration: isDuration,
  datetime: (t) => /^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:?\d{2})$/.test(t) && !Number.isNaN(Date.parse(t)),
  k8sshortname: (t) => t.length <= 63 && dnsLabel.test(t),
  k8slongname: (t) => t.length <= 253 && dnsSubdomain.test(t),
};

const normalized = (format: string): string => format.replaceAll('-', '');

/** Whether the server checks strings (or numbers) of this format; others are as if they were not there. */
export function isKnownFormat(type: string | undefined, format: string): boolean {
  if (type === undefined || type === '' || type === 'string') return Object.hasOwn(checks, normalized(format));
  if (type === 'integer') return format === 'int32' || format === 'int64';
  if (type === 'number') return format === 'float' || format === 'double';
  return false;
}

export function matchesFormat(format: string, text: string): boolean {
  const check = checks[normalized(format)];
  return check === undefined || check(text);
}
