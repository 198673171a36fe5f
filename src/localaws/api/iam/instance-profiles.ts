import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { iamId } from '../ids.ts';
import type { InstanceProfileRecord } from '../state/records.ts';
import { alreadyExists, arnOf, below, checkName, checkPath, deleteConflict, isTaken, limitExceeded, noSuchEntity, page } from './entities.ts';
import { findRole, viewRole } from './roles.ts';
import { mergeTags, tagOperationsOf } from './tags.ts';

function findProfile(call: CallContext, name: string | undefined): InstanceProfileRecord {
  const profile = call.tables.instanceProfiles.get(name);
  if (!profile) throw noSuchEntity(`Instance Profile ${name ?? ''} cannot be found.`);
  return profile;
}

function view(call: CallContext, record: InstanceProfileRecord, inList = false): iam.InstanceProfile {
  const { roleNames, Tags, ...profile } = record;
  const roles = roleNames.flatMap((name) => {
    const role = call.tables.roles.get(name);
    return role ? [viewRole(role, true)] : [];
  });
  return { ...profile, Roles: roles, ...(inList || !Tags?.length ? {} : { Tags }) } as iam.InstanceProfile;
}

export const instanceProfileOperations: Operations = {
  CreateInstanceProfile(input: iam.CreateInstanceProfileRequest, call: CallContext): iam.CreateInstanceProfileResponse {
    const { instanceProfiles } = call.tables;
    const name = checkName(input.InstanceProfileName, 'instanceProfileName', 128);
    const path = checkPath(input.Path);
    const others = instanceProfiles.values().map((one) => one.InstanceProfileName);
    if (isTaken(others, name)) throw alreadyExists(`Instance Profile ${name} already exists.`);
    const record = instanceProfiles.put(name, {
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

  GetInstanceProfile: (input: iam.GetInstanceProfileRequest, call: CallContext): iam.GetInstanceProfileResponse => ({
    InstanceProfile: view(call, findProfile(call, input.InstanceProfileName)),
  }),

  ListInstanceProfiles(input: iam.ListInstanceProfilesRequest, call: CallContext): iam.ListInstanceProfilesResponse {
    const { items, ...rest } = page(below(call.tables.instanceProfiles.values(), input), (one) => one.InstanceProfileName, input);
    return { InstanceProfiles: items.map((one) => view(call, one, true)), ...rest };
  },

  ListInstanceProfilesForRole(input: iam.ListInstanceProfilesForRoleRequest, call: CallContext): iam.ListInstanceProfilesForRoleResponse {
    const found = call.tables.instanceProfiles.by('role', findRole(call, input.RoleName).RoleName);
    const { items, ...rest } = page(found, (one) => one.InstanceProfileName, input);
    return { InstanceProfiles: items.map((one) => view(call, one, true)), ...rest };
  },

  AddRoleToInstanceProfile(input: iam.AddRoleToInstanceProfileRequest, call: CallContext) {
    const profile = findProfile(call, input.InstanceProfileName);
    const role = findRole(call, input.RoleName);
    if (profile.roleNames.length) throw limitExceeded('InstanceSessionsPerInstanceProfile', 1);
    call.tables.instanceProfiles.change(profile.InstanceProfileName, { roleNames: [role.RoleName] });
  },

  RemoveRoleFromInstanceProfile(input: iam.RemoveRoleFromInstanceProfileRequest, call: CallContext) {
    const profile = findProfile(call, input.InstanceProfileName);
    if (!profile.roleNames.includes(input.RoleName ?? '')) {
      throw noSuchEntity(`Role ${input.RoleName} in instance profile ${profile.InstanceProfileName} cannot be found.`);
    }
    call.tables.instanceProfiles.change(profile.InstanceProfileName, { roleNames: [] });
  },

  DeleteInstanceProfile(input: iam.DeleteInstanceProfileRequest, call: CallContext) {
    const profile = findProfile(call, input.InstanceProfileName);
    if (profile.roleNames.length) throw deleteConflict('Cannot delete entity, must remove roles from instance profile first.');
    call.tables.instanceProfiles.delete(profile.InstanceProfileName);
  },

  ...tagOperationsOf('InstanceProfile', (input: { InstanceProfileName?: string }, call) => {
    const profile = findProfile(call, input.InstanceProfileName);
    return { read: () => profile.Tags, write: (tags) => void call.tables.instanceProfiles.change(profile.InstanceProfileName, { Tags: tags }) };
  }),
};
