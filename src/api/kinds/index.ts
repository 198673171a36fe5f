import { builtinResources } from '../generated/resources.ts';
import { admissionStrategies } from '../admission/strategies.ts';
import { customResourceDefinition } from '../crd/definition-strategy.ts';
import { definitionOf } from '../schema.ts';
import type { KindStrategy } from '../scheme.ts';
import { pathSegmentProblems } from '../validation.ts';
import { apiService } from './api-service.ts';
import { horizontalPodAutoscaler } from './autoscaling.ts';
import * as cluster from './cluster.ts';
import { clusterTrustBundle } from './cluster-trust-bundle.ts';
import * as dynamic from './dynamic-resources.ts';
import { flowSchema, priorityLevel } from './flow-control.ts';
import * as networking from './networking.ts';
import { pod } from './pod.ts';
import { podCertificateRequest } from './pod-certificate-request.ts';
import { runtimeClass } from './runtime-class.ts';
import * as quota from './quota.ts';
import { endpoints, endpointSlice, service } from './service.ts';
import * as storage from './storage.ts';
import { tables } from './tables.ts';
import { specAndStatus } from './spec-and-status.ts';
import { cronJob, daemonSet, deployment, job, podTemplate, replicaSet, replicationController, statefulSet } from './workloads.ts';

const rbac = (s: KindStrategy): KindStrategy => ({ ...s, validateName: pathSegmentProblems });

const strategies: Record<string, KindStrategy> = {
  '/Pod': pod,
  '/Service': service,
  '/Endpoints': endpoints,
  '/Namespace': cluster.namespace,
  '/Node': cluster.node,
  '/PodTemplate': podTemplate,
  '/ReplicationController': replicationController,
  '/PersistentVolume': cluster.persistentVolume,
  '/PersistentVolumeClaim': cluster.persistentVolumeClaim,
  '/ConfigMap': cluster.configMap,
  '/Secret': cluster.secret,
  '/ServiceAccount': cluster.serviceAccount,
  '/Event': cluster.events.core,
  '/LimitRange': quota.limitRange,
  '/ResourceQuota': quota.resourceQuota,
  'networking.k8s.io/Ingress': networking.ingress,
  'networking.k8s.io/IngressClass': networking.ingressClass,
  'networking.k8s.io/IPAddress': networking.ipAddress,
  'networking.k8s.io/NetworkPolicy': networking.networkPolicy,
  'networking.k8s.io/ServiceCIDR': networking.serviceCidr,
  'events.k8s.io/Event': cluster.events.new,
  'apps/Deployment': deployment,
  'apps/ReplicaSet': replicaSet,
  'apps/StatefulSet': statefulSet,
  'apps/DaemonSet': daemonSet,
  'apps/ControllerRevision': cluster.controllerRevision,
  'batch/Job': job,
  'batch/CronJob': cronJob,
  'discovery.k8s.io/EndpointSlice': endpointSlice,
  'autoscaling/HorizontalPodAutoscaler': horizontalPodAutoscaler,
  'node.k8s.io/RuntimeClass': runtimeClass,
  'apiregistration.k8s.io/APIService': apiService,
  'flowcontrol.apiserver.k8s.io/FlowSchema': flowSchema,
  'flowcontrol.apiserver.k8s.io/PriorityLevelConfiguration': priorityLevel,
  'resource.k8s.io/DeviceClass': dynamic.deviceClass,
  'resource.k8s.io/ResourceClaim': dynamic.resourceClaim,
  'resource.k8s.io/ResourceClaimTemplate': dynamic.resourceClaimTemplate,
  'resource.k8s.io/ResourceSlice': dynamic.resourceSlice,
  'resource.k8s.io/DeviceTaintRule': dynamic.deviceTaintRule,
  'coordination.k8s.io/Lease': cluster.lease,
  'storage.k8s.io/CSIDriver': storage.csiDriver,
  'storage.k8s.io/CSINode': storage.csiNode,
  'storage.k8s.io/CSIStorageCapacity': storage.csiStorageCapacity,
  'storage.k8s.io/StorageClass': storage.storageClass,
  'storage.k8s.io/VolumeAttachment': storage.volumeAttachment,
  'storage.k8s.io/VolumeAttributesClass': storage.volumeAttributesClass,
  'certificates.k8s.io/CertificateSigningRequest': cluster.certificateSigningRequest,
  'certificates.k8s.io/ClusterTrustBundle': clusterTrustBundle,
  'certificates.k8s.io/PodCertificateRequest': podCertificateRequest,
  'rbac.authorization.k8s.io/Role': rbac(cluster.role),
  'rbac.authorization.k8s.io/ClusterRole': rbac(cluster.clusterRole),
  'rbac.authorization.k8s.io/RoleBinding': rbac(cluster.roleBinding),
  'rbac.authorization.k8s.io/ClusterRoleBinding': rbac(cluster.roleBinding),
  'policy/PodDisruptionBudget': cluster.podDisruptionBudget,
  'scheduling.k8s.io/PriorityClass': cluster.priorityClass,
  'apiextensions.k8s.io/CustomResourceDefinition': customResourceDefinition,
  ...admissionStrategies,
};

