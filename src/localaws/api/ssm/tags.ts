import type {
  AddTagsToResourceRequest,
  AddTagsToResourceResult,
  ListTagsForResourceRequest,
  ListTagsForResourceResult,
  RemoveTagsFromResourceRequest,
  RemoveTagsFromResourceResult,
  Tag,
} from '@aws-sdk/client-ssm';
import type { CallContext, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';

const mostTags = 50;

/** Where the tags of a parameter are kept: names of parameters are no ids of another service. */
const key = (name: string) => `ssm:parameter:${name}`;

export const parameterTags = (call: CallContext, name: string): Tag[] => (call.tables.tags.get(key(name))?.tags ?? []) as Tag[];

/** Puts tags on a parameter in place of those with the same keys. Throws TooManyTagsError. */
export function putParameterTags(call: CallContext, name: string, tags: Tag[] | undefined): void {
  if (!tags?.length) return;
  const merged = new Map(parameterTags(call, name).map((tag) => [tag.Key, tag]));
  for (const tag of tags) merged.set(tag.Key, tag);
  if (merged.size > mostTags) throw new AwsError('TooManyTagsError', `The Targets parameter includes too many tags. At most ${mostTags} are possible.`);
  call.tables.tags.put(key(name), { tags: [...merged.values()].map(({ Key, Value }) => ({ Key: Key ?? '', Value: Value ?? '' })) });
}

export function dropParameterTags(call: CallContext, name: string): void {
  if (call.tables.tags.has(key(name))) call.tables.tags.delete(key(name));
}

function parameterOf(input: { ResourceType?: string | undefined; ResourceId?: string | undefined }, call: CallContext): string {
  if (input.ResourceType !== 'Parameter') throw new AwsError('InvalidResourceType', 'The embedded AWS has tags on parameters alone.');
  if (!call.tables.parameters.has(input.ResourceId ?? '')) throw new AwsError('InvalidResourceId', `${input.ResourceId} does not exist.`);
  return input.ResourceId as string;
}

export const parameterTagOperations = {
  AddTagsToResource(input: AddTagsToResourceRequest, call: CallContext): AddTagsToResourceResult {
    putParameterTags(call, parameterOf(input, call), input.Tags);
    return {};
  },

  RemoveTagsFromResource(input: RemoveTagsFromResourceRequest, call: CallContext): RemoveTagsFromResourceResult {
    const name = parameterOf(input, call);
    const left = parameterTags(call, name).filter((tag) => !input.TagKeys?.includes(tag.Key ?? ''));
    dropParameterTags(call, name);
    putParameterTags(call, name, left);
    return {};
  },

  ListTagsForResource(input: ListTagsForResourceRequest, call: CallContext): ListTagsForResourceResult {
    return { TagList: parameterTags(call, parameterOf(input, call)) };
  },
} satisfies Operations;
