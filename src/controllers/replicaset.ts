import type { ReplicaSet } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { StartController } from './controller.ts';
import { controlledBy, controllerOf, indexByController } from './ownership.ts';
import { startReplicaController } from './replicas.ts';

/** ReplicaSets: watches ReplicaSets and pods. */
export const startReplicaSetController: StartController = (context) => {
  const replicaSets = context.informers.informer(resources.replicasets);
  indexByController(replicaSets);
  return startReplicaController(context, {
    name: 'replicaset-controller',
    type: resources.replicasets,
    selectorOf: (rs: ReplicaSet) => rs.spec.selector,
    family(rs) {
      const owner = controllerOf(rs);
      return owner ? controlledBy(replicaSets, owner.uid) : [rs];
    },
    reportsTerminating: true,
  });
};
