import type { CallContext, Cloud } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import type { ListenerRecord, LoadBalancerRecord, TargetGroupRecord } from '../state/records.ts';

export const validationError = (message: string) => new AwsError('ValidationError', message);

/** A name of load balancers and target groups: 32 letters, digits and dashes, no dash at an end. */
export function checkName(name: string | undefined, noun: string): string {
  const given = name ?? '';
  if (given.length > 32) throw validationError(`The ${noun} name '${given}' cannot be longer than '32' characters`);
  if (!/^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?$/.test(given)) {
    throw validationError(
      `The ${noun} name '${given}' can only contain characters that are alphanumeric characters or hyphens(-), and must not begin or end with a hyphen`,
    );
  }
  if (noun === 'load balancer' && given.startsWith('internal-'))
    throw validationError(`The load balancer name '${given}' must not begin with 'internal-'`);
  return given;
}

export const arnOf = (cloud: Cloud, rest: string) => `arn:aws:elasticloadbalancing:${cloud.region}:${cloud.accountId}:${rest}`;

export function findBalancer(call: CallContext, arn: string | undefined): LoadBalancerRecord {
  const found = call.tables.loadBalancers.get(arn);
  if (!found) throw new AwsError('LoadBalancerNotFound', `Load balancer '${arn ?? ''}' not found`);
  return found;
}

export function findGroup(call: CallContext, arn: string | undefined): TargetGroupRecord {
  const found = call.tables.targetGroups.get(arn);
  if (!found) throw new AwsError('TargetGroupNotFound', `Target group '${arn ?? ''}' not found`);
  return found;
}

export function findListener(call: CallContext, arn: string | undefined): ListenerRecord {
  const found = call.tables.listeners.get(arn);
  if (!found) throw new AwsError('ListenerNotFound', `Listener '${arn ?? ''}' not found`);
  return found;
}

/** One page: ELB's tokens are Markers, its sizes PageSize (at most 400). */
export function page<T>(items: T[], input: { Marker?: string; PageSize?: number }): { items: T[]; NextMarker?: string } {
  const start = input.Marker ? Number(Buffer.from(input.Marker, 'base64url').toString()) : 0;
  if (!Number.isInteger(start) || start < 0) throw validationError('The marker is not valid');
  const end = start + Math.min(input.PageSize ?? 400, 400);
  return { items: items.slice(start, end), ...(end < items.length ? { NextMarker: Buffer.from(String(end)).toString('base64url') } : {}) };
}
