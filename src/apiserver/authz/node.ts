import type { PersistentVolume, PersistentVolumeClaim, Pod, PodCertificateRequest, ResourceSlice, VolumeAttachment } from '../../api/generated/types.ts';
import { parseFieldSelector } from '../../api/selectors.ts';
import type { Registry } from '../registry.ts';
import type { ResourceCache } from '../storage/cache.ts';
import type { Attributes, Decision } from './authorizer.ts';
import { nodeRules } from './default-roles.ts';
import { ruleAllows } from './rbac.ts';

const nodesGroup = 'system:nodes';
const userPrefix = 'system:node:';

/** The node's name where the user is a node. */
export function nodeNameOf(user: { name: string; groups: string[] }): string | undefined {
  return user.name.startsWith(userPrefix) && user.groups.includes(nodesGroup) ? user.name.slice(userPrefix.length) : undefined;
}

/**
 * Lets a node read only what its pods refer to. The graph is the pods of each node, kept current by the cache;
 * what a pod refers to is looked at when it is asked for.
 */
export class NodeAuthorizer {
  #pods: ResourceCache;
  #claims: ResourceCache;
  #volumes: ResourceCache;
  #attachments: ResourceCache;
  #requests: ResourceCache;
  #slices: ResourceCache;
  #byNode = new Map<string, Set<string>>();

