import { resources } from '../../src/api/generated/resources.ts';
import type { Pod } from '../../src/api/generated/types.ts';
import type { Client } from '../../src/client/client.ts';
import type { InformerFactory } from '../../src/client/informer.ts';

/** The controllers that are compared, by upstream's names. */
export const compared = [
  'deployment-controller',
  'replicaset-controller',
  'replicationcontroller-controller',
  'statefulset-controller',
  'daemonset-controller',
  'job-controller',
  'cronjob-controller',
  'disruption-controller',
  'endpoints-controller',
  'endpointslice-controller',
  'endpointslice-mirroring-controller',
  'horizontal-pod-autoscaler-controller',
  'clusterrole-aggregation-controller',
  'ttl-controller',
];

export const namespace = 'default';
const labels = (app: string) => ({ app });
const template = (app: string, image: string, spec: object = {}) => ({
  metadata: { labels: labels(app) },
  spec: { containers: [{ name: 'c', image, resources: { requests: { cpu: '10m', memory: '8Mi' } } }], ...spec },
});
const once = { restartPolicy: 'Never' };
const selector = (app: string) => ({ matchLabels: labels(app) });
const meta = (name: string, more: object = {}) => ({ namespace, name, ...more });

/** One thing done to a cluster. After each of these its controllers are left alone until they rest. */
export interface Step {
  title: string;
  act(client: Client): Promise<unknown>;
}

const create = (client: Client, type: any, object: object) => client.create(type, object as never);
const patch = (client: Client, type: any, name: string, body: object) => client.patch(type, { namespace, name }, 'merge', body);

