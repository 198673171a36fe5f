import { awsKinds } from './aws-kinds.ts';
import type { ResourceKind } from './resource.ts';

/** Every kind of resource of the provider. */
export const kinds: ResourceKind[] = [...awsKinds];
