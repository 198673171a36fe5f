import type { ReplicationController } from '../api/generated/types.ts';
import { resources } from '../api/generated/resources.ts';
import type { StartController } from './controller.ts';
import { startReplicaController } from './replicas.ts';

/** ReplicationControllers: watches ReplicationControllers and pods. */
export const startReplicationController: StartController = (context) =>
  startReplicaController(context, {
    name: 'replicationcontroller-controller',
    type: resources.replicationcontrollers,
    selectorOf: (rc: ReplicationController) => ({ matchLabels: rc.spec.selector ?? {} }),
    family: (rc) => [rc],
    reportsTerminating: false,
  });
