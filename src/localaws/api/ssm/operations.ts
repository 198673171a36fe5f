import type {
  AddTagsToResourceRequest,
  DeleteParameterRequest,
  DeleteParametersRequest,
  DeleteParametersResult,
  DescribeParametersRequest,
  DescribeParametersResult,
  GetParameterRequest,
  GetParameterResult,
  GetParametersByPathRequest,
  GetParametersByPathResult,
  GetParametersRequest,
  GetParametersResult,
  ListTagsForResourceRequest,
  ListTagsForResourceResult,
  Parameter,
  PutParameterRequest,
  PutParameterResult,
  RemoveTagsFromResourceRequest,
  Tag,
} from '@aws-sdk/client-ssm';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { publicParameter, publicParameterNames } from '../ec2/images.ts';
import { AwsError } from '../errors.ts';
import { dropParameterTags, parameterTagOperations, putParameterTags } from './tags.ts';

const notFound = () => new AwsError('ParameterNotFound', 'UnknownError');
const arn = (call: CallContext, name: string) =>
  `arn:aws:ssm:${call.region}:${name.startsWith('/aws/service/') ? '' : call.accountId}:parameter${name.startsWith('/') ? '' : '/'}${name}`;

function read(call: CallContext, asked: string, decrypted: boolean | undefined): Parameter | undefined {
  const [, name = asked, version] = /^(.+?)(?::(\d+))?$/.exec(asked) ?? [];
  const published = publicParameter(name);
  if (published !== undefined) {
    return {
      Name: name,
      Type: 'String',
      Value: published,
      Version: 1,
      LastModifiedDate: new Date('2026-01-01T00:00:00Z'),
      ARN: arn(call, name),
      DataType: 'aws:ec2:image',
    };
  }
  const record = call.tables.parameters.get(name);
  if (!record) return undefined;
  const { metadata: _m, history, tags: _t, ...latest } = record;
  let parameter: Parameter = latest;
  if (version !== undefined && Number(version) !== record.Version) {
    const old = history.find((one) => one.Version === Number(version));
    if (!old) throw new AwsError('ParameterVersionNotFound', `Systems Manager could not find version ${version} of ${name}.`);
    parameter = { ...latest, Value: old.Value ?? '', Version: old.Version ?? 1, LastModifiedDate: old.LastModifiedDate };
  }
  return parameter.Type === 'SecureString' && !decrypted ? { ...parameter, Value: call.keys.seal(parameter.Value ?? '') } : parameter;
}

const mostTags = 50;

/** The parameter whose tags an operation is about; other resources than parameters have none here. */
function tagged(call: CallContext, input: { ResourceType?: string | undefined; ResourceId?: string | undefined }) {
  if (input.ResourceType !== 'Parameter')
    throw new AwsError('InvalidResourceType', 'The resource type is not valid. The embedded AWS has parameters alone.');
  const record = call.tables.parameters.get(input.ResourceId);
  if (!record) throw new AwsError('InvalidResourceId', 'The resource ID is not valid. Verify that you entered the correct ID and try again.');
  return record;
}

/** Tags with others put in place of those with the same keys. */
function mergeTags(old: Tag[], added: Tag[]): Tag[] {
  const merged = new Map([...old, ...added].map((tag) => [tag.Key, tag]));
  if (added.some((tag) => !tag.Key || /^aws:/i.test(tag.Key)))
    throw new AwsError('ValidationException', 'Tag keys must not be empty or begin with aws:');
  if (merged.size > mostTags)
    throw new AwsError('TooManyTagsError', 'The Targets parameter includes too many tags. Remove one or more tags and try again.');
  return [...merged.values()];
}

function pageOf<T>(items: T[], input: { MaxResults?: number; NextToken?: string }, most: number): { items: T[]; NextToken?: string } {
  const start = input.NextToken ? Number(input.NextToken) : 0;
  if (!Number.isInteger(start) || start < 0) throw new AwsError('InvalidNextToken', 'The specified token is not valid.');
  const end = start + Math.min(input.MaxResults ?? most, most);
  return { items: items.slice(start, end), ...(end < items.length ? { NextToken: String(end) } : {}) };
}

