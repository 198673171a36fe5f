import type { Filter } from '@aws-sdk/client-ec2';
import type { AwsClients } from '../clients.ts';
import { ownershipFilters } from '../tags.ts';

export interface HandlerContext {
  clients: AwsClients;
  cluster: string;
  /** The filters that find a resource of EC2 again by its logical id; its tags of the topology where left out. */
  identity?(logicalId: string): Filter[];
  /** Names that ELBv2 keeps unique are nobody else's, whatever the tags of what has one. */
  uniqueNames?: boolean;
  signal?: AbortSignal;
}

/** What exists of a declaration: its id and the attributes that other declarations may refer to. */
export interface Existing {
  id: string;
  attributes: Record<string, string>;
}

/** What exists, in the words of a declaration. */
export interface Found<P> extends Existing {
  properties: P;
  /** Left out where the endpoint does not tell them. */
  tags?: Record<string, string>;
}

/**
 * Finds, creates, reads, repairs and deletes one kind of resource. Each is idempotent: `create` repeated after a lost answer
 * makes no second one (client tokens, or find by tag first), `remove` of what is gone is no error.
 * Properties arrive with every Ref replaced by its value.
 */
export interface ResourceHandler<P> {
  find(context: HandlerContext, logicalId: string, properties: P): Promise<Existing | Found<P> | undefined>;
  create(context: HandlerContext, logicalId: string, properties: P, tags: Record<string, string>): Promise<Existing | Found<P>>;
  /**
   * What is there under this id; undefined where nothing is. Of lists that others add to as well (rules, routes) it tells the
   * declared entries that are there, and all of them where nothing is declared.
   */
  read(context: HandlerContext, id: string, declared?: P): Promise<Found<P> | undefined>;
  /**
   * Brings what exists to the properties where it drifted; also completes a creation that was cut off. What stands in
   * `previous` and no more in properties is taken away. Resolves to what exists then, where its attributes changed. What was
   * found is taken as it was found, and not read again.
   */
  repair?(context: HandlerContext, existing: Existing | Found<P>, properties: P, previous?: P): Promise<Existing | undefined>;
  /** Waits until it can be used: an instance runs, a load balancer is active. */
  settle?(context: HandlerContext, id: string): Promise<void>;
  /** Sets and removes tags; every other tag stays. */
  tag(context: HandlerContext, id: string, set: Record<string, string>, unset: string[]): Promise<void>;
  remove(context: HandlerContext, existing: Existing, properties: P): Promise<void>;
}

export const identityOf = (context: HandlerContext, logicalId: string): Filter[] =>
  context.identity?.(logicalId) ?? ownershipFilters(context.cluster, logicalId);

/** Whether it was just read, so that it need not be read again. */
export const isFound = <P>(existing: Existing | Found<P>): existing is Found<P> => 'properties' in existing;

/** What is there after this is as declared. `known` saves looking for it. */
export async function findOrCreate<P>(
  handler: ResourceHandler<P>,
  context: HandlerContext,
  wanted: { logicalId: string; properties: P; tags: Record<string, string> },
  known?: Existing | Found<P>,
): Promise<Existing> {
  const { logicalId, properties, tags } = wanted;
  const existing = known ?? (await handler.find(context, logicalId, properties)) ?? (await handler.create(context, logicalId, properties, tags));
  return (await handler.repair?.(context, existing, properties)) ?? existing;
}

/** What is there of a list without an order, as the very list that was declared where it holds the same. */
export function inOrder(declared: string[] | undefined, there: string[]): string[] {
  return declared && declared.length === there.length && declared.every((one) => there.includes(one)) ? declared : there;
}
