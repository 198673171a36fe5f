import type { Logger } from 'pino';
import type { Pod } from '../api/generated/types.ts';
import type { Informer } from '../client/informer.ts';
import type { PodContext } from './context.ts';
import { nodeLabel, podGraceAnnotation, podNameLabel, podNamespaceLabel, podUidLabel } from './labels.ts';
import { isMirrorPod } from './pods.ts';
import { PodWorker } from './pod-worker.ts';

/**
 * Which pods this node is to run, and their workers: those that the API server binds to the node, static ones, and those that only the
 * runtime remembers, which are ended.
 */
export class PodManager {
  private readonly log: Logger;
  private readonly workers = new Map<string, PodWorker>();
  /** Mirror pods by namespace/name. */
  private readonly mirrors = new Map<string, Pod>();
  private context: PodContext | undefined;
  private removeHandlers = () => {};
  private stopped = false;
  /** Called when a mirror pod appears, changes or goes. */
  onMirrorChange: (key: string, mirror: Pod | undefined) => void = () => {};

  constructor(o: { log: Logger }) {
    this.log = o.log;
  }

  /** Adopts what this kubelet left running before, then follows the informer, which must have synced. */
  async start(ctx: PodContext, pods: Informer<Pod>): Promise<void> {
    this.context = ctx;
    this.removeHandlers = pods.addHandlers({
      onAdd: (pod) => this.set(pod),
      onUpdate: (_before, pod) => this.set(pod),
      onDelete: (pod) => this.removeApi(pod),
    });
    await this.endOrphans();
  }

  /** Sandboxes of ours whose pods are not to run any more. Nothing else on the runtime is touched. */
  async endOrphans(): Promise<void> {
    const ctx = this.context!;
    const sandboxes = await ctx.runtime.listPodSandbox({ labels: { [nodeLabel]: ctx.nodeName } });
    for (const sandbox of sandboxes) {
      const uid = sandbox.labels[podUidLabel];
      if (!uid || sandbox.labels[nodeLabel] !== ctx.nodeName || this.workers.has(uid)) continue;
      const name = sandbox.labels[podNameLabel] ?? sandbox.metadata.name;
      const namespace = sandbox.labels[podNamespaceLabel] ?? sandbox.metadata.namespace;
      this.log.info({ pod: `${namespace}/${name}`, uid }, 'ending a pod that is no longer to run here');
      const pod: Pod = {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace, uid, resourceVersion: '', creationTimestamp: '', annotations: sandbox.annotations, labels: sandbox.labels },
        spec: { containers: [], terminationGracePeriodSeconds: Number(sandbox.annotations[podGraceAnnotation] ?? 30) || 30 },
      };
      this.add(pod, true);
    }
  }

  set(pod: Pod): void {
    if (this.stopped) return;
    if (isMirrorPod(pod)) {
      const key = `${pod.metadata.namespace}/${pod.metadata.name}`;
      this.mirrors.set(key, pod);
      this.onMirrorChange(key, pod);
      return;
    }
    const worker = this.workers.get(pod.metadata.uid);
    if (worker) worker.update(pod);
    else this.add(pod, false);
  }

  remove(pod: Pod): void {
    this.workers.get(pod.metadata.uid)?.remove();
  }

  mirrorOf(pod: Pod): Pod | undefined {
    return this.mirrors.get(`${pod.metadata.namespace}/${pod.metadata.name}`);
  }

  get(uid: string): PodWorker | undefined {
    return this.workers.get(uid);
  }

  /** By namespace and name; the one that is to run where an older one still ends. */
  find(namespace: string, name: string): PodWorker | undefined {
    const found = [...this.workers.values()].filter((w) => w.current.metadata.namespace === namespace && w.current.metadata.name === name);
    return found.find((w) => w.active) ?? found[0];
  }

  list(): Pod[] {
    return [...this.workers.values()].map((w) => w.current);
  }

  /** Pods that hold resources of the node. */
  active(): Pod[] {
    return [...this.workers.values()].filter((w) => w.active).map((w) => w.current);
  }

  trigger(uid: string): void {
    this.workers.get(uid)?.trigger();
  }
  /** The files of a pod's volumes are out of date. */
  refreshVolumes(uid: string): void {
    this.workers.get(uid)?.refreshVolumes();
  }
  triggerAll(): void {
    for (const worker of this.workers.values()) worker.trigger();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.removeHandlers();
    await Promise.all([...this.workers.values()].map((w) => w.stop()));
  }

  private removeApi(pod: Pod): void {
    if (isMirrorPod(pod)) {
      const key = `${pod.metadata.namespace}/${pod.metadata.name}`;
      this.mirrors.delete(key);
      this.onMirrorChange(key, undefined);
      return;
    }
    const worker = this.workers.get(pod.metadata.uid);
    worker?.update(pod);
    worker?.remove();
  }

  private add(pod: Pod, orphan: boolean): void {
    const { uid } = pod.metadata;
    this.workers.set(uid, new PodWorker(this.context!, pod, { onGone: () => this.workers.delete(uid), orphan }));
  }
}
