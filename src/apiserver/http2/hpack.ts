import { huffmanDecode } from './huffman.ts';

/** Names and values of HPACK's static table (RFC 7541, appendix A), from index 1. */
const staticTable: [string, string][] = [
  [':authority', ''],
  [':method', 'GET'],
  [':method', 'POST'],
  [':path', '/'],
  [':path', '/index.html'],
  [':scheme', 'http'],
  [':scheme', 'https'],
  ...['200', '204', '206', '304', '400', '404', '500'].map((status): [string, string] => [':status', status]),
  ['accept-charset', ''],
  ['accept-encoding', 'gzip, deflate'],
  ...(
    'accept-language accept-ranges accept access-control-allow-origin age allow authorization cache-control content-disposition content-encoding ' +
    'content-language content-length content-location content-range content-type cookie date etag expect expires from host if-match ' +
    'if-modified-since if-none-match if-range if-unmodified-since last-modified link location max-forwards proxy-authenticate ' +
    'proxy-authorization range referer refresh retry-after server set-cookie strict-transport-security transfer-encoding user-agent vary via ' +
    'www-authenticate'
  )
    .split(' ')
    .map((name): [string, string] => [name, '']),
];

/** A header block that cannot be read; the connection's table is lost with it. */
export class HpackError extends Error {}

const entrySize = (name: string, value: string): number => name.length + value.length + 32;

/** Octets of a dynamic table, as announced by default (SETTINGS_HEADER_TABLE_SIZE). */
const tableSize = 4096;

/** Reads header blocks of one connection, in order. Strings are latin1, one character an octet. */
export class HpackDecoder {
  /** The dynamic table, the newest last; `#from` is where the ones not yet evicted begin. */
  #entries: [string, string][] = [];
  #from = 0;
  #size = 0;
  #limit = tableSize;
  #at = 0;

  /**
   * Calls back for each field. Beyond `limit` octets of fields (counted as SETTINGS_MAX_HEADER_LIST_SIZE does) it reads on, for the sake
   * of the table, and tells nothing more. Whether all of them were told. HpackError where the block is none.
   */
  decode(block: Buffer, limit: number, field: (name: string, value: string) => void): boolean {
    this.#at = 0;
    let size = 0;
    let begun = false;
    while (this.#at < block.length) {
      const first = block[this.#at] as number;
      let name: string;
      let value: string;
      if (first & 0x80) {
        [name, value] = this.#entry(this.#integer(block, 7));
      } else if ((first & 0xe0) === 0x20) {
        if (begun) throw new HpackError('a table size update after a field');
        this.#limit = this.#integer(block, 5);
        if (this.#limit > tableSize) throw new HpackError('a table larger than announced');
        this.#evict(this.#limit);
        continue;
      } else {
        const indexed = (first & 0xc0) === 0x40;
        const index = this.#integer(block, indexed ? 6 : 4);
        name = index === 0 ? this.#string(block) : this.#entry(index)[0];
        value = this.#string(block);
        if (indexed) this.#add(name, value);
      }
      begun = true;
      size += entrySize(name, value);
      if (size <= limit) field(name, value);
    }
    return size <= limit;
  }

  #entry(index: number): [string, string] {
    if (index === 0) throw new HpackError('index 0');
    const entry = index <= 61 ? staticTable[index - 1] : index - 62 < this.#entries.length - this.#from ? this.#entries[this.#entries.length - (index - 61)] : undefined;
    if (!entry) throw new HpackError('no such index');
    return entry;
  }

  #add(name: string, value: string): void {
    const size = entrySize(name, value);
    this.#evict(Math.max(0, this.#limit - size));
    if (size > this.#limit) return;
    this.#entries.push([name, value]);
    this.#size += size;
  }

  #evict(limit: number): void {
    while (this.#size > limit) {
      const [name, value] = this.#entries[this.#from++] as [string, string];
      this.#size -= entrySize(name, value);
    }
    if (this.#from < 256 && this.#from < this.#entries.length) return;
    this.#entries = this.#entries.slice(this.#from);
    this.#from = 0;
  }

  #integer(block: Buffer, bits: number): number {
    const most = (1 << bits) - 1;
    let value = (block[this.#at++] as number) & most;
    if (value < most) return value;
    for (let shift = 0; ; shift += 7) {
      const octet = block[this.#at++];
      if (octet === undefined || shift > 21) throw new HpackError('an integer that is cut off or too large');
      value += (octet & 0x7f) * 2 ** shift;
      if (!(octet & 0x80)) return value;
    }
  }

  #string(block: Buffer): string {
    const first = block[this.#at];
    if (first === undefined) throw new HpackError('cut off');
    const length = this.#integer(block, 7);
    const from = this.#at;
    this.#at += length;
    if (this.#at > block.length) throw new HpackError('a string that is cut off');
    if (!(first & 0x80)) return block.toString('latin1', from, this.#at);
    const text = huffmanDecode(block, from, this.#at);
    if (text === undefined) throw new HpackError('no Huffman code');
    return text;
  }
}

/** The start of a literal field that is not indexed: its name, by the static table where that has it. */
const prefixes = new Map<string, Buffer>();
function prefixOf(name: string): Buffer {
  let prefix = prefixes.get(name);
  if (prefix) return prefix;
  const index = staticTable.findIndex(([known]) => known === name) + 1;
  const bytes = index ? [...integer(index, 4)] : [0, ...integer(name.length, 7), ...Buffer.from(name, 'latin1')];
  prefix = Buffer.from(bytes);
  // Names of answers are few; those of proxied ones may be any.
  if (prefixes.size < 1000) prefixes.set(name, prefix);
  return prefix;
}

function integer(value: number, bits: number): number[] {
  const most = (1 << bits) - 1;
  if (value < most) return [value];
  const out = [most];
  let rest = value - most;
  for (; rest >= 128; rest = Math.floor(rest / 128)) out.push((rest % 128) | 0x80);
  out.push(rest);
  return out;
}

let scratch = Buffer.allocUnsafe(4096);

/**
 * Writes header blocks without a table of their own: what it writes does not depend on the connection. Values are latin1.
 * The bytes are good until the next block is begun.
 */
export class HpackEncoder {
  #at = 0;

  begin(status: number): void {
    this.#at = 0;
    const index = staticTable.findIndex(([name, value]) => name === ':status' && value === String(status)) + 1;
    if (index) scratch[this.#at++] = 0x80 | index;
    else this.field(':status', String(status));
  }

  field(name: string, value: string): void {
    const prefix = prefixOf(name);
    const need = this.#at + prefix.length + value.length + 5;
    if (need > scratch.length) {
      const larger = Buffer.allocUnsafe(need * 2);
      scratch.copy(larger, 0, 0, this.#at);
      scratch = larger;
    }
    scratch.set(prefix, this.#at);
    this.#at += prefix.length;
    if (value.length < 127) scratch[this.#at++] = value.length;
    else for (const octet of integer(value.length, 7)) scratch[this.#at++] = octet;
    this.#at += scratch.write(value, this.#at, 'latin1');
  }

  get bytes(): Buffer {
    return scratch.subarray(0, this.#at);
  }
}
