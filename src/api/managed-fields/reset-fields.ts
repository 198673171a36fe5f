import { FieldSet } from './field-set.ts';

/** What a write to a resource or subresource cannot change, and so cannot own: upstream's reset fields. */
export type FieldFilter = (set: FieldSet) => FieldSet;

const excluding = (...paths: string[][]): FieldFilter => {
  const excluded = FieldSet.of(...paths);
  return (set) => set.without(excluded);
};

/** Only what lies on one of the paths; `*` stands for any step. */
function including(...paths: string[][]): FieldFilter {
  const filter = (set: FieldSet, patterns: string[][]): FieldSet => {
    if (patterns.some((p) => p.length === 0)) return set;
    const result = new FieldSet();
    for (const [step, node] of set.nodes) {
      const matching = patterns.filter((p) => p[0] === '*' || `f:${p[0]}` === step).map((p) => p.slice(1));
      if (matching.length === 0) continue;
      if (node.member) result.add(step);
      if (node.children) result.addBelow(step, filter(node.children, matching));
    }
    return result;
  };
  return (set) => filter(set, paths);
}

const status = excluding(['status']);
const spec = excluding(['spec']);
const specAndMetadata = excluding(['spec'], ['metadata']);

/** Resources whose status cannot be written by the way of the object itself, though they have no status subresource. */
const statusIsOthers = new Set(['storage.k8s.io/csinodes', 'resource.k8s.io/devicetaintrules']);

/** Resources whose status subresource leaves metadata alone. */
const statusKeepsMetadata = new Set([
  'certificates.k8s.io/podcertificaterequests',
  'scheduling.k8s.io/podgroups',
  'scheduling.k8s.io/compositepodgroups',
  'networking.k8s.io/servicecidrs',
  'storagemigration.k8s.io/storageversionmigrations',
  'resource.k8s.io/resourceclaims',
  'resource.k8s.io/devicetaintrules',
  'resource.k8s.io/resourcepoolstatusrequests',
  'internal.apiserver.k8s.io/storageversions',
  'storage.k8s.io/volumeattachments',
  'storage.k8s.io/csinodes',
  'flowcontrol.apiserver.k8s.io/flowschemas',
  'flowcontrol.apiserver.k8s.io/prioritylevelconfigurations',
  'admissionregistration.k8s.io/validatingadmissionpolicies',
  'apiregistration.k8s.io/apiservices',
  'lifecycle.k8s.io/evictions',
  'lifecycle.k8s.io/evictionrequests',
]);

/** By group/resource/subresource, where the general rule does not hold. */
const own: Record<string, FieldFilter | undefined> = {
  'certificates.k8s.io/certificatesigningrequests/': excluding(['spec'], ['status']),
  'certificates.k8s.io/certificatesigningrequests/status': excluding(['spec'], ['status', 'conditions']),
  'certificates.k8s.io/certificatesigningrequests/approval': excluding(['spec'], ['status', 'certificate']),
  'apps/deployments/status': excluding(['spec'], ['metadata', 'labels']),
  '/pods/status': excluding(['spec'], ['metadata', 'deletionTimestamp'], ['metadata', 'ownerReferences']),
  '/pods/ephemeralcontainers': including(['spec', 'ephemeralContainers']),
  '/pods/resize': including(
    ['spec', 'containers', '*', 'resources'],
    ['spec', 'containers', '*', 'resizePolicy'],
    ['spec', 'initContainers', '*', 'resources'],
    ['spec', 'initContainers', '*', 'resizePolicy'],
  ),
  '/namespaces/finalize': status,
};

/** The filter of a resource's writes; undefined where everything can be owned. */
export function resetFields(
  resource: { group: string; resource: string; subresources: readonly { name: string }[]; custom?: unknown },
  subresource: string,
): FieldFilter | undefined {
  const name = `${resource.group}/${resource.resource}`;
  const special = own[`${name}/${subresource}`];
  if (special) return special;
  if (subresource === '') return statusIsOthers.has(name) || resource.subresources.some((s) => s.name === 'status') ? status : undefined;
  if (subresource === 'status') return statusKeepsMetadata.has(name) || resource.custom ? specAndMetadata : spec;
  return undefined;
}
