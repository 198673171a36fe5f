import {
  AddRoleToInstanceProfileCommand,
  AttachRolePolicyCommand,
  CreateInstanceProfileCommand,
  CreateRoleCommand,
  DeleteInstanceProfileCommand,
  DeleteRoleCommand,
  DetachRolePolicyCommand,
  GetInstanceProfileCommand,
  ListAttachedRolePoliciesCommand,
  RemoveRoleFromInstanceProfileCommand,
} from '@aws-sdk/client-iam';
import { toTags } from '../tags.ts';
import type { ResourceHandler } from './handler.ts';
import { ignore } from './network.ts';

const ec2TrustPolicy = JSON.stringify({
  Version: '2012-10-17',
  Statement: [{ Effect: 'Allow', Principal: { Service: 'ec2.amazonaws.com' }, Action: 'sts:AssumeRole' }],
});

/** An instance profile with a role of the same name. Its id is that name. */
export const instanceProfile: ResourceHandler<{ Name: string; ManagedPolicies: string[] }> = {
  async find({ clients }, _logicalId, p) {
    const found = await (await clients.iam())
      .send(new GetInstanceProfileCommand({ InstanceProfileName: p.Name }))
      .catch(ignore('NoSuchEntity', 'NoSuchEntityException'));
    return found?.InstanceProfile ? { id: p.Name, attributes: { Arn: found.InstanceProfile.Arn ?? '' } } : undefined;
  },
  async create({ clients }, _logicalId, p, tags) {
    const iam = await clients.iam();
    const exists = ignore('EntityAlreadyExists', 'EntityAlreadyExistsException');
    await iam.send(new CreateRoleCommand({ RoleName: p.Name, AssumeRolePolicyDocument: ec2TrustPolicy, Tags: toTags(tags) })).catch(exists);
    const answer = await iam.send(new CreateInstanceProfileCommand({ InstanceProfileName: p.Name, Tags: toTags(tags) })).catch(exists);
    return { id: p.Name, attributes: { Arn: answer?.InstanceProfile?.Arn ?? '' } };
  },
  async repair({ clients }, { id }, p) {
    const iam = await clients.iam();
    for (const PolicyArn of p.ManagedPolicies) await iam.send(new AttachRolePolicyCommand({ RoleName: id, PolicyArn }));
    // Looked up first: the SDK takes LimitExceeded for throttling, and would try again for many seconds.
    const { InstanceProfile: profile } = await iam.send(new GetInstanceProfileCommand({ InstanceProfileName: id }));
    if (profile?.Roles?.length) return;
    await iam
      .send(new AddRoleToInstanceProfileCommand({ InstanceProfileName: id, RoleName: id }))
      .catch(ignore('LimitExceeded', 'LimitExceededException'));
  },
  async remove({ clients }, { id }) {
    const iam = await clients.iam();
    const gone = ignore('NoSuchEntity', 'NoSuchEntityException');
    await iam.send(new RemoveRoleFromInstanceProfileCommand({ InstanceProfileName: id, RoleName: id })).catch(gone);
    await iam.send(new DeleteInstanceProfileCommand({ InstanceProfileName: id })).catch(gone);
    const attached = await iam.send(new ListAttachedRolePoliciesCommand({ RoleName: id })).catch(gone);
    for (const policy of attached?.AttachedPolicies ?? [])
      await iam.send(new DetachRolePolicyCommand({ RoleName: id, PolicyArn: policy.PolicyArn })).catch(gone);
    await iam.send(new DeleteRoleCommand({ RoleName: id })).catch(gone);
  },
};
