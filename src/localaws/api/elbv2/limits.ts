import type * as elb from '@aws-sdk/client-elastic-load-balancing-v2';
import type { CallContext, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { page } from './names.ts';

/** Load balancers of one type in a region. */
export const mostBalancers = 50;
export const mostListeners = 50;
/** Rules of an application load balancer, without the default ones. */
export const mostRules = 100;
export const mostTargetGroups = 3000;
export const mostTargets = 1000;
export const mostSecurityGroups = 5;

const limits: Record<string, number> = {
  'application-load-balancers': mostBalancers,
  'listeners-per-application-load-balancer': mostListeners,
  'listeners-per-network-load-balancer': mostListeners,
  'network-load-balancers': mostBalancers,
  'rules-per-application-load-balancer': mostRules,
  'target-groups': mostTargetGroups,
  'targets-per-target-group': mostTargets,
};

const tls13 = ['TLS_AES_128_GCM_SHA256', 'TLS_AES_256_GCM_SHA384', 'TLS_CHACHA20_POLY1305_SHA256'];
const gcm = ['ECDHE-ECDSA-AES128-GCM-SHA256', 'ECDHE-RSA-AES128-GCM-SHA256', 'ECDHE-ECDSA-AES256-GCM-SHA384', 'ECDHE-RSA-AES256-GCM-SHA384'];
const cbc256 = ['ECDHE-ECDSA-AES128-SHA256', 'ECDHE-RSA-AES128-SHA256', 'ECDHE-ECDSA-AES256-SHA384', 'ECDHE-RSA-AES256-SHA384'];
const cbc = ['ECDHE-ECDSA-AES128-SHA', 'ECDHE-RSA-AES128-SHA', 'ECDHE-ECDSA-AES256-SHA', 'ECDHE-RSA-AES256-SHA'];
const rsa256 = ['AES128-GCM-SHA256', 'AES128-SHA256', 'AES256-GCM-SHA384', 'AES256-SHA256'];
const rsa = ['AES128-SHA', 'AES256-SHA'];

const policies: Record<string, { protocols: string[]; ciphers: string[] }> = {
  'ELBSecurityPolicy-2016-08': { protocols: ['TLSv1', 'TLSv1.1', 'TLSv1.2'], ciphers: [...gcm, ...cbc256, ...cbc, ...rsa256, ...rsa] },
  'ELBSecurityPolicy-TLS-1-2-2017-01': { protocols: ['TLSv1.2'], ciphers: [...gcm, ...cbc256, ...rsa256] },
  'ELBSecurityPolicy-TLS-1-2-Ext-2018-06': { protocols: ['TLSv1.2'], ciphers: [...gcm, ...cbc256, ...cbc, ...rsa256, ...rsa] },
  'ELBSecurityPolicy-FS-1-2-Res-2020-10': { protocols: ['TLSv1.2'], ciphers: gcm },
  'ELBSecurityPolicy-TLS13-1-2-2021-06': { protocols: ['TLSv1.2', 'TLSv1.3'], ciphers: [...tls13, ...gcm, ...cbc256] },
  'ELBSecurityPolicy-TLS13-1-2-Res-2021-06': { protocols: ['TLSv1.2', 'TLSv1.3'], ciphers: [...tls13, ...gcm] },
  'ELBSecurityPolicy-TLS13-1-3-2021-06': { protocols: ['TLSv1.3'], ciphers: tls13 },
};
export const defaultSslPolicy = 'ELBSecurityPolicy-2016-08';

/** Throws SSLPolicyNotFound. */
export function checkSslPolicy(name: string): string {
  if (!Object.hasOwn(policies, name)) throw new AwsError('SSLPolicyNotFound', `SSL policy '${name}' not found`);
  return name;
}

export const limitOperations = {
  DescribeAccountLimits(input: elb.DescribeAccountLimitsInput, _call: CallContext): elb.DescribeAccountLimitsOutput {
    const { items, ...rest } = page(Object.entries(limits), ([name]) => name, input);
    return { Limits: items.map(([Name, most]) => ({ Name, Max: String(most) })), ...rest };
  },

  DescribeSSLPolicies(input: elb.DescribeSSLPoliciesInput, _call: CallContext): elb.DescribeSSLPoliciesOutput {
    const names = input.Names?.length ? input.Names.map(checkSslPolicy) : Object.keys(policies);
    const { items, ...rest } = page(names, (name) => name, input);
    return {
      SslPolicies: items.map((Name) => ({
        Name,
        SslProtocols: policies[Name]!.protocols,
        Ciphers: policies[Name]!.ciphers.map((cipher, i) => ({ Name: cipher, Priority: i + 1 })),
        SupportedLoadBalancerTypes: ['application', 'network'],
      })),
      ...rest,
    };
  },
} satisfies Operations;
