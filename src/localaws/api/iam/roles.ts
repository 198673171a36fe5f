import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { iamId } from '../ids.ts';
import type { RoleRecord } from '../state/records.ts';
import { checkTrustDocument, shown } from './documents.ts';
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

const mostRoles = 1000;
/** Characters of a role's inline policies together. */
const largestInline = 10_240;

export function findRole(call: CallContext, name: string | undefined): RoleRecord {
  const role = call.tables.roles.get(name);
  if (!role) throw noSuchEntity(`The role with name ${name ?? ''} cannot be found.`);
  return role;
}

/** A role as it is shown; lists leave its tags out. */
export function viewRole(record: RoleRecord, inList = false): iam.Role {
  const { policies: _p, attached: _a, Tags, ...role } = record;
  const document = shown(record.AssumeRolePolicyDocument ?? '');
  return { ...role, AssumeRolePolicyDocument: document, ...(inList || !Tags?.length ? {} : { Tags }) } as iam.Role;
}

function checkDuration(seconds: number | undefined): number | undefined {
  if (seconds === undefined) return undefined;
  if (!Number.isInteger(seconds) || seconds < 3600 || seconds > 43_200) {
    throw validationError(
      `1 validation error detected: Value '${seconds}' at 'maxSessionDuration' failed to satisfy constraint: Member must have value between 3600 and 43200`,
    );
  }
  return seconds;
}

export const roleOperations: Operations = {
  CreateRole(input: iam.CreateRoleRequest, call: CallContext): iam.CreateRoleResponse {
    const { roles } = call.tables;
    const name = checkName(input.RoleName, 'roleName');
    const path = checkPath(input.Path);
    const document = checkTrustDocument(input.AssumeRolePolicyDocument);
    const duration = checkDuration(input.MaxSessionDuration) ?? 3600;
    if (
      isTaken(
        roles.values().map((one) => one.RoleName),
        name,
      )
    ) {
      throw alreadyExists(`Role with name ${name} already exists.`);
    }
    if (roles.size >= mostRoles) throw limitExceeded('RolesPerAccount', mostRoles);
    const record = roles.put(name, {
      RoleName: name,
      RoleId: iamId('AROA'),
      Arn: arnOf(call, 'role', path, name),
      Path: path,
      CreateDate: now(call),
      AssumeRolePolicyDocument: document,
      MaxSessionDuration: duration,
      ...(input.Description ? { Description: input.Description } : {}),
      Tags: mergeTags([], input.Tags),
      policies: {},
      attached: [],
    });
    return { Role: viewRole(record) };
  },

  GetRole: (input: iam.GetRoleRequest, call: CallContext): iam.GetRoleResponse => ({ Role: viewRole(findRole(call, input.RoleName)) }),

  ListRoles(input: iam.ListRolesRequest, call: CallContext): iam.ListRolesResponse {
    const { items, ...rest } = page(below(call.tables.roles.values(), input), (one) => one.RoleName, input);
    return { Roles: items.map((one) => viewRole(one, true)), ...rest };
  },

  UpdateRole(input: iam.UpdateRoleRequest, call: CallContext): iam.UpdateRoleResponse {
    const role = findRole(call, input.RoleName);
    const duration = checkDuration(input.MaxSessionDuration);
    call.tables.roles.change(role.RoleName, {
      ...(input.Description === undefined ? {} : { Description: input.Description }),
      ...(duration === undefined ? {} : { MaxSessionDuration: duration }),
    });
    return {};
  },

  UpdateRoleDescription(input: iam.UpdateRoleDescriptionRequest, call: CallContext): iam.UpdateRoleDescriptionResponse {
    const role = findRole(call, input.RoleName);
    return { Role: viewRole(call.tables.roles.change(role.RoleName, { Description: input.Description })) };
  },

  UpdateAssumeRolePolicy(input: iam.UpdateAssumeRolePolicyRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    call.tables.roles.change(role.RoleName, { AssumeRolePolicyDocument: checkTrustDocument(input.PolicyDocument) });
  },

  DeleteRole(input: iam.DeleteRoleRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    if (call.tables.instanceProfiles.hasKey('role', role.RoleName)) {
      throw deleteConflict('Cannot delete entity, must remove roles from instance profile first.');
    }
    if (role.attached.length) throw deleteConflict('Cannot delete entity, must detach all policies first.');
    if (Object.keys(role.policies).length) throw deleteConflict('Cannot delete entity, must delete policies first.');
    call.tables.roles.delete(role.RoleName);
  },

  ...permissionOperationsOf('Role', largestInline, (call, wanted) => {
    const { RoleName: name, policies, attached } = findRole(call, wanted);
    return { name, policies, attached, change: (fields) => void call.tables.roles.change(name, fields) };
  }),

  ...tagOperationsOf('Role', (input: { RoleName?: string }, call) => {
    const role = findRole(call, input.RoleName);
    return { read: () => role.Tags, write: (tags) => void call.tables.roles.change(role.RoleName, { Tags: tags }) };
  }),
};
