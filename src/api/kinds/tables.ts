import type { TableColumn } from '../scheme.ts';
import { formatLabelSelector } from '../selectors.ts';
import { age } from './age.ts';
import { ageColumn, column, columns, nameColumn, orNone } from './column.ts';

const count = (name: string, list: (o: any) => unknown[] | undefined) => column(name, (o) => (list(o) ?? []).length, { type: 'integer' });
const parameterKind = column('ParamKind', (o) => (o.spec?.paramKind ? `${o.spec.paramKind.apiVersion}/${o.spec.paramKind.kind}` : '<unset>'));
const parameter = column('ParamRef', (o) => {
  const ref = o.spec?.paramRef;
  if (ref?.name) return ref.namespace ? `${ref.namespace}/${ref.name}` : `*/${ref.name}`;
  return ref?.selector ? formatLabelSelector(ref.selector) : '<unset>';
});
const policyBinding = columns(
  column('PolicyName', (o) => o.spec?.policyName ?? ''),
  parameter,
);
const isTrue = (c: any) => c.status === 'True';
const conditions = (o: any): any[] => o.status?.conditions ?? [];
const policyOf = (o: any) => (o.spec?.schedulingPolicy?.gang ? 'Gang' : 'Basic');
const workload = column('Workload', (o) => o.spec?.workloadRef?.workloadName ?? '<none>');

function podGroupStatus(o: any): string {
  const find = (type: string) => conditions(o).find((c) => c.type === type);
  const disruption = find('DisruptionTarget');
  if (disruption) return disruption.reason;
  const scheduled = find('PodGroupInitiallyScheduled');
  if (!scheduled) return 'Pending';
  return isTrue(scheduled) ? 'Scheduled' : 'Unschedulable';
}

function claimState(o: any): string {
  const states: string[] = [];
  const deleted = o.metadata?.deletionTimestamp;
  if (deleted) states.push('deleted');
  if (o.status?.allocation) states.push('allocated', ...(o.status.reservedFor?.length ? ['reserved'] : []));
  else if (!deleted) states.push('pending');
  return states.join(',');
}

const certificateState = (o: any): string => {
  const state = conditions(o).findLast((c) => ['Issued', 'Denied', 'Failed'].includes(c.type));
  return state?.type ?? 'Pending';
};

const queuing = (field: string) => (o: any) => o.spec?.limited?.limitResponse?.queuing?.[field] ?? '<none>';

function storageVersions(o: any): string {
  const all = (o.status?.storageVersions ?? []).map((v: any) => `${v.apiServerID}=${v.encodingVersion}`);
  return all.length > 3 ? `${all.slice(0, 3).join(',')} + ${all.length - 3} more...` : all.join(',');
}

const poolSum = (field: string) => (o: any) => {
  if (!o.status || conditions(o).some((c) => c.type === 'Failed' && isTrue(c))) return '-';
  return String((o.status.pools ?? []).reduce((n: number, p: any) => n + (p[field] ?? 0), 0));
};

function serviceOf(o: any): string {
  const s = o.spec?.service;
  return s ? `${s.namespace}/${s.name}` : 'Local';
}
function availability(o: any): string {
  const condition = conditions(o).find((c) => c.type === 'Available');
  if (!condition) return 'Unknown';
  return isTrue(condition) ? 'True' : `${condition.status}${condition.reason ? ` (${condition.reason})` : ''}`;
}