  constructor(registry: Registry) {
    this.#pods = registry.cache('', 'v1', 'pods');
    this.#claims = registry.cache('', 'v1', 'persistentvolumeclaims');
    this.#volumes = registry.cache('', 'v1', 'persistentvolumes');
    this.#attachments = registry.cache('storage.k8s.io', 'v1', 'volumeattachments');
    this.#requests = registry.cache('certificates.k8s.io', 'v1', 'podcertificaterequests');
    this.#slices = registry.cache('resource.k8s.io', 'v1', 'resourceslices');
    for (const entry of this.#pods.entries.values()) this.#add(entry.key, entry.object as unknown as Pod);
    this.#pods.onChange(({ entry, previous, deleted }) => {
      const before = (previous?.object as unknown as Pod | undefined)?.spec?.nodeName;
      const after = deleted ? undefined : (entry.object as unknown as Pod).spec?.nodeName;
      if (before === after) return;
      if (before) this.#byNode.get(before)?.delete(entry.key);
      if (after) this.#add(entry.key, entry.object as unknown as Pod);
    });
  }

  #add(key: string, pod: Pod): void {
    const node = pod.spec?.nodeName;
    if (!node) return;
    const keys = this.#byNode.get(node);
    if (keys) keys.add(key);
    else this.#byNode.set(node, new Set([key]));
  }

  *#podsOf(node: string, namespace?: string): Generator<Pod> {
    for (const key of this.#byNode.get(node) ?? []) {
      if (namespace && !key.startsWith(`${namespace}/`)) continue;
      const entry = this.#pods.get(key);
      if (entry) yield entry.object as unknown as Pod;
    }
  }

  authorize(a: Attributes): Decision | undefined {
    const node = nodeNameOf(a.user);
    if (node === undefined) return undefined;
    if (a.path !== undefined) return undefined;
    const no = (reason: string): Decision => ({ allowed: false, reason });
    const unrelated = () => no(`no relationship found between node '${node}' and this object`);
    switch (`${a.group}/${a.resource}`) {
      case '/secrets':
      case '/configmaps':
        return this.#readOne(a, () => this.#refers(node, a), no, unrelated);
      case '/persistentvolumeclaims':
        if (a.subresource === 'status' && (a.verb === 'get' || a.verb === 'update' || a.verb === 'patch'))
          return this.#refers(node, a) ? yes : unrelated();
        return this.#readOne(a, () => this.#refers(node, a), no, unrelated);
      case '/persistentvolumes':
        return this.#readOne(a, () => this.#usesVolume(node, a.name), no, unrelated);
      case 'storage.k8s.io/volumeattachments':
        return this.#readOne(
          a,
          () => (this.#attachments.get(a.name)?.object as unknown as VolumeAttachment | undefined)?.spec?.nodeName === node,
          no,
          unrelated,
        );
      case '/serviceaccounts': {
        // Whose account it is stands in the certificate requests of its pods.
        if (!(a.verb === 'get' && !a.subresource) && !(a.subresource === 'token' && a.verb === 'create'))
          return no('can only create tokens for individual service accounts');
        for (const pod of this.#podsOf(node, a.namespace)) if (pod.spec?.serviceAccountName === a.name) return yes;
        return unrelated();
      }
      case 'certificates.k8s.io/podcertificaterequests':
        return this.#podCertificateRequest(node, a, no, unrelated);
      case 'coordination.k8s.io/leases':
        if (a.namespace !== 'kube-node-lease') return no('can only access leases in the "kube-node-lease" system namespace');
        if (a.verb !== 'create' && a.name !== node) return no(`can only access node lease with the same name as the requesting node`);
        return this.#byRules(a);
      case 'storage.k8s.io/csinodes':
        if (a.verb !== 'create' && a.name !== node) return no('can only access CSINode with the same name as the requesting node');
        return this.#byRules(a);
      case 'resource.k8s.io/resourceslices':
        return this.#slice(node, a, no, unrelated);
      case '/nodes':
        if ((a.verb === 'list' || a.verb === 'watch' || a.verb === 'get') && a.name !== node)
          return no(`node '${node}' cannot read '${a.name}', only its own Node object`);
        return this.#byRules(a);
      case '/pods':
        return this.#pod(node, a, no);
      default:
        return this.#byRules(a);
    }
  }

  #byRules(a: Attributes): Decision | undefined {
    return nodeRules.some((rule) => ruleAllows(rule, a)) ? yes : undefined;
  }

  /** get, and list and watch of a single name. */
  #readOne(a: Attributes, related: () => boolean, no: (reason: string) => Decision, unrelated: () => Decision): Decision {
    if (a.verb !== 'get' && a.verb !== 'list' && a.verb !== 'watch') return no('can only read resources of this type');
    if (a.subresource) return no('cannot read subresource');
    if (!a.name) return no('No Object name found');
    return related() ? yes : unrelated();
  }

  /** Slices of the node's own devices. What a new one says is admission's to judge. */
  #slice(node: string, a: Attributes, no: (reason: string) => Decision, unrelated: () => Decision): Decision {
    if (a.subresource) return no('cannot access subresource');
    if (a.verb === 'create') return yes;
    if (a.verb === 'list' || a.verb === 'watch' || a.verb === 'deletecollection') {
      const own = (a.fieldSelector ? parseFieldSelector(a.fieldSelector) : []).some(
        (r) => r.field === 'spec.nodeName' && r.op === '=' && r.value === node,
      );
      return own ? yes : no('can only list/watch/deletecollection resourceslices with nodeName field selector');
    }
    const slice = this.#slices.get(a.name)?.object as unknown as ResourceSlice | undefined;
    return slice?.spec?.nodeName === node ? yes : unrelated();
  }

  #pod(node: string, a: Attributes, no: (reason: string) => Decision): Decision | undefined {
    if (a.verb === 'list' || a.verb === 'watch') {
      return selectsNode(a, node) ? this.#byRules(a) : no(`can only list/watch pods with spec.nodeName field selector`);
    }
    if (a.verb === 'get') {
      return this.#byNode.get(node)?.has(`${a.namespace}/${a.name}`)
        ? this.#byRules(a)
        : no(`no relationship found between node '${node}' and this object`);
    }
    return this.#byRules(a);
  }

  /** Creation is restricted further by admission. */
  #podCertificateRequest(node: string, a: Attributes, no: (reason: string) => Decision, unrelated: () => Decision): Decision | undefined {
    if (a.subresource) return no('nodes may not access the status subresource of PodCertificateRequests');
    if (a.verb === 'create') return this.#byRules(a);
    if (a.verb === 'list' || a.verb === 'watch')
      return selectsNode(a, node) ? this.#byRules(a) : no('can only list/watch podcertificaterequests with nodeName field selector');
    if (a.verb !== 'get') return no(`nodes may not ${a.verb} podcertificaterequests`);
    const request = this.#requests.get(`${a.namespace}/${a.name}`)?.object as unknown as PodCertificateRequest | undefined;
    return request?.spec.nodeName === node ? this.#byRules(a) : unrelated();
  }

  #refers(node: string, a: Attributes): boolean {
    for (const pod of this.#podsOf(node, a.namespace)) {
      if (podRefersTo(pod, a.resource, a.name)) return true;
    }
    // Secrets of volumes that the node's pods claim.
    if (a.resource === 'secrets') {
      for (const pod of this.#podsOf(node))
        for (const volume of this.#volumesOf(pod)) if (volumeRefersToSecret(volume, a.namespace, a.name)) return true;
    }
    return false;
  }

  *#volumesOf(pod: Pod): Generator<PersistentVolume> {
    for (const volume of pod.spec?.volumes ?? []) {
      const name = volume.persistentVolumeClaim?.claimName ?? (volume.ephemeral ? `${pod.metadata.name}-${volume.name}` : undefined);
      if (!name) continue;
      const claim = this.#claims.get(`${pod.metadata.namespace}/${name}`)?.object as unknown as PersistentVolumeClaim | undefined;
      const bound = claim?.spec?.volumeName && this.#volumes.get(claim.spec.volumeName);
      if (bound) yield bound.object as unknown as PersistentVolume;
    }
  }

  #usesVolume(node: string, name: string): boolean {
    for (const pod of this.#podsOf(node)) for (const volume of this.#volumesOf(pod)) if (volume.metadata.name === name) return true;
    return false;
  }
}

