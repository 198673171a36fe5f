import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { formatLabelSelector } from '../selectors.ts';
import { age, humanDuration } from './age.ts';
import { ageColumn, column, columns, containerColumns, nameColumn } from './column.ts';
import { longNameProblems } from './device-names.ts';
import { defaultPodSpec, dropUnreleased } from './pod.ts';
import { validateHostnames, validateJob, validateJobUpdate } from './job-validation.ts';
import { nameWarnings, podSpecWarnings } from './pod-warnings.ts';
import { validatePodTemplate } from './pod-validation.ts';
import {
  validateCronJob,
  validateDaemonSet,
  validateDeployment,
  validateReplicaSet,
  validateReplicationController,
  validateStatefulSet,
  validateStatefulSetUpdate,
} from './workload-validation.ts';
import { labelProblems } from '../validation.ts';
import { specAndStatus } from './spec-and-status.ts';

const templateContainers = (o: any) => o.spec?.template?.spec?.containers;
const templateColumns = containerColumns(templateContainers, (o) => formatLabelSelector(o.spec?.selector));
const number = (v: unknown) => (typeof v === 'number' ? v : 0);

const immutableSelector = (o: any, old: any): FieldError[] =>
  canonicalJson(o.spec?.selector) === canonicalJson(old.spec?.selector)
    ? []
    : [{ type: 'FieldValueInvalid', field: 'spec.selector', value: o.spec?.selector ?? null, detail: 'field is immutable' }];
const defaultTemplate = (o: any) => {
  o.spec ??= {};
  o.spec.template ??= {};
  o.spec.template.spec ??= {};
  defaultPodSpec(o.spec.template.spec);
  dropUnreleased(o.spec.template.spec);
};

export const podTemplate: KindStrategy = {
  warnings: (o) => podSpecWarnings(o.template?.spec, 'template.spec'),
  prepareForCreate(o) {
    o.metadata.generation = 1;
  },
  prepareForUpdate(o, old) {
    o.metadata.generation = (old.metadata.generation ?? 0) + (canonicalJson(o.template) === canonicalJson(old.template) ? 0 : 1);
  },
  default(o) {
    o.template ??= {};
    o.template.spec ??= {};
    defaultPodSpec(o.template.spec);
    dropUnreleased(o.template.spec);
  },
  validate: (o) => validatePodTemplate(o.template, 'template'),
};

export const deployment: KindStrategy = {
  warnings: (o, old) => [...nameWarnings(o, old), ...podSpecWarnings(o.spec?.template?.spec, 'spec.template.spec')],
  ...specAndStatus,
  prepareForUpdate(o, old, ctx) {
    specAndStatus.prepareForUpdate(o, old, ctx);
    // Of deployments, annotations count as well: they are copied to the replica sets.
    const before = old.metadata.generation ?? 0;
    if (o.metadata.generation === before && canonicalJson(o.metadata.annotations) !== canonicalJson(old.metadata.annotations)) o.metadata.generation = before + 1;
  },
  default(o) {
    defaultTemplate(o);
    const s = o.spec;
    s.replicas ??= 1;
    s.strategy ??= {};
    s.strategy.type ??= 'RollingUpdate';
    if (s.strategy.type === 'RollingUpdate') {
      s.strategy.rollingUpdate ??= {};
      s.strategy.rollingUpdate.maxUnavailable ??= '25%';
      s.strategy.rollingUpdate.maxSurge ??= '25%';
    }
    s.revisionHistoryLimit ??= 10;
    s.progressDeadlineSeconds ??= 600;
  },
  validate: validateDeployment,
  validateUpdate: immutableSelector,
  columns: [
    ...columns(
      column('Ready', (o) => `${number(o.status?.readyReplicas)}/${number(o.spec?.replicas)}`),
      column('Up-to-date', (o) => number(o.status?.updatedReplicas), { type: 'integer' }),
      column('Available', (o) => number(o.status?.availableReplicas), { type: 'integer' }),
    ),
    ...templateColumns,
  ],
};

const replicaColumns = [
  ...columns(
    column('Desired', (o) => number(o.spec?.replicas), { type: 'integer' }),
    column('Current', (o) => number(o.status?.replicas), { type: 'integer' }),
    column('Ready', (o) => number(o.status?.readyReplicas), { type: 'integer' }),
  ),
];
const replicaSelectable = (o: any) => ({ 'status.replicas': String(number(o.status?.replicas)) });

export const replicaSet: KindStrategy = {
  warnings: (o, old) => [...nameWarnings(o, old), ...podSpecWarnings(o.spec?.template?.spec, 'spec.template.spec')],
  ...specAndStatus,
  default(o) {
    defaultTemplate(o);
    o.spec.replicas ??= 1;
  },
  validate: validateReplicaSet,
  validateUpdate: immutableSelector,
  columns: [...replicaColumns, ...templateColumns],
};

