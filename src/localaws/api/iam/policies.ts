import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { iamId } from '../ids.ts';
import type { PolicyRecord } from '../state/records.ts';
import { checkPolicyDocument, shown, sizeOf } from './documents.ts';
import { alreadyExists, arnOf, below, checkName, checkPath, deleteConflict, isTaken, limitExceeded, noSuchEntity, page } from './entities.ts';
import { managedPolicies, managedPolicy } from './managed-policies.ts';
import { mergeTags, tagOperationsOf } from './tags.ts';

const mostVersions = 5;
const largestPolicy = 6144;

/** The name of a policy that can be attached: one of AWS, or one that was made. Throws NoSuchEntity. */
export function policyName(call: CallContext, arn: string): string {
  const policy = managedPolicy(arn) ?? call.tables.policies.get(arn);
  if (!policy) throw noSuchEntity(`Policy ${arn} does not exist or is not attachable.`);
  return policy.PolicyName;
}

/** A policy of the account; those of AWS cannot be changed. */
function own(call: CallContext, arn: string | undefined): PolicyRecord {
  const policy = call.tables.policies.get(arn);
  if (policy) return policy;
  if (managedPolicy(arn ?? '')) throw new AwsError('AccessDenied', `The policy ${arn} belongs to AWS and cannot be changed`, 403);
  throw noSuchEntity(`Policy ${arn ?? ''} was not found.`);
}

const attachedTo = <T extends { attached: string[] }>(entities: T[], arn: string) => entities.filter((one) => one.attached.includes(arn));
const attachments = (call: CallContext, arn: string) =>
  attachedTo(call.tables.roles.values(), arn).length + attachedTo(call.tables.users.values(), arn).length;

function view(call: CallContext, record: PolicyRecord): iam.Policy & { Arn: string } {
  const { versions: _, ...policy } = record;
  return { ...policy, AttachmentCount: attachments(call, record.Arn), PermissionsBoundaryUsageCount: 0, IsAttachable: true };
}

function describe(call: CallContext, arn: string | undefined): iam.Policy {
  const managed = managedPolicy(arn ?? '');
  return managed ? { ...managed, AttachmentCount: attachments(call, managed.Arn) } : view(call, own(call, arn));
}

function checkSize(document: string): string {
  if (sizeOf(document) > largestPolicy) throw limitExceeded('PolicySize', largestPolicy);
  return document;
}

function version(policy: PolicyRecord, id: string | undefined) {
  const found = policy.versions.find((one) => one.VersionId === id);
  if (!found) throw noSuchEntity(`Policy ${policy.Arn} version ${id ?? ''} does not exist or is not attachable.`);
  return found;
}

const viewVersion = (policy: PolicyRecord, { VersionId, Document, CreateDate }: PolicyRecord['versions'][number], document: boolean) => ({
  VersionId,
  IsDefaultVersion: VersionId === policy.DefaultVersionId,
  CreateDate,
  ...(document ? { Document: shown(Document) } : {}),
});

