import { startAttachDetachController } from './attachdetach.ts';
import { startTokenCleaner } from './bootstraptokens.ts';
import { startClusterRoleAggregationController } from './clusterroleaggregation.ts';
import type { Controller, ControllerContext } from './controller.ts';
import { startCronJobController } from './cronjob.ts';
import { startCsrApprovingController } from './csrapproving.ts';
import { startCsrCleanerController } from './csrcleaner.ts';
import { startPodCertificateRequestCleaner } from './podcertificaterequestcleaner.ts';
import { startCsrSigningController } from './csrsigning.ts';
import { startDaemonSetController } from './daemonset.ts';
import { startDeploymentController } from './deployment.ts';
import { startDeviceTaintEvictionController } from './devicetainteviction.ts';
import { startDisruptionController } from './disruption.ts';
import { startEndpointsController } from './endpoints.ts';
import { startEndpointSliceController } from './endpointslice.ts';
import { startEndpointSliceMirroringController } from './endpointslicemirroring.ts';
import { startEphemeralVolumeController } from './ephemeral-volume.ts';
import { startGarbageCollector } from './garbagecollector.ts';
import { startHorizontalPodAutoscaler } from './horizontalpodautoscaler.ts';
import { startJobController } from './job.ts';
import { startLegacyTokenCleaner } from './legacytokens.ts';
import { startNamespaceController } from './namespace.ts';
import { startNodeIpamController } from './nodeipam.ts';
import { startNodeLifecycleController } from './nodelifecycle.ts';
import { startNodeTtlController } from './nodettl.ts';
import { startPersistentVolumeBinder } from './persistentvolume.ts';
import { startPodGcController } from './podgc.ts';
import { startReplicaSetController } from './replicaset.ts';
import { startReplicationController } from './replicationcontroller.ts';
import { startResourceClaimController } from './resourceclaim.ts';
import { startResourceQuotaController } from './resourcequota.ts';
import { startRootCaPublisher } from './rootca.ts';
import { startServiceAccountController } from './serviceaccount.ts';
import { startTokensController } from './serviceaccount-tokens.ts';
import { startServiceCidrController } from './servicecidr.ts';
import { startStatefulSetController } from './statefulset.ts';
import { startPvcProtectionController, startPvProtectionController, startVacProtectionController } from './storage-protection.ts';
import { startTaintEvictionController } from './tainteviction.ts';
import { startTtlAfterFinishedController } from './ttlafterfinished.ts';
import { startVolumeExpandController } from './volumeexpand.ts';

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
  /** The same for a node that never reported; 60 s. */
  nodeStartupGracePeriodMs?: number;
  /** Upstream's interval between looks at all nodes. There is none here: each node has a timer of its own. */
  nodeMonitorPeriodMs?: number;
  /** How long a Node has to be gone before its pods are removed, milliseconds; 5 s. */
  podGcQuarantineMs?: number;
  /** How long a node that is not healthy may keep a volume that it does not unmount, milliseconds; 6 minutes. */
  maxWaitForUnmountMs?: number;
  /** Ended pods kept at most; 12500. */
  terminatedPodThreshold?: number;
}

/** The controllers by upstream's names. */
export const controllers: { name: string; start(context: ControllerContext, options: ControllersOptions): Controller | undefined }[] = [
  { name: 'deployment-controller', start: startDeploymentController },
  { name: 'replicaset-controller', start: startReplicaSetController },
  { name: 'replicationcontroller-controller', start: startReplicationController },
  { name: 'statefulset-controller', start: startStatefulSetController },
  { name: 'daemonset-controller', start: startDaemonSetController },
  { name: 'job-controller', start: (c) => startJobController(c) },
  { name: 'ttl-after-finished-controller', start: startTtlAfterFinishedController },
  { name: 'cronjob-controller', start: startCronJobController },
  { name: 'disruption-controller', start: startDisruptionController },
  { name: 'horizontal-pod-autoscaler-controller', start: startHorizontalPodAutoscaler },
  { name: 'endpoints-controller', start: startEndpointsController },
  { name: 'endpointslice-controller', start: startEndpointSliceController },
  { name: 'endpointslice-mirroring-controller', start: startEndpointSliceMirroringController },
  { name: 'resourcequota-controller', start: startResourceQuotaController },
  { name: 'clusterrole-aggregation-controller', start: startClusterRoleAggregationController },
  { name: 'serviceaccount-controller', start: startServiceAccountController },
  {
    name: 'serviceaccount-token-controller',
    start: (c, o) => (o.serviceAccountKey ? startTokensController(c, o.serviceAccountKey, o.rootCa) : undefined),
  },
  { name: 'root-ca-certificate-publisher-controller', start: (c, o) => startRootCaPublisher(c, o.rootCa) },
  { name: 'certificatesigningrequest-approving-controller', start: startCsrApprovingController },
  { name: 'certificatesigningrequest-signing-controller', start: (c, o) => startCsrSigningController(c, o.ca) },
  { name: 'certificatesigningrequest-cleaner-controller', start: startCsrCleanerController },
  { name: 'podcertificaterequest-cleaner-controller', start: startPodCertificateRequestCleaner },
  {
    name: 'node-lifecycle-controller',
    start: (c, o) => startNodeLifecycleController(c, { gracePeriodMs: o.nodeMonitorGracePeriodMs, startupGracePeriodMs: o.nodeStartupGracePeriodMs }),
  },
  { name: 'taint-eviction-controller', start: startTaintEvictionController },
  { name: 'node-ipam-controller', start: (c, o) => startNodeIpamController(c, o.clusterCidr, o.nodeCidrMaskSize) },
  {
    name: 'pod-garbage-collector-controller',
    start: (c, o) => startPodGcController(c, { terminatedPodThreshold: o.terminatedPodThreshold, quarantineMs: o.podGcQuarantineMs }),
  },
  { name: 'namespace-controller', start: startNamespaceController },
  { name: 'garbage-collector-controller', start: startGarbageCollector },
  { name: 'persistentvolume-binder-controller', start: startPersistentVolumeBinder },
  {
    name: 'persistentvolume-attach-detach-controller',
    start: (c, o) => startAttachDetachController(c, { maxWaitForUnmountMs: o.maxWaitForUnmountMs }),
  },
  { name: 'persistentvolumeclaim-protection-controller', start: startPvcProtectionController },
  { name: 'persistentvolume-protection-controller', start: startPvProtectionController },
  { name: 'volumeattributesclass-protection-controller', start: startVacProtectionController },
  { name: 'persistentvolume-expander-controller', start: startVolumeExpandController },
  { name: 'ttl-controller', start: startNodeTtlController },
  { name: 'service-cidr-controller', start: startServiceCidrController },
  { name: 'token-cleaner-controller', start: startTokenCleaner },
  { name: 'legacy-serviceaccount-token-cleaner-controller', start: startLegacyTokenCleaner },
  { name: 'ephemeral-volume-controller', start: startEphemeralVolumeController },
  { name: 'resourceclaim-controller', start: startResourceClaimController },
  { name: 'device-taint-eviction-controller', start: startDeviceTaintEvictionController },
];

/** Starts kube-controller-manager: all controllers, on one set of informers. They end when the context's signal aborts. */
export function startControllers(context: ControllerContext, options: ControllersOptions): Controller[] {
  return controllers.map(({ start }) => start(context, options)).filter((c) => c !== undefined);
}
