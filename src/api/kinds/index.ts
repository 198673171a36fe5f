import { builtinResources } from '../generated/resources.ts';
import { customResourceDefinition } from '../crd/definition-strategy.ts';
import { definitionOf } from '../schema.ts';
import type { KindStrategy } from '../scheme.ts';
import { pathSegmentProblems } from '../validation.ts';
import * as cluster from './cluster.ts';
import { pod } from './pod.ts';
import { endpoints, endpointSlice, service } from './service.ts';
import { specAndStatus } from './spec-and-status.ts';
import { cronJob, daemonSet, deployment, job, replicaSet, replicationController, statefulSet } from './workloads.ts';

const rbac = (s: KindStrategy): KindStrategy => ({ ...s, validateName: pathSegmentProblems });

const strategies: Record<string, KindStrategy> = {
  '/Pod': pod,
  '/Service': service,
  '/Endpoints': endpoints,
  '/Namespace': cluster.namespace,
  '/Node': cluster.node,
  '/ReplicationController': replicationController,
  '/PersistentVolume': cluster.persistentVolume,
  '/PersistentVolumeClaim': cluster.persistentVolumeClaim,
  '/ConfigMap': cluster.configMap,
  '/Secret': cluster.secret,
  '/ServiceAccount': cluster.serviceAccount,
  '/Event': cluster.event,
  '/LimitRange': cluster.limitRange,
  '/ResourceQuota': cluster.resourceQuota,
  'networking.k8s.io/NetworkPolicy': cluster.networkPolicy,
  'events.k8s.io/Event': cluster.event,
  'apps/Deployment': deployment,
  'apps/ReplicaSet': replicaSet,
  'apps/StatefulSet': statefulSet,
  'apps/DaemonSet': daemonSet,
  'apps/ControllerRevision': cluster.controllerRevision,
  'batch/Job': job,
  'batch/CronJob': cronJob,
  'discovery.k8s.io/EndpointSlice': endpointSlice,
  'coordination.k8s.io/Lease': cluster.lease,
  'storage.k8s.io/StorageClass': cluster.storageClass,
  'storage.k8s.io/CSINode': cluster.csiNode,
  'storage.k8s.io/VolumeAttachment': cluster.volumeAttachment,
  'certificates.k8s.io/CertificateSigningRequest': cluster.certificateSigningRequest,
  'rbac.authorization.k8s.io/Role': rbac(cluster.role),
  'rbac.authorization.k8s.io/ClusterRole': rbac(cluster.clusterRole),
  'rbac.authorization.k8s.io/RoleBinding': rbac(cluster.roleBinding),
  'rbac.authorization.k8s.io/ClusterRoleBinding': rbac(cluster.roleBinding),
  'policy/PodDisruptionBudget': cluster.podDisruptionBudget,
  'scheduling.k8s.io/PriorityClass': cluster.priorityClass,
  'apiextensions.k8s.io/CustomResourceDefinition': customResourceDefinition,
};

const withStatus = new Set(builtinResources.filter((r) => r.subresources.some((s) => s.name === 'status')).map((r) => `${r.group}/${r.kind}`));
const generic = new Map<string, KindStrategy>();

/** The strategy of a kind. One without its own keeps status apart where it has that subresource, and is its schema else. */
export function strategyOf(group: string, kind: string): KindStrategy {
  const key = `${group}/${kind}`;
  const own = strategies[key];
  if (own) return own;
  let made = generic.get(key);
  if (!made) {
    const row = builtinResources.find((r) => r.group === group && r.kind === kind);
    const fields = row && definitionOf(row.definition)?.fields;
    made = withStatus.has(key) && fields?.has('status') ? { ...specAndStatus } : {};
    generic.set(key, made);
  }
  return made;
}
