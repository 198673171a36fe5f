import { AddTagsCommand, DescribeTagsCommand, RemoveTagsCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
import { clusterTag, fromTags, toTags } from '../tags.ts';
import type { HandlerContext } from './handler.ts';

/** Tags of every kind of ELBv2 resource, whose ids are their ARNs. */
export async function tagElb({ clients }: HandlerContext, arn: string, set: Record<string, string>, unset: string[]): Promise<void> {
  const elb = await clients.elbv2();
  if (Object.keys(set).length) await elb.send(new AddTagsCommand({ ResourceArns: [arn], Tags: toTags(set) }));
  if (unset.length) await elb.send(new RemoveTagsCommand({ ResourceArns: [arn], TagKeys: unset }));
}

/** The tags of each; of what is gone meanwhile there are none. */
export async function tagsOfAll({ clients }: HandlerContext, arns: string[]): Promise<Map<string, Record<string, string>>> {
  const elb = await clients.elbv2();
  const found = new Map<string, Record<string, string>>();
  // DescribeTags takes twenty at once.
  for (let at = 0; at < arns.length; at += 20) {
    const answer = await elb.send(new DescribeTagsCommand({ ResourceArns: arns.slice(at, at + 20) }));
    for (const one of answer.TagDescriptions ?? []) found.set(one.ResourceArn ?? '', fromTags(one.Tags));
  }
  return found;
}

export const tagsOf = async (context: HandlerContext, arn: string): Promise<Record<string, string>> => (await tagsOfAll(context, [arn])).get(arn) ?? {};

/** A name is unique in an account and region, so what has it is ours only by its tag. */
export const isOurs = (context: HandlerContext, tags: Record<string, string> | undefined): boolean =>
  (context.uniqueNames ?? false) || tags?.[clusterTag(context.cluster)] === 'owned';

type Attribute = { Key?: string; Value?: string };

/** Of the attributes that are there, those that are declared. */
export const declaredAttributes = (declared: Record<string, string>, there: Attribute[] | undefined): Record<string, string> =>
  fromTags(there?.filter((one) => (one.Key ?? '') in declared));

/** What of the declared attributes is not so yet. */
export const changedAttributes = (declared: Record<string, string> | undefined, there: Record<string, string> | undefined): Attribute[] =>
  toTags(declared ?? {}).filter(({ Key, Value }) => there?.[Key] !== Value);
