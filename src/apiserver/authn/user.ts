/** Who makes a request. */
export interface UserInfo {
  name: string;
  uid?: string;
  groups: string[];
  extra?: Record<string, string[]>;
}

export const anonymousUser: UserInfo = Object.freeze({ name: 'system:anonymous', groups: ['system:unauthenticated'] });
export const authenticatedGroup = 'system:authenticated';
export const mastersGroup = 'system:masters';

/** The user with the group that every authenticated user is in. */
export function authenticated(user: UserInfo): UserInfo {
  if (user.name === anonymousUser.name || user.groups.includes(authenticatedGroup)) return user;
  return { ...user, groups: [...user.groups, authenticatedGroup] };
}

export const serviceAccountName = (namespace: string, name: string) => `system:serviceaccount:${namespace}:${name}`;

export function parseServiceAccountName(user: string): { namespace: string; name: string } | undefined {
  const parts = user.split(':');
  if (parts.length !== 4 || parts[0] !== 'system' || parts[1] !== 'serviceaccount') return undefined;
  return { namespace: parts[2]!, name: parts[3]! };
}
