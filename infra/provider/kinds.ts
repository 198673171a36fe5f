import { awsKinds } from './aws-kinds.ts';
import { credentials } from './cluster/credentials.ts';
import { endpoint } from './cluster/endpoint.ts';
import { leavings } from './cluster/leavings.ts';
import { readyNodes } from './cluster/ready-nodes.ts';
import type { ResourceKind } from './resource.ts';

/** Every kind of resource of the provider: those of AWS, and what a cluster needs beside them. */
export const kinds: ResourceKind[] = [...awsKinds, credentials, leavings, endpoint, readyNodes];
