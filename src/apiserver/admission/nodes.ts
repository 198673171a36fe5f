import { sameJson } from '../../api/equality.ts';
import { badRequest, forbidden } from '../../api/errors.ts';
import type { Node, Pod, PodCertificateRequest, ServiceAccount, Taint } from '../../api/generated/types.ts';
import { nodeNameOf } from '../authz/node.ts';
import type { AdmissionPlugin, AdmissionRequest } from './chain.ts';

const notReady = 'node.kubernetes.io/not-ready';

/** A new node takes no pods until the node controller has seen that it is ready. */
export const taintNodesByCondition: AdmissionPlugin = {
  name: 'TaintNodesByCondition',
  admit({ group, resource, subresource, operation, object }) {
    if (group !== '' || resource !== 'nodes' || subresource || operation !== 'CREATE') return;
    const node = object as Node;
    node.spec ??= {};
    const taint: Taint = { key: notReady, effect: 'NoSchedule' };
    if (!node.spec.taints?.some((t) => t.key === taint.key && t.effect === taint.effect)) node.spec.taints = [...(node.spec.taints ?? []), taint];
  },
};

/** A node may write only itself, its lease, its CSINode and the pods that run on it. */
export const nodeRestriction: AdmissionPlugin = {
  name: 'NodeRestriction',
  admit(request) {
    const node = nodeNameOf(request.call.user);
    if (node === undefined) return;
    switch (`${request.group}/${request.resource}`) {
      case '/pods':
        return restrictPod(request, node);
      case '/nodes':
        return restrictNode(request, node);
      case '/serviceaccounts':
        return request.subresource === 'token' ? restrictToken(request, node) : undefined;
      case 'certificates.k8s.io/podcertificaterequests':
        return restrictPodCertificateRequest(request, node);
      case 'coordination.k8s.io/leases':
      case 'storage.k8s.io/csinodes':
        if (objectName(request) !== node)
          throw refuse(request, `node "${node}" can only access ${request.resource} with the same name as the requesting node`);
    }
  },
};

const refuse = (r: AdmissionRequest, why: string) => forbidden(r.call.target.subject, objectName(r), why);
const objectName = (r: AdmissionRequest): string => r.object?.metadata?.name ?? r.name;

function restrictPod(r: AdmissionRequest, node: string): void {
  const pod = (r.old ?? r.object) as Pod | undefined;
  if (r.subresource === 'eviction') return;
  if (r.operation === 'CREATE') {
    if (r.subresource) throw refuse(r, `unexpected operation`);
    if (pod?.metadata.annotations?.['kubernetes.io/config.mirror'] === undefined)
      throw refuse(r, `pod does not have "kubernetes.io/config.mirror" annotation, node "${node}" can only create mirror pods`);
    if (pod.spec?.nodeName !== node) throw refuse(r, `node "${node}" can only create pods with spec.nodeName set to itself`);
    if (pod.spec.serviceAccountName) throw refuse(r, `node "${node}" can not create pods that reference a service account`);
    return;
  }
  if (r.operation === 'CONNECT') return;
  if (r.operation === 'UPDATE' && r.subresource !== 'status') throw refuse(r, `node "${node}" can only update pod status`);
  if (pod?.spec?.nodeName !== node) throw refuse(r, `node "${node}" can only ${r.operation.toLowerCase()} pods with spec.nodeName set to itself`);
  if (r.operation === 'UPDATE' && !sameJson(r.old.metadata.labels, r.object.metadata.labels))
    throw refuse(r, `node "${node}" cannot update labels through pod status`);
}

const ownLabels = new Set([
  'kubernetes.io/hostname',
  'kubernetes.io/arch',
  'kubernetes.io/os',
  'beta.kubernetes.io/instance-type',
  'node.kubernetes.io/instance-type',
  'failure-domain.beta.kubernetes.io/zone',
  'failure-domain.beta.kubernetes.io/region',
  'topology.kubernetes.io/zone',
  'topology.kubernetes.io/region',
  'beta.kubernetes.io/os',
  'beta.kubernetes.io/arch',
]);

/** Labels under kubernetes.io and k8s.io that a node may not give itself. */
function isRestricted(key: string): boolean {
  if (ownLabels.has(key)) return false;
  const slash = key.indexOf('/');
  const domain = slash < 0 ? '' : key.slice(0, slash);
  if (domain === 'kubelet.kubernetes.io' || domain.endsWith('.kubelet.kubernetes.io')) return false;
  if (domain === 'node.kubernetes.io' || domain.endsWith('.node.kubernetes.io')) return false;
  const within = (suffix: string) => domain === suffix || domain.endsWith(`.${suffix}`);
  return within('kubernetes.io') || within('k8s.io');
}

