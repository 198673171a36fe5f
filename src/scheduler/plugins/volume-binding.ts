import type { Node, PersistentVolume, PersistentVolumeClaim, StorageClass } from '../../api/generated/types.ts';
import { resources } from '../../api/generated/resources.ts';
import { keyOf } from '../../api/object.ts';
import { nodeSelectorMatches } from '../../controllers/node-matching.ts';
import { BIND_COMPLETED, BOUND_BY_CONTROLLER, classOf, fits, SELECTED_NODE, smallest } from '../../controllers/volumes.ts';
import type { Cycle, Handle, Plugin } from '../framework.ts';
import type { NodeInfo } from '../node-info.ts';
import type { PodInfo } from '../pod-info.ts';

/** How long a pod waits for its volumes to be provisioned and bound; upstream's bindTimeoutSeconds, in milliseconds. */
const BIND_TIMEOUT = 600_000;

interface Decision {
  bind: { claim: PersistentVolumeClaim; volume: PersistentVolume }[];
  provision: PersistentVolumeClaim[];
}

/** Claims: bound ones keep the pod to where the volume is, those that wait for a consumer are bound or provisioned for the chosen node. */
export function volumeBinding(handle: Handle): Plugin {
  /** Volumes promised to claims by placements whose binding is under way: volume name to claim key. */
  const promised = new Map<string, string>();

  const isDelayed = (claim: PersistentVolumeClaim) => handle.storageClasses.get(classOf(claim))?.volumeBindingMode === 'WaitForFirstConsumer';

  return {
    name: 'VolumeBinding',
    events: ['NodeAdd', 'NodeLabel', 'Claim', 'Volume', 'StorageClass', 'CSINode'],
    prepare(info) {
      if (info.claims.length === 0) return undefined;
      const bound: PersistentVolumeClaim[] = [];
      const delayed: PersistentVolumeClaim[] = [];
      for (const name of info.claims) {
        const claim = handle.claims.get(`${info.pod.metadata.namespace}/${name}`);
        const problem = claimProblem(info, name, claim);
        if (problem) return { reject: problem };
        if (claim!.spec.volumeName && claim!.metadata.annotations?.[BIND_COMPLETED]) bound.push(claim!);
        else if (isDelayed(claim!) && !claim!.spec.volumeName) delayed.push(claim!);
        else return { reject: 'pod has unbound immediate PersistentVolumeClaims' };
      }
      return cycleFor(info, bound, delayed);
    },
  };

  function claimProblem(info: PodInfo, name: string, claim: PersistentVolumeClaim | undefined): string | undefined {
    const ephemeral = info.pod.spec.volumes?.some((v) => v.ephemeral && `${info.pod.metadata.name}-${v.name}` === name);
    if (!claim)
      return ephemeral
        ? `waiting for ephemeral volume controller to create the persistentvolumeclaim "${name}"`
        : `persistentvolumeclaim "${name}" not found`;
    if (claim.metadata.deletionTimestamp) return `persistentvolumeclaim "${name}" is being deleted`;
    if (claim.status?.phase === 'Lost') return `persistentvolumeclaim "${name}" bound to non-existent persistentvolume "${claim.spec.volumeName}"`;
    return undefined;
  }

  function cycleFor(info: PodInfo, bound: PersistentVolumeClaim[], delayed: PersistentVolumeClaim[]): Cycle {
    const decisions = new Map<string, Decision>();
    return {
      filter({ name, node }) {
        const reasons: string[] = [];
        for (const claim of bound) {
          const volume = handle.volumes.get(claim.spec.volumeName!);
          if (!volume) reasons.push('node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)');
          else if (!nodeSelectorMatches(volume.spec.nodeAffinity?.required, node!))
            reasons.push("node(s) didn't match PersistentVolume's node affinity");
          if (reasons.length) return { reasons, resolvable: false };
        }
        const decision = decide(delayed, node!);
        if (!decision) return { reasons: ["node(s) didn't find available persistent volumes to bind"], resolvable: false };
        decisions.set(name, decision);
        return undefined;
      },
      reserve(node) {
        for (const { claim, volume } of decisions.get(node.name)?.bind ?? []) promised.set(volume.metadata.name, keyOf(claim));
      },
      unreserve: (node) => release(decisions.get(node.name)),
      async preBind(node, signal) {
        const decision = decisions.get(node.name);
        if (!decision || (!decision.bind.length && !decision.provision.length)) return;
        for (const { claim, volume } of decision.bind) await bindVolume(claim, volume);
        for (const claim of decision.provision) await askForVolume(claim, node);
        await waitUntilBound(info, delayed.map(keyOf), node, signal);
        release(decision);
      },
    };
  }

  function decide(delayed: PersistentVolumeClaim[], node: Node): Decision | undefined {
    const decision: Decision = { bind: [], provision: [] };
    const taken = new Set<string>();
    for (const claim of delayed) {
      const selected = claim.metadata.annotations?.[SELECTED_NODE];
      if (selected) {
        // Provisioning for that node is under way already.
        if (selected !== node.metadata.name) return undefined;
        decision.provision.push(claim);
        continue;
      }
      const volume = smallest(
        handle.volumes.byIndex('class', classOf(claim)).filter((v) => {
          const promisedTo = promised.get(v.metadata.name);
          const free = !taken.has(v.metadata.name) && (promisedTo === undefined || promisedTo === keyOf(claim));
          return free && fits(v, claim) && nodeSelectorMatches(v.spec.nodeAffinity?.required, node);
        }),
        claim,
      );
      if (volume) {
        taken.add(volume.metadata.name);
        decision.bind.push({ claim, volume });
      } else if (mayProvision(handle.storageClasses.get(classOf(claim)), node)) decision.provision.push(claim);
      else return undefined;
    }
    return decision;
  }

  function release(decision: Decision | undefined): void {
    for (const { claim, volume } of decision?.bind ?? [])
      if (promised.get(volume.metadata.name) === keyOf(claim)) promised.delete(volume.metadata.name);
  }

  async function bindVolume(claim: PersistentVolumeClaim, volume: PersistentVolume): Promise<void> {
    const { name, namespace, uid, resourceVersion } = claim.metadata;
    const claimRef = { apiVersion: 'v1', kind: 'PersistentVolumeClaim', name, namespace, uid, resourceVersion };
    const annotations = { ...volume.metadata.annotations, [BOUND_BY_CONTROLLER]: 'yes' };
    await handle.client.update(resources.persistentvolumes, {
      ...volume,
      metadata: { ...volume.metadata, annotations },
      spec: { ...volume.spec, claimRef },
    });
  }

  async function askForVolume(claim: PersistentVolumeClaim, node: NodeInfo): Promise<void> {
    if (claim.metadata.annotations?.[SELECTED_NODE] === node.name) return;
    const { uid, resourceVersion } = claim.metadata;
    const patch = { metadata: { uid, resourceVersion, annotations: { [SELECTED_NODE]: node.name } } };
    await handle.client.patch(resources.persistentvolumeclaims, claim.metadata, 'merge', patch);
  }

  /** Resolves when all claims are bound; rejects when the provisioner gave the node up, a claim went away, or time is over. */
  function waitUntilBound(info: PodInfo, keys: string[], node: NodeInfo, signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      // The informer may not show our own annotation yet; only its disappearance counts.
      const annotated = new Set<string>();
      const finish = (error?: Error) => {
        cancel();
        remove();
        signal.removeEventListener('abort', onAbort);
        if (error) reject(error);
        else resolve();
      };
      const check = () => {
        let open = 0;
        for (const key of keys) {
          const claim = handle.claims.get(key);
          if (!claim) return finish(new Error(`persistentvolumeclaim "${key}" is gone`));
          if (claim.metadata.annotations?.[BIND_COMPLETED]) continue;
          open++;
          const selected = claim.metadata.annotations?.[SELECTED_NODE];
          if (selected) annotated.add(key);
          if (annotated.has(key) && selected !== node.name) return finish(new Error(`provisioning failed for PVC "${claim.metadata.name}"`));
        }
        if (open === 0) finish();
      };
      const onAbort = () => finish(new Error(`stopped waiting for the volumes of pod ${info.key}`));
      const cancel = handle.clock.after(BIND_TIMEOUT, () => finish(new Error(`timed out waiting for the volumes of pod ${info.key} to be bound`)));
      signal.addEventListener('abort', onAbort, { once: true });
      let remove = () => {};
      let settled = false;
      const later = () => {
        if (settled) return;
        settled = true;
        queueMicrotask(() => {
          settled = false;
          check();
        });
      };
      remove = handle.claims.addHandlers({ onUpdate: later, onDelete: later });
      if (signal.aborted) onAbort();
      else check();
    });
  }
}

function mayProvision(storageClass: StorageClass | undefined, node: Node): boolean {
  if (!storageClass?.provisioner || storageClass.provisioner === 'kubernetes.io/no-provisioner') return false;
  const labels = node.metadata.labels ?? {};
  const terms = storageClass.allowedTopologies ?? [];
  return (
    terms.length === 0 || terms.some((term) => (term.matchLabelExpressions ?? []).every(({ key, values }) => values.includes(labels[key] ?? '')))
  );
}
