import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { iamId, secretKey } from '../ids.ts';
import type { AccessKeyRecord, UserRecord } from '../state/records.ts';
import {
  alreadyExists,
  arnOf,
  below,
  checkName,
  checkPath,
  deleteConflict,
  isTaken,
  limitExceeded,
  noSuchEntity,
  page,
  validationError,
} from './entities.ts';
import { permissionOperationsOf } from './permissions.ts';
import { mergeTags, tagOperationsOf } from './tags.ts';

const mostKeys = 2;
/** Characters of a user's inline policies together. */
const largestInline = 2048;

function findUser(call: CallContext, name: string | undefined): UserRecord {
  const user = call.tables.users.get(name);
  if (!user) throw noSuchEntity(`The user with name ${name ?? ''} cannot be found.`);
  return user;
}

/** The user that a call names, or the one that makes it. */
function namedOrCaller(call: CallContext, name: string | undefined): UserRecord {
  if (name !== undefined) return findUser(call, name);
  if (call.principal.kind !== 'user') throw validationError('Must specify userName when calling with non-User credentials');
  return findUser(call, call.principal.arn.slice(call.principal.arn.lastIndexOf('/') + 1));
}

function view(record: UserRecord, inList = false): iam.User {
  const { policies: _p, attached: _a, Tags, ...user } = record;
  return { ...user, ...(inList || !Tags?.length ? {} : { Tags }) } as iam.User;
}

function findKey(call: CallContext, input: { UserName?: string; AccessKeyId?: string }): AccessKeyRecord {
  const user = namedOrCaller(call, input.UserName);
  const key = call.tables.accessKeys.get(input.AccessKeyId);
  if (key?.UserName !== user.UserName) throw noSuchEntity(`The Access Key with id ${input.AccessKeyId ?? ''} cannot be found.`);
  return key;
}

export const userOperations: Operations = {
  CreateUser(input: iam.CreateUserRequest, call: CallContext): iam.CreateUserResponse {
    const { users } = call.tables;
    const name = checkName(input.UserName, 'userName');
    const path = checkPath(input.Path);
    const others = users.values().map((one) => one.UserName);
    if (isTaken(others, name)) throw alreadyExists(`User with name ${name} already exists.`);
    const record = users.put(name, {
      UserName: name,
      UserId: iamId('AIDA'),
      Arn: arnOf(call, 'user', path, name),
      Path: path,
      CreateDate: now(call),
      Tags: mergeTags([], input.Tags),
      policies: {},
      attached: [],
    });
    return { User: view(record) };
  },

  GetUser(input: iam.GetUserRequest, call: CallContext): iam.GetUserResponse {
    const { kind, arn } = call.principal;
    if (input.UserName === undefined && kind === 'root') {
      return { User: { Path: '/', UserName: 'root', UserId: call.accountId, Arn: arn, CreateDate: undefined } };
    }
    return { User: view(namedOrCaller(call, input.UserName)) };
  },

  ListUsers(input: iam.ListUsersRequest, call: CallContext): iam.ListUsersResponse {
    const { items, ...rest } = page(below(call.tables.users.values(), input), (one) => one.UserName, input);
    return { Users: items.map((one) => view(one, true)), ...rest };
  },

  DeleteUser(input: iam.DeleteUserRequest, call: CallContext) {
    const user = findUser(call, input.UserName);
    if (call.tables.accessKeys.hasKey('user', user.UserName)) throw deleteConflict('Cannot delete entity, must delete access keys first.');
    if (user.attached.length) throw deleteConflict('Cannot delete entity, must detach all policies first.');
    if (Object.keys(user.policies).length) throw deleteConflict('Cannot delete entity, must delete policies first.');
    call.tables.users.delete(user.UserName);
  },

  CreateAccessKey(input: iam.CreateAccessKeyRequest, call: CallContext): iam.CreateAccessKeyResponse {
    const user = namedOrCaller(call, input.UserName);
    if (call.tables.accessKeys.by('user', user.UserName).length >= mostKeys) throw limitExceeded('AccessKeysPerUser', mostKeys);
    const id = iamId('AKIA');
    const record = call.tables.accessKeys.put(id, {
      UserName: user.UserName,
      AccessKeyId: id,
      SecretAccessKey: secretKey(),
      Status: 'Active',
      CreateDate: now(call),
    });
    return { AccessKey: record };
  },

  ListAccessKeys(input: iam.ListAccessKeysRequest, call: CallContext): iam.ListAccessKeysResponse {
    const user = namedOrCaller(call, input.UserName);
    const { items, ...rest } = page(call.tables.accessKeys.by('user', user.UserName), (one) => one.AccessKeyId, input);
    return { AccessKeyMetadata: items.map(({ SecretAccessKey: _, ...one }) => one), ...rest };
  },

  UpdateAccessKey(input: iam.UpdateAccessKeyRequest, call: CallContext) {
    const key = findKey(call, input);
    if (input.Status !== 'Active' && input.Status !== 'Inactive') {
      throw validationError(
        `1 validation error detected: Value '${input.Status ?? ''}' at 'status' failed to satisfy constraint: Member must satisfy enum value set: [Active, Inactive]`,
      );
    }
    call.tables.accessKeys.change(key.AccessKeyId, { Status: input.Status });
  },

  DeleteAccessKey(input: iam.DeleteAccessKeyRequest, call: CallContext) {
    call.tables.accessKeys.delete(findKey(call, input).AccessKeyId);
  },

  /** There are no groups, so no user is in one. */
  ListGroupsForUser(input: iam.ListGroupsForUserRequest, call: CallContext): iam.ListGroupsForUserResponse {
    findUser(call, input.UserName);
    return { Groups: [], IsTruncated: false };
  },

  ...permissionOperationsOf('User', largestInline, (call, wanted) => {
    const { UserName: name, policies, attached } = findUser(call, wanted);
    return { name, policies, attached, change: (fields) => void call.tables.users.change(name, fields) };
  }),

  ...tagOperationsOf('User', (input: { UserName?: string }, call) => {
    const user = findUser(call, input.UserName);
    return { read: () => user.Tags, write: (tags) => void call.tables.users.change(user.UserName, { Tags: tags }) };
  }),
};
