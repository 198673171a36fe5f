/** A cluster, and pods to place there, one after the other. */
export interface Case {
  title: string;
  nodes: object[];
  /** Pods that are there, on nodes. */
  there?: object[];
  /** Other objects, by plural. */
  objects?: Record<string, object[]>;
  pods: object[];
  /** Where each pod has to go; undefined for nowhere. */
  right: (string | undefined)[];
  /** Which of two pods gets which node is chance: the nodes are compared as a set. */
  anyOrder?: boolean;
  /**
   * Refused before any node is looked at. What upstream's then tells of preemption is an internal "not found": its DynamicResources
   * misses what it would have prepared. Ours says that preemption does not help.
   */
  refusedAtOnce?: boolean;
}

const hostname = 'kubernetes.io/hostname';
const zone = 'topology.kubernetes.io/zone';

const node = (name: string, o: { zone?: string; labels?: object; taints?: object[]; cpu?: string; memory?: string; pods?: string; more?: object; images?: object[]; unschedulable?: boolean } = {}) => {
  const room = { cpu: o.cpu ?? '4', memory: o.memory ?? '8Gi', pods: o.pods ?? '110', ...o.more };
  return {
    metadata: { name, labels: { [hostname]: name, ...(o.zone ? { [zone]: o.zone } : {}), ...o.labels } },
    spec: { ...(o.taints ? { taints: o.taints } : {}), ...(o.unschedulable ? { unschedulable: true } : {}) },
    status: { capacity: room, allocatable: room, conditions: [{ type: 'Ready', status: 'True' }], ...(o.images ? { images: o.images } : {}) },
  };
};
const zones = ['a', 'b', 'c'];
const threeZones = () => zones.map((z) => node(`node-${z}`, { zone: z }));

const pod = (spec: object = {}, o: { labels?: object; requests?: object; name?: string; image?: string } = {}) => ({
  metadata: { name: o.name ?? 'pod', labels: o.labels ?? { app: 'one' } },
  spec: {
    terminationGracePeriodSeconds: 0,
    containers: [{ name: 'c', image: o.image ?? 'app:1', ...(o.requests ? { resources: { requests: o.requests } } : {}) }],
    ...spec,
  },
});
const on = (nodeName: string, name: string, o: { labels?: object; requests?: object; spec?: object } = {}) => pod({ nodeName, ...o.spec }, { name, ...o });

const required = (...expressions: object[]) => ({
  affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchExpressions: expressions }] } } },
});
const term = (app: string, topologyKey: string) => ({ labelSelector: { matchLabels: { app } }, topologyKey });
const spread = (whenUnsatisfiable: string, topologyKey = zone, more: object = {}) => ({
  topologySpreadConstraints: [{ maxSkew: 1, topologyKey, whenUnsatisfiable, labelSelector: { matchLabels: { app: 'one' } }, ...more }],
});
const taint = (effect: string, key = 'dedicated') => ({ key, value: 'x', effect });
const claimed = { volumes: [{ name: 'data', persistentVolumeClaim: { claimName: 'data' } }] };
const volume = (z: string) => ({
  metadata: { name: 'volume' },
  spec: {
    capacity: { storage: '1Gi' },
    accessModes: ['ReadWriteOnce'],
    hostPath: { path: '/data' },
    storageClassName: 'none',
    claimRef: { namespace: 'default', name: 'data', uid: 'UID' },
    nodeAffinity: { required: { nodeSelectorTerms: [{ matchExpressions: [{ key: zone, operator: 'In', values: [z] }] }] } },
  },
});
const claim = (spec: object = {}) => ({
  metadata: { name: 'data', ...(('volumeName' in spec) ? { annotations: { 'pv.kubernetes.io/bind-completed': 'yes' } } : {}) },
  spec: { accessModes: ['ReadWriteOnce'], storageClassName: 'none', resources: { requests: { storage: '1Gi' } }, ...spec },
});