export const steps: Step[] = [
  {
    title: 'nodes',
    async act(client) {
      for (const name of ['node-a', 'node-b', 'node-c']) {
        await create(client, resources.nodes, { metadata: { name, labels: { 'kubernetes.io/hostname': name } }, spec: {} });
        await client.patch(resources.nodes, { name }, 'merge', { spec: { taints: null } });
      }
    },
  },
  {
    title: 'workloads',
    async act(client) {
      const strategy = { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 1 } };
      await create(client, resources.deployments, {
        metadata: meta('web', { annotations: { note: 'kept' } }),
        spec: { replicas: 3, selector: selector('web'), template: template('web', 'web:1'), strategy },
      });
      await create(client, resources.deployments, {
        metadata: meta('again'),
        spec: { replicas: 2, selector: selector('again'), template: template('again', 'again:1'), strategy: { type: 'Recreate' } },
      });
      const volumeClaimTemplates = [
        { metadata: { name: 'data' }, spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'none', resources: { requests: { storage: '1Gi' } } } },
      ];
      await create(client, resources.statefulsets, {
        metadata: meta('db'),
        spec: { replicas: 3, serviceName: 'db', selector: selector('db'), template: template('db', 'db:1'), volumeClaimTemplates },
      });
      await create(client, resources.statefulsets, {
        metadata: meta('burst'),
        spec: {
          replicas: 2,
          serviceName: 'burst',
          podManagementPolicy: 'Parallel',
          ordinals: { start: 3 },
          selector: selector('burst'),
          template: template('burst', 'burst:1'),
          volumeClaimTemplates,
          persistentVolumeClaimRetentionPolicy: { whenDeleted: 'Delete', whenScaled: 'Retain' },
        },
      });
      await create(client, resources.daemonsets, { metadata: meta('agent'), spec: { selector: selector('agent'), template: template('agent', 'agent:1') } });
      await create(client, resources.replicationcontrollers, {
        metadata: meta('rc'),
        spec: { replicas: 2, selector: labels('rc'), template: template('rc', 'rc:1') },
      });
    },
  },
  {
    title: 'services and budgets',
    async act(client) {
      await create(client, resources.services, {
        metadata: meta('web', { labels: { tier: 'front' } }),
        spec: { clusterIP: '10.96.7.7', selector: labels('web'), ports: [{ name: 'http', port: 80, targetPort: 8080 }] },
      });
      await create(client, resources.services, { metadata: meta('db'), spec: { clusterIP: 'None', selector: labels('db'), ports: [{ port: 5432 }] } });
      await create(client, resources.services, { metadata: meta('outside'), spec: { clusterIP: '10.96.7.8', ports: [{ port: 443 }] } });
      const subsets = [{ addresses: [{ ip: '192.0.2.1' }], notReadyAddresses: [{ ip: '192.0.2.2' }], ports: [{ port: 443, protocol: 'TCP' }] }];
      await create(client, resources.endpoints, { metadata: meta('outside', { labels: { by: 'hand' } }), subsets });
      await create(client, resources.poddisruptionbudgets, { metadata: meta('web'), spec: { minAvailable: 2, selector: selector('web') } });
      await create(client, resources.poddisruptionbudgets, { metadata: meta('db'), spec: { maxUnavailable: '40%', selector: selector('db') } });
      await create(client, resources.poddisruptionbudgets, { metadata: meta('nothing'), spec: { minAvailable: '50%', selector: selector('nothing') } });
    },
  },
  {
    title: 'jobs',
    async act(client) {
      const job = (name: string, spec: object, image = 'succeeds') =>
        create(client, resources.jobs, { metadata: meta(name), spec: { template: template(name, image, once), ...spec } });
      await job('three', { completions: 3, parallelism: 2 });
      await job('indexed', { completionMode: 'Indexed', completions: 3, parallelism: 3 });
      const rule = { action: 'FailJob', onExitCodes: { operator: 'In', values: [42] } };
      await job('refused', { backoffLimit: 6, podFailurePolicy: { rules: [rule] } }, 'fails:42');
      await job('once', { backoffLimit: 0 }, 'fails:1');
      await job('indexes', { completionMode: 'Indexed', completions: 2, parallelism: 2, backoffLimitPerIndex: 0 }, 'fails-at-1');
      const successPolicy = { rules: [{ succeededIndexes: '0' }] };
      await job('enough', { completionMode: 'Indexed', completions: 2, parallelism: 2, successPolicy }, 'runs-at-1');
      await job('waiting', { suspend: true });
      await create(client, resources.cronjobs, {
        metadata: meta('yearly'),
        spec: { schedule: '0 0 1 1 *', timeZone: 'Europe/Berlin', jobTemplate: { spec: { template: template('yearly', 'succeeds', once) } } },
      });
    },
  },
  {
    title: 'autoscaling without metrics, and roles',
    async act(client) {
      await create(client, resources.horizontalpodautoscalers, {
        metadata: meta('web'),
        spec: {
          scaleTargetRef: { apiVersion: 'apps/v1', kind: 'Deployment', name: 'web' },
          minReplicas: 1,
          maxReplicas: 5,
          metrics: [{ type: 'Resource', resource: { name: 'cpu', target: { type: 'Utilization', averageUtilization: 50 } } }],
        },
      });
      const rules = [{ apiGroups: ['example.com'], resources: ['things'], verbs: ['get', 'list'] }];
      await create(client, resources.clusterroles, { metadata: { name: 'part', labels: { to: 'whole' } }, rules });
      const aggregationRule = { clusterRoleSelectors: [{ matchLabels: { to: 'whole' } }] };
      await create(client, resources.clusterroles, { metadata: { name: 'whole' }, aggregationRule, rules: [] });
    },
  },
  {
    title: 'updates',
    async act(client) {
      const image = (name: string) => ({ spec: { template: { spec: { containers: [{ name: 'c', image: name, ...requests }] } } } });
      await patch(client, resources.deployments, 'web', image('web:2'));
      await patch(client, resources.deployments, 'again', image('again:2'));
      await patch(client, resources.statefulsets, 'db', image('db:2'));
      await patch(client, resources.statefulsets, 'burst', image('burst:2'));
      await patch(client, resources.daemonsets, 'agent', image('agent:2'));
      await patch(client, resources.jobs, 'waiting', { spec: { suspend: false } });
    },
  },
  {
    title: 'sizes',
    async act(client) {
      await patch(client, resources.deployments, 'web', { spec: { replicas: 5 } });
      await patch(client, resources.statefulsets, 'db', { spec: { replicas: 1 } });
      await patch(client, resources.statefulsets, 'burst', { spec: { replicas: 1 } });
      await patch(client, resources.replicationcontrollers, 'rc', { spec: { replicas: 1 } });
      await client.patch(resources.nodes, { name: 'node-c' }, 'merge', { spec: { taints: [{ key: 'k', effect: 'NoExecute' }] } });
    },
  },
  {
    title: 'a rollout that cannot be done, and the way back',
    async act(client) {
      await patch(client, resources.deployments, 'web', { spec: { template: { spec: { containers: [{ name: 'c', image: 'never-ready', ...requests }] } } } });
      await patch(client, resources.statefulsets, 'db', { spec: { template: { spec: { containers: [{ name: 'c', image: 'db:1', ...requests }] } } } });
    },
  },
  {
    title: 'a released pod and deletions',
    async act(client) {
      const pods = (await client.list<Pod>(resources.pods, { namespace, labelSelector: 'app=rc' })).items;
      await patch(client, resources.pods, pods[0]!.metadata.name, { metadata: { labels: { app: 'free' } } });
      await patch(client, resources.endpoints, 'outside', { subsets: [{ addresses: [{ ip: '192.0.2.3' }], ports: [{ port: 444, protocol: 'TCP' }] }] });
      await client.delete(resources.poddisruptionbudgets, { namespace, name: 'nothing' });
    },
  },
];