/** Kinds whose updates must name the version that they change. */
const needVersion = new Set([
  'admissionregistration.k8s.io/MutatingAdmissionPolicy',
  'admissionregistration.k8s.io/MutatingAdmissionPolicyBinding',
  'admissionregistration.k8s.io/MutatingWebhookConfiguration',
  'admissionregistration.k8s.io/ValidatingAdmissionPolicy',
  'admissionregistration.k8s.io/ValidatingAdmissionPolicyBinding',
  'admissionregistration.k8s.io/ValidatingWebhookConfiguration',
  'apiextensions.k8s.io/CustomResourceDefinition',
  'apiregistration.k8s.io/APIService',
  'certificates.k8s.io/ClusterTrustBundle',
  'certificates.k8s.io/PodCertificateRequest',
  'coordination.k8s.io/Lease',
  'coordination.k8s.io/LeaseCandidate',
  'internal.apiserver.k8s.io/StorageVersion',
  'lifecycle.k8s.io/Eviction',
  'lifecycle.k8s.io/EvictionRequest',
  'node.k8s.io/RuntimeClass',
  'policy/PodDisruptionBudget',
  'resource.k8s.io/ResourcePoolStatusRequest',
  'scheduling.k8s.io/CompositePodGroup',
  'scheduling.k8s.io/PodGroup',
  'scheduling.k8s.io/Workload',
  'storage.k8s.io/CSIDriver',
  'storage.k8s.io/CSINode',
  'storage.k8s.io/CSIStorageCapacity',
  'storage.k8s.io/VolumeAttachment',
  'storagemigration.k8s.io/StorageVersionMigration',
]);
/** Kinds of which an update creates what is not there. */
const createdByUpdate = new Set([
  '/Endpoints',
  '/Event',
  '/LimitRange',
  '/Service',
  'coordination.k8s.io/Lease',
  'coordination.k8s.io/LeaseCandidate',
  'events.k8s.io/Event',
  'node.k8s.io/RuntimeClass',
  'rbac.authorization.k8s.io/ClusterRole',
  'rbac.authorization.k8s.io/ClusterRoleBinding',
  'rbac.authorization.k8s.io/Role',
  'rbac.authorization.k8s.io/RoleBinding',
]);

const withStatus = new Set(builtinResources.filter((r) => r.subresources.some((s) => s.name === 'status')).map((r) => `${r.group}/${r.kind}`));
const generic = new Map<string, KindStrategy>();

/** The strategy of a kind. One without its own keeps status apart where it has that subresource, and is its schema else. */
export function strategyOf(group: string, kind: string): KindStrategy {
  const key = `${group}/${kind}`;
  let made = generic.get(key);
  if (!made) {
    const row = builtinResources.find((r) => r.group === group && r.kind === kind);
    const fields = row && definitionOf(row.definition)?.fields;
    const own = strategies[key] ?? (withStatus.has(key) && fields?.has('status') ? specAndStatus : {});
    const table = own.columns ?? tables[key];
    made = {
      ...own,
      ...(table ? { columns: table } : {}),
      allowUnconditionalUpdate: !needVersion.has(key),
      allowCreateOnUpdate: createdByUpdate.has(key),
    };
    generic.set(key, made);
  }
  return made;
}
