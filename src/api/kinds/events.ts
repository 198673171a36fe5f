import { canonicalJson } from '../equality.ts';
import type { FieldError } from '../errors.ts';
import type { KindStrategy } from '../scheme.ts';
import { pathSegmentProblems, qualifiedNameProblems } from '../validation.ts';
import { Findings } from './findings.ts';

const longest = { reportingInstance: 128, action: 128, reason: 128, message: 1024 };

/**
 * Events tell of something in their own namespace; those of what has none are in default or kube-system. Fields are named as in the
 * internal type, which is that of core/v1 in all but one name.
 */
function validateBoth(o: any, core: boolean): Findings {
  const found = new Findings();
  const about = o.involvedObject ?? o.regarding ?? {};
  const namespace = o.metadata?.namespace ?? '';
  const mismatch = () => found.invalid('involvedObject.namespace', about.namespace ?? '', 'does not match event.namespace');
  if (!o.eventTime) {
    if (about.namespace ? about.namespace !== namespace : namespace !== 'default') mismatch();
    return found;
  }
  if (!about.namespace && namespace !== 'default' && namespace !== 'kube-system') mismatch();
  const controllerField = core ? 'reportingComponent' : 'reportingController';
  const controller = (core ? o.reportingComponent : o.reportingController) ?? '';
  if (!controller) found.required(controllerField);
  found.problems(controllerField, controller, qualifiedNameProblems);
  for (const field of ['reportingInstance', 'action', 'reason', 'message'] as const) {
    const text = (field === 'message' ? (o.message ?? o.note) : o[field]) ?? '';
    if (!text && field !== 'message') found.required(field);
    if (Buffer.byteLength(text) > longest[field]) found.invalid(field, '', `can have at most ${longest[field]} characters`);
  }
  return found;
}

function validateSeries(found: Findings, series: any): void {
  if (!series) return;
  if ((series.count ?? 0) < 2) found.invalid('series.count', '', 'should be at least 2');
  if (!series.lastObservedTime) found.required('series.lastObservedTime');
}

/** Events of core/v1 are held to what older clients write, those of events.k8s.io to more. */
export const coreEvent: KindStrategy = {
  // Strictness came with events.k8s.io: of these no more is asked than that their name is a part of a path.
  validateName: pathSegmentProblems,
  validate: (o) => validateBoth(o, true).errors,
};

export const newEvent: KindStrategy = {
  validate: (o) => validateBoth(o, false).errors,
  validateCreate(o): FieldError[] {
    const found = new Findings();
    validateSeries(found, o.series);
    if (!o.eventTime) found.required('eventTime');
    if (o.type !== 'Normal' && o.type !== 'Warning') found.invalid('type', '', `has invalid value: ${o.type ?? ''}`);
    if (o.deprecatedFirstTimestamp) found.invalid('firstTimestamp', '', 'needs to be unset');
    if (o.deprecatedLastTimestamp) found.invalid('lastTimestamp', '', 'needs to be unset');
    if (o.deprecatedCount) found.invalid('count', '', 'needs to be unset');
    if (o.deprecatedSource?.component || o.deprecatedSource?.host) found.invalid('source', '', 'needs to be unset');
    return found.errors;
  },
  validateUpdate(o, old): FieldError[] {
    const found = new Findings();
    if (canonicalJson(o.series) !== canonicalJson(old.series)) validateSeries(found, o.series);
    for (const [field, name] of unchanged)
      if (canonicalJson(o[field]) !== canonicalJson(old[field])) found.invalid(name, internal(name, o[field]), 'field is immutable');
    return found.errors;
  },
};

const unchanged = [
  ['regarding', 'involvedObject'],
  ['reason', 'reason'],
  ['note', 'message'],
  ['deprecatedSource', 'source'],
  ['deprecatedFirstTimestamp', 'firstTimestamp'],
  ['deprecatedLastTimestamp', 'lastTimestamp'],
  ['deprecatedCount', 'count'],
  ['reason', 'reason'],
  ['type', 'type'],
  ['eventTime', 'eventTime'],
  ['action', 'action'],
  ['related', 'related'],
  ['reportingController', 'reportingController'],
  ['reportingInstance', 'reportingInstance'],
] as const;

/** A value as upstream's internal types show it in messages. */
function internal(name: string, value: any): unknown {
  if (name === 'source') return { Component: value?.component ?? '', Host: value?.host ?? '' };
  if (name === 'count') return value ?? 0;
  if (name.endsWith('Timestamp') || name === 'eventTime' || name === 'related') {
    if (name !== 'related' || !value) return value ?? null;
  } else if (name !== 'involvedObject') return value ?? '';
  const ref = value ?? {};
  return {
    Kind: ref.kind ?? '',
    Namespace: ref.namespace ?? '',
    Name: ref.name ?? '',
    UID: ref.uid ?? '',
    APIVersion: ref.apiVersion ?? '',
    ResourceVersion: ref.resourceVersion ?? '',
    FieldPath: ref.fieldPath ?? '',
  };
}
