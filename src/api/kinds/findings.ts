import { canonicalJson } from '../equality.ts';
import { type FieldError, ShownValue } from '../errors.ts';

const isNumber = (value: unknown): value is number | bigint => typeof value === 'number' || typeof value === 'bigint';

/** Collects what validation finds, each finding in a line. */
export class Findings {
  readonly errors: FieldError[] = [];

  required(field: string, detail = ''): void {
    this.errors.push({ type: 'FieldValueRequired', field, detail });
  }
  invalid(field: string, value: unknown, detail: string): void {
    this.errors.push({ type: 'FieldValueInvalid', field, value, detail });
  }
  /** Invalid, without showing the value. */
  malformed(field: string, detail: string): void {
    this.errors.push({ type: 'FieldValueInvalid', field, value: new ShownValue(null), detail });
  }
  forbidden(field: string, detail: string): void {
    this.errors.push({ type: 'FieldValueForbidden', field, detail });
  }
  tooLong(field: string, detail: string): void {
    this.errors.push({ type: 'FieldValueTooLong', field, detail });
  }
  tooMany(field: string, value: number, most: number): void {
    this.errors.push({ type: 'FieldValueTooMany', field, value, detail: `must have at most ${most} items` });
  }
  /** A value that may not change, shown as it is now. */
  immutable(field: string, value: unknown, before: unknown): void {
    if (canonicalJson(value) !== canonicalJson(before)) this.invalid(field, value ?? null, 'field is immutable');
  }
  duplicate(field: string, value: unknown, detail = ''): void {
    this.errors.push({ type: 'FieldValueDuplicate', field, value, detail });
  }
  notFound(field: string, value: unknown): void {
    this.errors.push({ type: 'FieldValueNotFound', field, value, detail: '' });
  }
  /** One of these values; in the order in which upstream lists them. */
  oneOf(field: string, value: unknown, supported: readonly string[]): void {
    if (!supported.includes(value as string)) this.unsupported(field, value, supported);
  }
  /** Not to be had; these are. */
  unsupported(field: string, value: unknown, supported: readonly string[]): void {
    const detail = `supported values: ${supported.map((s) => JSON.stringify(s)).join(', ')}`;
    this.errors.push({ type: 'FieldValueNotSupported', field, value, detail });
  }
  /** Every problem that a check of a name or text finds. */
  problems(field: string, value: string, check: (value: string) => string[]): void {
    for (const detail of check(value)) this.invalid(field, value, detail);
  }
  /** Missing, or not what the check wants. */
  name(field: string, value: string | undefined, check: (value: string) => string[]): void {
    if (!value) this.required(field);
    else this.problems(field, value, check);
  }
  nonNegative(field: string, value: unknown): void {
    if (isNumber(value) && value < 0) this.invalid(field, value, 'must be greater than or equal to 0');
  }
  /** A number in a range, both ends included. */
  between(field: string, value: unknown, least: number, most: number): void {
    if (isNumber(value) && (value < least || value > most)) this.invalid(field, value, `must be between ${least} and ${most}, inclusive`);
  }
  port(field: string, value: unknown): void {
    this.between(field, value ?? 0, 1, 65_535);
  }
}

/** What is wrong with the name of a port. */
export function portNameProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 15) problems.push('must be no more than 15 characters');
  if (!/^[-a-z0-9]+$/.test(name)) problems.push('must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)');
  if (!/[a-z]/.test(name)) problems.push('must contain at least one letter (a-z)');
  if (name.includes('--')) problems.push('must not contain consecutive hyphens');
  if (name.startsWith('-') || name.endsWith('-')) problems.push('must not begin or end with a hyphen');
  return problems;
}

/** A port by number or by name. */
export function validatePortReference(found: Findings, field: string, port: unknown): void {
  if (typeof port === 'string') found.problems(field, port, portNameProblems);
  else found.port(field, port);
}