export const ssmOperations = {
  ...parameterTagOperations,

  GetParameter(input: GetParameterRequest, call: CallContext): GetParameterResult {
    const parameter = read(call, input.Name ?? '', input.WithDecryption);
    if (!parameter) throw notFound();
    return { Parameter: parameter };
  },

  GetParameters(input: GetParametersRequest, call: CallContext): GetParametersResult {
    const answer: Required<GetParametersResult> = { Parameters: [], InvalidParameters: [] };
    for (const name of input.Names ?? []) {
      const found = read(call, name, input.WithDecryption);
      if (found) answer.Parameters.push(found);
      else answer.InvalidParameters.push(name);
    }
    return answer;
  },

  GetParametersByPath(input: GetParametersByPathRequest, call: CallContext): GetParametersByPathResult {
    const path = input.Path ?? '';
    if (!path.startsWith('/'))
      throw new AwsError(
        'ValidationException',
        `The parameter doesn't meet the parameter name requirements. The parameter name must begin with a forward slash "/".`,
      );
    const prefix = path.endsWith('/') ? path : `${path}/`;
    const names = [...publicParameterNames, ...call.tables.parameters.entries().map(([name]) => name)].filter(
      (name) => name.startsWith(prefix) && (input.Recursive || !name.slice(prefix.length).includes('/')),
    );
    const page = pageOf(names.sort(), input, 10);
    return {
      Parameters: page.items.map((name) => read(call, name, input.WithDecryption)!),
      ...(page.NextToken ? { NextToken: page.NextToken } : {}),
    };
  },

  PutParameter(input: PutParameterRequest, call: CallContext): PutParameterResult {
    const name = input.Name ?? '';
    if (!/^[\w./-]{1,1011}$/.test(name))
      throw new AwsError(
        'ValidationException',
        `Parameter name: can't be prefixed with "ssm" and may contain only letters, digits and the symbols .-_/`,
      );
    if (/^\/?aws/i.test(name)) throw new AwsError('AccessDeniedException', `No access to reserved parameter name: ${name}.`);
    if (!input.Value) throw new AwsError('ValidationException', 'Parameter value cannot be empty.');
    if (input.Value.length > 8192) throw new AwsError('ValidationException', 'Value length exceeds 8192 characters.');
    const old = call.tables.parameters.get(name);
    if (input.Tags?.length && input.Overwrite) {
      const message =
        "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or RemoveTagsFromResource.";
      throw new AwsError('ValidationException', message);
    }
    const tags = mergeTags(old?.tags ?? [], input.Tags ?? []);
    if (old && !input.Overwrite) {
      throw new AwsError(
        'ParameterAlreadyExists',
        'The parameter already exists. To overwrite this value, set the overwrite option in the request to true.',
      );
    }
    if (input.Overwrite && input.Tags?.length) {
      throw new AwsError('ValidationException', 'Invalid request: tags and overwrite can\'t be used together.');
    }
    const type = input.Type ?? old?.Type;
    if (!type) throw new AwsError('ValidationException', 'A parameter type is required when you create a parameter.');
    const version = (old?.Version ?? 0) + 1;
    const common = { Name: name, Type: type, Version: version, LastModifiedDate: now(call) };
    const metadata = {
      ...common,
      ARN: arn(call, name),
      LastModifiedUser: call.principal.arn,
      ...(input.Description ? { Description: input.Description } : {}),
      Tier: input.Tier ?? ('Standard' as const),
      DataType: input.DataType ?? 'text',
    };
    call.tables.parameters.put(name, {
      ...common,
      Value: input.Value,
      ARN: arn(call, name),
      DataType: input.DataType ?? 'text',
      metadata,
      tags,
      history: [...(old?.history ?? []), { ...metadata, Value: input.Value }].slice(-100),
    });
    putParameterTags(call, name, input.Tags);
    return { Version: version, Tier: metadata.Tier };
  },

  AddTagsToResource(input: AddTagsToResourceRequest, call: CallContext) {
    const record = tagged(call, input);
    call.tables.parameters.change(record.Name, { tags: mergeTags(record.tags ?? [], input.Tags ?? []) });
    return {};
  },

  RemoveTagsFromResource(input: RemoveTagsFromResourceRequest, call: CallContext) {
    const record = tagged(call, input);
    call.tables.parameters.change(record.Name, { tags: (record.tags ?? []).filter((tag) => !input.TagKeys?.includes(tag.Key ?? '')) });
    return {};
  },

  ListTagsForResource: (input: ListTagsForResourceRequest, call: CallContext): ListTagsForResourceResult => ({
    TagList: tagged(call, input).tags ?? [],
  }),

  DeleteParameter(input: DeleteParameterRequest, call: CallContext) {
    if (!call.tables.parameters.has(input.Name ?? '')) throw notFound();
    call.tables.parameters.delete(input.Name as string);
    dropParameterTags(call, input.Name as string);
    return {};
  },

  DeleteParameters(input: DeleteParametersRequest, call: CallContext): DeleteParametersResult {
    const answer: Required<DeleteParametersResult> = { DeletedParameters: [], InvalidParameters: [] };
    for (const name of input.Names ?? []) {
      if (call.tables.parameters.has(name)) {
        call.tables.parameters.delete(name);
        dropParameterTags(call, name);
        answer.DeletedParameters.push(name);
      } else answer.InvalidParameters.push(name);
    }
    return answer;
  },

  DescribeParameters(input: DescribeParametersRequest, call: CallContext): DescribeParametersResult {
    const wanted = (input.ParameterFilters ?? []).every((one) => one.Key === 'Name');
    if (!wanted) throw new AwsError('InvalidFilterKey', 'The embedded AWS filters parameters by Name alone.');
    const matches = (name: string) =>
      (input.ParameterFilters ?? []).every((one) =>
        (one.Values ?? []).some((value) =>
          one.Option === 'BeginsWith' ? name.startsWith(value) : one.Option === 'Contains' ? name.includes(value) : name === value,
        ),
      );
    const page = pageOf(
      call.tables.parameters.values().filter((one) => matches(one.Name)),
      input,
      50,
    );
    return { Parameters: page.items.map((one) => one.metadata), ...(page.NextToken ? { NextToken: page.NextToken } : {}) };
  },
} satisfies Operations;