const requests = { resources: { requests: { cpu: '10m', memory: '8Mi' } } };

/**
 * Scheduler and kubelets at once, the same on both sides: binds every pod to the node it is pinned to, or to the first, and makes it
 * what its image says: ready, ended well or badly, or never ready.
 */
export function playNodes(client: Client, informers: InformerFactory): void {
  let address = 0;
  const pods = informers.informer<Pod>(resources.pods);
  const nodeFor = (pod: Pod) => {
    const terms = pod.spec.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
    return terms?.[0]?.matchFields?.[0]?.values?.[0] ?? 'node-a';
  };
  const act = async (pod: Pod) => {
    const { name, deletionTimestamp } = pod.metadata;
    if (deletionTimestamp) {
      if (pod.spec.nodeName) await client.delete(resources.pods, pod.metadata, { gracePeriodSeconds: 0 });
      return;
    }
    if (!pod.spec.nodeName) {
      const target = { kind: 'Node', name: nodeFor(pod) };
      await client.createSubresource(resources.pods, pod.metadata, 'binding', { apiVersion: 'v1', kind: 'Binding', metadata: { name }, target });
      return;
    }
    if (pod.status?.phase !== 'Pending' || pod.status.podIP) return;
    const at = `${new Date().toISOString().slice(0, 19)}Z`;
    const image = pod.spec.containers[0]!.image!;
    const index = pod.metadata.annotations?.['batch.kubernetes.io/job-completion-index'];
    const failure = /^fails:(\d+)$/.exec(image)?.[1] ?? (image === 'fails-at-1' && index === '1' ? '1' : undefined);
    const succeeds = image === 'succeeds' || (image === 'fails-at-1' && index !== '1') || (image === 'runs-at-1' && index !== '1');
    const ended = failure !== undefined || succeeds;
    const ready = !ended && image !== 'never-ready';
    const state = ended ? { terminated: { exitCode: Number(failure ?? 0), finishedAt: at } } : { running: { startedAt: at } };
    const ip = `10.244.0.${++address}`;
    const others = (pod.status.conditions ?? []).filter((c) => c.type !== 'Ready');
    const status = {
      ...pod.status,
      phase: failure !== undefined ? 'Failed' : succeeds ? 'Succeeded' : 'Running',
      startTime: at,
      podIP: ip,
      podIPs: [{ ip }],
      conditions: [...others, { type: 'Ready', status: ready ? 'True' : 'False', lastTransitionTime: at }],
      containerStatuses: [{ name: 'c', image, imageID: '', ready, restartCount: 0, state }],
    };
    await client.update(resources.pods, { ...pod, status } as Pod, { subresource: 'status' });
  };
  const tend = (pod: Pod) => {
    act(pod).catch(() => {
      // Overtaken by another writer: the next event brings the pod again.
    });
  };
  pods.addHandlers({ onAdd: tend, onUpdate: (_, pod) => tend(pod) });
}
