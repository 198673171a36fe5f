import type { GroupVersionKind } from './decode.ts';

const rename = (o: any, names: readonly (readonly [string, string])[]): any => {
  const result = { ...o };
  for (const [before, after] of names) {
    if (result[before] === undefined) continue;
    result[after] = result[before];
    delete result[before];
  }
  return result;
};
/** Fields of core/v1 Event and their names in events.k8s.io/v1. */
const eventFields = [
  ['involvedObject', 'regarding'],
  ['message', 'note'],
  ['source', 'deprecatedSource'],
  ['firstTimestamp', 'deprecatedFirstTimestamp'],
  ['lastTimestamp', 'deprecatedLastTimestamp'],
  ['count', 'deprecatedCount'],
  ['reportingComponent', 'reportingController'],
] as const;

/** The object in another version; the same object where the versions do not differ but in apiVersion. */
export function convert(object: any, from: GroupVersionKind, to: GroupVersionKind): any {
  if (from.group === to.group && from.version === to.version) return object;
  const head = { apiVersion: to.group ? `${to.group}/${to.version}` : to.version, kind: to.kind };
  if (from.kind === 'Event' && from.group !== to.group) {
    const names = from.group === '' ? eventFields : eventFields.map(([a, b]) => [b, a] as const);
    return { ...rename(object, names), ...head };
  }
  if (from.kind === 'HorizontalPodAutoscaler') return { ...(from.version === 'v1' ? autoscalerToV2(object) : autoscalerToV1(object)), ...head };
  if (from.kind === 'CustomResourceDefinition' && from.version === 'v1beta1') return { ...definitionToV1(object), ...head };
  return { ...object, ...head };
}

/** Upstream's store has definitions in v1beta1, where what all versions share stands beside them. */
function definitionToV1(o: any): any {
  const { version, versions, validation, subresources, additionalPrinterColumns, selectableFields, conversion, preserveUnknownFields, ...spec } = o.spec ?? {};
  const listed: any[] = versions?.length ? versions : [{ name: version, served: true, storage: true }];
  const columnsOf = (columns: any[] | undefined) => columns?.map(({ JSONPath, ...column }) => ({ ...column, jsonPath: JSONPath }));
  const { strategy, webhookClientConfig: clientConfig, conversionReviewVersions } = conversion ?? {};
  const webhook = clientConfig || conversionReviewVersions ? { webhook: { ...(clientConfig ? { clientConfig } : {}), ...(conversionReviewVersions ? { conversionReviewVersions } : {}) } } : {};
  return {
    ...o,
    spec: {
      ...spec,
      versions: listed.map((one) => {
        const shared = { schema: validation, subresources, selectableFields, ...one, additionalPrinterColumns: columnsOf(one.additionalPrinterColumns ?? additionalPrinterColumns) };
        return Object.fromEntries(Object.entries(shared).filter(([, value]) => value !== undefined));
      }),
      ...(conversion ? { conversion: { strategy, ...webhook } } : {}),
      ...(preserveUnknownFields ? { preserveUnknownFields } : {}),
    },
  };
}

function autoscalerToV2(o: any): any {
  const { targetCPUUtilizationPercentage: target, ...spec } = o.spec ?? {};
  const { currentCPUUtilizationPercentage: current, ...status } = o.status ?? {};
  return {
    ...o,
    spec: {
      ...spec,
      ...(target === undefined
        ? {}
        : { metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: target } } }] }),
    },
    ...(o.status
      ? {
          status: {
            ...status,
            ...(current === undefined
              ? {}
              : { currentMetrics: [{ type: 'Resource', resource: { name: 'cpu', current: { averageUtilization: current, averageValue: '0' } } }] }),
          },
        }
      : {}),
  };
}

function autoscalerToV1(o: any): any {
  const { metrics, behavior: _, ...spec } = o.spec ?? {};
  const { currentMetrics, conditions: __, ...status } = o.status ?? {};
  const cpu = (metrics ?? []).find((m: any) => m.resource?.name === 'cpu' && m.resource.target?.averageUtilization !== undefined);
  const current = (currentMetrics ?? []).find((m: any) => m.resource?.name === 'cpu');
  return {
    ...o,
    spec: { ...spec, ...(cpu ? { targetCPUUtilizationPercentage: cpu.resource.target.averageUtilization } : {}) },
    ...(o.status
      ? {
          status: {
            ...status,
            ...(current?.resource.current?.averageUtilization === undefined
              ? {}
              : { currentCPUUtilizationPercentage: current.resource.current.averageUtilization }),
          },
        }
      : {}),
  };
}
