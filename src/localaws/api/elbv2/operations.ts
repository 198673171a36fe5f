import type { Operations } from '../cloud.ts';
import { attributeOperations } from './attributes.ts';
import { limitOperations } from './limits.ts';
import { listenerOperations } from './listeners.ts';
import { loadBalancerOperations } from './load-balancers.ts';
import { ruleOperations } from './rules.ts';
import { tagOperations } from './tags.ts';
import { targetGroupOperations } from './target-groups.ts';
import { targetOperations } from './targets.ts';

/**
 * Elastic Load Balancing v2: network and application load balancers, of which the data plane forwards TCP and HTTP by listeners'
 * default actions; rules are kept and shown.
 */
export const elbOperations: Operations = {
  ...loadBalancerOperations,
  ...listenerOperations,
  ...ruleOperations,
  ...targetGroupOperations,
  ...targetOperations,
  ...attributeOperations,
  ...tagOperations,
  ...limitOperations,
};
