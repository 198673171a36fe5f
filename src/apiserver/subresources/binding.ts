import { badRequest, conflict, invalid, modified, notFound } from '../../api/errors.ts';
import type { Pod } from '../../api/generated/types.ts';
import type { KubeObject } from '../../api/object.ts';
import { type Api, type Call, keyFor, timestamp } from '../api.ts';
import { clone } from '../storage/json.ts';
import type { Outcome } from '../storage/transactions.ts';
import { checkBody, type ParsedBody } from '../verbs/prepare.ts';

export const bindingType = { group: '', version: 'v1', kind: 'Binding', definition: 'io.k8s.api.core.v1.Binding' };

interface Binding extends KubeObject {
  target?: { kind?: string; name?: string };
}

/** Assigns a pod to a node: sets spec.nodeName and the condition PodScheduled. Labels and annotations of the binding are merged. */
export async function bind(api: Api, call: Call, body: ParsedBody): Promise<void> {
  const binding = checkBody<Binding>(call, body, bindingType);
  const name = call.name || binding.metadata?.name || '';
  if (binding.metadata?.name && call.name && binding.metadata.name !== call.name)
    throw badRequest('name in URL does not match name in Binding object');
  const node = binding.target?.name ?? '';
  const kind = binding.target?.kind;
  if (kind && kind !== 'Node') {
    throw invalid(bindingType, name, [
      { type: 'FieldValueNotSupported', field: 'target.kind', value: kind, detail: 'supported values: "Node", "<empty>"' },
    ]);
  }
  if (!node) throw invalid(bindingType, name, [{ type: 'FieldValueRequired', field: 'target.name', detail: '' }]);

  const admission = api.admission.begin(api, { ...call, name }, 'CREATE', binding, undefined);
  await admission.admit();
  await admission.validate();
  const subject = { group: '', resource: 'pods' };
  const refuse = (why: string) => conflict({ group: '', resource: 'pods/binding' }, name, why);
  await api.registry.storage('', 'v1', 'pods').update(keyFor(call.namespace, name), (current): Outcome => {
    if (!current) throw notFound(subject, name);
    const pod = clone(current.object) as unknown as Pod;
    const { uid, resourceVersion, labels, annotations } = binding.metadata ?? {};
    if (uid && uid !== pod.metadata.uid) {
      throw conflict(subject, name, `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${pod.metadata.uid}`);
    }
    if (resourceVersion && resourceVersion !== String(current.revision)) throw modified(subject, name);
    if (pod.metadata.deletionTimestamp) throw refuse(`pod ${name} is being deleted, cannot be assigned to a host`);
    if (pod.spec!.nodeName) throw refuse(`pod ${name} is already assigned to node "${pod.spec!.nodeName}"`);
    if (pod.spec!.schedulingGates?.length) throw refuse(`pod ${name} has non-empty .spec.schedulingGates`);
    pod.spec!.nodeName = node;
    if (labels) pod.metadata.labels = { ...pod.metadata.labels, ...labels };
    if (annotations) pod.metadata.annotations = { ...pod.metadata.annotations, ...annotations };
    const conditions = (pod.status?.conditions ?? []).filter((c) => c.type !== 'PodScheduled');
    const before = pod.status?.conditions?.find((c) => c.type === 'PodScheduled');
    const since = before?.status === 'True' ? before.lastTransitionTime : timestamp(api);
    conditions.push({ type: 'PodScheduled', status: 'True', lastProbeTime: null as never, ...(since ? { lastTransitionTime: since } : {}) });
    pod.status = { ...pod.status, conditions };
    return { put: pod as unknown as KubeObject, dryRun: call.dryRun };
  });
}
