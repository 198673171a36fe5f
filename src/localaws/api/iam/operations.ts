import type { Operations } from '../cloud.ts';
import { instanceProfileOperations } from './instance-profiles.ts';
import { policyOperations } from './policies.ts';
import { roleOperations } from './roles.ts';
import { userOperations } from './users.ts';

/** IAM as far as clusters need it. Policies are kept and shown; nothing is decided by them. */
export const iamOperations: Operations = { ...roleOperations, ...instanceProfileOperations, ...policyOperations, ...userOperations };
