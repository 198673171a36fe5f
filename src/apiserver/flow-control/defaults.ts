import type { FlowSchema, PriorityLevelConfiguration } from '../../api/generated/types.ts';

/** The configuration that kube-apiserver starts with: what must be there, and what it suggests. */

const annotations = { 'apf.kubernetes.io/autoupdate-spec': 'true' };
const apiVersion = 'flowcontrol.apiserver.k8s.io/v1';

const level = (name: string, spec: object) =>
  ({ apiVersion, kind: 'PriorityLevelConfiguration', metadata: { name, annotations }, spec }) as unknown as PriorityLevelConfiguration;
const queued = (name: string, nominalConcurrencyShares: number, lendablePercent: number, queues: number, handSize: number) =>
  level(name, {
    type: 'Limited',
    limited: {
      nominalConcurrencyShares,
      lendablePercent,
      limitResponse: { type: 'Queue', queuing: { queues, handSize, queueLengthLimit: 50 } },
    },
  });

export const defaultLevels: PriorityLevelConfiguration[] = [
  level('exempt', { type: 'Exempt', exempt: { nominalConcurrencyShares: 0, lendablePercent: 0 } }),
  level('catch-all', { type: 'Limited', limited: { nominalConcurrencyShares: 5, lendablePercent: 0, limitResponse: { type: 'Reject' } } }),
  queued('system', 30, 33, 64, 6),
  queued('node-high', 40, 25, 64, 6),
  queued('leader-election', 10, 0, 16, 4),
  queued('workload-high', 40, 50, 128, 6),
  queued('workload-low', 100, 90, 128, 6),
  queued('global-default', 20, 50, 128, 6),
];

const groups = (...names: string[]) => names.map((name) => ({ kind: 'Group', group: { name } }));
const users = (...names: string[]) => names.map((name) => ({ kind: 'User', user: { name } }));
const kubeSystemAccounts = [{ kind: 'ServiceAccount', serviceAccount: { name: '*', namespace: 'kube-system' } }];
const everybody = groups('system:unauthenticated', 'system:authenticated');
const rule = (verbs: string[], apiGroups: string[], kinds: string[], clusterScope: boolean) => ({
  verbs,
  apiGroups,
  resources: kinds,
  ...(clusterScope ? { clusterScope } : {}),
  namespaces: ['*'],
});
const everything = {
  resourceRules: [rule(['*'], ['*'], ['*'], true)],
  nonResourceRules: [{ verbs: ['*'], nonResourceURLs: ['*'] }],
};

const schema = (name: string, priority: string, matchingPrecedence: number, distinguisher: '' | 'ByUser' | 'ByNamespace', rules: object) =>
  ({
    apiVersion,
    kind: 'FlowSchema',
    metadata: { name, annotations },
    spec: {
      priorityLevelConfiguration: { name: priority },
      matchingPrecedence,
      ...(distinguisher ? { distinguisherMethod: { type: distinguisher } } : {}),
      rules: [rules],
    },
  }) as unknown as FlowSchema;

const leases = rule(['get', 'create', 'update'], ['coordination.k8s.io'], ['leases'], false);

export const defaultSchemas: FlowSchema[] = [
  schema('exempt', 'exempt', 1, '', { subjects: groups('system:masters'), ...everything }),
  schema('probes', 'exempt', 2, '', {
    subjects: everybody,
    nonResourceRules: [{ verbs: ['get'], nonResourceURLs: ['/healthz', '/readyz', '/livez'] }],
  }),
  schema('system-leader-election', 'leader-election', 100, 'ByUser', {
    subjects: [...users('system:kube-controller-manager', 'system:kube-scheduler'), ...kubeSystemAccounts],
    resourceRules: [leases],
  }),
  schema('system-node-high', 'node-high', 400, 'ByUser', {
    subjects: groups('system:nodes'),
    resourceRules: [rule(['*'], [''], ['nodes', 'nodes/status'], true), rule(['*'], ['coordination.k8s.io'], ['leases'], false)],
  }),
  schema('system-nodes', 'system', 500, 'ByUser', { subjects: groups('system:nodes'), ...everything }),
  schema('kube-controller-manager', 'workload-high', 800, 'ByNamespace', { subjects: users('system:kube-controller-manager'), ...everything }),
  schema('kube-scheduler', 'workload-high', 800, 'ByNamespace', { subjects: users('system:kube-scheduler'), ...everything }),
  schema('kube-system-service-accounts', 'workload-high', 900, 'ByNamespace', { subjects: kubeSystemAccounts, ...everything }),
  schema('service-accounts', 'workload-low', 9000, 'ByUser', { subjects: groups('system:serviceaccounts'), ...everything }),
  schema('global-default', 'global-default', 9900, 'ByUser', { subjects: everybody, ...everything }),
  schema('catch-all', 'catch-all', 10_000, 'ByUser', { subjects: everybody, ...everything }),
];
