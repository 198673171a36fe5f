import type { CallContext, Cloud } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { pageByKey } from '../pages.ts';
import type { ListenerRecord, LoadBalancerRecord, RuleRecord, TargetGroupRecord } from '../state/records.ts';

export const validationError = (message: string) => new AwsError('ValidationError', message);
export const invalidConfiguration = (message: string) => new AwsError('InvalidConfigurationRequest', message);

/** A name of load balancers and target groups: 32 letters, digits and dashes, no dash at an end. */
export function checkName(name: string | undefined, noun: 'load balancer' | 'target group'): string {
  const given = name ?? '';
  const title = noun === 'load balancer' ? 'Load balancer' : 'Target group';
  if (given === '') throw validationError(`${title} name cannot be empty`);
  if (given.length > 32) throw validationError(`${title} name '${given}' cannot be longer than '32' characters`);
  if (!/^[A-Za-z0-9-]+$/.test(given)) {
    throw validationError(`${title} name '${given}' can only contain characters that are alphanumeric characters or hyphens(-)`);
  }
  if (given.startsWith('-') || given.endsWith('-')) throw validationError(`${title} name '${given}' cannot begin or end with a hyphen(-)`);
  if (noun === 'load balancer' && given.startsWith('internal-')) {
    throw validationError(`${title} name '${given}' cannot begin with 'internal-'`);
  }
  return given;
}

export const arnOf = (cloud: Cloud, rest: string) => `arn:aws:elasticloadbalancing:${cloud.region}:${cloud.accountId}:${rest}`;

/** NET/NAME/ID of a load balancer, which the ARNs of its listeners and the descriptions of its interfaces contain. */
export const pathOf = (loadBalancerArn: string) => loadBalancerArn.slice(loadBalancerArn.indexOf(':loadbalancer/') + ':loadbalancer/'.length);

function checkArn(arn: string | undefined, type: string, noun: string): void {
  if (!new RegExp(`^arn:[a-z-]+:elasticloadbalancing:[a-z0-9-]*:[0-9]*:${type}/.+`).test(arn ?? '')) {
    throw validationError(`'${arn ?? ''}' is not a valid ${noun} ARN`);
  }
}

export function findBalancer(call: CallContext, arn: string | undefined): LoadBalancerRecord {
  const found = call.tables.loadBalancers.get(arn);
  if (found) return found;
  checkArn(arn, 'loadbalancer', 'load balancer');
  throw new AwsError('LoadBalancerNotFound', `Load balancer '${arn}' not found`);
}

export function findGroup(call: CallContext, arn: string | undefined): TargetGroupRecord {
  const found = call.tables.targetGroups.get(arn);
  if (found) return found;
  checkArn(arn, 'targetgroup', 'target group');
  throw new AwsError('TargetGroupNotFound', `One or more target groups not found`);
}

export function findListener(call: CallContext, arn: string | undefined): ListenerRecord {
  const found = call.tables.listeners.get(arn);
  if (found) return found;
  checkArn(arn, 'listener', 'listener');
  throw new AwsError('ListenerNotFound', `One or more listeners not found`);
}

export function findRule(call: CallContext, arn: string | undefined): RuleRecord {
  const found = call.tables.rules.get(arn);
  if (found) return found;
  checkArn(arn, 'listener-rule', 'listener rule');
  throw new AwsError('RuleNotFound', `One or more rules not found`);
}

/** One page: ELB's tokens are Markers, its sizes PageSize (1 to 400). */
export function page<T>(items: T[], keyOf: (item: T) => string, input: { Marker?: string; PageSize?: number }): { items: T[]; NextMarker?: string } {
  const size = input.PageSize ?? 400;
  if (!Number.isInteger(size) || size < 1 || size > 400) {
    const bound = size > 400 ? 'less than or equal to 400' : 'greater than or equal to 1';
    throw validationError(`1 validation error detected: Value '${size}' at 'pageSize' failed to satisfy constraint: Member must have value ${bound}`);
  }
  const found = pageByKey(items, keyOf, { size, marker: input.Marker, invalid: () => validationError('The marker is not valid') });
  return { items: found.items, ...(found.marker === undefined ? {} : { NextMarker: found.marker }) };
}
