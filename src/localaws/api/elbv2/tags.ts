import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import { tagsOf } from '../ec2/tags.ts';
import { AwsError } from '../errors.ts';
import { findBalancer, findGroup, findListener, findRule, validationError } from './names.ts';

const mostTags = 50;
const mostResources = 20;

/** Puts tags on something that has an ARN, in place of those with the same keys. Throws ValidationError, DuplicateTagKeys and TooManyTags. */
export function addTags(call: CallContext, arn: string, tags: elb.Tag[] | undefined): void {
  if (!tags?.length) return;
  const keys = new Set<string>();
  for (const { Key, Value } of tags) {
    if (!Key || Key.length > 128) throw validationError(`Tag key '${Key ?? ''}' must have between 1 and 128 characters`);
    if (Value !== undefined && Value.length > 256) throw validationError(`The value of tag '${Key}' cannot be longer than 256 characters`);
    if (/^aws:/i.test(Key)) throw validationError(`Tag key '${Key}' cannot begin with 'aws:'`);
    if (keys.has(Key)) throw new AwsError('DuplicateTagKeys', `The tag key '${Key}' was given more than once`);
    keys.add(Key);
  }
  const merged = new Map((call.tables.tags.get(arn)?.tags ?? []).map((tag) => [tag.Key, tag]));
  for (const { Key, Value } of tags) merged.set(Key!, { Key: Key!, Value: Value ?? '' });
  if (merged.size > mostTags) throw new AwsError('TooManyTags', `A resource can have at most ${mostTags} tags`);
  call.tables.tags.put(arn, { tags: [...merged.values()] });
}

/** The kinds of things that have tags, by what stands behind the account in their ARNs. */
function mustExist(call: CallContext, arn: string): void {
  const kind = arn.split(':')[5]?.split('/')[0];
  if (kind === 'loadbalancer') findBalancer(call, arn);
  else if (kind === 'targetgroup') findGroup(call, arn);
  else if (kind === 'listener') findListener(call, arn);
  else if (kind === 'listener-rule') findRule(call, arn);
  else throw validationError(`'${arn}' is not a valid load balancer or target group ARN`);
}

function resourcesOf(call: CallContext, arns: string[] | undefined): string[] {
  if (!arns?.length) throw validationError('At least one resource ARN must be specified');
  if (arns.length > mostResources) throw validationError(`At most ${mostResources} resource ARNs can be specified`);
  for (const arn of arns) mustExist(call, arn);
  return arns;
}

export const tagOperations = {
  AddTags(input: elb.AddTagsInput, call: CallContext): elb.AddTagsOutput {
    for (const arn of resourcesOf(call, input.ResourceArns)) addTags(call, arn, input.Tags);
    return {};
  },

  RemoveTags(input: elb.RemoveTagsInput, call: CallContext): elb.RemoveTagsOutput {
    for (const arn of resourcesOf(call, input.ResourceArns)) {
      const old = call.tables.tags.get(arn)?.tags ?? [];
      const left = old.filter((tag) => !input.TagKeys?.includes(tag.Key));
      if (left.length === 0) call.tables.tags.delete(arn);
      else if (left.length < old.length) call.tables.tags.put(arn, { tags: left });
    }
    return {};
  },

  DescribeTags(input: elb.DescribeTagsInput, call: CallContext): elb.DescribeTagsOutput {
    return {
      TagDescriptions: resourcesOf(call, input.ResourceArns).map((arn) => ({ ResourceArn: arn, Tags: tagsOf(call, arn) as elb.Tag[] })),
    };
  },
} satisfies Operations;
