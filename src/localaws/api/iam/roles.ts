import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { iamId } from '../ids.ts';
import type { RoleRecord } from '../state/records.ts';
import { alreadyExists, arnOf, checkDocument, checkName, checkPath, deleteConflict, mergeTags, noSuchEntity, page, shown } from './entities.ts';
import { policyName } from './policies.ts';

export function findRole(call: CallContext, name: string | undefined): RoleRecord {
  const role = call.tables.roles.get(name);
  if (!role) throw noSuchEntity(`The role with name ${name ?? ''} cannot be found.`);
  return role;
}

export function viewRole(record: RoleRecord): iam.Role {
  const { policies: _p, attached: _a, ...role } = record;
  return { ...role, AssumeRolePolicyDocument: shown(record.AssumeRolePolicyDocument ?? '') } as iam.Role;
}

export const roleOperations = {
  CreateRole(input: iam.CreateRoleRequest, call: CallContext): iam.CreateRoleResponse {
    const name = checkName(input.RoleName, 'roleName');
    const path = checkPath(input.Path);
    const document = checkDocument(input.AssumeRolePolicyDocument);
    if (call.tables.roles.has(name)) throw alreadyExists(`Role with name ${name} already exists.`);
    const record = call.tables.roles.put(name, {
      RoleName: name,
      RoleId: iamId('AROA'),
      Arn: arnOf(call, 'role', path, name),
      Path: path,
      CreateDate: now(call),
      AssumeRolePolicyDocument: document,
      MaxSessionDuration: input.MaxSessionDuration ?? 3600,
      ...(input.Description ? { Description: input.Description } : {}),
      Tags: mergeTags([], input.Tags),
      policies: {},
      attached: [],
    });
    return { Role: viewRole(record) };
  },

  GetRole(input: iam.GetRoleRequest, call: CallContext): iam.GetRoleResponse {
    return { Role: viewRole(findRole(call, input.RoleName)) };
  },

  ListRoles(input: iam.ListRolesRequest, call: CallContext): iam.ListRolesResponse {
    const { items, ...rest } = page(
      call.tables.roles.values().filter((one) => (one.Path ?? '/').startsWith(input.PathPrefix ?? '/')),
      input,
    );
    return { Roles: items.map(viewRole), ...rest };
  },

  UpdateRole(input: iam.UpdateRoleRequest, call: CallContext): iam.UpdateRoleResponse {
    const role = findRole(call, input.RoleName);
    call.tables.roles.change(role.RoleName, {
      ...(input.Description === undefined ? {} : { Description: input.Description }),
      ...(input.MaxSessionDuration === undefined ? {} : { MaxSessionDuration: input.MaxSessionDuration }),
    });
    return {};
  },

  UpdateAssumeRolePolicy(input: iam.UpdateAssumeRolePolicyRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    call.tables.roles.change(role.RoleName, { AssumeRolePolicyDocument: checkDocument(input.PolicyDocument) });
  },

  DeleteRole(input: iam.DeleteRoleRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    if (role.attached.length) throw deleteConflict('Cannot delete entity, must detach all policies first.');
    if (Object.keys(role.policies).length) throw deleteConflict('Cannot delete entity, must delete policies first.');
    if (call.tables.instanceProfiles.hasKey('role', role.RoleName))
      throw deleteConflict('Cannot delete entity, must remove roles from instance profile first.');
    call.tables.roles.delete(role.RoleName);
  },

  AttachRolePolicy(input: iam.AttachRolePolicyRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    policyName(call, input.PolicyArn);
    if (!role.attached.includes(input.PolicyArn as string))
      call.tables.roles.change(role.RoleName, { attached: [...role.attached, input.PolicyArn as string] });
  },

  DetachRolePolicy(input: iam.DetachRolePolicyRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    if (!role.attached.includes(input.PolicyArn ?? '')) throw noSuchEntity(`Policy ${input.PolicyArn} was not found.`);
    call.tables.roles.change(role.RoleName, { attached: role.attached.filter((one) => one !== input.PolicyArn) });
  },

  ListAttachedRolePolicies(input: iam.ListAttachedRolePoliciesRequest, call: CallContext): iam.ListAttachedRolePoliciesResponse {
    const { items, ...rest } = page(findRole(call, input.RoleName).attached, input);
    return { AttachedPolicies: items.map((PolicyArn) => ({ PolicyArn, PolicyName: policyName(call, PolicyArn) })), ...rest };
  },

  PutRolePolicy(input: iam.PutRolePolicyRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    const name = checkName(input.PolicyName, 'policyName', 128);
    call.tables.roles.change(role.RoleName, { policies: { ...role.policies, [name]: checkDocument(input.PolicyDocument) } });
  },

  GetRolePolicy(input: iam.GetRolePolicyRequest, call: CallContext): iam.GetRolePolicyResponse {
    const role = findRole(call, input.RoleName);
    const document = role.policies[input.PolicyName ?? ''];
    if (document === undefined) throw noSuchEntity(`The role policy with name ${input.PolicyName} cannot be found.`);
    return { RoleName: role.RoleName, PolicyName: input.PolicyName, PolicyDocument: shown(document) };
  },

  ListRolePolicies(input: iam.ListRolePoliciesRequest, call: CallContext): iam.ListRolePoliciesResponse {
    const { items, ...rest } = page(Object.keys(findRole(call, input.RoleName).policies), input);
    return { PolicyNames: items, ...rest };
  },

  DeleteRolePolicy(input: iam.DeleteRolePolicyRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    const { [input.PolicyName ?? '']: gone, ...left } = role.policies;
    if (gone === undefined) throw noSuchEntity(`The role policy with name ${input.PolicyName} cannot be found.`);
    call.tables.roles.change(role.RoleName, { policies: left });
  },

  TagRole(input: iam.TagRoleRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    call.tables.roles.change(role.RoleName, { Tags: mergeTags(role.Tags, input.Tags) });
  },

  UntagRole(input: iam.UntagRoleRequest, call: CallContext) {
    const role = findRole(call, input.RoleName);
    call.tables.roles.change(role.RoleName, { Tags: (role.Tags ?? []).filter((tag) => !input.TagKeys?.includes(tag.Key ?? '')) });
  },

  ListRoleTags(input: iam.ListRoleTagsRequest, call: CallContext): iam.ListRoleTagsResponse {
    const { items, ...rest } = page(findRole(call, input.RoleName).Tags ?? [], input);
    return { Tags: items, ...rest };
  },
} satisfies Operations;
