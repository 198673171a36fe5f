import type { ClusterRole, PolicyRule } from '../../api/generated/types.ts';
import { controllerRoles } from './controller-roles.ts';

/** The cluster roles that a Kubernetes API server has from its start: the rules of upstream's bootstrap policy. */

export type Rules = PolicyRule[];
export const rule = (verbs: string, groups: string, resources: string, resourceNames?: string[]): PolicyRule => ({
  verbs: verbs.split(' '),
  apiGroups: groups.split(' ').map((g) => (g === 'core' ? '' : g)),
  resources: resources.split(' '),
  ...(resourceNames ? { resourceNames } : {}),
});
export const urls = (verbs: string, ...nonResourceURLs: string[]): PolicyRule => ({ verbs: verbs.split(' '), nonResourceURLs });

const read = 'get list watch';
const write = 'create delete deletecollection patch update';
const readWrite = 'create delete deletecollection get list patch update watch';
const events = rule('create patch update', 'core events.k8s.io', 'events');
const reviews: Rules = [rule('create', 'authentication.k8s.io', 'tokenreviews'), rule('create', 'authorization.k8s.io', 'subjectaccessreviews')];

const workloads = 'daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale statefulsets statefulsets/scale';
const editRules: Rules = [
  rule(read, 'core', 'pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy'),
  rule('impersonate', 'core', 'serviceaccounts'),
  rule(write, 'core', 'pods pods/attach pods/exec pods/portforward pods/proxy'),
  rule('create', 'core', 'pods/eviction'),
  rule(
    write,
    'core',
    'configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets serviceaccounts services services/proxy',
  ),
  rule('create', 'core', 'serviceaccounts/token'),
  rule(write, 'core events.k8s.io', 'events'),
  rule(write, 'apps', workloads),
  rule(write, 'autoscaling', 'horizontalpodautoscalers'),
  rule(write, 'batch', 'cronjobs jobs'),
  rule(
    write,
    'extensions',
    'daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets replicasets/scale replicationcontrollers/scale',
  ),
  rule(write, 'policy', 'poddisruptionbudgets'),
  rule(write, 'networking.k8s.io', 'ingresses networkpolicies'),
  rule(readWrite, 'coordination.k8s.io', 'leases'),
  rule(write, 'resource.k8s.io', 'resourceclaims resourceclaimtemplates'),
];
const viewRules: Rules = [
  rule(
    read,
    'core',
    'configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status',
  ),
  rule(
    read,
    'core',
    'bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status resourcequotas resourcequotas/status',
  ),
  rule(read, 'core', 'namespaces'),
  rule(read, 'core events.k8s.io', 'events'),
  rule(read, 'discovery.k8s.io', 'endpointslices'),
  rule(
    read,
    'apps',
    'controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status',
  ),
  rule(read, 'autoscaling', 'horizontalpodautoscalers horizontalpodautoscalers/status'),
  rule(read, 'batch', 'cronjobs cronjobs/status jobs jobs/status'),
  rule(
    read,
    'extensions',
    'daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status networkpolicies replicasets replicasets/scale replicasets/status replicationcontrollers/scale',
  ),
  rule(read, 'policy', 'poddisruptionbudgets poddisruptionbudgets/status'),
  rule(read, 'networking.k8s.io', 'ingresses ingresses/status networkpolicies'),
  rule(read, 'resource.k8s.io', 'resourceclaims resourceclaims/status resourceclaimtemplates'),
];
const adminRules: Rules = [
  rule('create', 'authorization.k8s.io', 'localsubjectaccessreviews'),
  rule(readWrite, 'rbac.authorization.k8s.io', 'rolebindings roles'),
];

const label = (to: string) => ({ [`rbac.authorization.k8s.io/aggregate-to-${to}`]: 'true' });

