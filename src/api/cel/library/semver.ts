import { compare, parse, type SemVer } from 'semver';
import { t } from '../types.ts';
import { CelError, Opaque } from '../values.ts';
import { library } from './library.ts';

class Semver extends Opaque {
  readonly type = t.opaque('kubernetes.Semver');
  readonly version: SemVer;
  constructor(version: SemVer) {
    super();
    this.version = version;
  }
  override equals(other: Opaque): boolean {
    return compare(this.version, (other as Semver).version) === 0;
  }
}

const strict = /^(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$/;

/** Removes a leading v, zeros before numbers, and adds parts that are missing. */
function normalized(text: string): string {
  const [, core = '', rest = ''] = /^v?([^-+]*)(.*)$/.exec(text) ?? [];
  const parts = core.split('.');
  while (parts.length < 3) parts.push('0');
  return parts.map((p) => p.replace(/^0+(?=\d)/, '')).join('.') + rest;
}

function tryParse(text: string, normalize = false): Semver | undefined {
  const wanted = normalize ? normalized(text) : text;
  const version = strict.test(wanted) ? parse(wanted) : null;
  return version ? new Semver(version) : undefined;
}

function orFail(text: string, normalize = false): Semver {
  const version = tryParse(text, normalize);
  if (!version) throw new CelError(`No Major.Minor.Patch elements found`);
  return version;
}

/** A version as expressions see it. */
export const semverValue = (text: string): Opaque => orFail(text);

const order = (a: Semver, b: Semver): bigint => BigInt(compare(a.version, b.version));

export const semverLibrary = library({
  semver: [
    ['string_to_semver', '(string) kubernetes.Semver', (text: string) => orFail(text)],
    ['string_bool_to_semver', '(string, bool) kubernetes.Semver', orFail],
  ],
  isSemver: [
    ['is_semver_string', '(string) bool', (text: string) => tryParse(text) !== undefined],
    ['is_semver_string_bool', '(string, bool) bool', (text: string, normalize: boolean) => tryParse(text, normalize) !== undefined],
  ],
  major: [['semver_major', 'kubernetes.Semver.() int', (s: Semver) => BigInt(s.version.major)]],
  minor: [['semver_minor', 'kubernetes.Semver.() int', (s: Semver) => BigInt(s.version.minor)]],
  patch: [['semver_patch', 'kubernetes.Semver.() int', (s: Semver) => BigInt(s.version.patch)]],
  isGreaterThan: [['semver_is_greater_than', 'kubernetes.Semver.(kubernetes.Semver) bool', (a, b) => order(a, b) > 0n]],
  isLessThan: [['semver_is_less_than', 'kubernetes.Semver.(kubernetes.Semver) bool', (a, b) => order(a, b) < 0n]],
  compareTo: [['semver_compare_to', 'kubernetes.Semver.(kubernetes.Semver) int', order]],
});
