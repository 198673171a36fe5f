import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import { checkTags, putTags, tagsOf } from '../ec2/tags.ts';
import { listenerOperations } from './listeners.ts';
import { loadBalancerOperations } from './load-balancers.ts';
import { findBalancer, findGroup, findListener, validationError } from './names.ts';
import { targetGroupOperations } from './target-groups.ts';

function mustExist(call: CallContext, arn: string): void {
  if (arn.includes(':loadbalancer/')) findBalancer(call, arn);
  else if (arn.includes(':targetgroup/')) findGroup(call, arn);
  else if (arn.includes(':listener/')) findListener(call, arn);
  else throw validationError(`'${arn}' is not a valid ARN`);
}

const tagOperations = {
  AddTags(input: elb.AddTagsInput, call: CallContext): elb.AddTagsOutput {
    for (const arn of input.ResourceArns ?? []) {
      mustExist(call, arn);
      putTags(call, arn, checkTags(input.Tags ?? []));
    }
    return {};
  },

  RemoveTags(input: elb.RemoveTagsInput, call: CallContext): elb.RemoveTagsOutput {
    for (const arn of input.ResourceArns ?? []) {
      mustExist(call, arn);
      const left = (call.tables.tags.get(arn)?.tags ?? []).filter((tag) => !input.TagKeys?.includes(tag.Key));
      if (left.length) call.tables.tags.put(arn, { tags: left });
      else call.tables.tags.delete(arn);
    }
    return {};
  },

  DescribeTags(input: elb.DescribeTagsInput, call: CallContext): elb.DescribeTagsOutput {
    return {
      TagDescriptions: (input.ResourceArns ?? []).map((arn) => {
        mustExist(call, arn);
        return { ResourceArn: arn, Tags: tagsOf(call, arn) as elb.Tag[] };
      }),
    };
  },

  DescribeAccountLimits(_input: elb.DescribeAccountLimitsInput, _call: CallContext): elb.DescribeAccountLimitsOutput {
    return {
      Limits: [
        { Name: 'network-load-balancers', Max: '50' },
        { Name: 'target-groups', Max: '3000' },
        { Name: 'targets-per-network-load-balancer', Max: '3000' },
        { Name: 'listeners-per-network-load-balancer', Max: '50' },
      ],
    };
  },
} satisfies Operations;

/** Every operation of Elastic Load Balancing v2 that the endpoint has. Rules of application load balancers are not among them. */
export const elbOperations: Operations = { ...loadBalancerOperations, ...listenerOperations, ...targetGroupOperations, ...tagOperations };