export const nodeRules: Rules = [
  rule('create', 'authentication.k8s.io', 'tokenreviews'),
  rule('create', 'authorization.k8s.io', 'localsubjectaccessreviews subjectaccessreviews'),
  rule(read, 'core', 'services'),
  rule('create get list watch', 'core', 'nodes'),
  rule('patch update', 'core', 'nodes/status'),
  rule('patch update', 'core', 'nodes'),
  rule('create patch update', 'core events.k8s.io', 'events'),
  rule(read, 'core', 'pods'),
  rule('create delete', 'core', 'pods'),
  rule('patch update', 'core', 'pods/status'),
  rule('create', 'core', 'pods/eviction'),
  rule(read, 'core', 'configmaps secrets'),
  rule('get', 'core', 'persistentvolumeclaims persistentvolumes'),
  rule('get', 'core', 'endpoints'),
  rule('create get list watch', 'certificates.k8s.io', 'certificatesigningrequests'),
  rule('create delete get patch update', 'coordination.k8s.io', 'leases'),
  rule('get', 'storage.k8s.io', 'volumeattachments'),
  rule('create', 'core', 'serviceaccounts/token'),
  rule('get patch update', 'core', 'persistentvolumeclaims/status'),
  rule(read, 'storage.k8s.io', 'csidrivers'),
  rule('create delete get patch update', 'storage.k8s.io', 'csinodes'),
  rule(read, 'node.k8s.io', 'runtimeclasses'),
  rule('get', 'resource.k8s.io', 'resourceclaims'),
  rule('deletecollection', 'resource.k8s.io', 'resourceslices'),
  rule(read, 'certificates.k8s.io', 'clustertrustbundles'),
  rule('get', 'core', 'serviceaccounts'),
  rule('create get list watch', 'certificates.k8s.io', 'podcertificaterequests'),
];

const schedulerRules: Rules = [
  events,
  rule('create', 'coordination.k8s.io', 'leases'),
  rule('get list update watch', 'coordination.k8s.io', 'leases', ['kube-scheduler']),
  rule(readWrite, 'coordination.k8s.io', 'leasecandidates'),
  rule(read, 'core', 'nodes'),
  rule('delete get list watch', 'core', 'pods'),
  rule('create', 'core', 'bindings pods/binding'),
  rule('patch update', 'core', 'pods/status'),
  rule(read, 'core', 'replicationcontrollers services'),
  rule(read, 'apps extensions', 'replicasets'),
  rule(read, 'apps', 'statefulsets'),
  rule(read, 'policy', 'poddisruptionbudgets'),
  rule(read, 'core', 'persistentvolumeclaims persistentvolumes'),
  ...reviews,
  rule(read, 'storage.k8s.io', 'csinodes'),
  rule(read, 'storage.k8s.io', 'volumeattachments'),
  rule(read, 'core', 'namespaces'),
  rule(read, 'storage.k8s.io', 'csidrivers'),
  rule(read, 'storage.k8s.io', 'csistoragecapacities'),
  rule(read, 'resource.k8s.io', 'deviceclasses'),
  rule('get list patch update watch', 'resource.k8s.io', 'resourceclaims'),
  rule('get list patch update watch', 'resource.k8s.io', 'resourceclaims/status'),
  rule('update', 'core', 'pods/finalizers'),
  rule(read, 'resource.k8s.io', 'resourceslices'),
  rule('create delete', 'resource.k8s.io', 'resourceclaims'),
  rule(read, 'resource.k8s.io', 'devicetaintrules'),
  rule('patch update', 'resource.k8s.io', 'resourceclaims/binding'),
];

const controllerManagerRules: Rules = [
  events,
  rule('create', 'coordination.k8s.io', 'leases'),
  rule('get update', 'coordination.k8s.io', 'leases', ['kube-controller-manager']),
  rule('create', 'core', 'secrets serviceaccounts'),
  rule('delete', 'core', 'secrets'),
  rule('get', 'core', 'configmaps namespaces secrets serviceaccounts'),
  rule('update', 'core', 'secrets serviceaccounts'),
  ...reviews,
  rule('list watch', '*', '*'),
  rule('create', 'core', 'serviceaccounts/token'),
];

interface RoleSpec {
  name: string;
  rules?: Rules;
  labels?: Record<string, string>;
  aggregate?: string[];
}

