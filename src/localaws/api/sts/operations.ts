import type {
  AssumeRoleRequest,
  AssumeRoleResponse,
  GetCallerIdentityRequest,
  GetCallerIdentityResponse,
  GetSessionTokenRequest,
  GetSessionTokenResponse,
} from '@aws-sdk/client-sts';
import type { CallContext, Operations } from '../cloud.ts';
import type { RoleCredentials } from '../../contract.ts';
import { AwsError } from '../errors.ts';

const credentials = (given: RoleCredentials) => ({
  AccessKeyId: given.accessKeyId,
  SecretAccessKey: given.secretAccessKey,
  SessionToken: given.sessionToken,
  Expiration: given.expiration,
});

function duration(seconds: number | undefined, otherwise: number, most: number): number {
  const wanted = seconds ?? otherwise;
  if (!Number.isInteger(wanted) || wanted < 900 || wanted > most) {
    throw new AwsError('ValidationError', `The requested DurationSeconds exceeds the MaxSessionDuration set for this role, or is less than 900.`);
  }
  return wanted;
}

export const stsOperations = {
  GetCallerIdentity(_input: GetCallerIdentityRequest, call: CallContext): GetCallerIdentityResponse {
    return { Account: call.accountId, Arn: call.principal.arn, UserId: call.principal.userId };
  },

  GetSessionToken(input: GetSessionTokenRequest, call: CallContext): GetSessionTokenResponse {
    if (call.principal.kind === 'role') throw new AwsError('AccessDenied', 'Cannot call GetSessionToken with session credentials', 403);
    return { Credentials: credentials(call.keys.ownSession(call.principal, duration(input.DurationSeconds, 43_200, 129_600))) };
  },

  /** Trust policies are not evaluated: every principal of the account may assume its roles. */
  AssumeRole(input: AssumeRoleRequest, call: CallContext): AssumeRoleResponse {
    const name = input.RoleArn?.slice(input.RoleArn.lastIndexOf('/') + 1);
    const role = call.tables.roles.get(name);
    const session = input.RoleSessionName ?? '';
    if (!/^[\w+=,.@-]{2,64}$/.test(session))
      throw new AwsError('ValidationError', `1 validation error detected: Value '${session}' at 'roleSessionName' failed to satisfy constraint`);
    if (!role || role.Arn !== input.RoleArn) {
      throw new AwsError(
        'AccessDenied',
        `User: ${call.principal.arn} is not authorized to perform: sts:AssumeRole on resource: ${input.RoleArn}`,
        403,
      );
    }
    const given = call.keys.roleSession(role, session, duration(input.DurationSeconds, 3600, role.MaxSessionDuration ?? 43_200));
    return {
      Credentials: credentials(given),
      AssumedRoleUser: { AssumedRoleId: `${role.RoleId}:${session}`, Arn: `arn:aws:sts::${call.accountId}:assumed-role/${role.RoleName}/${session}` },
    };
  },
} satisfies Operations;
