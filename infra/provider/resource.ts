import type { AwsClients } from '../../src/aws/clients.ts';
import type { Properties } from './values.ts';

export interface PropertySchema {
  type: 'string' | 'boolean' | 'integer' | 'list' | 'map' | 'object';
  description: string;
  required?: boolean;
  /** A change makes the resource anew; `when known` only where the old value is there to compare with. */
  replaces?: boolean | 'when known';
  secret?: boolean;
  default?: unknown;
  oneOf?: string[];
  /** Of a list or map. */
  items?: PropertySchema;
  /** Of an object. */
  properties?: Record<string, PropertySchema>;
}

export interface AttributeSchema {
  description: string;
  secret?: boolean;
  /** Whether an update may change it; others stay as they were made, and previews show them. */
  changes?: boolean;
}

export interface ResourceContext {
  clients: AwsClients;
  /** Aborts when Pulumi cancels. */
  signal: AbortSignal;
}

/** What exists; attributes by the names of the kind's schema. */
export interface Made {
  id: string;
  attributes: Properties;
}

/** One kind of resource of the provider. Names of properties and attributes are in camelCase here. */
export interface ResourceKind {
  /** Such as kumulus:ec2:Vpc. */
  token: string;
  description: string;
  properties: Record<string, PropertySchema>;
  attributes: Record<string, AttributeSchema>;
  /** Finds or creates. Throws a PartialFailure where something exists but is not as it should be. */
  create(context: ResourceContext, inputs: Properties): Promise<Made>;
  /** Undefined where nothing is there any more. Without inputs (an import) it tells all that it can. */
  read(context: ResourceContext, id: string, inputs: Properties | undefined, state: Properties): Promise<(Made & { inputs: Properties }) | undefined>;
  update(context: ResourceContext, id: string, inputs: Properties, previous: Properties, state: Properties): Promise<Made>;
  delete(context: ResourceContext, id: string, inputs: Properties): Promise<void>;
  /** Attributes that have to be renewed though no input changed, such as a certificate about to end. */
  stale?(state: Properties): string[];
}

/** Something exists, but is not yet as it should be: Pulumi keeps its id and tries again with the next update. */
export class PartialFailure extends Error {
  readonly made: Made;
  constructor(made: Made, cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
    this.name = 'PartialFailure';
    this.made = made;
  }
}