const roles: RoleSpec[] = [
  { name: 'cluster-admin', rules: [rule('*', '*', '*'), urls('*', '*')] },
  {
    name: 'system:discovery',
    rules: [urls('get', '/api', '/api/*', '/apis', '/apis/*', '/healthz', '/livez', '/openapi', '/openapi/*', '/readyz', '/version', '/version/')],
  },
  {
    name: 'system:monitoring',
    rules: [
      urls('get', '/flagz', '/healthz', '/healthz/*', '/livez', '/livez/*', '/metrics', '/metrics/slis', '/readyz', '/readyz/*', '/statusz'),
      rule('get', 'core', 'nodes/metrics'),
    ],
  },
  {
    name: 'system:basic-user',
    rules: [
      rule('create', 'authorization.k8s.io', 'selfsubjectaccessreviews selfsubjectrulesreviews'),
      rule('create', 'authentication.k8s.io', 'selfsubjectreviews'),
    ],
  },
  { name: 'system:public-info-viewer', rules: [urls('get', '/healthz', '/livez', '/readyz', '/version', '/version/')] },
  { name: 'admin', aggregate: ['admin'] },
  { name: 'edit', labels: label('admin'), aggregate: ['edit'] },
  { name: 'view', labels: label('edit'), aggregate: ['view'] },
  { name: 'system:aggregate-to-admin', labels: label('admin'), rules: adminRules },
  { name: 'system:aggregate-to-edit', labels: label('edit'), rules: editRules },
  { name: 'system:aggregate-to-view', labels: label('view'), rules: viewRules },
  { name: 'system:heapster', rules: [rule(read, 'core', 'events namespaces nodes pods'), rule(read, 'extensions', 'deployments')] },
  { name: 'system:node', rules: nodeRules },
  { name: 'system:node-problem-detector', rules: [rule('get', 'core', 'nodes'), rule('patch', 'core', 'nodes/status'), events] },
  {
    name: 'system:kubelet-api-admin',
    rules: [
      rule(read, 'core', 'nodes'),
      rule('proxy', 'core', 'nodes'),
      rule('*', 'core', 'nodes/log nodes/metrics nodes/proxy nodes/stats'),
      rule('*', 'core', 'nodes/configz nodes/healthz nodes/pods'),
    ],
  },
  { name: 'system:node-bootstrapper', rules: [rule('create get list watch', 'certificates.k8s.io', 'certificatesigningrequests')] },
  { name: 'system:auth-delegator', rules: reviews },
  { name: 'system:kube-aggregator', rules: [rule(read, 'core', 'endpoints services')] },
  { name: 'system:kube-controller-manager', rules: controllerManagerRules },
  {
    name: 'system:kube-dns',
    rules: [rule('list watch', 'core', 'endpoints services')],
  },
  {
    name: 'system:persistent-volume-provisioner',
    rules: [
      rule('create delete get list watch', 'core', 'persistentvolumes'),
      rule('get list update watch', 'core', 'persistentvolumeclaims'),
      rule(read, 'storage.k8s.io', 'storageclasses'),
      rule('watch', 'core', 'events'),
      events,
    ],
  },
  {
    name: 'system:certificates.k8s.io:certificatesigningrequests:nodeclient',
    rules: [rule('create', 'certificates.k8s.io', 'certificatesigningrequests/nodeclient')],
  },
  {
    name: 'system:certificates.k8s.io:certificatesigningrequests:selfnodeclient',
    rules: [rule('create', 'certificates.k8s.io', 'certificatesigningrequests/selfnodeclient')],
  },
  {
    name: 'system:volume-scheduler',
    rules: [
      rule('get list patch update watch', 'core', 'persistentvolumes'),
      rule(read, 'storage.k8s.io', 'storageclasses'),
      rule('get list patch update watch', 'core', 'persistentvolumeclaims'),
    ],
  },
  {
    name: 'system:certificates.k8s.io:legacy-unknown-approver',
    rules: [rule('approve', 'certificates.k8s.io', 'signers', ['kubernetes.io/legacy-unknown'])],
  },
  {
    name: 'system:certificates.k8s.io:kubelet-serving-approver',
    rules: [rule('approve', 'certificates.k8s.io', 'signers', ['kubernetes.io/kubelet-serving'])],
  },
  {
    name: 'system:certificates.k8s.io:kube-apiserver-client-approver',
    rules: [rule('approve', 'certificates.k8s.io', 'signers', ['kubernetes.io/kube-apiserver-client'])],
  },
  {
    name: 'system:certificates.k8s.io:kube-apiserver-client-kubelet-approver',
    rules: [rule('approve', 'certificates.k8s.io', 'signers', ['kubernetes.io/kube-apiserver-client-kubelet'])],
  },
  {
    name: 'system:service-account-issuer-discovery',
    rules: [urls('get', '/.well-known/openid-configuration', '/.well-known/openid-configuration/', '/openid/v1/jwks', '/openid/v1/jwks/')],
  },
  {
    name: 'system:node-proxier',
    rules: [
      rule('list watch', 'core', 'endpoints services'),
      rule(read, 'core', 'nodes'),
      events,
      rule('list watch', 'networking.k8s.io', 'servicecidrs'),
      rule('list watch', 'discovery.k8s.io', 'endpointslices'),
    ],
  },
  { name: 'system:kube-scheduler', rules: schedulerRules },
  { name: 'system:cluster-trust-bundle-discovery', rules: [rule(read, 'certificates.k8s.io', 'clustertrustbundles')] },
];

