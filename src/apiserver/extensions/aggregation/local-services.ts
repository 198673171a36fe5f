import { sameJson } from '../../../api/equality.ts';
import { isAlreadyExists, isConflict, isNotFound } from '../../../api/errors.ts';
import type { APIService } from '../../../api/generated/types.ts';
import type { ResourceType } from '../../../api/object.ts';
import type { Client } from '../../../client/client.ts';
import { type Api, timestamp } from '../../api.ts';

/** Priorities of the built-in groups and their versions, as kube-apiserver registers them. */
const groups: Record<string, number> = {
  '': 18_000,
  apps: 17_800,
  'events.k8s.io': 17_750,
  'authentication.k8s.io': 17_700,
  'authorization.k8s.io': 17_600,
  autoscaling: 17_500,
  batch: 17_400,
  'certificates.k8s.io': 17_300,
  'networking.k8s.io': 17_200,
  policy: 17_100,
  'rbac.authorization.k8s.io': 17_000,
  'storage.k8s.io': 16_800,
  'apiextensions.k8s.io': 16_700,
  'admissionregistration.k8s.io': 16_700,
  'scheduling.k8s.io': 16_600,
  'coordination.k8s.io': 16_500,
  'node.k8s.io': 16_300,
  'discovery.k8s.io': 16_200,
  'resource.k8s.io': 16_200,
  'flowcontrol.apiserver.k8s.io': 16_100,
  'internal.apiserver.k8s.io': 16_000,
  'storagemigration.k8s.io': 15_800,
};
const versions: Record<string, number> = {
  '/v1': 1,
  'admissionregistration.k8s.io/v1beta1': 12,
  'autoscaling/v2': 30,
  'coordination.k8s.io/v1alpha2': 12,
  'coordination.k8s.io/v1beta1': 13,
  'flowcontrol.apiserver.k8s.io/v1': 21,
  'resource.k8s.io/v1': 21,
  'resource.k8s.io/v1beta2': 15,
  'resource.k8s.io/v1alpha3': 1,
};
const customPriority = { group: 1000, version: 100 };

const label = 'kube-aggregator.kubernetes.io/automanaged';
export const apiServices: ResourceType<APIService> = {
  group: 'apiregistration.k8s.io',
  version: 'v1',
  resource: 'apiservices',
  kind: 'APIService',
  namespaced: false,
};

export const localCondition = (now: string) => ({
  type: 'Available',
  status: 'True',
  reason: 'Local',
  message: 'Local APIServices are always available',
  lastTransitionTime: now,
});

/** The APIServices that stand for what this server serves itself, by name. */
function wanted(api: Api): Map<string, { spec: object; managed: string }> {
  const found = new Map<string, { spec: object; managed: string }>();
  for (const { served } of api.registry.all()) {
    const { group, version, custom } = served;
    if (group === 'apiregistration.k8s.io') continue;
    const name = `${version}.${group}`;
    // A group that is built in stays so when definitions add to it.
    if (found.has(name) && custom) continue;
    found.set(name, {
      managed: custom ? 'true' : 'onstart',
      spec: {
        ...(group ? { group } : {}),
        version,
        groupPriorityMinimum: custom ? customPriority.group : (groups[group] ?? 15_000),
        versionPriority: custom ? customPriority.version : (versions[`${group}/${version}`] ?? (/^v\d+$/.test(version) ? 15 : 9)),
      },
    });
  }
  return found;
}

/**
 * Makes the APIServices of what is served here, and removes those of what is served no longer. Those that users made are left alone.
 * `once` remembers the built-in ones that were there: as upstream's, who deletes one of these is rid of it until the next start.
 */
export async function registerLocalServices(api: Api, client: Client, once: Set<string>): Promise<void> {
  const should = wanted(api);
  const cache = api.registry.cache(apiServices.group, apiServices.version, apiServices.resource);
  for (const [name, { spec, managed }] of should) {
    const known = cache.get(name)?.object as unknown as APIService | undefined;
    if (!known && once.has(name)) continue;
    if (managed === 'onstart') once.add(name);
    if (known && (known.spec?.service || !known.metadata.labels?.[label] || sameJson(known.spec, spec))) continue;
    try {
      if (known) await client.update(apiServices, { ...known, spec } as never);
      else await client.create(apiServices, { metadata: { name, labels: { [label]: managed } }, spec } as never);
    } catch (error) {
      if (!isAlreadyExists(error) && !isConflict(error)) throw error;
    }
  }
  for (const { object } of cache.list()) {
    const { metadata, spec } = object as unknown as APIService;
    if (should.has(metadata.name) || spec?.service || metadata.labels?.[label] !== 'true') continue;
    await client.delete(apiServices, { name: metadata.name }).catch((error: unknown) => {
      if (!isNotFound(error)) throw error;
    });
  }
}

export const now = (api: Api): string => timestamp(api);
