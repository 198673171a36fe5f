import type { PolicyRule } from '../../api/generated/types.ts';

/** What each controller of kube-controller-manager may do with its own service account. */
export function controllerRoles(): { name: string; rules: PolicyRule[] }[] {
  return Object.entries(rules).map(([name, lines]) => ({ name, rules: [...lines, events].map(parse) }));
}

/** `VERBS GROUPS RESOURCES`, each joined by commas; `core` is the group without a name. */
const events = 'create,patch,update core,events.k8s.io events';

function parse(line: string): PolicyRule {
  const [verbs = '', groups = '', resources = '', names] = line.split(' ');
  return {
    verbs: verbs.split(','),
    apiGroups: groups.split(',').map((g) => (g === 'core' ? '' : g)),
    resources: resources.split(','),
    ...(names ? { resourceNames: names.split(',') } : {}),
  };
}

const all = 'get,list,watch';
const rules: Record<string, string[]> = {
  'attachdetach-controller': [
    'list,watch core persistentvolumeclaims,persistentvolumes',
    `${all} core nodes`,
    'patch,update core nodes/status',
    'list,watch core pods',
    'create,delete,get,list,patch,watch storage.k8s.io volumeattachments',
    `${all} storage.k8s.io csidrivers,csinodes`,
  ],
  'clusterrole-aggregation-controller': ['escalate,get,list,patch,update,watch rbac.authorization.k8s.io clusterroles'],
  'cronjob-controller': [
    'get,list,update,watch batch cronjobs',
    'create,delete,get,list,patch,update,watch batch jobs',
    'update batch cronjobs/status,cronjobs/finalizers',
    'delete,list core pods',
  ],
  'daemon-set-controller': [
    `${all} apps,extensions daemonsets`,
    'update apps,extensions daemonsets/status,daemonsets/finalizers',
    'list,watch core nodes',
    'create,delete,list,patch,watch core pods',
    'create core pods/binding',
    'create,delete,get,list,patch,update,watch apps controllerrevisions',
  ],
  'deployment-controller': [
    'get,list,update,watch apps,extensions deployments',
    'update apps,extensions deployments/status,deployments/finalizers',
    'create,delete,get,list,patch,update,watch apps,extensions replicasets',
    'get,list,update,watch core pods',
  ],
  'disruption-controller': [
    `${all} apps,extensions deployments,replicasets`,
    `${all} apps statefulsets`,
    `${all} core replicationcontrollers,pods`,
    `${all} policy poddisruptionbudgets`,
    'update policy poddisruptionbudgets/status',
    'patch,update core pods/status',
    'get * */scale',
  ],
  'endpoint-controller': [`${all} core pods,services`, 'create,delete,get,list,update,watch core endpoints', 'create core endpoints/restricted'],
  'endpointslice-controller': [
    `${all} core nodes,pods,services`,
    'update core services/finalizers',
    'create,delete,get,list,update,watch discovery.k8s.io endpointslices',
    'create discovery.k8s.io endpointslices/restricted',
  ],
  'endpointslicemirroring-controller': [
    `${all} core endpoints,services`,
    'update core services/finalizers,endpoints/finalizers',
    'create,delete,get,list,update,watch discovery.k8s.io endpointslices',
    'create discovery.k8s.io endpointslices/restricted',
  ],
  'ephemeral-volume-controller': [`${all} core pods`, 'update core pods/finalizers', 'create,get,list,watch core persistentvolumeclaims'],
  'expand-controller': [
    'get,list,patch,update,watch core persistentvolumes',
    'patch,update core persistentvolumeclaims/status',
    `${all} core persistentvolumeclaims`,
    `${all} storage.k8s.io storageclasses`,
  ],
  'generic-garbage-collector': ['delete,get,list,patch,update,watch * *'],
  'horizontal-pod-autoscaler': [
    `${all} autoscaling horizontalpodautoscalers`,
    'update autoscaling horizontalpodautoscalers/status',
    'get,update * */scale',
    'list core pods',
    'list metrics.k8s.io pods',
    'get,list custom.metrics.k8s.io,external.metrics.k8s.io *',
  ],
  'job-controller': [
    'get,list,patch,update,watch batch jobs',
    'update batch jobs/status,jobs/finalizers',
    'create,delete,list,patch,watch core pods',
  ],
  'legacy-service-account-token-cleaner': ['get core configmaps kube-apiserver-legacy-service-account-token-tracking', 'delete,patch core secrets'],
  'namespace-controller': [
    'delete,get,list,watch core namespaces',
    'update core namespaces/finalize,namespaces/status',
    'delete,deletecollection,get,list * *',
  ],
  'node-controller': [
    'delete,get,list,patch,update,watch core nodes',
    'patch,update core nodes/status',
    'patch,update core pods/status',
    'delete,get,list,watch core pods',
    `${all} networking.k8s.io clustercidrs`,
  ],
  'persistent-volume-binder': [
    'create,delete,get,list,update,watch core persistentvolumes',
    'update core persistentvolumes/status,persistentvolumeclaims/status',
    'get,list,update,watch core persistentvolumeclaims',
    'create,delete,get,list,watch core pods',
    `${all} storage.k8s.io storageclasses`,
    'create,delete,get,list,patch,update,watch core endpoints,services',
    'get,list core secrets',
    'get,list core nodes',
    'watch core events',
  ],
  'pod-garbage-collector': ['delete,list,watch core pods', 'get,list core nodes', 'patch core pods/status'],
  'pv-protection-controller': ['get,list,update,watch core persistentvolumes'],
  'pvc-protection-controller': ['get,list,update,watch core persistentvolumeclaims', `${all} core pods`],
  'replicaset-controller': [
    'get,list,update,watch apps,extensions replicasets',
    'update apps,extensions replicasets/status,replicasets/finalizers',
    'create,delete,list,patch,watch core pods',
  ],
  'replication-controller': [
    'get,list,update,watch core replicationcontrollers',
    'update core replicationcontrollers/status,replicationcontrollers/finalizers',
    'create,delete,list,patch,watch core pods',
  ],
  'resource-claim-controller': [
    `${all} core pods`,
    'update core pods/finalizers',
    'create,delete,get,list,watch resource.k8s.io resourceclaims',
    'patch,update resource.k8s.io resourceclaims/status',
    'patch,update core pods/status',
    `${all} resource.k8s.io resourceclaimtemplates`,
  ],
  podcertificaterequestcleaner: ['delete,get,list,watch certificates.k8s.io podcertificaterequests'],
  'resourcequota-controller': ['list,watch * *', 'update core resourcequotas/status'],
  'root-ca-cert-publisher': ['create,update core configmaps'],
  'route-controller': ['list,watch core nodes', 'patch core nodes/status'],
  'service-account-controller': ['create core serviceaccounts'],
  'service-cidrs-controller': [
    'get,list,patch,update,watch networking.k8s.io servicecidrs',
    'patch,update networking.k8s.io servicecidrs/finalizers,servicecidrs/status',
    `${all} networking.k8s.io ipaddresses`,
  ],
  'service-controller': [`${all} core services`, 'patch,update core services/status', 'list,watch core nodes'],
  'statefulset-controller': [
    'list,watch core pods',
    'get,list,watch apps statefulsets',
    'update apps statefulsets/status,statefulsets/finalizers',
    'create,delete,get,patch,update core pods',
    'create,delete,get,list,patch,update,watch apps controllerrevisions',
    'create,delete,get,list,update,watch core persistentvolumeclaims',
  ],
  'ttl-after-finished-controller': ['delete,get,list,watch batch jobs'],
  'ttl-controller': ['list,patch,update,watch core nodes'],
  'validatingadmissionpolicy-status-controller': [
    `${all} admissionregistration.k8s.io validatingadmissionpolicies`,
    'get,patch,update admissionregistration.k8s.io validatingadmissionpolicies/status',
  ],
  'volumeattributesclass-protection-controller': [
    'list,watch core persistentvolumeclaims,persistentvolumes',
    'get,list,update,watch storage.k8s.io volumeattributesclasses',
  ],
  'certificate-controller': [
    'delete,get,list,watch certificates.k8s.io certificatesigningrequests',
    'update certificates.k8s.io certificatesigningrequests/approval,certificatesigningrequests/status',
    'approve certificates.k8s.io signers kubernetes.io/kube-apiserver-client-kubelet',
    'sign certificates.k8s.io signers kubernetes.io/kube-apiserver-client,kubernetes.io/kube-apiserver-client-kubelet,kubernetes.io/kubelet-serving,kubernetes.io/legacy-unknown',
    'create authorization.k8s.io subjectaccessreviews',
  ],
};
