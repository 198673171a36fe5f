import type * as iam from '@aws-sdk/client-iam';
import { type CallContext, now, type Operations } from '../cloud.ts';
import { AwsError } from '../errors.ts';
import type { OpenIdProviderRecord } from '../state/records.ts';
import { alreadyExists, limitExceeded, noSuchEntity, validationError } from './entities.ts';
import { mergeTags, tagOperationsOf } from './tags.ts';

const mostClients = 100;
const mostThumbprints = 5;

function find(call: CallContext, arn: string | undefined): OpenIdProviderRecord {
  const provider = call.tables.openIdProviders.get(arn);
  if (!provider) throw noSuchEntity(`OpenIDConnect Provider not found for arn ${arn ?? ''}`);
  return provider;
}

/** A URL without its scheme, as it stands in the provider's ARN. Throws ValidationError. */
function checkUrl(url: string | undefined): string {
  const [, rest] = /^https:\/\/([a-z0-9][a-z0-9.-]*(?:\/[\w.~/-]*)?)$/i.exec(url ?? '') ?? [];
  if (rest === undefined || (url ?? '').length > 255) throw validationError('Invalid Open ID Connect Provider URL');
  return rest.replace(/\/$/, '');
}

function checkClients(clients: string[]): string[] {
  if (clients.some((one) => one === '' || one.length > 255)) throw validationError('A client ID must have between 1 and 255 characters');
  if (clients.length > mostClients) throw limitExceeded('ClientIdsPerOpenIdConnectProvider', mostClients);
  return clients;
}

function checkThumbprints(thumbprints: string[]): string[] {
  if (thumbprints.length > mostThumbprints) throw new AwsError('InvalidInput', `Thumbprint list must contain fewer than ${mostThumbprints} entries.`);
  for (const one of thumbprints) if (!/^[0-9a-f]{40}$/i.test(one)) throw new AwsError('InvalidInput', 'Thumbprint must be 40 hexadecimal digits.');
  return thumbprints;
}

export const openIdProviderOperations: Operations = {
  CreateOpenIDConnectProvider(input: iam.CreateOpenIDConnectProviderRequest, call: CallContext): iam.CreateOpenIDConnectProviderResponse {
    const { openIdProviders } = call.tables;
    const url = checkUrl(input.Url);
    const arn = `arn:aws:iam::${call.accountId}:oidc-provider/${url}`;
    if (openIdProviders.has(arn)) throw alreadyExists(`Provider with url https://${url} already exists.`);
    const record = openIdProviders.put(arn, {
      arn,
      url,
      clientIds: checkClients([...new Set(input.ClientIDList ?? [])]),
      thumbprints: checkThumbprints(input.ThumbprintList ?? []),
      created: now(call),
      tags: mergeTags([], input.Tags),
    });
    return { OpenIDConnectProviderArn: arn, Tags: record.tags };
  },

  GetOpenIDConnectProvider(input: iam.GetOpenIDConnectProviderRequest, call: CallContext): iam.GetOpenIDConnectProviderResponse {
    const { url, clientIds, thumbprints, created, tags } = find(call, input.OpenIDConnectProviderArn);
    return { Url: url, ClientIDList: clientIds, ThumbprintList: thumbprints, CreateDate: created, Tags: tags ?? [] };
  },

  ListOpenIDConnectProviders: (_input: iam.ListOpenIDConnectProvidersRequest, call: CallContext): iam.ListOpenIDConnectProvidersResponse => ({
    OpenIDConnectProviderList: call.tables.openIdProviders.values().map(({ arn }) => ({ Arn: arn })),
  }),

  AddClientIDToOpenIDConnectProvider(input: iam.AddClientIDToOpenIDConnectProviderRequest, call: CallContext) {
    const provider = find(call, input.OpenIDConnectProviderArn);
    const clientIds = checkClients([...new Set([...provider.clientIds, input.ClientID ?? ''])]);
    call.tables.openIdProviders.change(provider.arn, { clientIds });
  },

  RemoveClientIDFromOpenIDConnectProvider(input: iam.RemoveClientIDFromOpenIDConnectProviderRequest, call: CallContext) {
    const provider = find(call, input.OpenIDConnectProviderArn);
    call.tables.openIdProviders.change(provider.arn, { clientIds: provider.clientIds.filter((one) => one !== input.ClientID) });
  },

  UpdateOpenIDConnectProviderThumbprint(input: iam.UpdateOpenIDConnectProviderThumbprintRequest, call: CallContext) {
    const provider = find(call, input.OpenIDConnectProviderArn);
    call.tables.openIdProviders.change(provider.arn, { thumbprints: checkThumbprints(input.ThumbprintList ?? []) });
  },

  /** Deleting what is not there succeeds. */
  DeleteOpenIDConnectProvider(input: iam.DeleteOpenIDConnectProviderRequest, call: CallContext) {
    call.tables.openIdProviders.delete(input.OpenIDConnectProviderArn ?? '');
  },

  ...tagOperationsOf('OpenIDConnectProvider', (input: { OpenIDConnectProviderArn?: string }, call) => {
    const provider = find(call, input.OpenIDConnectProviderArn);
    return { read: () => provider.tags, write: (tags) => void call.tables.openIdProviders.change(provider.arn, { tags }) };
  }),
};
