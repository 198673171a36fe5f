import type { CallContext } from '../cloud.ts';
import { AwsError } from '../errors.ts';

export const noSuchEntity = (message: string) => new AwsError('NoSuchEntity', message, 404);
export const alreadyExists = (message: string) => new AwsError('EntityAlreadyExists', message, 409);
export const deleteConflict = (message: string) => new AwsError('DeleteConflict', message, 409);

/** A name of letters, digits and +=,.@_- with at most 128 characters (64 for roles and users). */
export function checkName(name: string | undefined, field: string, longest = 64): string {
  if (!name || name.length > longest || !/^[\w+=,.@-]+$/.test(name)) {
    throw new AwsError(
      'ValidationError',
      `The specified value for ${field} is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-`,
    );
  }
  return name;
}

export function checkPath(path: string | undefined): string {
  const given = path ?? '/';
  if (!/^\/([!-~]+\/)?$/.test(given))
    throw new AwsError(
      'ValidationError',
      'The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.',
    );
  return given;
}

export function checkDocument(document: string | undefined): string {
  try {
    const parsed = JSON.parse(document ?? '');
    if (typeof parsed === 'object' && parsed !== null && 'Statement' in parsed) return document as string;
  } catch {
    // As below.
  }
  throw new AwsError('MalformedPolicyDocument', 'This policy contains invalid Json');
}

export const arnOf = (call: CallContext, type: string, path: string, name: string) => `arn:aws:iam::${call.accountId}:${type}${path}${name}`;

/** One page of a list: IAM's tokens are Markers. */
export function page<T>(items: T[], input: { Marker?: string; MaxItems?: number }): { items: T[]; IsTruncated: boolean; Marker?: string } {
  const start = input.Marker ? Number(Buffer.from(input.Marker, 'base64url').toString()) : 0;
  if (!Number.isInteger(start)) throw new AwsError('ValidationError', 'Invalid Marker.');
  const end = start + Math.min(input.MaxItems ?? 100, 1000);
  const more = end < items.length;
  return { items: items.slice(start, end), IsTruncated: more, ...(more ? { Marker: Buffer.from(String(end)).toString('base64url') } : {}) };
}

/** Documents are shown percent-encoded. */
export const shown = (document: string) => encodeURIComponent(document);

export function mergeTags(
  old: { Key?: string | undefined; Value?: string | undefined }[] | undefined,
  added: { Key?: string | undefined; Value?: string | undefined }[] | undefined,
): { Key: string; Value: string }[] {
  const merged = new Map<string, { Key: string; Value: string }>();
  for (const tag of [...(old ?? []), ...(added ?? [])]) merged.set(tag.Key ?? '', { Key: tag.Key ?? '', Value: tag.Value ?? '' });
  return [...merged.values()];
}
