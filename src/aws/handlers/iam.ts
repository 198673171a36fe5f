import {
  AddRoleToInstanceProfileCommand,
  AttachRolePolicyCommand,
  CreateInstanceProfileCommand,
  CreatePolicyCommand,
  CreatePolicyVersionCommand,
  CreateRoleCommand,
  DeleteInstanceProfileCommand,
  DeletePolicyCommand,
  DeletePolicyVersionCommand,
  DeleteRoleCommand,
  DetachRolePolicyCommand,
  GetInstanceProfileCommand,
  GetPolicyCommand,
  GetPolicyVersionCommand,
  type InstanceProfile,
  ListAttachedRolePoliciesCommand,
  ListPolicyVersionsCommand,
  RemoveRoleFromInstanceProfileCommand,
  TagInstanceProfileCommand,
  TagRoleCommand,
  UntagInstanceProfileCommand,
  UntagRoleCommand,
} from '@aws-sdk/client-iam';
import { ignore } from '../clients.ts';
import { fromTags, mustBeOurs, toTags } from '../tags.ts';
import type { Existing, HandlerContext, ResourceHandler } from './handler.ts';

const ec2TrustPolicy = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }],
});

export interface InstanceProfileProperties {
  /** Unique in the account; by it profile and role are found again. */
  Name: string;
  /** ARNs. */
  ManagedPolicies: string[];
  /** JSON of a policy of the role's own, kept as a customer managed policy of the same name. */
  PolicyDocument?: string;
}

const gone = ignore('NoSuchEntity', 'NoSuchEntityException');
const exists = ignore('EntityAlreadyExists', 'EntityAlreadyExistsException');

const existing = (name: string, profile: InstanceProfile | undefined): Existing => ({ id: name, attributes: { Arn: profile?.Arn ?? '' } });

async function look({ clients }: HandlerContext, name: string): Promise<InstanceProfile | undefined> {
  return (await (await clients.iam()).send(new GetInstanceProfileCommand({ InstanceProfileName: name })).catch(gone))?.InstanceProfile;
}

const ownPolicyArn = (profile: InstanceProfile, name: string) => `arn:aws:iam::${profile.Arn?.split(':')[4]}:policy/${name}`;

async function readDocument({ clients }: HandlerContext, arn: string): Promise<string | undefined> {
  const iam = await clients.iam();
  const policy = await iam.send(new GetPolicyCommand({ PolicyArn: arn })).catch(gone);
  if (!policy?.Policy?.DefaultVersionId) return undefined;
  const version = await iam.send(new GetPolicyVersionCommand({ PolicyArn: arn, VersionId: policy.Policy.DefaultVersionId }));
  return decodeURIComponent(version.PolicyVersion?.Document ?? '');
}

async function attached({ clients }: HandlerContext, role: string): Promise<string[]> {
  const answer = await (await clients.iam()).send(new ListAttachedRolePoliciesCommand({ RoleName: role })).catch(gone);
  return (answer?.AttachedPolicies ?? []).map((p) => p.PolicyArn ?? '');
}

const sameJson = (a: string, b: string) => {
  try {
    return JSON.stringify(JSON.parse(a)) === JSON.stringify(JSON.parse(b));
  } catch {
    return a === b;
  }
};

