import { randomUUID } from 'node:crypto';
import type { ClientConfig } from '../../../api/crd/client-config.ts';
import { sameJson } from '../../../api/equality.ts';
import { StatusError } from '../../../api/errors.ts';
import type { CustomResourceDefinition } from '../../../api/generated/types.ts';
import type { CustomResource } from '../../../api/scheme.ts';
import type { Api } from '../../api.ts';
import { postToWebhook } from '../webhooks/client.ts';

const timeoutMs = 30_000;

interface Review {
  apiVersion?: string;
  kind?: string;
  response?: { uid?: string; convertedObjects?: any[]; result?: { status?: string; message?: string } };
}

/** Converts objects of a definition by its webhook; undefined where versions differ only in apiVersion. */
export function webhookConversion(api: Api, crd: CustomResourceDefinition): CustomResource['conversion'] {
  const { conversion, group, names } = crd.spec;
  if (conversion?.strategy !== 'Webhook' || !conversion.webhook?.clientConfig) return undefined;
  const config = conversion.webhook.clientConfig as ClientConfig;
  const version = conversion.webhook.conversionReviewVersions.find((v) => v === 'v1' || v === 'v1beta1') ?? 'v1';
  return {
    async convert(objects, desiredAPIVersion) {
      const from = objects.find((o) => o.apiVersion !== desiredAPIVersion)?.apiVersion ?? desiredAPIVersion;
      const fail = (why: string) =>
        new StatusError(500, 'InternalError', `conversion webhook for ${from.startsWith(group) ? from : `${group}/${from}`}, Kind=${names.kind} failed: ${why}`);
      const foreign = objects.filter((o) => o.apiVersion !== desiredAPIVersion);
      if (foreign.length === 0) return objects;
      const uid = randomUUID();
      const body = { kind: 'ConversionReview', apiVersion: `apiextensions.k8s.io/${version}`, request: { uid, desiredAPIVersion, objects: foreign }, response: null };
      let review: Review;
      try {
        review = (await postToWebhook(api, config, body, timeoutMs)) as Review;
      } catch (error) {
        throw fail((error as Error).message);
      }
      const converted = convertedOf(review, uid, version, fail);
      if (converted.length !== foreign.length)
        throw fail(`webhook returned ${converted.length} objects, expected ${foreign.length}`);
      converted.forEach((object, i) => checkConverted(foreign[i], object, desiredAPIVersion, i, fail));
      let at = 0;
      return objects.map((o) => (o.apiVersion === desiredAPIVersion ? o : converted[at++]));
    },
  };
}

function convertedOf(review: Review, uid: string, version: string, fail: (why: string) => StatusError): any[] {
  const expected = `apiextensions.k8s.io/${version}`;
  if (version === 'v1' && (review.apiVersion !== expected || review.kind !== 'ConversionReview'))
    throw fail(`expected webhook response of ${expected}, Kind=ConversionReview, got ${review.apiVersion ?? ''}, Kind=${review.kind ?? ''}`);
  const { response } = review;
  if (!response) throw fail('no response provided');
  if (version === 'v1' && response.uid !== uid) throw fail(`expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(response.uid ?? '')}`);
  if (response.result?.status !== 'Success')
    throw fail(response.result?.message || `response.result.status was '${response.result?.status ?? ''}', not 'Success'`);
  return response.convertedObjects ?? [];
}

/** A conversion may change everything but who the object is. Labels and annotations may change. */
function checkConverted(before: any, after: any, apiVersion: string, index: number, fail: (why: string) => StatusError): void {
  if (typeof after !== 'object' || after === null || typeof after.metadata !== 'object' || after.metadata === null)
    throw fail(`invalid converted object at index ${index}: metadata must be of type object`);
  if (after.apiVersion !== apiVersion) throw fail(`invalid converted object at index ${index}: invalid groupVersion (expected ${apiVersion}, received ${after.apiVersion})`);
  if (after.kind !== before.kind) throw fail(`invalid converted object at index ${index}: invalid kind (expected ${before.kind}, received ${after.kind})`);
  for (const field of ['name', 'namespace', 'uid'] as const) {
    if ((after.metadata[field] ?? '') === (before.metadata[field] ?? '')) continue;
    throw fail(`invalid metadata of object at index ${index}: metadata.${field}: Invalid value: ${JSON.stringify(after.metadata[field])}: field is immutable`);
  }
  // Everything of metadata but labels and annotations is restored.
  const { labels, annotations } = after.metadata;
  if (!sameJson({ ...after.metadata, labels: 0, annotations: 0 }, { ...before.metadata, labels: 0, annotations: 0 })) after.metadata = { ...before.metadata };
  for (const [field, value] of [['labels', labels], ['annotations', annotations]] as const) {
    if (value === undefined) delete after.metadata[field];
    else after.metadata[field] = value;
  }
}
