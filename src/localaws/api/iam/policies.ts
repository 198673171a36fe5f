import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { iamId } from '../ids.ts';
import type { PolicyRecord } from '../state/records.ts';
import { alreadyExists, arnOf, checkDocument, checkName, checkPath, deleteConflict, noSuchEntity, page, shown } from './entities.ts';

/** The name in a policy's ARN. AWS's own policies are all known by name; of the account's only those that were made. */
export function policyName(call: CallContext, arn: string | undefined): string {
  if (arn && /^arn:aws:iam::aws:policy\/[\w+=,.@/-]+$/.test(arn)) return arn.slice(arn.lastIndexOf('/') + 1);
  const policy = call.tables.policies.get(arn);
  if (!policy) throw noSuchEntity(`Policy ${arn ?? ''} does not exist or is not attachable.`);
  return policy.PolicyName;
}

function findPolicy(call: CallContext, arn: string | undefined): PolicyRecord {
  const policy = call.tables.policies.get(arn);
  if (!policy) throw noSuchEntity(`Policy ${arn ?? ''} was not found.`);
  return policy;
}

const attachments = (call: CallContext, arn: string) =>
  call.tables.roles.values().filter((one) => one.attached.includes(arn)).length +
  call.tables.users.values().filter((one) => one.attached.includes(arn)).length;

function view(call: CallContext, record: PolicyRecord): iam.Policy {
  const { versions: _, ...policy } = record;
  return { ...policy, AttachmentCount: attachments(call, record.Arn), IsAttachable: true };
}

export const policyOperations = {
  CreatePolicy(input: iam.CreatePolicyRequest, call: CallContext): iam.CreatePolicyResponse {
    const name = checkName(input.PolicyName, 'policyName', 128);
    const path = checkPath(input.Path);
    const arn = arnOf(call, 'policy', path, name);
    if (call.tables.policies.has(arn)) throw alreadyExists(`A policy called ${name} already exists. Duplicate names are not allowed.`);
    const time = now(call);
    const record = call.tables.policies.put(arn, {
      PolicyName: name,
      PolicyId: iamId('ANPA'),
      Arn: arn,
      Path: path,
      DefaultVersionId: 'v1',
      CreateDate: time,
      UpdateDate: time,
      versions: [{ VersionId: 'v1', Document: checkDocument(input.PolicyDocument), IsDefaultVersion: true, CreateDate: time }],
    });
    return { Policy: view(call, record) };
  },

  GetPolicy(input: iam.GetPolicyRequest, call: CallContext): iam.GetPolicyResponse {
    return { Policy: view(call, findPolicy(call, input.PolicyArn)) };
  },

  GetPolicyVersion(input: iam.GetPolicyVersionRequest, call: CallContext): iam.GetPolicyVersionResponse {
    const version = findPolicy(call, input.PolicyArn).versions.find((one) => one.VersionId === input.VersionId);
    if (!version) throw noSuchEntity(`Policy ${input.PolicyArn} version ${input.VersionId} does not exist or is not attachable.`);
    return { PolicyVersion: { ...version, Document: shown(version.Document) } };
  },

  ListPolicies(input: iam.ListPoliciesRequest, call: CallContext): iam.ListPoliciesResponse {
    const { items, ...rest } = page(call.tables.policies.values(), input);
    return { Policies: items.map((one) => view(call, one)), ...rest };
  },

  DeletePolicy(input: iam.DeletePolicyRequest, call: CallContext) {
    const policy = findPolicy(call, input.PolicyArn);
    if (attachments(call, policy.Arn)) throw deleteConflict('Cannot delete a policy attached to entities.');
    call.tables.policies.delete(policy.Arn);
  },
} satisfies Operations;