export const replicationController: KindStrategy = {
  validateName: (name, prefix) => (prefix ? [] : longNameProblems(name)),
  warnings: (o, old) => (old ? [] : [...nameWarnings(o), ...podSpecWarnings(o.spec?.template?.spec, 'spec.template.spec')]),
  ...specAndStatus,
  default(o) {
    o.spec ??= {};
    if (o.spec.template) defaultTemplate(o);
    o.spec.replicas ??= 1;
    const labels = o.spec.template?.metadata?.labels;
    if (labels) {
      o.spec.selector ??= { ...labels };
      if (!Object.keys(o.metadata.labels ?? {}).length) o.metadata.labels = { ...labels };
    }
  },
  validate: validateReplicationController,
  selectableFields: replicaSelectable,
  columns: [...replicaColumns, ...containerColumns(templateContainers, (o) => formatLabelSelector({ matchLabels: o.spec?.selector ?? {} }))],
};

const negativeHistory = 'spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended';

export const statefulSet: KindStrategy = {
  warnings: (o) => [...podSpecWarnings(o.spec?.template?.spec, 'spec.template.spec'), ...(o.spec?.revisionHistoryLimit < 0 ? [negativeHistory] : [])],
  ...specAndStatus,
  default(o) {
    defaultTemplate(o);
    const s = o.spec;
    s.replicas ??= 1;
    s.podManagementPolicy ??= 'OrderedReady';
    s.updateStrategy ??= {};
    if (!s.updateStrategy.type) {
      s.updateStrategy.type = 'RollingUpdate';
      s.updateStrategy.rollingUpdate ??= {};
    }
    if (s.updateStrategy.type === 'RollingUpdate' && s.updateStrategy.rollingUpdate) {
      s.updateStrategy.rollingUpdate.partition ??= 0;
      s.updateStrategy.rollingUpdate.maxUnavailable ??= 1;
    }
    s.revisionHistoryLimit ??= 10;
    s.persistentVolumeClaimRetentionPolicy ??= {};
    s.persistentVolumeClaimRetentionPolicy.whenDeleted ??= 'Retain';
    s.persistentVolumeClaimRetentionPolicy.whenScaled ??= 'Retain';
    for (const claim of s.volumeClaimTemplates ?? []) {
      claim.apiVersion = 'v1';
      claim.kind = 'PersistentVolumeClaim';
      claim.spec ??= {};
      claim.spec.volumeMode ??= 'Filesystem';
      claim.status ??= {};
      claim.status.phase ||= 'Pending';
    }
  },
  validateName: labelProblems,
  updateValidatesAll: true,
  validate: (o) => validateStatefulSet(o),
  validateUpdate: validateStatefulSetUpdate,
  columns: [...columns(column('Ready', (o) => `${number(o.status?.readyReplicas)}/${number(o.spec?.replicas)}`)), ...templateColumns.slice(0, 2)],
};

const templateGeneration = 'deprecated.daemonset.template.generation';

export const daemonSet: KindStrategy = {
  warnings: (o) => [...podSpecWarnings(o.spec?.template?.spec, 'spec.template.spec')],
  ...specAndStatus,
  prepareForCreate(o, ctx) {
    specAndStatus.prepareForCreate(o, ctx);
    o.metadata.annotations = { ...o.metadata.annotations, [templateGeneration]: '1' };
  },
  prepareForUpdate(o, old, ctx) {
    specAndStatus.prepareForUpdate(o, old, ctx);
    const before = Number(old.metadata.annotations?.[templateGeneration] ?? 0);
    const changed = canonicalJson(o.spec?.template) !== canonicalJson(old.spec?.template);
    o.metadata.annotations = { ...o.metadata.annotations, [templateGeneration]: String(before + (changed ? 1 : 0)) };
  },
  default(o) {
    defaultTemplate(o);
    const s = o.spec;
    s.updateStrategy ??= {};
    s.updateStrategy.type ??= 'RollingUpdate';
    if (s.updateStrategy.type === 'RollingUpdate') {
      s.updateStrategy.rollingUpdate ??= {};
      s.updateStrategy.rollingUpdate.maxUnavailable ??= 1;
      s.updateStrategy.rollingUpdate.maxSurge ??= 0;
    }
    s.revisionHistoryLimit ??= 10;
  },
  validate: validateDaemonSet,
  updateFirst: immutableSelector,
  columns: [
    ...columns(
      column('Desired', (o) => number(o.status?.desiredNumberScheduled), { type: 'integer' }),
      column('Current', (o) => number(o.status?.currentNumberScheduled), { type: 'integer' }),
      column('Ready', (o) => number(o.status?.numberReady), { type: 'integer' }),
      column('Up-to-date', (o) => number(o.status?.updatedNumberScheduled), { type: 'integer' }),
      column('Available', (o) => number(o.status?.numberAvailable), { type: 'integer' }),
      column('Node Selector', (o) => formatLabelSelector({ matchLabels: o.spec?.template?.spec?.nodeSelector ?? {} })),
    ),
    ...templateColumns,
  ],
};

function jobStatus(o: any): string {
  const has = (type: string) => (o.status?.conditions ?? []).some((c: any) => c.type === type && c.status === 'True');
  if (has('Complete')) return 'Complete';
  if (has('Failed')) return 'Failed';
  if (o.metadata?.deletionTimestamp) return 'Terminating';
  if (has('Suspended')) return 'Suspended';
  return has('FailureTarget') ? 'FailureTarget' : has('SuccessCriteriaMet') ? 'SuccessCriteriaMet' : 'Running';
}

