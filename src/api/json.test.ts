import { expect, test } from 'vitest';
import { hasLongDigits, parseJson, wholeNumber } from './json.ts';

test.each([
  ['9007199254740993', 9007199254740993n],
  ['-9007199254740993', -9007199254740993n],
  ['9223372036854775807', 9223372036854775807n],
  ['-9223372036854775808', -9223372036854775808n],
  ['9007199254740991', 9007199254740991],
  ['9223372036854775808', 2 ** 63],
  ['123456789012345678901234567890', Number('1.2345678901234568e29')],
  ['1234567890123456789.0', Number('1234567890123456789')],
  ['1e300', 1e300],
  ['0.12345678901234567890', 0.12345678901234568],
  ['"1234567890123456789"', '1234567890123456789'],
])('%s is read as it is', (text, value) => {
  expect(parseJson(text)).toBe(value);
  expect(parseJson(` {"a":[{"b":${text}}],"c":1}`)).toEqual({ a: [{ b: value }], c: 1 });
});

test('and is written as it was', () => {
  const text = '{"a":[9007199254740993,-9223372036854775808,1],"__proto__":{"b":9223372036854775807}}';
  expect(JSON.stringify(parseJson(text))).toBe(text);
  expect(JSON.stringify({ a: 9007199254740993n }, undefined, 1)).toBe('{\n "a": 9007199254740993\n}');
});

test('digits in strings take nothing from numbers beside them', () => {
  const text = '{"1234567890123456789":"1234567890123456789","t":" 1234567890123456789 ","n":[9007199254740993,-9007199254740993, 9007199254740995 ],"m":9007199254740997}';
  expect(JSON.stringify(parseJson(text))).toBe(text.replaceAll(/(?<=[,]) | (?=\])/g, ''));
});

test('syntax errors are those of JSON.parse', () => {
  expect(() => parseJson('{"a":9007199254740993,}')).toThrow(SyntaxError);
});

test('a run of 16 digits is found wherever it stands, and none of 15', () => {
  for (let before = 0; before < 40; before++) {
    for (const after of ['', 'x', 'x'.repeat(20)]) {
      expect(hasLongDigits(`${'x'.repeat(before)}${'1'.repeat(16)}${after}`)).toBe(true);
      expect(hasLongDigits(`${'x'.repeat(before)}${'1'.repeat(15)}${after}`)).toBe(false);
      expect(hasLongDigits(`${'x'.repeat(before)}${'1'.repeat(15)}x${'1'.repeat(15)}${after}`)).toBe(false);
    }
  }
});

test('whole numbers are bigints only where they must be', () => {
  expect([wholeNumber(1n), wholeNumber(2n ** 53n), wholeNumber(2n ** 63n)]).toEqual([1, 2n ** 53n, 2 ** 63]);
});
