import { CreateTagsCommand, DeleteTagsCommand } from '@aws-sdk/client-ec2';
import { toTags } from '../tags.ts';
import type { HandlerContext } from './handler.ts';

/** Tags of every kind of EC2 resource. */
export async function tagEc2({ clients }: HandlerContext, id: string, set: Record<string, string>, unset: string[]): Promise<void> {
  const ec2 = await clients.ec2();
  if (Object.keys(set).length) await ec2.send(new CreateTagsCommand({ Resources: [id], Tags: toTags(set) }));
  if (unset.length) await ec2.send(new DeleteTagsCommand({ Resources: [id], Tags: unset.map((Key) => ({ Key })) }));
}

/** The id of what an endpoint says it made. */
export function madeId(id: string | undefined): string {
  if (!id) throw new Error('the endpoint answered without an id');
  return id;
}
