import {
  CreateLaunchTemplateCommand,
  CreateLaunchTemplateVersionCommand,
  DeleteLaunchTemplateCommand,
  DescribeLaunchTemplatesCommand,
  DescribeLaunchTemplateVersionsCommand,
  type LaunchTemplate,
  ModifyLaunchTemplateCommand,
  type RequestLaunchTemplateData,
  type ResponseLaunchTemplateData,
} from '@aws-sdk/client-ec2';
import { ignore } from '../clients.ts';
import { fromTags, mustBeOurs, tagSpecification } from '../tags.ts';
import { madeId, tagEc2 } from './ec2-tags.ts';
import type { Existing, HandlerContext, ResourceHandler } from './handler.ts';

export interface LaunchTemplateProperties {
  /** Unique in the account and region; by it the template is found again. */
  Name: string;
  /** An AMI's id, or resolve:ssm:PARAMETER. */
  ImageId: string;
  InstanceType: string;
  /** The profile's name. */
  InstanceProfile: string;
  /** Not base64. At most 16 KiB. */
  UserData: string;
}

const gone = ignore('InvalidLaunchTemplateId.NotFound', 'InvalidLaunchTemplateName.NotFoundException', 'InvalidLaunchTemplateId.NotFoundException');

/** Without network settings, which each instance brings. Instance metadata answers version 2 (IMDSv2) only. */
const request = (p: LaunchTemplateProperties): RequestLaunchTemplateData => ({
  ImageId: p.ImageId,
  InstanceType: p.InstanceType as never,
  IamInstanceProfile: { Name: p.InstanceProfile },
  UserData: Buffer.from(p.UserData).toString('base64'),
  MetadataOptions: { HttpTokens: 'required', HttpEndpoint: 'enabled' },
});

const existing = (t: LaunchTemplate | undefined, version = t?.DefaultVersionNumber): Existing => ({
  id: madeId(t?.LaunchTemplateId),
  attributes: { Version: String(version ?? 1) },
});

async function look({ clients }: HandlerContext, by: { LaunchTemplateIds: string[] } | { LaunchTemplateNames: string[] }) {
  const answer = await (await clients.ec2()).send(new DescribeLaunchTemplatesCommand(by)).catch(gone);
  return answer?.LaunchTemplates?.[0];
}

async function dataOf({ clients }: HandlerContext, id: string): Promise<ResponseLaunchTemplateData> {
  const answer = await (await clients.ec2()).send(new DescribeLaunchTemplateVersionsCommand({ LaunchTemplateId: id, Versions: ['$Default'] }));
  return answer.LaunchTemplateVersions?.[0]?.LaunchTemplateData ?? {};
}

const propertiesOf = (name: string, d: ResponseLaunchTemplateData): LaunchTemplateProperties => ({
  Name: name,
  ImageId: d.ImageId ?? '',
  InstanceType: d.InstanceType ?? '',
  InstanceProfile: d.IamInstanceProfile?.Name ?? '',
  UserData: Buffer.from(d.UserData ?? '', 'base64').toString(),
});

const same = (a: LaunchTemplateProperties, b: LaunchTemplateProperties): boolean =>
  (Object.keys(a) as (keyof LaunchTemplateProperties)[]).every((k) => JSON.stringify(a[k]) === JSON.stringify(b[k]));

/** Its versions are for life: what changes becomes a new one, which is the default then, and its number the attribute Version. */
export const launchTemplate: ResourceHandler<LaunchTemplateProperties> = {
  async find(context, _logicalId, p) {
    const found = await look(context, { LaunchTemplateNames: [p.Name] });
    if (found) mustBeOurs(context.cluster, `launch template ${p.Name}`, fromTags(found.Tags));
    return found && existing(found);
  },
  /** The name is unique, so no token is needed; EC2 would give the same answer for it after the template is deleted. */
  async create(context, _logicalId, p, tags) {
    const make = new CreateLaunchTemplateCommand({
      LaunchTemplateName: p.Name,
      LaunchTemplateData: request(p),
      TagSpecifications: tagSpecification('launch-template', tags),
    });
    const answer = await (await context.clients.ec2()).send(make).catch(ignore('InvalidLaunchTemplateName.AlreadyExistsException'));
    return existing(answer?.LaunchTemplate ?? (await look(context, { LaunchTemplateNames: [p.Name] })));
  },
  async read(context, id) {
    const found = await look(context, { LaunchTemplateIds: [id] });
    return (
      found && {
        ...existing(found),
        properties: propertiesOf(found.LaunchTemplateName ?? '', await dataOf(context, id)),
        tags: fromTags(found.Tags),
      }
    );
  },
  async repair(context, before, p) {
    const { id } = before;
    if (same(propertiesOf(p.Name, await dataOf(context, id)), p)) return;
    const ec2 = await context.clients.ec2();
    const made = await ec2.send(new CreateLaunchTemplateVersionCommand({ LaunchTemplateId: id, LaunchTemplateData: request(p) }));
    const version = made.LaunchTemplateVersion?.VersionNumber;
    const { LaunchTemplate: changed } = await ec2.send(new ModifyLaunchTemplateCommand({ LaunchTemplateId: id, DefaultVersion: String(version) }));
    return existing(changed, version);
  },
  tag: tagEc2,
  async remove({ clients }, { id }) {
    await (await clients.ec2()).send(new DeleteLaunchTemplateCommand({ LaunchTemplateId: id })).catch(gone);
  },
};
