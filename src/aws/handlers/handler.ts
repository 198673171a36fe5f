import type { AwsClients } from '../clients.ts';

export interface HandlerContext {
  clients: AwsClients;
  cluster: string;
  signal?: AbortSignal;
}

/** What exists of a declaration: its id and the attributes that other declarations may refer to. */
export interface Existing {
  id: string;
  attributes: Record<string, string>;
}

/**
 * Finds, creates, repairs and deletes one kind of resource. Each is idempotent: `create` repeated after a lost answer
 * makes no second one (client tokens, or find by tag first), `remove` of what is gone is no error.
 * Properties arrive with every Ref replaced by its value.
 */
export interface ResourceHandler<P> {
  find(context: HandlerContext, logicalId: string, properties: P): Promise<Existing | undefined>;
  create(context: HandlerContext, logicalId: string, properties: P, tags: Record<string, string>): Promise<Existing>;
  /** Brings what exists to the properties where it drifted; also completes a creation that was cut off. */
  repair?(context: HandlerContext, existing: Existing, properties: P): Promise<void>;
  remove(context: HandlerContext, existing: Existing, properties: P): Promise<void>;
}
