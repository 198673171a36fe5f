import type {
  AssumeRoleRequest,
  AssumeRoleResponse,
  GetAccessKeyInfoRequest,
  GetAccessKeyInfoResponse,
  GetCallerIdentityRequest,
  GetCallerIdentityResponse,
  GetSessionTokenRequest,
  GetSessionTokenResponse,
} from '@aws-sdk/client-sts';
import type { RoleCredentials } from '../../contract.ts';
import type { CallContext, Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { trusts } from '../iam/trust.ts';

const credentials = (given: RoleCredentials) => ({
  AccessKeyId: given.accessKeyId,
  SecretAccessKey: given.secretAccessKey,
  SessionToken: given.sessionToken,
  Expiration: given.expiration,
});

const validation = (value: string, field: string, constraint: string) =>
  new AwsError('ValidationError', `1 validation error detected: Value '${value}' at '${field}' failed to satisfy constraint: ${constraint}`);

/** Seconds that a session lasts. Throws ValidationError outside of least to most. */
function duration(seconds: number, least: number, most: number): number {
  if (!Number.isInteger(seconds) || seconds < least) {
    throw validation(String(seconds), 'durationSeconds', `Member must have value greater than or equal to ${least}`);
  }
  if (seconds > most) throw validation(String(seconds), 'durationSeconds', `Member must have value less than or equal to ${most}`);
  return seconds;
}

/** The longest session of a role that is assumed by a session of a role. */
const longestChained = 3600;

export const stsOperations = {
  GetCallerIdentity(_input: GetCallerIdentityRequest, call: CallContext): GetCallerIdentityResponse {
    return { Account: call.accountId, Arn: call.principal.arn, UserId: call.principal.userId };
  },

  GetSessionToken(input: GetSessionTokenRequest, call: CallContext): GetSessionTokenResponse {
    const { principal } = call;
    if (principal.kind === 'role' || principal.accessKeyId.startsWith('ASIA')) {
      throw new AwsError('AccessDenied', 'Cannot call GetSessionToken with session credentials', 403);
    }
    // Root's sessions end after an hour.
    const most = principal.kind === 'root' ? 3600 : 129_600;
    const wanted = duration(input.DurationSeconds ?? 43_200, 900, 129_600);
    return { Credentials: credentials(call.keys.ownSession(principal, Math.min(wanted, most))) };
  },

  /** Whom the role's trust policy names may assume it; the account's root counts as the account, which AWS would refuse. */
  AssumeRole(input: AssumeRoleRequest, call: CallContext): AssumeRoleResponse {
    const { principal } = call;
    const session = input.RoleSessionName ?? '';
    if (!/^[\w+=,.@-]{2,64}$/.test(session)) {
      throw validation(session, 'roleSessionName', 'Member must satisfy regular expression pattern: [\\w+=,.@-]*, with 2 to 64 characters');
    }
    const arn = input.RoleArn ?? '';
    if (!/^arn:[a-z-]+:iam::\d{12}:role\/.+$/.test(arn)) throw new AwsError('ValidationError', `${arn} is invalid`);
    const wanted = duration(input.DurationSeconds ?? 3600, 900, 43_200);
    const role = call.tables.roles.get(arn.slice(arn.lastIndexOf('/') + 1));
    const own = principal.roleName === undefined ? undefined : call.tables.roles.get(principal.roleName);
    const allowed =
      role?.Arn === arn &&
      trusts(role.AssumeRolePolicyDocument ?? '', {
        action: 'sts:AssumeRole',
        accountId: call.accountId,
        arns: own ? [principal.arn, own.Arn] : [principal.arn],
        context: {
          'sts:ExternalId': input.ExternalId,
          'sts:RoleSessionName': session,
          'sts:SourceIdentity': input.SourceIdentity,
          'aws:PrincipalArn': own?.Arn ?? principal.arn,
          'aws:PrincipalAccount': call.accountId,
          'aws:MultiFactorAuthPresent': principal.accessKeyId.startsWith('ASIA') ? 'false' : undefined,
        },
      });
    if (!role || !allowed) {
      throw new AwsError('AccessDenied', `User: ${principal.arn} is not authorized to perform: sts:AssumeRole on resource: ${arn}`, 403);
    }
    const most = role.MaxSessionDuration ?? 3600;
    if (wanted > most || (principal.kind === 'role' && wanted > longestChained)) {
      const reason =
        wanted > most
          ? 'The requested DurationSeconds exceeds the MaxSessionDuration set for this role.'
          : 'The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.';
      throw new AwsError('ValidationError', reason);
    }
    return {
      Credentials: credentials(call.keys.roleSession(role, session, wanted)),
      AssumedRoleUser: { AssumedRoleId: `${role.RoleId}:${session}`, Arn: `arn:aws:sts::${call.accountId}:assumed-role/${role.RoleName}/${session}` },
      ...(input.SourceIdentity === undefined ? {} : { SourceIdentity: input.SourceIdentity }),
    };
  },

  /** Whose account an access key belongs to. There is one account, and keys of others are not known here. */
  GetAccessKeyInfo(input: GetAccessKeyInfoRequest, call: CallContext): GetAccessKeyInfoResponse {
    const id = input.AccessKeyId ?? '';
    if (!/^\w{16,128}$/.test(id)) throw validation(id, 'accessKeyId', 'Member must satisfy regular expression pattern: [\\w]*');
    if (id !== call.keys.root.accessKeyId && !call.tables.accessKeys.has(id) && id !== call.principal.accessKeyId) {
      throw new AwsError('AccessDenied', `The access key ${id} is not one of this account`, 403);
    }
    return { Account: call.accountId };
  },
} satisfies Operations;
