import { isNotFound } from '../../api/errors.ts';
import type { OwnerReference, Pod } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import { groupVersionOf, type KubeObject } from '../../api/object.ts';
import type { Informer } from '../../client/informer.ts';
import type { ControllerContext } from '../controller.ts';
import { type DiscoveredResource, discover } from '../discovery.ts';
import { controllerOf } from '../ownership.ts';

interface Scaled {
  uid: string;
  replicas: number;
}

/** How many pods the controllers of pods want to have. */
export class ExpectedScale {
  readonly #context: ControllerContext;
  readonly #byKind: Record<string, Informer<KubeObject & { spec: { replicas?: number } }>>;
  #discovered?: Promise<DiscoveredResource[]>;

  constructor(context: ControllerContext) {
    const { informers } = context;
    this.#context = context;
    this.#byKind = {
      'apps/ReplicaSet': informers.informer(resources.replicasets),
      'apps/Deployment': informers.informer(resources.deployments),
      'apps/StatefulSet': informers.informer(resources.statefulsets),
      '/ReplicationController': informers.informer(resources.replicationcontrollers),
    };
  }

  get informers() {
    return Object.values(this.#byKind);
  }

  /**
   * The sum over the controllers of these pods, and the names of pods that have none.
   * @throws where a controller is not found or cannot be scaled
   */
  async of(pods: Pod[]): Promise<{ count: number; unmanaged: string[] }> {
    const scales = new Map<string, number>();
    const asked = new Set<string>();
    const unmanaged: string[] = [];
    for (const pod of pods) {
      const ref = controllerOf(pod);
      if (!ref) unmanaged.push(pod.metadata.name);
      if (!ref || asked.has(ref.uid)) continue;
      asked.add(ref.uid);
      const scaled = this.#known(ref, pod.metadata.namespace) ?? (await this.#ask(ref, pod.metadata.namespace));
      if (!scaled) throw new Error(`found no controllers for pod "${pod.metadata.name}"`);
      scales.set(scaled.uid, scaled.replicas);
    }
    return { count: [...scales.values()].reduce((a, b) => a + b, 0), unmanaged };
  }

  #known(ref: OwnerReference, namespace: string): Scaled | undefined {
    const { group } = groupVersionOf(ref.apiVersion);
    const owner = this.#byKind[`${group}/${ref.kind}`]?.get(`${namespace}/${ref.name}`);
    if (owner?.metadata.uid !== ref.uid) return undefined;
    const above = ref.kind === 'ReplicaSet' ? controllerOf(owner) : undefined;
    const deployment = above?.kind === 'Deployment' ? this.#known(above, namespace) : undefined;
    return deployment ?? { uid: ref.uid, replicas: owner.spec.replicas ?? 1 };
  }

  /** Any other kind says through its subresource scale. */
  async #ask(ref: OwnerReference, namespace: string): Promise<Scaled | undefined> {
    const { group } = groupVersionOf(ref.apiVersion);
    if (this.#byKind[`${group}/${ref.kind}`]) return undefined;
    const find = async () => (await (this.#discovered ??= discover(this.#context.client))).find((r) => r.group === group && r.kind === ref.kind);
    let type = await find();
    if (!type) {
      // A resource that is newer than the last look.
      this.#discovered = undefined;
      type = await find();
    }
    if (!type) throw new Error(`no matches for kind "${ref.kind}" in version "${ref.apiVersion}"`);
    try {
      const scale = await this.#context.client.get<KubeObject & { spec?: { replicas?: number } }>(
        type,
        { namespace, name: ref.name },
        { subresource: 'scale' },
      );
      return scale.metadata.uid === ref.uid ? { uid: ref.uid, replicas: scale.spec?.replicas ?? 0 } : undefined;
    } catch (error) {
      if (!isNotFound(error)) throw error;
      throw new Error(`${group ? `${type.resource}.${group}` : type.resource} does not implement the scale subresource`);
    }
  }
}
