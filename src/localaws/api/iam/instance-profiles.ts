import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { iamId } from '../ids.ts';
import type { InstanceProfileRecord } from '../state/records.ts';
import { alreadyExists, arnOf, checkName, checkPath, deleteConflict, mergeTags, noSuchEntity, page } from './entities.ts';
import { findRole, viewRole } from './roles.ts';

function findProfile(call: CallContext, name: string | undefined): InstanceProfileRecord {
  const profile = call.tables.instanceProfiles.get(name);
  if (!profile) throw noSuchEntity(`Instance Profile ${name ?? ''} cannot be found.`);
  return profile;
}

function view(call: CallContext, record: InstanceProfileRecord): iam.InstanceProfile {
  const { roleNames, ...profile } = record;
  return {
    ...profile,
    Roles: roleNames.flatMap((name) => {
      const role = call.tables.roles.get(name);
      return role ? [viewRole(role)] : [];
    }),
  } as iam.InstanceProfile;
}

export const instanceProfileOperations = {
  CreateInstanceProfile(input: iam.CreateInstanceProfileRequest, call: CallContext): iam.CreateInstanceProfileResponse {
    const name = checkName(input.InstanceProfileName, 'instanceProfileName', 128);
    const path = checkPath(input.Path);
    if (call.tables.instanceProfiles.has(name)) throw alreadyExists(`Instance Profile ${name} already exists.`);
    const record = call.tables.instanceProfiles.put(name, {
      InstanceProfileName: name,
      InstanceProfileId: iamId('AIPA'),
      Arn: arnOf(call, 'instance-profile', path, name),
      Path: path,
      CreateDate: now(call),
      Roles: [],
      Tags: mergeTags([], input.Tags),
      roleNames: [],
    });
    return { InstanceProfile: view(call, record) };
  },

  GetInstanceProfile(input: iam.GetInstanceProfileRequest, call: CallContext): iam.GetInstanceProfileResponse {
    return { InstanceProfile: view(call, findProfile(call, input.InstanceProfileName)) };
  },

  ListInstanceProfiles(input: iam.ListInstanceProfilesRequest, call: CallContext): iam.ListInstanceProfilesResponse {
    const { items, ...rest } = page(call.tables.instanceProfiles.values(), input);
    return { InstanceProfiles: items.map((one) => view(call, one)), ...rest };
  },

  ListInstanceProfilesForRole(input: iam.ListInstanceProfilesForRoleRequest, call: CallContext): iam.ListInstanceProfilesForRoleResponse {
    const { items, ...rest } = page(call.tables.instanceProfiles.by('role', findRole(call, input.RoleName).RoleName), input);
    return { InstanceProfiles: items.map((one) => view(call, one)), ...rest };
  },

  AddRoleToInstanceProfile(input: iam.AddRoleToInstanceProfileRequest, call: CallContext) {
    const profile = findProfile(call, input.InstanceProfileName);
    const role = findRole(call, input.RoleName);
    if (profile.roleNames.length) throw new AwsError('LimitExceeded', 'Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1', 409);
    call.tables.instanceProfiles.change(profile.InstanceProfileName, { roleNames: [role.RoleName] });
  },

  RemoveRoleFromInstanceProfile(input: iam.RemoveRoleFromInstanceProfileRequest, call: CallContext) {
    const profile = findProfile(call, input.InstanceProfileName);
    if (!profile.roleNames.includes(input.RoleName ?? ''))
      throw noSuchEntity(`Role ${input.RoleName} is not in Instance Profile ${profile.InstanceProfileName}.`);
    call.tables.instanceProfiles.change(profile.InstanceProfileName, { roleNames: [] });
  },

  DeleteInstanceProfile(input: iam.DeleteInstanceProfileRequest, call: CallContext) {
    const profile = findProfile(call, input.InstanceProfileName);
    if (profile.roleNames.length) throw deleteConflict('Cannot delete entity, must remove roles from instance profile first.');
    call.tables.instanceProfiles.delete(profile.InstanceProfileName);
  },
} satisfies Operations;
