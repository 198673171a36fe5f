/** Bits of each octet's code, and of the end of the string (RFC 7541, appendix B), by octet. Codes of one length ascend with their octets. */
const lengths = [
  ...[13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28],
  ...[6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10],
  ...[13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6],
  ...[15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28],
  ...[20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24],
  ...[22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23],
  ...[26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27],
  ...[20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26],
  30,
];

/**
 * What four bits do in each state, a state being the bits of an unfinished code: 16 entries a state, each the next state, shifted by 9,
 * with 256 and the octet where one is complete. -1 is the end of the string, which must not be encoded. No code is shorter than five bits.
 */
let table: Int32Array | undefined;
/** States in which a string may end: nothing unfinished but fewer than eight bits of ones. */
let mayEnd: Uint8Array;

function build(): Int32Array {
  // Children of inner nodes: another inner node, or ~octet.
  const children: [number, number][] = [[0, 0]];
  let code = 0;
  for (let bits = 5; bits <= 30; bits++) {
    code *= 2;
    for (let symbol = 0; symbol < 257; symbol++) {
      if (lengths[symbol] !== bits) continue;
      let at = 0;
      for (let bit = bits - 1; bit >= 0; bit--) {
        const side = Math.floor(code / 2 ** bit) % 2 === 1 ? 1 : 0;
        if (bit === 0) children[at]![side] = ~symbol;
        else {
          if (!children[at]![side]) children[at]![side] = children.push([0, 0]) - 1;
          at = children[at]![side];
        }
      }
      code++;
    }
  }
  const out = new Int32Array(children.length * 16);
  for (let state = 0; state < children.length; state++) {
    for (let four = 0; four < 16; four++) {
      let at = state;
      let octet = -1;
      for (let bit = 3; bit >= 0 && at >= 0; bit--) {
        const next = children[at]![(four >> bit) & 1]!;
        if (next >= 0) at = next;
        else if (~next === 256) at = -1;
        else {
          octet = ~next;
          at = 0;
        }
      }
      out[state * 16 + four] = at < 0 ? -1 : (at << 9) | (octet < 0 ? 0 : 256 | octet);
    }
  }
  mayEnd = new Uint8Array(children.length);
  for (let at = 0, bits = 0; bits < 8; bits++) {
    mayEnd[at] = 1;
    at = children[at]![1];
  }
  return out;
}

/** A Huffman-coded string of a header (RFC 7541, 5.2) as latin1; undefined where it is none. */
export function huffmanDecode(bytes: Uint8Array, from: number, to: number): string | undefined {
  table ??= build();
  // Eight bits are at most one and a half characters.
  const out = Buffer.allocUnsafe(Math.ceil(((to - from) * 8) / 5));
  let size = 0;
  let state = 0;
  for (let i = from; i < to; i++) {
    const octet = bytes[i] as number;
    let step = table[state * 16 + (octet >> 4)] as number;
    if (step < 0) return undefined;
    if (step & 256) out[size++] = step & 255;
    step = table[(step >> 9) * 16 + (octet & 15)] as number;
    if (step < 0) return undefined;
    if (step & 256) out[size++] = step & 255;
    state = step >> 9;
  }
  return mayEnd[state] ? out.toString('latin1', 0, size) : undefined;
}
