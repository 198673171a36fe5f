import type { Tag } from '@aws-sdk/client-iam';
import type { CallContext, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { limitExceeded, page, validationError } from './entities.ts';

const mostTags = 50;

/** Tags with others put in place of those with the same keys; keys that differ in their case alone are the same. */
export function mergeTags(old: Tag[] | undefined, added: Tag[] | undefined): { Key: string; Value: string }[] {
  const merged = new Map<string, { Key: string; Value: string }>();
  for (const { Key = '', Value = '' } of old ?? []) merged.set(Key.toLowerCase(), { Key, Value });
  const given = new Set<string>();
  for (const { Key = '', Value = '' } of added ?? []) {
    const lower = Key.toLowerCase();
    if (Key === '' || Key.length > 128 || Value.length > 256) throw validationError(`The tag '${Key.slice(0, 128)}' is too long, or without a key`);
    if (lower.startsWith('aws:')) throw new AwsError('InvalidInput', 'Tag keys beginning with aws: are reserved for system use.');
    if (given.has(lower)) throw new AwsError('InvalidInput', 'Duplicate tag keys found. Please note that Tag keys are case insensitive.');
    given.add(lower);
    merged.set(lower, { Key, Value });
  }
  if (merged.size > mostTags) throw limitExceeded('TagsPerResource', mostTags);
  return [...merged.values()];
}

interface Tagged {
  read: () => Tag[] | undefined;
  write: (tags: { Key: string; Value: string }[]) => void;
}

/** Tag, Untag and List…Tags of one kind of entity. */
export function tagOperationsOf(noun: string, find: (input: any, call: CallContext) => Tagged): Operations {
  return {
    [`Tag${noun}`](input: any, call: CallContext) {
      const entity = find(input, call);
      entity.write(mergeTags(entity.read(), input.Tags));
    },
    [`Untag${noun}`](input: any, call: CallContext) {
      const entity = find(input, call);
      const gone = new Set<string>((input.TagKeys ?? []).map((key: string) => key.toLowerCase()));
      entity.write(mergeTags(entity.read(), []).filter((tag) => !gone.has(tag.Key.toLowerCase())));
    },
    [`List${noun}Tags`](input: any, call: CallContext) {
      const { items, ...rest } = page(find(input, call).read() ?? [], (tag) => tag.Key ?? '', input);
      return { Tags: items, ...rest };
    },
  };
}