/** Columns of kinds whose strategies are elsewhere, or which need none. */
export const tables: Record<string, TableColumn[]> = {
  '/PodTemplate': [
    nameColumn,
    column('Containers', (o) => orNone((o.template?.spec?.containers ?? []).map((c: any) => c.name).join(','))),
    column('Images', (o) => orNone((o.template?.spec?.containers ?? []).map((c: any) => c.image).join(','))),
    column('Pod Labels', (o) => orNone(Object.entries(o.template?.metadata?.labels ?? {}).map(([k, v]) => `${k}=${v}`).sort().join(','))),
  ],
  '/ResourceQuota': [
    nameColumn,
    column('Request', (o) => quotaCells(o, false)),
    column('Limit', (o) => quotaCells(o, true)),
    ageColumn,
  ],
  'admissionregistration.k8s.io/MutatingWebhookConfiguration': columns(count('Webhooks', (o) => o.webhooks)),
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration': columns(count('Webhooks', (o) => o.webhooks)),
  'admissionregistration.k8s.io/ValidatingAdmissionPolicy': columns(count('Validations', (o) => o.spec?.validations), parameterKind),
  'admissionregistration.k8s.io/MutatingAdmissionPolicy': columns(count('Mutations', (o) => o.spec?.mutations), parameterKind),
  'admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding': policyBinding,
  'admissionregistration.k8s.io/MutatingAdmissionPolicyBinding': policyBinding,
  'apiregistration.k8s.io/APIService': columns(column('Service', serviceOf), column('Available', availability)),
  'certificates.k8s.io/ClusterTrustBundle': [nameColumn, column('SignerName', (o) => orNone(o.spec?.signerName))],
  'certificates.k8s.io/PodCertificateRequest': [
    nameColumn,
    column('PodName', (o) => o.spec?.podName ?? ''),
    column('ServiceAccountName', (o) => o.spec?.serviceAccountName ?? ''),
    column('NodeName', (o) => o.spec?.nodeName ?? ''),
    column('SignerName', (o) => o.spec?.signerName ?? ''),
    column('State', certificateState),
  ],
  'coordination.k8s.io/LeaseCandidate': columns(
    column('LeaseName', (o) => o.spec?.leaseName ?? ''),
    column('BinaryVersion', (o) => o.spec?.binaryVersion ?? ''),
    column('EmulationVersion', (o) => o.spec?.emulationVersion ?? ''),
  ),
  'flowcontrol.apiserver.k8s.io/FlowSchema': [
    nameColumn,
    column('PriorityLevel', (o) => o.spec?.priorityLevelConfiguration?.name ?? ''),
    column('MatchingPrecedence', (o) => o.spec?.matchingPrecedence ?? 0),
    column('DistinguisherMethod', (o) => o.spec?.distinguisherMethod?.type ?? '<none>'),
    ageColumn,
    column('MissingPL', (o) => conditions(o).find((c) => c.type === 'Dangling')?.status ?? '?'),
  ],
  'flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration': columns(
    column('Type', (o) => o.spec?.type ?? ''),
    column('NominalConcurrencyShares', (o) => (o.spec?.limited ? (o.spec.limited.nominalConcurrencyShares ?? 0) : '<none>')),
    column('Queues', queuing('queues')),
    column('HandSize', queuing('handSize')),
    column('QueueLengthLimit', queuing('queueLengthLimit')),
  ),
  'internal.apiserver.k8s.io/StorageVersion': columns(
    column('CommonEncodingVersion', (o) => o.status?.commonEncodingVersion ?? '<unset>'),
    column('StorageVersions', storageVersions),
  ),
  'node.k8s.io/RuntimeClass': columns(column('Handler', (o) => o.handler ?? '')),
  'resource.k8s.io/DeviceClass': columns(),
  'resource.k8s.io/ResourceClaim': columns(column('State', claimState)),
  'resource.k8s.io/ResourceClaimTemplate': columns(),
  'resource.k8s.io/ResourceSlice': columns(
    column('Node', (o) => o.spec?.nodeName ?? ''),
    column('Driver', (o) => o.spec?.driver ?? ''),
    column('Pool', (o) => o.spec?.pool?.name ?? ''),
  ),
  'resource.k8s.io/DeviceTaintRule': columns(
    column('Key', (o) => o.spec?.taint?.key ?? ''),
    column('Value', (o) => o.spec?.taint?.value ?? ''),
    column('Effect', (o) => o.spec?.taint?.effect ?? ''),
    column('TimeAdded', (o) => (o.spec?.taint?.timeAdded ? age(o.spec.taint.timeAdded) : '')),
  ),
  'resource.k8s.io/ResourcePoolStatusRequest': [
    nameColumn,
    column('Driver', (o) => o.spec?.driver ?? ''),
    column('Total', poolSum('totalDevices')),
    column('Available', poolSum('availableDevices')),
    column('Allocated', poolSum('allocatedDevices')),
    column('Unavailable', poolSum('unavailableDevices')),
    column('Errors', (o) => (poolSum('')(o) === '-' ? '-' : String((o.status.pools ?? []).filter((p: any) => p.validationError !== undefined).length))),
    column('Pools', (o) => o.status?.poolCount ?? 0, { type: 'integer' }),
    column('Status', (o) => {
      const done = conditions(o).find((c) => ['Complete', 'Failed'].includes(c.type) && isTrue(c));
      const shown = (o.status?.pools ?? []).length;
      if (done?.type === 'Complete' && o.status.poolCount > shown) return `Complete (${shown}/${o.status.poolCount} pools)`;
      return done?.type ?? 'Pending';
    }),
    column('Completed', (o) => {
      const done = conditions(o).find((c) => c.type === 'Complete' && isTrue(c));
      return done ? age(done.lastTransitionTime) : '<none>';
    }),
  ],
  'scheduling.k8s.io/Workload': columns(),
  'scheduling.k8s.io/PodGroup': columns(column('Policy', policyOf), workload, column('Status', podGroupStatus)),
  'scheduling.k8s.io/CompositePodGroup': columns(column('Policy', policyOf), workload),
  'storagemigration.k8s.io/StorageVersionMigration': [
    { ...nameColumn, format: '' },
    column('Resource', (o) => [o.spec?.resource?.resource, o.spec?.resource?.group].filter(Boolean).join('.')),
    column('Status', (o) => conditions(o).findLast((c) => isTrue(c) && ['Running', 'Failed', 'Succeeded'].includes(c.type))?.type ?? 'Unknown'),
  ],
  'lifecycle.k8s.io/EvictionRequest': columns(
    column('Target', (o) => o.spec?.target?.pod?.name ?? '<unset>'),
    column('Target Type', (o) => (o.spec?.target?.pod ? 'Pod' : '<unset>')),
    column('Status', () => ''),
    column('Requester', (o) => o.spec?.requester ?? ''),
    column('Intent', (o) => o.spec?.intent ?? ''),
  ),
};

function quotaCells(o: any, limits: boolean): string {
  const names = Object.keys(o.status?.hard ?? {})
    .filter((name) => name.startsWith('limits.') === limits)
    .sort();
  return names.map((name) => `${name}: ${o.status.used?.[name] ?? '0'}/${o.status.hard[name]}`).join(', ');
}
