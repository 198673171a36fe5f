import type { Controller, ControllerContext } from './controller.ts';
import { startCsrApprovingController } from './csrapproving.ts';
import { startCsrCleanerController } from './csrcleaner.ts';
import { startCsrSigningController } from './csrsigning.ts';
import { startDeploymentController } from './deployment.ts';
import { startEndpointsController } from './endpoints.ts';
import { startEndpointSliceController } from './endpointslice.ts';
import { startReplicaSetController } from './replicaset.ts';
import { startReplicationController } from './replicationcontroller.ts';
import { startRootCaPublisher } from './rootca.ts';
import { startServiceAccountController } from './serviceaccount.ts';
import { startTokensController } from './serviceaccount-tokens.ts';

export interface ControllersOptions {
  /** Where nodes get their pod ranges from, as 10.244.0.0/16. */
  clusterCidr: string;
  nodeCidrMaskSize: number;
  /** PEM; signs certificates. */
  ca: { cert: string; key: string };
  /** PEM private key for tokens in Secrets; without it there are none. */
  serviceAccountKey?: string;
  /** PEM; what pods verify the API server with. */
  rootCa: string;
  /** How long a node may be silent before it counts as gone, milliseconds; 50 s as upstream's 1.37. */
  nodeMonitorGracePeriodMs?: number;
  nodeMonitorPeriodMs?: number;
  /** Ended pods kept at most; 12500. */
  terminatedPodThreshold?: number;
}

/** The controllers by upstream's names. */
export const controllers: { name: string; start(context: ControllerContext, options: ControllersOptions): Controller | undefined }[] = [
  { name: 'deployment-controller', start: startDeploymentController },
  { name: 'replicaset-controller', start: startReplicaSetController },
  { name: 'replicationcontroller-controller', start: startReplicationController },
  { name: 'endpoints-controller', start: startEndpointsController },
  { name: 'endpointslice-controller', start: startEndpointSliceController },
  { name: 'serviceaccount-controller', start: startServiceAccountController },
  {
    name: 'serviceaccount-token-controller',
    start: (c, o) => (o.serviceAccountKey ? startTokensController(c, o.serviceAccountKey, o.rootCa) : undefined),
  },
  { name: 'root-ca-certificate-publisher-controller', start: (c, o) => startRootCaPublisher(c, o.rootCa) },
  { name: 'certificatesigningrequest-approving-controller', start: startCsrApprovingController },
  { name: 'certificatesigningrequest-signing-controller', start: (c, o) => startCsrSigningController(c, o.ca) },
  { name: 'certificatesigningrequest-cleaner-controller', start: startCsrCleanerController },
];

/** Starts kube-controller-manager: all controllers, on one set of informers. They end when the context's signal aborts. */
export function startControllers(context: ControllerContext, options: ControllersOptions): Controller[] {
  return controllers.map(({ start }) => start(context, options)).filter((c) => c !== undefined);
}