export const job: KindStrategy = {
  warnings: (o, old) => [...nameWarnings(o, old), ...podSpecWarnings(o.spec?.template?.spec, 'spec.template.spec')],
  ...specAndStatus,
  default(o) {
    defaultTemplate(o);
    const s = o.spec;
    if (s.completions === undefined && s.parallelism === undefined) {
      s.completions = 1;
      s.parallelism = 1;
    }
    s.parallelism ??= 1;
    s.backoffLimit ??= s.backoffLimitPerIndex === undefined ? 6 : 2_147_483_647;
    s.completionMode ??= 'NonIndexed';
    s.suspend ??= false;
    s.podReplacementPolicy ??= s.podFailurePolicy ? 'Failed' : 'TerminatingOrFailed';
    s.manualSelector ??= false;
    delete s.scheduling;
    for (const rule of s.podFailurePolicy?.rules ?? []) for (const condition of rule.onPodConditions ?? []) condition.status ||= 'True';
  },
  prepareForCreate(o, ctx) {
    specAndStatus.prepareForCreate(o, ctx);
    if (o.spec.manualSelector) return;
    const labels = {
      'batch.kubernetes.io/controller-uid': o.metadata.uid,
      'controller-uid': o.metadata.uid,
      'batch.kubernetes.io/job-name': o.metadata.name,
      'job-name': o.metadata.name,
    };
    o.spec.template ??= {};
    o.spec.template.metadata ??= {};
    const own = Object.keys(o.spec.template.metadata.labels ?? {}).length > 0;
    o.spec.template.metadata.labels = { ...o.spec.template.metadata.labels, ...labels };
    o.spec.selector = { matchLabels: { 'batch.kubernetes.io/controller-uid': o.metadata.uid } };
    // Labels that the template had of its own are the job's from the start, the others only once it is found valid.
    if (own && !Object.keys(o.metadata.labels ?? {}).length) o.metadata.labels = { ...o.spec.template.metadata.labels };
  },
  afterValidation(o) {
    if (!Object.keys(o.metadata.labels ?? {}).length && o.spec.template?.metadata?.labels) o.metadata.labels = { ...o.spec.template.metadata.labels };
  },
  validate: validateJob,
  validateCreate: validateHostnames,
  validateUpdate: validateJobUpdate,
  selectableFields: (o) => ({ 'status.successful': String(number(o.status?.succeeded)) }),
  columns: [
    nameColumn,
    column('Status', jobStatus),
    column('Completions', (o) => {
      const done = number(o.status?.succeeded);
      if (o.spec?.completions != null) return `${done}/${o.spec.completions}`;
      return o.spec?.parallelism > 1 ? `${done}/1 of ${o.spec.parallelism}` : `${done}/1`;
    }),
    column('Duration', (o) => {
      if (!o.status?.startTime) return '';
      const end = o.status.completionTime ? Date.parse(o.status.completionTime) : Date.now();
      return humanDuration(end - Date.parse(o.status.startTime));
    }),
    ageColumn,
    ...templateColumns,
  ],
};

export const cronJob: KindStrategy = {
  warnings: (o, old) => [...nameWarnings(o, old), ...podSpecWarnings(o.spec?.jobTemplate?.spec?.template?.spec, 'spec.jobTemplate.spec.template.spec')],
  ...specAndStatus,
  default(o) {
    o.spec ??= {};
    o.spec.concurrencyPolicy ??= 'Allow';
    o.spec.suspend ??= false;
    o.spec.successfulJobsHistoryLimit ??= 3;
    o.spec.failedJobsHistoryLimit ??= 1;
    o.spec.jobTemplate ??= {};
    o.spec.jobTemplate.spec ??= {};
    delete o.spec.jobTemplate.spec.scheduling;
    o.spec.jobTemplate.spec.template ??= {};
    o.spec.jobTemplate.spec.template.spec ??= {};
    defaultPodSpec(o.spec.jobTemplate.spec.template.spec);
    dropUnreleased(o.spec.jobTemplate.spec.template.spec);
  },
  updateValidatesAll: true,
  validate: (o) => validateCronJob(o),
  validateUpdate: validateCronJob,
  columns: [
    nameColumn,
    column('Schedule', (o) => o.spec?.schedule ?? ''),
    column('Timezone', (o) => o.spec?.timeZone ?? '<none>'),
    column('Suspend', (o) => (o.spec?.suspend ? 'True' : 'False')),
    column('Active', (o) => (o.status?.active ?? []).length, { type: 'integer' }),
    column('Last Schedule', (o) => (o.status?.lastScheduleTime ? age(o.status.lastScheduleTime) : '<none>')),
    ageColumn,
    ...containerColumns(
      (o) => o.spec?.jobTemplate?.spec?.template?.spec?.containers,
      (o) => formatLabelSelector(o.spec?.jobTemplate?.spec?.selector),
    ),
  ],
};
