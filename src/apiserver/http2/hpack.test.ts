import { expect, test } from 'vitest';
import { HpackDecoder, HpackEncoder, HpackError } from './hpack.ts';

const hex = (text: string) => Buffer.from(text.replace(/\s/g, ''), 'hex');
const read = (decoder: HpackDecoder, block: Buffer, limit = 65_536) => {
  const fields: [string, string][] = [];
  return { complete: decoder.decode(block, limit, (name, value) => void fields.push([name, value])), fields };
};

// RFC 7541, appendix C.4: three requests on one connection, with Huffman codes and a table that grows.
test('requests of the specification', () => {
  const decoder = new HpackDecoder();
  const common = [
    [':method', 'GET'],
    [':scheme', 'http'],
    [':path', '/'],
    [':authority', 'www.example.com'],
  ];
  expect(read(decoder, hex('8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff')).fields).toEqual(common);
  expect(read(decoder, hex('8286 84be 5886 a8eb 1064 9cbf')).fields).toEqual([...common, ['cache-control', 'no-cache']]);
  expect(read(decoder, hex('8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf')).fields).toEqual([
    [':method', 'GET'],
    [':scheme', 'https'],
    [':path', '/index.html'],
    [':authority', 'www.example.com'],
    ['custom-key', 'custom-value'],
  ]);
});

test('a full table forgets its oldest entries', () => {
  const decoder = new HpackDecoder();
  // 40 fields of 1,032 octets and 32 each: three fit.
  const literal = (value: string) => Buffer.concat([Buffer.from([0x40, 1, 0x78, 0x7f, 0x81, 0x07]), Buffer.from(value.repeat(1024))]);
  for (let i = 0; i < 40; i++) read(decoder, literal(String.fromCharCode(97 + (i % 26))));
  expect(read(decoder, hex('be')).fields).toEqual([['x', 'n'.repeat(1024)]]);
  expect(read(decoder, hex('c0')).fields).toEqual([['x', 'l'.repeat(1024)]]);
  expect(() => read(decoder, hex('c1'))).toThrow(HpackError);
});

test('what is too much is read for the table and not told', () => {
  const decoder = new HpackDecoder();
  const block = Buffer.concat([hex('4001 78 0161'), hex('4001 79 0162')]);
  expect(read(decoder, block, 40)).toEqual({ complete: false, fields: [['x', 'a']] });
  expect(read(decoder, hex('be bf')).fields).toEqual([
    ['y', 'b'],
    ['x', 'a'],
  ]);
});

test.each([
  ['an index of nothing', '80'],
  ['an index beyond the tables', 'be'],
  ['a string that is cut off', '0001 7805 61'],
  ['a block that is cut off', '00'],
  ['an endless integer', 'ff ff ff ff ff ff ff 01'],
  ['a table larger than announced', '3f e2 1f'],
  ['a table size after a field', '82 20'],
  ['the end of string within a string', '0001 78 84 ffff ffff'],
  ['padding that is not ones', '0001 78 81 18'],
  ['padding of a whole octet', '0001 78 82 1f ff'],
])('%s is an error', (_, block) => {
  expect(() => read(new HpackDecoder(), hex(block))).toThrow(HpackError);
});

test('what is written is read again', () => {
  const encoder = new HpackEncoder();
  const fields: [string, string][] = [
    ['content-type', 'application/json'],
    ['x-long', 'v'.repeat(300)],
    ['x-longer', 'w'.repeat(70_000)],
    ['warning', '299 - "\u00e4"'],
    ['empty', ''],
  ];
  for (const status of [200, 404, 418]) {
    encoder.begin(status);
    for (const [name, value] of fields) encoder.field(name, value);
    expect(read(new HpackDecoder(), Buffer.from(encoder.bytes), 1e6).fields).toEqual([[':status', String(status)], ...fields]);
  }
});