function restrictNode(r: AdmissionRequest, node: string): void {
  if (objectName(r) !== node) throw refuse(r, `node "${node}" is not allowed to modify node "${objectName(r)}"`);
  if (r.operation === 'DELETE') throw refuse(r, `node "${node}" is not allowed to delete itself`);
  const object = r.object as Node | undefined;
  const old = r.old as Node | undefined;
  if (!object) return;
  const before = old?.metadata.labels ?? {};
  const after = object.metadata.labels ?? {};
  const changed = [...new Set([...Object.keys(before), ...Object.keys(after)])].filter((key) => before[key] !== after[key] && isRestricted(key));
  if (changed.length > 0) throw refuse(r, `is not allowed to modify labels: ${changed.sort().join(', ')}`);
  if (old && !sameJson(old.spec?.taints, object.spec?.taints) && !r.subresource) throw refuse(r, `node "${node}" is not allowed to modify taints`);
  if (old && object.spec?.configSource && !sameJson(old.spec?.configSource, object.spec.configSource))
    throw refuse(r, `node "${node}" is not allowed to update configSource to a new non-nil configSource`);
}

function restrictToken(r: AdmissionRequest, node: string): void {
  const ref = r.object?.spec?.boundObjectRef as { kind?: string; name?: string; uid?: string } | undefined;
  if (ref?.kind !== 'Pod' || !ref.name) throw badRequest(`node requested token not bound to a pod`);
  const pod = r.api.registry.cache('', 'v1', 'pods').get(`${r.namespace}/${ref.name}`)?.object as unknown as Pod | undefined;
  if (!pod || pod.spec?.nodeName !== node) throw refuse(r, `node requested token bound to a pod scheduled on a different node`);
  if (ref.uid && pod.metadata.uid !== ref.uid)
    throw refuse(
      r,
      `the UID in the bound object reference (${ref.uid}) does not match the UID in record. The object might have been deleted and then recreated`,
    );
}

/** A node asks only for pods that run on it, in their account's name, for a signer that they mount a certificate of. */
async function restrictPodCertificateRequest(r: AdmissionRequest, node: string): Promise<void> {
  if (r.operation !== 'CREATE') throw refuse(r, `unexpected operation ${r.operation}`);
  if (r.subresource) throw refuse(r, `unexpected subresource ${r.subresource}`);
  const { spec } = r.object as PodCertificateRequest;
  const key = `${r.namespace}/${spec.podName}`;
  const stored = (resource: string, name: string) => r.api.registry.cache('', 'v1', resource).get(name)?.object as unknown;
  if (spec.nodeName !== node) throw refuse(r, `PodCertificateRequest.Spec.NodeName="${spec.nodeName}", which is not the requesting node "${node}"`);
  const self = stored('nodes', node) as Node | undefined;
  if (self?.metadata.uid !== spec.nodeUID)
    throw refuse(
      r,
      `PodCertificateRequest for pod "${key}" names node UID "${spec.nodeUID}", inconsistent with the running node ("${self?.metadata.uid ?? ''}")`,
    );
  const pod = stored('pods', key) as Pod | undefined;
  if (!pod) throw refuse(r, `while retrieving pod "${key}" named in the PodCertificateRequest: pod "${spec.podName}" not found`);
  if (pod.metadata.uid !== spec.podUID)
    throw refuse(
      r,
      `PodCertificateRequest for pod "${key}" contains pod UID ("${spec.podUID}") which differs from running pod "${pod.metadata.uid}"`,
    );
  if (pod.spec.nodeName !== node) throw refuse(r, `pod "${key}" is not running on node "${node}" named in the PodCertificateRequest`);
  if (pod.metadata.annotations?.['kubernetes.io/config.mirror'] !== undefined) throw refuse(r, `pod "${key}" is a mirror pod`);
  const account = pod.spec.serviceAccountName ?? '';
  if (spec.serviceAccountName !== account)
    throw refuse(
      r,
      `PodCertificateRequest for pod "${key}" contains serviceAccountName ("${spec.serviceAccountName}") that differs from running pod ("${account}")`,
    );
  const uid = (stored('serviceaccounts', `${r.namespace}/${account}`) as ServiceAccount | undefined)?.metadata.uid;
  if (uid !== spec.serviceAccountUID)
    throw refuse(
      r,
      `PodCertificateRequest for pod "${key}" names service account UID "${spec.serviceAccountUID}", which differs from the running service account ("${uid ?? ''}")`,
    );
  const mounted = (pod.spec.volumes ?? []).some((v) => v.projected?.sources?.some((s) => s.podCertificate?.signerName === spec.signerName));
  if (mounted) return;
  // Without such a volume it takes permission of its own, for what drivers ask in a pod's name.
  const attributes = { user: r.call.user, verb: 'request-serviceaccounts-podcertificate-signer', group: '', subresource: '', namespace: r.namespace };
  const asked = { ...attributes, resource: spec.signerName.replaceAll('/', ':'), name: account };
  if (!(await r.api.authorizer.authorize(asked)).allowed)
    throw refuse(r, `pod "${key}" does not mount a podCertificate projected volume for signer "${spec.signerName}"`);
}
