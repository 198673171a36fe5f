import { join } from 'node:path';

/** What every name of ours on a host begins with. */
export const PREFIX = 'kumulus';

/** The last 8 characters of a resource id: enough to tell apart, short enough for a Linux interface's 15. */
export function shortId(resourceId: string): string {
  return resourceId.slice(-8);
}

/** kumulus-ID-vpc-XXXXXXXX or kumulus-ID-i-XXXXXXXX. */
export function namespaceName(clusterId: string, resourceId: string): string {
  return `${PREFIX}-${clusterId}-${resourceId.startsWith('vpc-') ? 'vpc' : 'i'}-${shortId(resourceId)}`;
}

export function namespacePath(name: string): string {
  return join('/run/netns', name);
}

/** The cluster id in a namespace's name, or undefined for a name that is not ours. */
export function clusterOfNamespace(name: string): string | undefined {
  return /^kumulus-([0-9a-f]{6})-(?:vpc|i)-/.exec(name)?.[1];
}

/** An interface of the router: the outer end of a network interface's veth pair. */
export function linkName(networkInterfaceId: string): string {
  return `eni-${shortId(networkInterfaceId)}`;
}

export const METADATA_ADDRESS = '169.254.169.254';
export const RESOLVER_ADDRESS = '169.254.169.253';
export const AWS_ADDRESS = '169.254.169.252';
export const AWS_PORT = 4566;
