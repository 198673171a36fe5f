import { createHash } from 'node:crypto';
import type { Filter, ResourceType } from '@aws-sdk/client-ec2';

/** Tag keys. The cluster tag is the one that cloud-provider-aws and the load balancer controller read. */
export const clusterTag = (cluster: string) => `kubernetes.io/cluster/${cluster}`;
export const logicalIdTag = 'kumulus:logical-id';

/** The tags that say whose a resource is, and which of the topology's. */
export function ownershipTags(cluster: string, logicalId: string, extra: Record<string, string> = {}): Record<string, string> {
  return { Name: `${cluster}-${logicalId}`, [clusterTag(cluster)]: 'owned', [logicalIdTag]: logicalId, ...extra };
}

export const toTags = (tags: Record<string, string>): { Key: string; Value: string }[] =>
  Object.entries(tags).map(([Key, Value]) => ({ Key, Value }));

export const fromTags = (tags: { Key?: string; Value?: string }[] | undefined): Record<string, string> =>
  Object.fromEntries((tags ?? []).map((t) => [t.Key ?? '', t.Value ?? '']));

export const tagSpecification = (type: ResourceType, tags: Record<string, string>) => [{ ResourceType: type, Tags: toTags(tags) }];

/** Filters that find exactly the resource with this logical id of this cluster. */
export const ownershipFilters = (cluster: string, logicalId: string): Filter[] => [
  { Name: `tag:${clusterTag(cluster)}`, Values: ['owned'] },
  { Name: `tag:${logicalIdTag}`, Values: [logicalId] },
];

/** A client token that is the same for the same words, so that a repeated call makes nothing twice (64 characters at most). */
export const clientToken = (...words: string[]): string => createHash('sha256').update(words.join('\0')).digest('hex').slice(0, 40);

/** Names that are unique in an account may be somebody else's: what has one is taken for the cluster's only with its tag. Throws otherwise. */
export function mustBeOurs(cluster: string, what: string, tags: Record<string, string>): void {
  if (tags[clusterTag(cluster)] !== 'owned') throw new Error(`${what} exists already and is not of cluster ${cluster} (it lacks the tag ${clusterTag(cluster)})`);
}