const bootstrapLabel = { 'kubernetes.io/bootstrapping': 'rbac-defaults' };
const autoupdate = { 'rbac.authorization.kubernetes.io/autoupdate': 'true' };
const group = 'rbac.authorization.k8s.io';
const apiVersion = `${group}/v1`;

export const defaultClusterRoles: ClusterRole[] = [
  ...roles,
  ...controllerRoles().map((r) => ({ name: `system:controller:${r.name}`, rules: r.rules }) as RoleSpec),
].map(({ name, rules, labels, aggregate }) => ({
  apiVersion,
  kind: 'ClusterRole',
  metadata: { name, labels: { ...bootstrapLabel, ...labels }, annotations: autoupdate },
  ...(aggregate
    ? { aggregationRule: { clusterRoleSelectors: aggregate.map((to) => ({ matchLabels: label(to) })) }, rules: [] }
    : { rules: rules ?? [] }),
})) as unknown as ClusterRole[];

type SubjectSpec = { kind: 'Group' | 'User' | 'ServiceAccount'; name: string; namespace?: string };
const subjects = (...list: SubjectSpec[]) => list.map((s) => (s.kind === 'ServiceAccount' ? s : { apiGroup: group, ...s }));
const groupOf = (name: string): SubjectSpec => ({ kind: 'Group', name });
const userOf = (name: string): SubjectSpec => ({ kind: 'User', name });
const accountOf = (name: string): SubjectSpec => ({ kind: 'ServiceAccount', name, namespace: 'kube-system' });

const bindings: [name: string, role: string, ...SubjectSpec[]][] = [
  ['cluster-admin', 'cluster-admin', groupOf('system:masters')],
  ['system:monitoring', 'system:monitoring', groupOf('system:monitoring')],
  ['system:discovery', 'system:discovery', groupOf('system:authenticated')],
  ['system:basic-user', 'system:basic-user', groupOf('system:authenticated')],
  ['system:public-info-viewer', 'system:public-info-viewer', groupOf('system:authenticated'), groupOf('system:unauthenticated')],
  ['system:node-proxier', 'system:node-proxier', userOf('system:kube-proxy')],
  ['system:kube-controller-manager', 'system:kube-controller-manager', userOf('system:kube-controller-manager')],
  ['system:kube-dns', 'system:kube-dns', accountOf('kube-dns')],
  ['system:kube-scheduler', 'system:kube-scheduler', userOf('system:kube-scheduler')],
  ['system:volume-scheduler', 'system:volume-scheduler', userOf('system:kube-scheduler')],
  // Nodes are authorized by the Node authorizer: this binding has no subjects.
  ['system:node', 'system:node'],
  ['system:service-account-issuer-discovery', 'system:service-account-issuer-discovery', groupOf('system:serviceaccounts')],
  ['system:cluster-trust-bundle-discovery', 'system:cluster-trust-bundle-discovery', groupOf('system:serviceaccounts')],
  ...controllerRoles().map((r): [string, string, SubjectSpec] => [`system:controller:${r.name}`, `system:controller:${r.name}`, accountOf(r.name)]),
];

