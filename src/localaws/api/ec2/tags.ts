import type {
  CreateTagsRequest,
  DeleteTagsRequest,
  DescribeTagsRequest,
  DescribeTagsResult,
  Tag,
  TagDescription,
  TagSpecification,
} from '@aws-sdk/client-ec2';
import type { CallContext, Cloud, Operations } from '../cloud.ts';
import { AwsError, invalidParameter } from '../errors.ts';
import type { Tables } from '../state/tables.ts';
import { filterBy, type IdNames, notFound, paginate } from './describe.ts';
import { names } from './names.ts';

/** The resource type, table and names of each id prefix. */
const kinds: Record<string, { type: string; has: (tables: Tables, id: string) => boolean; names: IdNames }> = {
  vpc: { type: 'vpc', has: (tables, id) => tables.vpcs.has(id), names: names.vpc },
  subnet: { type: 'subnet', has: (tables, id) => tables.subnets.has(id), names: names.subnet },
  igw: { type: 'internet-gateway', has: (tables, id) => tables.internetGateways.has(id), names: names.internetGateway },
  rtb: { type: 'route-table', has: (tables, id) => tables.routeTables.has(id), names: names.routeTable },
  sg: { type: 'security-group', has: (tables, id) => tables.securityGroups.has(id), names: names.securityGroup },
  sgr: { type: 'security-group-rule', has: (tables, id) => tables.securityGroupRules.has(id), names: names.securityGroupRule },
  eni: { type: 'network-interface', has: (tables, id) => tables.networkInterfaces.has(id), names: names.networkInterface },
  i: { type: 'instance', has: (tables, id) => tables.instances.has(id), names: names.instance },
  vol: { type: 'volume', has: (tables, id) => tables.volumes.has(id), names: names.volume },
  snap: { type: 'snapshot', has: (tables, id) => tables.snapshots.has(id), names: names.snapshot },
  key: { type: 'key-pair', has: (tables, id) => tables.keyPairs.values().some((pair) => pair.KeyPairId === id), names: names.keyPair },
  lt: { type: 'launch-template', has: (tables, id) => tables.launchTemplates.has(id), names: names.launchTemplate },
  eipalloc: { type: 'elastic-ip', has: (tables, id) => tables.addresses.has(id), names: names.address },
  nat: { type: 'natgateway', has: (tables, id) => tables.natGateways.has(id), names: names.natGateway },
};

function kindOf(id: string) {
  return kinds[id.slice(0, Math.max(0, id.lastIndexOf('-')))];
}

const mostTags = 50;

/** Tags as they may be put on a resource. Throws InvalidParameterValue. */
export function checkTags(tags: Tag[]): { Key: string; Value: string }[] {
  return tags.map(({ Key, Value }) => {
    if (!Key) throw invalidParameter('Tag key cannot be empty');
    if (Key.length > 127 + 1) throw invalidParameter(`Tag key exceeds the maximum length of 128 characters`);
    if ((Value ?? '').length > 256) throw invalidParameter(`Tag value exceeds the maximum length of 256 characters`);
    if (/^aws:/i.test(Key)) throw invalidParameter("Tag keys starting with 'aws:' are reserved for internal use");
    return { Key, Value: Value ?? '' };
  });
}

/** The tags of a resource, for its description; undefined when it has none. */
export function tagsOf(cloud: Cloud, id: string): Tag[] {
  return cloud.tables.tags.get(id)?.tags ?? [];
}

/** Puts tags on a resource, in place of those with the same keys. */
export function putTags(cloud: Cloud, id: string, tags: Tag[]): void {
  if (tags.length === 0) return;
  const merged = new Map((cloud.tables.tags.get(id)?.tags ?? []).map((tag) => [tag.Key, tag]));
  for (const tag of checkTags(tags)) merged.set(tag.Key, tag);
  if (merged.size > mostTags) throw new AwsError('TagLimitExceeded', 'The maximum number of Tags for a resource has been reached.');
  cloud.tables.tags.put(id, { tags: [...merged.values()] });
}

/** The tags that a creation asks for on one type of resource. allowed are the types that it makes. */
export function specifiedTags(specifications: TagSpecification[] | undefined, type: string, allowed: string[] = [type]): Tag[] {
  const tags: Tag[] = [];
  for (const specification of specifications ?? []) {
    if (!specification.ResourceType || !allowed.includes(specification.ResourceType)) {
      throw invalidParameter(`'${specification.ResourceType ?? ''}' is not a valid taggable resource type for this operation.`);
    }
    if (specification.ResourceType === type) tags.push(...(specification.Tags ?? []));
  }
  const keys = new Set<string>();
  for (const tag of tags) {
    if (keys.has(tag.Key ?? '')) throw invalidParameter(`Duplicate tag key '${tag.Key}' specified.`);
    keys.add(tag.Key ?? '');
  }
  return tags;
}

export function dropTags(cloud: Cloud, id: string): void {
  cloud.tables.tags.delete(id);
}

function resource(call: CallContext, id: string) {
  const kind = kindOf(id);
  if (!kind) throw new AwsError('InvalidID', `The ID '${id}' is not valid`);
  if (!kind.has(call.tables, id)) throw notFound(kind.names, id);
  return kind;
}

type DescribedTag = TagDescription & { Tags?: Tag[] };

const filters = {
  key: (item: TagDescription) => item.Key,
  value: (item: TagDescription) => item.Value,
  'resource-id': (item: TagDescription) => item.ResourceId,
  'resource-type': (item: TagDescription) => item.ResourceType,
};

export const tagOperations = {
  CreateTags(input: CreateTagsRequest, call: CallContext) {
    for (const id of input.Resources ?? []) {
      resource(call, id);
      putTags(call, id, input.Tags ?? []);
    }
  },

  DeleteTags(input: DeleteTagsRequest, call: CallContext) {
    for (const id of input.Resources ?? []) {
      resource(call, id);
      const old = call.tables.tags.get(id)?.tags ?? [];
      // A tag without a value goes whatever its value is; without any tag named, all go.
      const gone = (tag: Tag) => !input.Tags || input.Tags.some((one) => one.Key === tag.Key && (one.Value === undefined || one.Value === tag.Value));
      const left = old.filter((tag) => !gone(tag));
      if (left.length === 0) call.tables.tags.delete(id);
      else if (left.length < old.length) call.tables.tags.put(id, { tags: left });
    }
  },

  DescribeTags(input: DescribeTagsRequest, call: CallContext): DescribeTagsResult {
    const all: DescribedTag[] = [];
    for (const [id, record] of call.tables.tags.entries()) {
      const type = kindOf(id)?.type;
      if (!type) continue;
      for (const tag of record.tags) all.push({ ResourceId: id, ResourceType: type as TagDescription['ResourceType'], ...tag, Tags: [tag] });
    }
    const page = paginate(all.filter(filterBy<DescribedTag>(input.Filters, filters)), (item) => `${item.ResourceId} ${item.Key}`, input);
    return { Tags: page.items, NextToken: page.NextToken };
  },
} satisfies Operations;