/** Cases with one right answer. */
export const cases: Case[] = [
  { title: 'a node selector', nodes: [node('a'), node('b', { labels: { disk: 'ssd' } }), node('c')], pods: [pod({ nodeSelector: { disk: 'ssd' } })], right: ['b'] },
  { title: 'node affinity, NotIn and Exists', nodes: [node('a', { labels: { disk: 'ssd' } }), node('b', { labels: { disk: 'hdd' } }), node('c')], pods: [pod(required({ key: 'disk', operator: 'NotIn', values: ['ssd'] }, { key: 'disk', operator: 'Exists' }))], right: ['b'] },
  { title: 'node affinity, Gt and Lt', nodes: [node('a', { labels: { rank: '1' } }), node('b', { labels: { rank: '5' } }), node('c', { labels: { rank: '9' } })], pods: [pod(required({ key: 'rank', operator: 'Gt', values: ['1'] }, { key: 'rank', operator: 'Lt', values: ['9'] }))], right: ['b'] },
  { title: 'node affinity by name', nodes: [node('a'), node('b')], pods: [pod({ affinity: { nodeAffinity: { requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms: [{ matchFields: [{ key: 'metadata.name', operator: 'In', values: ['b'] }] }] } } } })], right: ['b'] },
  {
    title: 'preferred node affinity, by weight',
    nodes: [node('a', { labels: { disk: 'ssd' } }), node('b', { labels: { cpu: 'fast' } }), node('c')],
    pods: [
      pod({
        affinity: {
          nodeAffinity: {
            preferredDuringSchedulingIgnoredDuringExecution: [
              { weight: 10, preference: { matchExpressions: [{ key: 'disk', operator: 'In', values: ['ssd'] }] } },
              { weight: 90, preference: { matchExpressions: [{ key: 'cpu', operator: 'Exists' }] } },
            ],
          },
        },
      }),
    ],
    right: ['b'],
  },
  { title: 'no node that the selector fits', nodes: threeZones(), pods: [pod({ nodeSelector: { disk: 'ssd' } })], right: [undefined] },
  { title: 'a taint that is not tolerated', nodes: [node('a', { taints: [taint('NoSchedule')] }), node('b')], pods: [pod()], right: ['b'] },
  { title: 'a taint that is tolerated, and a selector', nodes: [node('a', { taints: [taint('NoSchedule')], labels: { kind: 'x' } }), node('b')], pods: [pod({ nodeSelector: { kind: 'x' }, tolerations: [{ key: 'dedicated', operator: 'Equal', value: 'x', effect: 'NoSchedule' }] })], right: ['a'] },
  { title: 'a toleration of another value', nodes: [node('a', { taints: [taint('NoSchedule')] }), node('b', { taints: [taint('NoExecute', 'other')] })], pods: [pod({ tolerations: [{ key: 'dedicated', operator: 'Equal', value: 'y' }] })], right: [undefined] },
  { title: 'PreferNoSchedule', nodes: [node('a', { taints: [taint('PreferNoSchedule')] }), node('b'), node('c', { taints: [taint('PreferNoSchedule'), taint('PreferNoSchedule', 'more')] })], pods: [pod()], right: ['b'] },
  { title: 'a cordoned node', nodes: [node('a', { unschedulable: true, taints: [{ key: 'node.kubernetes.io/unschedulable', effect: 'NoSchedule' }] }), node('b')], pods: [pod()], right: ['b'] },
  { title: 'the node with room', nodes: [node('a', { cpu: '1' }), node('b', { cpu: '3' }), node('c', { cpu: '2', memory: '1Gi' })], there: [on('b', 'b1', { requests: { cpu: '1600m' } })], pods: [pod({}, { requests: { cpu: '1500m', memory: '512Mi' } })], right: ['c'] },
  { title: 'no node with room: cpu, memory, pods', nodes: [node('a', { cpu: '1' }), node('b', { memory: '1Gi' }), node('c', { pods: '1' })], there: [on('c', 'c1')], pods: [pod({}, { requests: { cpu: '2', memory: '2Gi' } })], right: [undefined] },
  { title: 'an extended resource', nodes: [node('a'), node('b', { more: { 'example.com/gpu': '2' } }), node('c', { more: { 'example.com/gpu': '1' } })], there: [on('c', 'c1', { spec: { containers: [{ name: 'c', image: 'i', resources: { requests: { 'example.com/gpu': '1' }, limits: { 'example.com/gpu': '1' } } }] } })], pods: [pod({ containers: [{ name: 'c', image: 'i', resources: { limits: { 'example.com/gpu': '1' } } }] })], right: ['b'] },
  { title: 'init containers and overhead count', nodes: [node('a', { cpu: '2' }), node('b', { cpu: '4' })], pods: [pod({ initContainers: [{ name: 'i', image: 'i', resources: { requests: { cpu: '3' } } }] }, { requests: { cpu: '1' } })], right: ['b'] },
  { title: 'the least allocated node', nodes: threeZones(), there: [on('node-a', 'a1', { requests: { cpu: '2', memory: '4Gi' } }), on('node-b', 'b1', { requests: { cpu: '1', memory: '2Gi' } }), on('node-c', 'c1', { requests: { cpu: '3', memory: '6Gi' } })], pods: [pod({}, { requests: { cpu: '500m', memory: '1Gi' }, labels: { app: 'other' } })], right: ['node-b'] },
  { title: 'a host port that is taken', nodes: [node('a'), node('b')], there: [on('a', 'a1', { spec: { containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, hostPort: 8080 }] }] } })], pods: [pod({ containers: [{ name: 'c', image: 'i', ports: [{ containerPort: 80, hostPort: 8080 }] }] })], right: ['b'] },
  { title: 'an image that is there', nodes: [node('a'), node('b', { images: [{ names: ['big:1'], sizeBytes: 900_000_000 }] })], pods: [pod({}, { image: 'big:1' })], right: ['b'] },
  { title: 'pod affinity by zone', nodes: threeZones(), there: [on('node-b', 'friend', { labels: { app: 'friend' } })], pods: [pod({ affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('friend', zone)] } } })], right: ['node-b'] },
  { title: 'pod anti-affinity by host', nodes: threeZones(), there: [on('node-a', 'a1'), on('node-b', 'b1')], pods: [pod({ affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('one', hostname)] } } })], right: ['node-c'] },
  { title: 'anti-affinity of pods that are there', nodes: threeZones(), there: ['a', 'c'].map((z) => on(`node-${z}`, z, { labels: { app: 'loner' }, spec: { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('one', zone)] } } } })), pods: [pod()], right: ['node-b'] },
  { title: 'anti-affinity with no node left', nodes: threeZones(), there: zones.map((z) => on(`node-${z}`, z)), pods: [pod({ affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('one', hostname)] } } })], right: [undefined] },
  { title: 'preferred pod affinity', nodes: threeZones(), there: [on('node-c', 'friend', { labels: { app: 'friend' } })], pods: [pod({ affinity: { podAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [{ weight: 100, podAffinityTerm: term('friend', zone) }] } } })], right: ['node-c'] },
  { title: 'the first of its kind may be its own friend', nodes: [node('a'), node('b', { zone: 'b' })], pods: [pod({ affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term('one', zone)] } } })], right: ['b'] },
  { title: 'topology spread that must be kept', nodes: threeZones(), there: [on('node-a', 'a1'), on('node-a', 'a2'), on('node-b', 'b1')], pods: [pod(spread('DoNotSchedule'))], right: ['node-c'] },
  { title: 'topology spread over all zones, one pod after the other', nodes: threeZones(), pods: zones.map((z) => pod(spread('DoNotSchedule'), { name: `pod-${z}` })), right: ['node-a', 'node-b', 'node-c'], anyOrder: true },
  { title: 'topology spread that should be kept', nodes: threeZones(), there: [on('node-a', 'a1'), on('node-a', 'a2'), on('node-c', 'c1'), on('node-c', 'c2')], pods: [pod(spread('ScheduleAnyway'))], right: ['node-b'] },
  { title: 'topology spread with minDomains', nodes: threeZones().slice(0, 2), there: [on('node-a', 'a1'), on('node-b', 'b1')], pods: [pod(spread('DoNotSchedule', zone, { minDomains: 3 }))], right: [undefined] },
  { title: 'topology spread over nodes without the key', nodes: [node('a'), node('b', { zone: 'b' })], pods: [pod(spread('DoNotSchedule'))], right: ['b'] },
  { title: 'topology spread that counts tainted nodes not', nodes: [node('a', { zone: 'a' }), node('b', { zone: 'b', taints: [taint('NoSchedule')] })], there: [on('a', 'a1')], pods: [pod(spread('DoNotSchedule', zone, { nodeTaintsPolicy: 'Honor' }))], right: ['a'] },
  { title: 'a bound volume keeps its zone', nodes: threeZones(), objects: { persistentvolumeclaims: [claim({ volumeName: 'volume' })], persistentvolumes: [volume('c')] }, pods: [pod(claimed)], right: ['node-c'] },
  { title: 'a bound volume whose zone has no node', nodes: threeZones(), objects: { persistentvolumeclaims: [claim({ volumeName: 'volume' })], persistentvolumes: [volume('d')] }, pods: [pod(claimed)], right: [undefined] },
  { title: 'a claim that is not there', nodes: threeZones(), pods: [pod(claimed)], right: [undefined], refusedAtOnce: true },
  { title: 'a claim that is not bound at once', nodes: threeZones(), objects: { storageclasses: [{ metadata: { name: 'none' }, provisioner: 'x', volumeBindingMode: 'Immediate' }], persistentvolumeclaims: [claim()] }, pods: [pod(claimed)], right: [undefined], refusedAtOnce: true },
  { title: 'a name that is there no more', nodes: threeZones(), pods: [pod({ nodeSelector: { [hostname]: 'gone' } }), pod({ nodeSelector: { [hostname]: 'node-a' } }, { name: 'second' })], right: [undefined, 'node-a'] },
  { title: 'several reasons at once', nodes: [node('a', { taints: [taint('NoSchedule')] }), node('b', { cpu: '1' }), node('c', { unschedulable: true }), node('d', { labels: { off: 'yes' } })], pods: [pod(required({ key: 'off', operator: 'DoesNotExist' }), { requests: { cpu: '2' } })], right: [undefined] },
  { title: 'a gated pod waits', nodes: threeZones(), pods: [pod({ schedulingGates: [{ name: 'example.com/wait' }] })], right: [undefined] },
  { title: 'a more important pod takes the place of the least important', nodes: [node('a', { cpu: '1' }), node('b', { cpu: '1' })], there: [on('a', 'low', { requests: { cpu: '1' }, labels: { app: 'low' }, spec: { priorityClassName: 'low' } }), on('b', 'middle', { requests: { cpu: '1' }, labels: { app: 'middle' }, spec: { priorityClassName: 'middle' } })], objects: { priorityclasses: [['low', 1], ['middle', 2], ['high', 3]].map(([name, value]) => ({ metadata: { name }, value })) }, pods: [pod({ priorityClassName: 'high' }, { requests: { cpu: '1' } })], right: ['a'] },
  { title: 'a pod that may not preempt waits', nodes: [node('a', { cpu: '1' })], there: [on('a', 'low', { requests: { cpu: '1' } })], objects: { priorityclasses: [{ metadata: { name: 'polite' }, value: 10, preemptionPolicy: 'Never' }] }, pods: [pod({ priorityClassName: 'polite' }, { requests: { cpu: '1' } })], right: [undefined] },
];