export const defaultClusterRoleBindings = bindings.map(([name, role, ...who]) => ({
  apiVersion,
  kind: 'ClusterRoleBinding',
  metadata: { name, labels: bootstrapLabel, annotations: autoupdate },
  roleRef: { apiGroup: group, kind: 'ClusterRole', name: role },
  ...(who.length ? { subjects: subjects(...who) } : {}),
}));

const roleIn = (namespace: string, name: string, rules: Rules) => ({
  apiVersion,
  kind: 'Role',
  metadata: { name, namespace, labels: bootstrapLabel, annotations: autoupdate },
  rules,
});
const bindingIn = (namespace: string, name: string, role: string, ...who: SubjectSpec[]) => ({
  apiVersion,
  kind: 'RoleBinding',
  metadata: { name, namespace, labels: bootstrapLabel, annotations: autoupdate },
  roleRef: { apiGroup: group, kind: 'Role', name: role },
  subjects: subjects(...who),
});

const leaderElection: Rules = ['leases', 'leasecandidates'].map((r) => rule('create get list update watch', 'coordination.k8s.io', r));

export const defaultRoles = [
  roleIn('kube-system', 'extension-apiserver-authentication-reader', [rule(read, 'core', 'configmaps', ['extension-apiserver-authentication'])]),
  roleIn('kube-system', 'system:controller:bootstrap-signer', [rule(read, 'core', 'secrets')]),
  roleIn('kube-system', 'system:controller:token-cleaner', [rule('delete get list watch', 'core', 'secrets'), events]),
  roleIn('kube-system', 'system:controller:cloud-provider', [rule('create get list watch', 'core', 'configmaps')]),
  roleIn('kube-system', 'system::leader-locking-kube-controller-manager', leaderElection),
  roleIn('kube-system', 'system::leader-locking-kube-scheduler', leaderElection),
  roleIn('kube-public', 'system:controller:bootstrap-signer', [
    rule(read, 'core', 'configmaps'),
    rule('update', 'core', 'configmaps', ['cluster-info']),
    events,
  ]),
];

export const defaultRoleBindings = [
  bindingIn(
    'kube-system',
    'system::extension-apiserver-authentication-reader',
    'extension-apiserver-authentication-reader',
    userOf('system:kube-controller-manager'),
    userOf('system:kube-scheduler'),
  ),
  bindingIn('kube-system', 'system:controller:bootstrap-signer', 'system:controller:bootstrap-signer', accountOf('bootstrap-signer')),
  bindingIn('kube-system', 'system:controller:cloud-provider', 'system:controller:cloud-provider', accountOf('cloud-provider')),
  bindingIn('kube-system', 'system:controller:token-cleaner', 'system:controller:token-cleaner', accountOf('token-cleaner')),
  bindingIn(
    'kube-system',
    'system::leader-locking-kube-controller-manager',
    'system::leader-locking-kube-controller-manager',
    userOf('system:kube-controller-manager'),
    accountOf('kube-controller-manager'),
    accountOf('leader-election-controller'),
  ),
  bindingIn(
    'kube-system',
    'system::leader-locking-kube-scheduler',
    'system::leader-locking-kube-scheduler',
    userOf('system:kube-scheduler'),
    accountOf('kube-scheduler'),
  ),
  bindingIn('kube-public', 'system:controller:bootstrap-signer', 'system:controller:bootstrap-signer', accountOf('bootstrap-signer')),
];
