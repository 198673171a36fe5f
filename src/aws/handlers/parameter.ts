import {
  AddTagsToResourceCommand,
  DeleteParameterCommand,
  GetParameterCommand,
  ListTagsForResourceCommand,
  PutParameterCommand,
  RemoveTagsFromResourceCommand,
} from '@aws-sdk/client-ssm';
import { ignore } from '../clients.ts';
import { fromTags, mustBeOurs, toTags } from '../tags.ts';
import type { ResourceHandler } from './handler.ts';

export interface ParameterProperties {
  /** Begins with a slash; by it the parameter is found again. */
  Name: string;
  Type: 'String' | 'SecureString';
  /** At most 4 KiB. */
  Value: string;
}

const gone = ignore('ParameterNotFound');

/** A parameter of Systems Manager. Its id is its name. */
export const parameter: ResourceHandler<ParameterProperties> = {
  async find(context, _logicalId, p) {
    const found = await parameter.read(context, p.Name);
    if (found) mustBeOurs(context.cluster, `parameter ${p.Name}`, found.tags ?? {});
    return found && { id: found.id, attributes: found.attributes };
  },
  async create({ clients }, _logicalId, p, tags) {
    await (await clients.ssm()).send(new PutParameterCommand({ ...p, Tags: toTags(tags) })).catch(ignore('ParameterAlreadyExists'));
    return { id: p.Name, attributes: {} };
  },
  async read({ clients }, id) {
    const ssm = await clients.ssm();
    const found = (await ssm.send(new GetParameterCommand({ Name: id, WithDecryption: true })).catch(gone))?.Parameter;
    if (!found) return undefined;
    const { TagList } = await ssm.send(new ListTagsForResourceCommand({ ResourceType: 'Parameter', ResourceId: id }));
    return {
      id,
      attributes: {},
      properties: { Name: id, Type: found.Type as ParameterProperties['Type'], Value: found.Value ?? '' },
      tags: fromTags(TagList),
    };
  },
  async repair(context, { id }, p) {
    const found = await parameter.read(context, id);
    if (found?.properties.Value === p.Value && found.properties.Type === p.Type) return;
    await (await context.clients.ssm()).send(new PutParameterCommand({ ...p, Overwrite: true }));
  },
  async tag({ clients }, id, set, unset) {
    const ssm = await clients.ssm();
    const which = { ResourceType: 'Parameter' as const, ResourceId: id };
    if (Object.keys(set).length) await ssm.send(new AddTagsToResourceCommand({ ...which, Tags: toTags(set) }));
    if (unset.length) await ssm.send(new RemoveTagsFromResourceCommand({ ...which, TagKeys: unset }));
  },
  async remove({ clients }, { id }) {
    await (await clients.ssm()).send(new DeleteParameterCommand({ Name: id })).catch(gone);
  },
};
