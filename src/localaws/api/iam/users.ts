import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { iamId, secretKey } from '../ids.ts';
import type { UserRecord } from '../state/records.ts';
import { alreadyExists, arnOf, checkName, checkPath, deleteConflict, mergeTags, noSuchEntity, page } from './entities.ts';

function findUser(call: CallContext, name: string | undefined): UserRecord {
  const user = call.tables.users.get(name);
  if (!user) throw noSuchEntity(`The user with name ${name ?? ''} cannot be found.`);
  return user;
}

function view(record: UserRecord): iam.User {
  const { policies: _p, attached: _a, ...user } = record;
  return user as iam.User;
}

export const userOperations = {
  CreateUser(input: iam.CreateUserRequest, call: CallContext): iam.CreateUserResponse {
    const name = checkName(input.UserName, 'userName');
    const path = checkPath(input.Path);
    if (call.tables.users.has(name)) throw alreadyExists(`User with name ${name} already exists.`);
    const record = call.tables.users.put(name, {
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
    if (input.UserName === undefined && call.principal.kind === 'root') {
      return { User: { Path: '/', UserName: 'root', UserId: call.accountId, Arn: call.principal.arn, CreateDate: new Date('2026-01-01T00:00:00Z') } };
    }
    return { User: view(findUser(call, input.UserName ?? call.principal.arn.slice(call.principal.arn.lastIndexOf('/') + 1))) };
  },

  ListUsers(input: iam.ListUsersRequest, call: CallContext): iam.ListUsersResponse {
    const { items, ...rest } = page(call.tables.users.values(), input);
    return { Users: items.map(view), ...rest };
  },

  DeleteUser(input: iam.DeleteUserRequest, call: CallContext) {
    const user = findUser(call, input.UserName);
    if (call.tables.accessKeys.hasKey('user', user.UserName)) throw deleteConflict('Cannot delete entity, must delete access keys first.');
    if (user.attached.length) throw deleteConflict('Cannot delete entity, must detach all policies first.');
    call.tables.users.delete(user.UserName);
  },

  CreateAccessKey(input: iam.CreateAccessKeyRequest, call: CallContext): iam.CreateAccessKeyResponse {
    const user = findUser(call, input.UserName);
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
    const { items, ...rest } = page(call.tables.accessKeys.by('user', findUser(call, input.UserName).UserName), input);
    return { AccessKeyMetadata: items.map(({ SecretAccessKey: _, ...one }) => one), ...rest };
  },

  DeleteAccessKey(input: iam.DeleteAccessKeyRequest, call: CallContext) {
    const key = call.tables.accessKeys.get(input.AccessKeyId);
    if (!key || (input.UserName !== undefined && key.UserName !== input.UserName))
      throw noSuchEntity(`The Access Key with id ${input.AccessKeyId ?? ''} cannot be found.`);
    call.tables.accessKeys.delete(key.AccessKeyId);
  },
} satisfies Operations;
