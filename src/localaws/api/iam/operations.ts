import type { Operations } from '../cloud.ts';
import { instanceProfileOperations } from './instance-profiles.ts';
import { openIdProviderOperations } from './open-id-providers.ts';
import { policyOperations } from './policies.ts';
import { roleOperations } from './roles.ts';
import { userOperations } from './users.ts';

/**
 * IAM as far as clusters need it. Policies are kept and shown, and trust policies decide who may assume a role; nothing else is
 * decided by them: whoever has a key may do everything.
 */
export const iamOperations: Operations = {
  ...roleOperations,
  ...instanceProfileOperations,
  ...policyOperations,
  ...userOperations,
  ...openIdProviderOperations,
};
