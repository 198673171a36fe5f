import type { Filter, Tag } from '@aws-sdk/client-ec2';
import { AwsError, invalidParameter } from '../errors.ts';
import type { Table } from '../state/table.ts';

/** What a filter compares: one or more values of an item. */
export type FilterTable<T> = Record<string, (item: T) => unknown>;

export interface DescribeInput {
  Filters?: Filter[];
  MaxResults?: number;
  NextToken?: string;
}

/** A character as a regular expression with the flag `u` has it. */
const literal = (character: string) => character.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&');

const patterns = new Map<string, RegExp | undefined>();

/** A filter's value as a pattern: `*` and `?` stand for others, `\` takes their meaning away. Undefined when it is plain. */
function pattern(value: string): RegExp | undefined {
  if (!/[*?\\]/.test(value)) return undefined;
  let expression = patterns.get(value);
  if (!expression) {
    let source = '';
    for (let i = 0; i < value.length; i++) {
      const character = value[i]!;
      if (character === '\\' && i + 1 < value.length) source += literal(value[++i]!);
      else if (character === '*') source += source.endsWith('[^]*') ? '' : '[^]*';
      else if (character === '?') source += '[^]';
      else source += literal(character);
    }
    if (patterns.size > 500) patterns.clear();
    patterns.set(value, (expression = new RegExp(`^${source}$`, 'u')));
  }
  return expression;
}

function matches(wanted: string, actual: unknown): boolean {
  if (actual === undefined || actual === null) return false;
  if (Array.isArray(actual)) return actual.some((one) => matches(wanted, one));
  const text = actual instanceof Date ? actual.toISOString() : String(actual);
  const expression = pattern(wanted);
  return expression ? expression.test(text) : text === wanted;
}

/** A test for all of some filters: each must match by one of its values. Throws InvalidParameterValue for a name that is not known. */
export function filterBy<T extends { Tags?: Tag[] }>(filters: Filter[] | undefined, table: FilterTable<T>): (item: T) => boolean {
  const tests = (filters ?? []).map((filter): ((item: T) => boolean) => {
    const name = filter.Name ?? '';
    const values = filter.Values ?? [];
    const test = (value: (item: T) => unknown) => (item: T) => {
      const actual = value(item);
      return values.some((wanted) => matches(wanted, actual));
    };
    if (name.startsWith('tag:')) {
      const key = name.slice(4);
      return test((item) => item.Tags?.find((tag) => tag.Key === key)?.Value);
    }
    if (name === 'tag-key') return test((item) => item.Tags?.map((tag) => tag.Key));
    if (name === 'tag-value') return test((item) => item.Tags?.map((tag) => tag.Value));
    if (!Object.hasOwn(table, name)) throw invalidParameter(`The filter '${name}' is invalid`);
    return test(table[name]!);
  });
  return (item) => tests.every((one) => one(item));
}

/**
 * One page of items, in the order of their ids when a page size is given. A token names the last item of the page before it, so
 * that what is deleted or made between two calls moves nothing else.
 */
export function paginate<T>(
  items: T[],
  idOf: (item: T) => string,
  input: { MaxResults?: number; NextToken?: string },
  limits = { smallest: 5, largest: 1000 },
): { items: T[]; NextToken?: string } {
  const { MaxResults: size, NextToken: token } = input;
  if (size === undefined && token === undefined) return { items };
  if (size !== undefined && (!Number.isInteger(size) || size < limits.smallest)) {
    throw invalidParameter(`Value ( ${size} ) for parameter maxResults is invalid. Expecting a value greater than ${limits.smallest}.`);
  }
  const sorted = [...items].sort((a, b) => (idOf(a) < idOf(b) ? -1 : 1));
  let start = 0;
  if (token) {
    const last = Buffer.from(token, 'base64url').toString('utf8');
    if (!last.startsWith('after ')) throw invalidParameter(`Unable to parse pagination token`);
    start = sorted.findIndex((item) => idOf(item) > last.slice(6));
    if (start < 0) start = sorted.length;
  }
  const end = start + Math.min(size ?? limits.largest, limits.largest);
  const page = sorted.slice(start, end);
  return end < sorted.length ? { items: page, NextToken: Buffer.from(`after ${idOf(page.at(-1)!)}`).toString('base64url') } : { items: page };
}

/** What a kind of resource calls the error of an id that it does not have, and its noun in the message. */
export interface IdNames {
  prefix: string;
  /** Such as InvalidVpcID; `.NotFound` and `.Malformed` come after it. */
  code: string;
  /** Where `.Malformed` has another beginning, as of security groups. */
  malformedCode?: string;
  noun: string;
}

export function notFound(names: IdNames, id: string): AwsError {
  if (!new RegExp(`^${names.prefix}-[0-9a-f]{8}([0-9a-f]{9})?$`).test(id)) {
    return new AwsError(`${names.malformedCode ?? names.code}.Malformed`, `Invalid id: "${id}" (expecting "${names.prefix}-...")`);
  }
  return new AwsError(`${names.code}.NotFound`, `The ${names.noun} ID '${id}' does not exist`);
}

/** The record of an id, or the kind's error. */
export function find<R extends object>(table: Table<R>, names: IdNames, id: string | undefined): R {
  const record = table.get(id);
  if (!record) throw notFound(names, id ?? '');
  return record;
}

/** Describes the records of a table as their operation asks: by ids, filters and pages. */
export function describe<R extends object, T extends { Tags?: Tag[] }>(
  table: Table<R>,
  names: IdNames,
  view: (record: R) => T,
  idOf: (item: T) => string,
  filters: FilterTable<T>,
  ids: string[] | undefined,
  input: DescribeInput,
): { items: T[]; NextToken?: string } {
  const wanted = ids && ids.length > 0 ? [...new Set(ids)] : undefined;
  if (wanted && input.MaxResults !== undefined) {
    throw new AwsError('InvalidParameterCombination', 'The parameter maxResults cannot be used with the parameter that names ids');
  }
  const records = wanted ? wanted.map((id) => find(table, names, id)) : table.values();
  const found = records.map(view).filter(filterBy(input.Filters, filters));
  return paginate(found, idOf, input);
}