/** An instance profile with a role of the same name. Its id is that name. */
export const instanceProfile: ResourceHandler<InstanceProfileProperties> = {
  async find(context, _logicalId, p) {
    const found = await look(context, p.Name);
    if (found) mustBeOurs(context.cluster, `instance profile ${p.Name}`, fromTags(found.Tags));
    return found && existing(p.Name, found);
  },
  async create(context, _logicalId, p, tags) {
    const iam = await context.clients.iam();
    await iam.send(new CreateRoleCommand({ RoleName: p.Name, AssumeRolePolicyDocument: ec2TrustPolicy, Tags: toTags(tags) })).catch(exists);
    const answer = await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: p.Name, Tags: toTags(tags) })).catch(exists);
    return existing(p.Name, answer?.InstanceProfile ?? (await look(context, p.Name)));
  },
  async read(context, id, declared) {
    const profile = await look(context, id);
    if (!profile) return undefined;
    const arn = ownPolicyArn(profile, id);
    const policies = await attached(context, id);
    const document = policies.includes(arn) ? await readDocument(context, arn) : undefined;
    const unchanged = document !== undefined && declared?.PolicyDocument !== undefined && sameJson(document, declared.PolicyDocument);
    const managed = policies.filter((p) => p !== arn);
    return {
      ...existing(id, profile),
      properties: {
        Name: id,
        ManagedPolicies: declared ? declared.ManagedPolicies.filter((p) => managed.includes(p)) : managed,
        ...(document === undefined ? {} : { PolicyDocument: unchanged ? (declared.PolicyDocument as string) : document }),
      },
      tags: fromTags(profile.Tags),
    };
  },
  async repair(context, { id }, p, previous) {
    const iam = await context.clients.iam();
    const profile = await look(context, id);
    if (!profile) throw new Error(`instance profile ${id} is gone`);
    const arn = ownPolicyArn(profile, id);
    if (p.PolicyDocument) await writePolicy(context, arn, id, p.PolicyDocument);
    const there = await attached(context, id);
    const wanted = [...p.ManagedPolicies, ...(p.PolicyDocument ? [arn] : [])];
    for (const PolicyArn of wanted.filter((one) => !there.includes(one)))
      await iam.send(new AttachRolePolicyCommand({ RoleName: id, PolicyArn }));
    for (const PolicyArn of (previous?.ManagedPolicies ?? []).filter((one) => !p.ManagedPolicies.includes(one)))
      await iam.send(new DetachRolePolicyCommand({ RoleName: id, PolicyArn })).catch(gone);
    // Looked up first: the SDK takes LimitExceeded for throttling, and would try again for many seconds.
    if (profile.Roles?.length) return;
    await iam
      .send(new AddRoleToInstanceProfileCommand({ InstanceProfileName: id, RoleName: id }))
      .catch(ignore('LimitExceeded', 'LimitExceededException'));
  },
  async tag({ clients }, id, set, unset) {
    const iam = await clients.iam();
    if (Object.keys(set).length) {
      await iam.send(new TagRoleCommand({ RoleName: id, Tags: toTags(set) }));
      await iam.send(new TagInstanceProfileCommand({ InstanceProfileName: id, Tags: toTags(set) }));
    }
    if (unset.length) {
      await iam.send(new UntagRoleCommand({ RoleName: id, TagKeys: unset }));
      await iam.send(new UntagInstanceProfileCommand({ InstanceProfileName: id, TagKeys: unset }));
    }
  },
  async remove(context, { id }) {
    const iam = await context.clients.iam();
    const profile = await look(context, id);
    await iam.send(new RemoveRoleFromInstanceProfileCommand({ InstanceProfileName: id, RoleName: id })).catch(gone);
    for (const PolicyArn of await attached(context, id)) await iam.send(new DetachRolePolicyCommand({ RoleName: id, PolicyArn })).catch(gone);
    if (profile) await removePolicy(context, ownPolicyArn(profile, id));
    await iam.send(new DeleteRoleCommand({ RoleName: id })).catch(gone);
    await iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName: id })).catch(gone);
  },
};

/** A policy keeps five versions at most, so what is not the default goes. */
async function writePolicy(context: HandlerContext, arn: string, name: string, document: string): Promise<void> {
  const iam = await context.clients.iam();
  const current = await readDocument(context, arn);
  if (current === undefined) await iam.send(new CreatePolicyCommand({ PolicyName: name, PolicyDocument: document })).catch(exists);
  else if (!sameJson(current, document)) {
    await dropVersions(context, arn);
    await iam.send(new CreatePolicyVersionCommand({ PolicyArn: arn, PolicyDocument: document, SetAsDefault: true }));
  }
}

async function dropVersions({ clients }: HandlerContext, arn: string): Promise<void> {
  const iam = await clients.iam();
  const answer = await iam.send(new ListPolicyVersionsCommand({ PolicyArn: arn })).catch(gone);
  for (const version of answer?.Versions ?? []) {
    if (!version.IsDefaultVersion) await iam.send(new DeletePolicyVersionCommand({ PolicyArn: arn, VersionId: version.VersionId })).catch(gone);
  }
}

async function removePolicy(context: HandlerContext, arn: string): Promise<void> {
  await dropVersions(context, arn);
  await (await context.clients.iam()).send(new DeletePolicyCommand({ PolicyArn: arn })).catch(gone);
}
