import type { AwsError } from './errors.ts';

/** How a service asks for pages, with its limits already checked. */
export interface PageRequest {
  /** Items on the page at most. */
  size: number;
  /** What the page before it returned. */
  marker: string | undefined;
  /** The error for a marker that this endpoint did not write. */
  invalid: () => AwsError;
}

/**
 * One page of items. A marker names the last item of the page before it by its key, so that what is made or deleted between two
 * calls moves nothing else: items that do not fit on one page come in the order of their keys.
 */
export function pageByKey<T>(items: T[], keyOf: (item: T) => string, request: PageRequest): { items: T[]; marker?: string } {
  const { size, marker } = request;
  if (marker === undefined && items.length <= size) return { items };
  const sorted = [...items].sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  let start = 0;
  if (marker !== undefined) {
    const text = Buffer.from(marker, 'base64url').toString('utf8');
    if (!text.startsWith('after ')) throw request.invalid();
    const last = text.slice('after '.length);
    start = sorted.findIndex((item) => keyOf(item) > last);
    if (start < 0) start = sorted.length;
  }
  const page = sorted.slice(start, start + size);
  if (start + size >= sorted.length) return { items: page };
  return { items: page, marker: Buffer.from(`after ${keyOf(page.at(-1)!)}`).toString('base64url') };
}