const selectsNode = (a: Attributes, node: string): boolean =>
  (a.fieldSelector ? parseFieldSelector(a.fieldSelector) : []).some((r) => r.field === 'spec.nodeName' && r.op === '=' && r.value === node);

const yes: Decision = { allowed: true, reason: '' };

/** Whether a pod names this secret, config map or claim of its namespace anywhere. */
export function podRefersTo(pod: Pod, resource: string, name: string): boolean {
  const { spec } = pod;
  if (!spec) return false;
  if (resource === 'persistentvolumeclaims') {
    return (spec.volumes ?? []).some(
      (v) => v.persistentVolumeClaim?.claimName === name || (v.ephemeral !== undefined && `${pod.metadata.name}-${v.name}` === name),
    );
  }
  const secret = resource === 'secrets';
  if (secret && (spec.imagePullSecrets ?? []).some((s) => s.name === name)) return true;
  for (const container of [...(spec.initContainers ?? []), ...(spec.containers ?? []), ...(spec.ephemeralContainers ?? [])]) {
    for (const from of container.envFrom ?? []) if ((secret ? from.secretRef : from.configMapRef)?.name === name) return true;
    for (const env of container.env ?? []) if ((secret ? env.valueFrom?.secretKeyRef : env.valueFrom?.configMapKeyRef)?.name === name) return true;
  }
  for (const volume of spec.volumes ?? []) {
    if (secret ? volume.secret?.secretName === name : volume.configMap?.name === name) return true;
    for (const source of volume.projected?.sources ?? []) if ((secret ? source.secret : source.configMap)?.name === name) return true;
    if (secret && volume.csi?.nodePublishSecretRef?.name === name) return true;
  }
  return false;
}

function volumeRefersToSecret(volume: PersistentVolume, namespace: string, name: string): boolean {
  const csi = volume.spec?.csi;
  const is = (ref: { name?: string; namespace?: string } | undefined) => ref?.name === name && ref.namespace === namespace;
  return is(csi?.nodePublishSecretRef) || is(csi?.nodeStageSecretRef) || is(csi?.nodeExpandSecretRef);
}
