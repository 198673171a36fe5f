import type { CallContext } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { pageByKey } from '../pages.ts';

export const noSuchEntity = (message: string) => new AwsError('NoSuchEntity', message, 404);
export const alreadyExists = (message: string) => new AwsError('EntityAlreadyExists', message, 409);
export const deleteConflict = (message: string) => new AwsError('DeleteConflict', message, 409);
export const limitExceeded = (quota: string, most: number) => new AwsError('LimitExceeded', `Cannot exceed quota for ${quota}: ${most}`, 409);
export const validationError = (message: string) => new AwsError('ValidationError', message);

/** A name of letters, digits and +=,.@_- with at most 128 characters (64 of roles and users). */
export function checkName(name: string | undefined, field: string, longest = 64): string {
  if (!name || !/^[\w+=,.@-]+$/.test(name)) {
    throw validationError(`The specified value for ${field} is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-`);
  }
  if (name.length > longest) {
    throw validationError(
      `1 validation error detected: Value '${name}' at '${field}' failed to satisfy constraint: Member must have length less than or equal to ${longest}`,
    );
  }
  return name;
}

export function checkPath(path: string | undefined): string {
  const given = path ?? '/';
  if (!/^\/([!-~]+\/)?$/.test(given) || given.length > 512) {
    throw validationError(
      'The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.',
    );
  }
  return given;
}

/** Whether a name is taken: names that differ in their case alone are the same to IAM. */
export function isTaken(names: string[], name: string): boolean {
  const lower = name.toLowerCase();
  return names.some((one) => one.toLowerCase() === lower);
}

export const arnOf = (call: CallContext, type: string, path: string, name: string) => `arn:aws:iam::${call.accountId}:${type}${path}${name}`;

interface PageInput {
  Marker?: string;
  MaxItems?: number;
  PathPrefix?: string;
}

/** One page of a list, by keys: IAM's tokens are Markers, its sizes MaxItems (1 to 1000, by default 100). */
export function page<T>(items: T[], keyOf: (item: T) => string, input: PageInput): { items: T[]; IsTruncated: boolean; Marker?: string } {
  const size = input.MaxItems ?? 100;
  if (!Number.isInteger(size) || size < 1 || size > 1000) {
    const bound = size > 1000 ? 'less than or equal to 1000' : 'greater than or equal to 1';
    throw validationError(`1 validation error detected: Value '${size}' at 'maxItems' failed to satisfy constraint: Member must have value ${bound}`);
  }
  const found = pageByKey(items, keyOf, { size, marker: input.Marker, invalid: () => validationError('Invalid Marker.') });
  return { items: found.items, IsTruncated: found.marker !== undefined, ...(found.marker === undefined ? {} : { Marker: found.marker }) };
}

/** The entities below a path. */
export const below = <T extends { Path?: string }>(items: T[], input: PageInput) =>
  items.filter((one) => (one.Path ?? '/').startsWith(input.PathPrefix ?? '/'));
