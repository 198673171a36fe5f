import type { FieldError } from '../../../api/errors.ts';
import type { Level } from './checks.ts';

const levels: Level[] = ['privileged', 'baseline', 'restricted'];
const prefix = 'pod-security.kubernetes.io/';

export interface LevelVersion {
  level: Level;
  /** `latest` or `v1.N`. */
  version: string;
}

export interface Policy {
  enforce: LevelVersion;
  audit: LevelVersion;
  warn: LevelVersion;
}

export const textOf = ({ level, version }: LevelVersion): string => `${level}:${version}`;
export const minorOf = ({ version }: LevelVersion): number | undefined => (version === 'latest' ? undefined : Number(version.slice(3)));
export const isStricter = (a: Level, b: Level): boolean => levels.indexOf(a) > levels.indexOf(b);

/**
 * The policy that a namespace's labels ask for; privileged where they are silent. Of labels that are wrong there are errors:
 * such a level enforces as `restricted`, and neither audits nor warns.
 */
export function policyOf(labels: Readonly<Record<string, string>>): { policy: Policy; errors: FieldError[] } {
  const errors: FieldError[] = [];
  const read = (mode: keyof Policy): LevelVersion & { given: boolean; bad: boolean; versioned: boolean } => {
    const level = labels[prefix + mode];
    const version = labels[`${prefix}${mode}-version`];
    const bad = level !== undefined && !levels.includes(level as Level);
    if (bad) errors.push(wrong(prefix + mode, level, `must be one of ${levels.join(', ')}`));
    const badVersion = version !== undefined && version !== 'latest' && !/^v1\.(0|[1-9]\d*)$/.test(version);
    if (badVersion) errors.push(wrong(`${prefix}${mode}-version`, version, 'must be "latest" or "v1.x"'));
    const fallback: Level = mode === 'enforce' ? 'restricted' : 'privileged';
    return {
      level: bad ? fallback : ((level as Level | undefined) ?? 'privileged'),
      version: badVersion ? 'latest' : (version ?? 'latest'),
      given: level !== undefined,
      bad,
      versioned: version !== undefined,
    };
  };
  const [enforce, audit, warn] = [read('enforce'), read('audit'), read('warn')];
  // Who enforces wants to be warned of the same.
  if (!warn.given && enforce.given && !enforce.bad && isStricter(enforce.level, warn.level)) {
    warn.level = enforce.level;
    if (!warn.versioned) warn.version = enforce.version;
  }
  const plain = ({ level, version }: LevelVersion) => ({ level, version });
  return { policy: { enforce: plain(enforce), audit: plain(audit), warn: plain(warn) }, errors };
}

const wrong = (label: string, value: string | undefined, detail: string): FieldError => ({
  type: 'FieldValueInvalid',
  field: `metadata.labels[${label}]`,
  value,
  detail,
});