export const policyOperations: Operations = {
  CreatePolicy(input: iam.CreatePolicyRequest, call: CallContext): iam.CreatePolicyResponse {
    const name = checkName(input.PolicyName, 'policyName', 128);
    const path = checkPath(input.Path);
    const document = checkSize(checkPolicyDocument(input.PolicyDocument));
    const others = call.tables.policies.values().map((one) => one.PolicyName);
    if (isTaken(others, name)) throw alreadyExists(`A policy called ${name} already exists. Duplicate names are not allowed.`);
    const arn = arnOf(call, 'policy', path, name);
    const time = now(call);
    const record = call.tables.policies.put(arn, {
      PolicyName: name,
      PolicyId: iamId('ANPA'),
      Arn: arn,
      Path: path,
      DefaultVersionId: 'v1',
      CreateDate: time,
      UpdateDate: time,
      ...(input.Description ? { Description: input.Description } : {}),
      Tags: mergeTags([], input.Tags),
      versions: [{ VersionId: 'v1', Document: document, CreateDate: time }],
    });
    return { Policy: view(call, record) };
  },

  GetPolicy: (input: iam.GetPolicyRequest, call: CallContext): iam.GetPolicyResponse => ({ Policy: describe(call, input.PolicyArn) }),

  ListPolicies(input: iam.ListPoliciesRequest, call: CallContext): iam.ListPoliciesResponse {
    const scope = input.Scope ?? 'All';
    const all = [
      ...(scope === 'AWS' ? [] : call.tables.policies.values().map((one) => view(call, one))),
      ...(scope === 'Local' ? [] : managedPolicies().map((one) => ({ ...one, AttachmentCount: attachments(call, one.Arn) }))),
    ];
    const wanted = below(all, input).filter((one) => !input.OnlyAttached || one.AttachmentCount! > 0);
    const { items, ...rest } = page(wanted, (one) => one.Arn, input);
    return { Policies: items.map(({ Tags: _t, Description: _d, ...one }: iam.Policy) => one), ...rest };
  },

  DeletePolicy(input: iam.DeletePolicyRequest, call: CallContext) {
    const policy = own(call, input.PolicyArn);
    if (attachments(call, policy.Arn)) throw deleteConflict('Cannot delete a policy attached to entities.');
    if (policy.versions.length > 1)
      throw deleteConflict("This policy has more than one version. Before you delete a policy, you must delete the policy's versions.");
    call.tables.policies.delete(policy.Arn);
  },

  CreatePolicyVersion(input: iam.CreatePolicyVersionRequest, call: CallContext): iam.CreatePolicyVersionResponse {
    const policy = own(call, input.PolicyArn);
    const document = checkSize(checkPolicyDocument(input.PolicyDocument));
    if (policy.versions.length >= mostVersions) {
      const message = `A managed policy can have up to ${mostVersions} versions. Before you create a new version, you must delete an existing version.`;
      throw new AwsError('LimitExceeded', message, 409);
    }
    const latest = Math.max(...policy.versions.map((one) => Number(one.VersionId.slice(1))), policy.lastVersion ?? 0);
    const made = { VersionId: `v${latest + 1}`, Document: document, CreateDate: now(call) };
    const changed = call.tables.policies.change(policy.Arn, {
      versions: [...policy.versions, made],
      lastVersion: latest + 1,
      UpdateDate: now(call),
      ...(input.SetAsDefault ? { DefaultVersionId: made.VersionId } : {}),
    });
    return { PolicyVersion: viewVersion(changed, made, false) };
  },

  GetPolicyVersion(input: iam.GetPolicyVersionRequest, call: CallContext): iam.GetPolicyVersionResponse {
    if (managedPolicy(input.PolicyArn ?? '')) {
      throw new AwsError('UnsupportedOperation', "The embedded AWS does not hold the documents of AWS's own policies.");
    }
    const policy = own(call, input.PolicyArn);
    return { PolicyVersion: viewVersion(policy, version(policy, input.VersionId), true) };
  },

  ListPolicyVersions(input: iam.ListPolicyVersionsRequest, call: CallContext): iam.ListPolicyVersionsResponse {
    const policy = own(call, input.PolicyArn);
    const { items, ...rest } = page([...policy.versions].reverse(), (one) => one.VersionId.padStart(9, '0'), input);
    return { Versions: items.map((one) => viewVersion(policy, one, false)), ...rest };
  },

  SetDefaultPolicyVersion(input: iam.SetDefaultPolicyVersionRequest, call: CallContext) {
    const policy = own(call, input.PolicyArn);
    call.tables.policies.change(policy.Arn, { DefaultVersionId: version(policy, input.VersionId).VersionId, UpdateDate: now(call) });
  },

  DeletePolicyVersion(input: iam.DeletePolicyVersionRequest, call: CallContext) {
    const policy = own(call, input.PolicyArn);
    const gone = version(policy, input.VersionId);
    if (gone.VersionId === policy.DefaultVersionId) throw deleteConflict('Cannot delete the default version of a policy.');
    call.tables.policies.change(policy.Arn, {
      versions: policy.versions.filter((one) => one !== gone),
      // Numbers of versions are not given again.
      lastVersion: Math.max(...policy.versions.map((one) => Number(one.VersionId.slice(1))), policy.lastVersion ?? 0),
    });
  },

  ListEntitiesForPolicy(input: iam.ListEntitiesForPolicyRequest, call: CallContext): iam.ListEntitiesForPolicyResponse {
    const arn = input.PolicyArn ?? '';
    policyName(call, arn);
    const filter = input.EntityFilter;
    const roles = filter === undefined || filter === 'Role' ? below(attachedTo(call.tables.roles.values(), arn), input) : [];
    const users = filter === undefined || filter === 'User' ? below(attachedTo(call.tables.users.values(), arn), input) : [];
    const all: { role?: iam.PolicyRole; user?: iam.PolicyUser }[] = [
      ...roles.map(({ RoleName, RoleId }) => ({ role: { RoleName, RoleId } })),
      ...users.map(({ UserName, UserId }) => ({ user: { UserName, UserId } })),
    ];
    const { items, ...rest } = page(all, (one) => one.role?.RoleId ?? one.user?.UserId ?? '', input);
    return {
      PolicyRoles: items.flatMap((one) => one.role ?? []),
      PolicyUsers: items.flatMap((one) => one.user ?? []),
      PolicyGroups: [],
      ...rest,
    };
  },

  ...tagOperationsOf('Policy', (input: { PolicyArn?: string }, call) => {
    const policy = own(call, input.PolicyArn);
    return { read: () => policy.Tags, write: (tags) => void call.tables.policies.change(policy.Arn, { Tags: tags }) };
  }),
};
