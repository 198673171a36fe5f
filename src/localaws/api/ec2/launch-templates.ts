import type {
  CreateLaunchTemplateRequest,
  CreateLaunchTemplateResult,
  CreateLaunchTemplateVersionRequest,
  CreateLaunchTemplateVersionResult,
  DeleteLaunchTemplateRequest,
  DeleteLaunchTemplateResult,
  DescribeLaunchTemplatesRequest,
  DescribeLaunchTemplatesResult,
  DescribeLaunchTemplateVersionsRequest,
  DescribeLaunchTemplateVersionsResult,
  LaunchTemplate,
  LaunchTemplateSpecification,
  LaunchTemplateVersion,
  ModifyLaunchTemplateRequest,
  ModifyLaunchTemplateResult,
  RequestLaunchTemplateData,
  ResponseLaunchTemplateData,
} from '@aws-sdk/client-ec2';
import { type CallContext, type Cloud, now, type Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import { ec2Id } from '../ids.ts';
import type { LaunchTemplateRecord } from '../state/records.ts';
import { describe, find, paginate } from './describe.ts';
import { names } from './names.ts';
import { dropTags, putTags, specifiedTags, tagsOf } from './tags.ts';

const view = (cloud: Cloud, record: LaunchTemplateRecord): LaunchTemplate & { LaunchTemplateId: string } => ({
  ...record.template,
  Tags: tagsOf(cloud, record.template.LaunchTemplateId),
});

function findTemplate(cloud: Cloud, id: string | undefined, name: string | undefined): LaunchTemplateRecord {
  if (id !== undefined) return find(cloud.tables.launchTemplates, names.launchTemplate, id);
  const record = cloud.tables.launchTemplates.values().find((one) => one.template.LaunchTemplateName === name);
  if (!record)
    throw new AwsError(
      'InvalidLaunchTemplateName.NotFoundException',
      `The specified launch template, with template name ${name ?? ''}, does not exist.`,
    );
  return record;
}

function findVersion(record: LaunchTemplateRecord, wanted: string | undefined) {
  const { DefaultVersionNumber, LatestVersionNumber, LaunchTemplateId } = record.template;
  const number = wanted === undefined || wanted === '$Default' ? DefaultVersionNumber : wanted === '$Latest' ? LatestVersionNumber : Number(wanted);
  const version = record.versions.find((one) => one.VersionNumber === number);
  if (!version)
    throw new AwsError(
      'InvalidLaunchTemplateId.VersionNotFound',
      `Could not find the specified version ${wanted} for the launch template with ID ${LaunchTemplateId}.`,
    );
  return version;
}

/** What RunInstances takes from a launch template; undefined where it names none. */
export function launchData(cloud: Cloud, wanted: LaunchTemplateSpecification | undefined): ResponseLaunchTemplateData | undefined {
  if (!wanted) return undefined;
  return findVersion(findTemplate(cloud, wanted.LaunchTemplateId, wanted.LaunchTemplateName), wanted.Version).LaunchTemplateData;
}

function newVersion(call: CallContext, template: LaunchTemplate, number: number, data: RequestLaunchTemplateData, description: string | undefined) {
  return {
    LaunchTemplateId: template.LaunchTemplateId,
    LaunchTemplateName: template.LaunchTemplateName,
    VersionNumber: number,
    ...(description ? { VersionDescription: description } : {}),
    CreateTime: now(call),
    CreatedBy: call.principal.arn,
    DefaultVersion: number === 1,
    LaunchTemplateData: data as ResponseLaunchTemplateData,
  };
}

const filters = {
  'launch-template-name': (t: LaunchTemplate) => t.LaunchTemplateName,
  'create-time': (t: LaunchTemplate) => t.CreateTime?.toISOString(),
};

export const launchTemplateOperations = {
  CreateLaunchTemplate(input: CreateLaunchTemplateRequest, call: CallContext): CreateLaunchTemplateResult {
    const name = input.LaunchTemplateName ?? '';
    if (!/^[A-Za-z0-9().\-/_]{3,128}$/.test(name))
      throw new AwsError(
        'InvalidLaunchTemplateName.MalformedException',
        'A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the following characters: - ( ) . / _.',
      );
    if (call.tables.launchTemplates.values().some((one) => one.template.LaunchTemplateName === name)) {
      throw new AwsError('InvalidLaunchTemplateName.AlreadyExistsException', 'Launch template name already in use.');
    }
    if (!input.LaunchTemplateData) throw new AwsError('MissingParameter', 'The request must contain the parameter LaunchTemplateData');
    const id = ec2Id('lt');
    const template = {
      LaunchTemplateId: id,
      LaunchTemplateName: name,
      CreateTime: now(call),
      CreatedBy: call.principal.arn,
      DefaultVersionNumber: 1,
      LatestVersionNumber: 1,
    };
    const record = call.tables.launchTemplates.put(id, {
      template,
      versions: [newVersion(call, template, 1, input.LaunchTemplateData, input.VersionDescription)],
    });
    putTags(call, id, specifiedTags(input.TagSpecifications, 'launch-template'));
    return { LaunchTemplate: view(call, record) };
  },

  CreateLaunchTemplateVersion(input: CreateLaunchTemplateVersionRequest, call: CallContext): CreateLaunchTemplateVersionResult {
    const record = findTemplate(call, input.LaunchTemplateId, input.LaunchTemplateName);
    const number = record.template.LatestVersionNumber + 1;
    const base = input.SourceVersion === undefined ? {} : findVersion(record, input.SourceVersion).LaunchTemplateData;
    const version = newVersion(
      call,
      record.template,
      number,
      { ...base, ...input.LaunchTemplateData } as RequestLaunchTemplateData,
      input.VersionDescription,
    );
    call.tables.launchTemplates.put(record.template.LaunchTemplateId, {
      template: { ...record.template, LatestVersionNumber: number },
      versions: [...record.versions, version],
    });
    return { LaunchTemplateVersion: version };
  },

  DescribeLaunchTemplates(input: DescribeLaunchTemplatesRequest, call: CallContext): DescribeLaunchTemplatesResult {
    const ids = input.LaunchTemplateNames?.length
      ? input.LaunchTemplateNames.map((name) => findTemplate(call, undefined, name).template.LaunchTemplateId)
      : input.LaunchTemplateIds;
    const page = describe(
      call.tables.launchTemplates,
      names.launchTemplate,
      (r) => view(call, r),
      (t) => t.LaunchTemplateId,
      filters,
      ids,
      input,
    );
    return { LaunchTemplates: page.items, NextToken: page.NextToken };
  },

  DescribeLaunchTemplateVersions(input: DescribeLaunchTemplateVersionsRequest, call: CallContext): DescribeLaunchTemplateVersionsResult {
    const record = findTemplate(call, input.LaunchTemplateId, input.LaunchTemplateName);
    const from = Number(input.MinVersion ?? 1);
    const to = Number(input.MaxVersion ?? Number.MAX_SAFE_INTEGER);
    const wanted: LaunchTemplateVersion[] = input.Versions?.length
      ? input.Versions.map((one) => findVersion(record, one))
      : record.versions.filter((one) => one.VersionNumber >= from && one.VersionNumber <= to);
    const shown = wanted.map((one) => ({ ...one, DefaultVersion: one.VersionNumber === record.template.DefaultVersionNumber }));
    const page = paginate(shown, (one) => String(one.VersionNumber).padStart(9, '0'), input);
    return { LaunchTemplateVersions: page.items, NextToken: page.NextToken };
  },

  ModifyLaunchTemplate(input: ModifyLaunchTemplateRequest, call: CallContext): ModifyLaunchTemplateResult {
    const record = findTemplate(call, input.LaunchTemplateId, input.LaunchTemplateName);
    const version = findVersion(record, input.DefaultVersion);
    const changed = call.tables.launchTemplates.change(record.template.LaunchTemplateId, {
      template: { ...record.template, DefaultVersionNumber: version.VersionNumber },
    });
    return { LaunchTemplate: view(call, changed) };
  },

  DeleteLaunchTemplate(input: DeleteLaunchTemplateRequest, call: CallContext): DeleteLaunchTemplateResult {
    const record = findTemplate(call, input.LaunchTemplateId, input.LaunchTemplateName);
    call.tables.launchTemplates.delete(record.template.LaunchTemplateId);
    dropTags(call, record.template.LaunchTemplateId);
    return { LaunchTemplate: record.template };
  },
} satisfies Operations;
