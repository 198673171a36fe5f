import { isNotFound } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startReconciler } from './reconciler.ts';

const ANNOTATION = 'node.alpha.kubernetes.io/ttl';
/** From how many nodes on, up to how many before the next step, and for how many seconds kubelets may keep Secrets and ConfigMaps. */
const steps = [
  { min: 0, max: 100, seconds: 0 },
  { min: 90, max: 500, seconds: 15 },
  { min: 450, max: 1000, seconds: 30 },
  { min: 900, max: 2000, seconds: 60 },
  { min: 1800, max: Number.POSITIVE_INFINITY, seconds: 300 },
];

/** Tells kubelets how long they may keep Secrets and ConfigMaps, by the size of the cluster. Watches nodes. */
export function startNodeTtlController(context: ControllerContext): Controller {
  const { client, informers } = context;
  const nodes = informers.informer(resources.nodes);
  let count = 0;
  let step = 0;
  const loop = startReconciler(context, { name: 'ttl-controller', workers: 5, waitFor: [nodes], reconcile });
  nodes.addHandlers({
    onAdd(node) {
      count++;
      if (count > steps[step]!.max) step++;
      loop.enqueue(node.metadata.name);
    },
    // Every heartbeat passes here: a change of the step reaches all nodes without a round over them.
    onUpdate(_, node) {
      if (node.metadata.annotations?.[ANNOTATION] !== String(steps[step]!.seconds)) loop.enqueue(node.metadata.name);
    },
    onDelete() {
      count--;
      if (count < steps[step]!.min) step--;
    },
  });
  return loop;

  async function reconcile(name: string): Promise<void> {
    const node = nodes.get(name);
    const ttl = String(steps[step]!.seconds);
    if (!node || node.metadata.annotations?.[ANNOTATION] === ttl) return;
    await client.patch(resources.nodes, { name }, 'strategic', { metadata: { annotations: { [ANNOTATION]: ttl } } }).catch((error) => {
      if (!isNotFound(error)) throw error;
    });
  }
}
