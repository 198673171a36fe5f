import { parseQuantity } from '../../quantity.ts';
import { t } from '../types.ts';
import { CelError, Opaque } from '../values.ts';
import { library } from './library.ts';

type Parsed = ReturnType<typeof parseQuantity>;

/** A quantity as a number of 10^-9. */
class Quantity extends Opaque {
  readonly type = t.opaque('kubernetes.Quantity');
  readonly nano: bigint;
  constructor(nano: bigint) {
    super();
    this.nano = nano;
  }
  override equals(other: Opaque): boolean {
    return this.nano === (other as Quantity).nano;
  }
}

const unit = 1_000_000_000n;

function tryParse(text: string): Quantity | undefined {
  try {
    return new Quantity(nanoOf(parseQuantity(text)));
  } catch {
    return undefined;
  }
}

function parse(text: string): Quantity {
  try {
    return new Quantity(nanoOf(parseQuantity(text)));
  } catch (error) {
    throw new CelError((error as Error).message);
  }
}

/** A quantity as expressions see it. */
export const quantityValue = (text: string): Opaque => parse(text);

const isInteger = (q: Quantity): boolean =>
  q.nano % unit === 0n && q.nano / unit <= 0x7fff_ffff_ffff_ffffn && q.nano / unit >= -0x8000_0000_0000_0000n;
const compare = (a: Quantity, b: Quantity): bigint => (a.nano < b.nano ? -1n : a.nano > b.nano ? 1n : 0n);

export const quantityLibrary = library({
  quantity: [['string_to_quantity', '(string) kubernetes.Quantity', parse]],
  isQuantity: [['is_quantity_string', '(string) bool', (text: string) => tryParse(text) !== undefined]],
  sign: [['quantity_sign', 'kubernetes.Quantity.() int', (q: Quantity) => (q.nano < 0n ? -1n : q.nano > 0n ? 1n : 0n)]],
  isInteger: [['quantity_is_integer', 'kubernetes.Quantity.() bool', isInteger]],
  asInteger: [
    [
      'quantity_as_integer',
      'kubernetes.Quantity.() int',
      (q: Quantity) => {
        if (!isInteger(q)) throw new CelError('cannot convert value to integer');
        return q.nano / unit;
      },
    ],
  ],
  asApproximateFloat: [['quantity_get_float', 'kubernetes.Quantity.() double', (q: Quantity) => Number(q.nano) / 1e9]],
  isGreaterThan: [['quantity_is_greater_than', 'kubernetes.Quantity.(kubernetes.Quantity) bool', (a, b) => compare(a, b) > 0n]],
  isLessThan: [['quantity_is_less_than', 'kubernetes.Quantity.(kubernetes.Quantity) bool', (a, b) => compare(a, b) < 0n]],
  compareTo: [['quantity_compare_to', 'kubernetes.Quantity.(kubernetes.Quantity) int', compare]],
  add: [
    ['quantity_add', 'kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity', (a: Quantity, b: Quantity) => new Quantity(a.nano + b.nano)],
    ['quantity_add_int', 'kubernetes.Quantity.(int) kubernetes.Quantity', (a: Quantity, b: bigint) => new Quantity(a.nano + b * unit)],
  ],
  sub: [
    ['quantity_sub', 'kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity', (a: Quantity, b: Quantity) => new Quantity(a.nano - b.nano)],
    ['quantity_sub_int', 'kubernetes.Quantity.(int) kubernetes.Quantity', (a: Quantity, b: bigint) => new Quantity(a.nano - b * unit)],
  ],
});

const nanoOf = (parsed: Parsed): bigint => parsed.nano;
