/**
 * Writes by several managers, request by request: what the answers must be was recorded from upstream's API server by
 * scripts/record-apply.ts into test/fixtures/server-side-apply.json.gz.
 */
export interface Step {
  method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE';
  /** NS stands for the namespace. */
  path: string;
  contentType?: string;
  /** Sent as JSON; { text } as it is. */
  body?: unknown;
  userAgent?: string;
}

/** The bytes that a step sends. */
export function bodyOf({ body }: Step): string | undefined {
  if (body === undefined) return undefined;
  const { text } = (body ?? {}) as { text?: string };
  return text ?? JSON.stringify(body);
}

const apply = 'application/apply-patch+yaml';
const merge = 'application/merge-patch+json';
const strategic = 'application/strategic-merge-patch+json';
const json = 'application/json-patch+json';
const configMaps = '/api/v1/namespaces/NS/configmaps';
const deployments = '/apis/apps/v1/namespaces/NS/deployments';
const pods = '/api/v1/namespaces/NS/pods';
const services = '/api/v1/namespaces/NS/services';
const autoscalers = (version: string) => `/apis/autoscaling/${version}/namespaces/NS/horizontalpodautoscalers`;

const configMap = (name: string, data: object, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'ConfigMap',
  metadata: { name, ...metadata },
  data,
});
const partOfDeployment = (name: string, spec?: object) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name },
  ...(spec ? { spec } : {}),
});
const deployment = (name: string, spec: object = {}, container: object = {}) => ({
  apiVersion: 'apps/v1',
  kind: 'Deployment',
  metadata: { name, labels: { app: name } },
  spec: {
    replicas: 2,
    selector: { matchLabels: { app: name } },
    template: {
      metadata: { labels: { app: name } },
      spec: { containers: [{ name: 'web', image: 'nginx:1', ports: [{ containerPort: 80 }], env: [{ name: 'A', value: '1' }], ...container }] },
    },
    ...spec,
  },
});
const service = (name: string, spec?: object) => ({ apiVersion: 'v1', kind: 'Service', metadata: { name }, ...(spec ? { spec } : {}) });
const autoscaler = (version: string, spec: object) => ({
  apiVersion: `autoscaling/${version}`,
  kind: 'HorizontalPodAutoscaler',
  metadata: { name: 'h' },
  spec,
});
const scale = (replicas: number) => ({ apiVersion: 'autoscaling/v1', kind: 'Scale', metadata: { name: 'd1' }, spec: { replicas } });

const create = (path: string, body: unknown, userAgent?: string): Step => ({ method: 'POST', path, body, ...(userAgent ? { userAgent } : {}) });
const patch = (contentType: string, path: string, body: unknown, userAgent?: string): Step => ({
  method: 'PATCH',
  path,
  contentType,
  body,
  ...(userAgent ? { userAgent } : {}),
});
const applyAs = (manager: string, path: string, body: unknown, query = ''): Step => patch(apply, `${path}?fieldManager=${manager}${query}`, body);
const force = '&force=true';
const read = (path: string): Step => ({ method: 'GET', path });

export const sequences: Record<string, Step[]> = {
  'updates and applies of one object': [
    create(configMaps, configMap('c1', { a: '1', b: '2' }, { labels: { x: 'y' }, annotations: { q: 'r' }, finalizers: ['a.b/c'] })),
    patch(merge, `${configMaps}/c1`, { data: { a: '3' } }, 'other/2'),
    patch(merge, `${configMaps}/c1`, { data: { a: '3' } }, 'other/2'),
    patch(merge, `${configMaps}/c1`, { data: { b: null }, metadata: { finalizers: null } }, 'third/2'),
    applyAs('mine', `${configMaps}/c1`, configMap('c1', { a: '9' })),
    applyAs('mine', `${configMaps}/c1`, configMap('c1', { a: '9', z: '1' }), force),
    applyAs('mine', `${configMaps}/c1`, configMap('c1', { a: '9' })),
    applyAs('mine', `${configMaps}/c1`, configMap('c1', { a: '9' })),
    applyAs('mine', `${configMaps}/c1`, configMap('c1', {})),
    read(`${configMaps}/c1`),
  ],
  'two appliers': [
    applyAs('one', `${configMaps}/c2`, configMap('c2', { a: '1', b: '2' }, { labels: { l: '1' } })),
    applyAs('two', `${configMaps}/c2`, configMap('c2', { a: '1', c: '3' })),
    applyAs('one', `${configMaps}/c2`, configMap('c2', { b: '2' })),
    applyAs('two', `${configMaps}/c2`, configMap('c2', { a: '2', b: '5', c: '3' }, { labels: { l: '2' } })),
    applyAs('two', `${configMaps}/c2`, configMap('c2', { a: '2', b: '5', c: '3' }, { labels: { l: '2' } }), force),
    applyAs('one', `${configMaps}/c2`, { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'c2' } }),
    read(`${configMaps}/c2`),
  ],
  'applies that are refused': [
    patch(apply, `${configMaps}/c3`, configMap('c3', {})),
    patch(merge, `${configMaps}/c3?force=true`, {}),
    applyAs('x', `${configMaps}/c3`, { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'c3' } }),
    applyAs('x', `${configMaps}/c3`, configMap('c4', {})),
    applyAs('x', `${configMaps}/c3`, configMap('c3', {}, { managedFields: [] })),
    applyAs('x', `${configMaps}/c3`, configMap('c3', {}, { uid: 'abc' })),
    applyAs('x', `${configMaps}/c3`, []),
    applyAs('x'.repeat(129), `${configMaps}/c3`, configMap('c3', {})),
    create(`${configMaps}?fieldManager=${'x'.repeat(129)}`, configMap('c3', {})),
    applyAs('x', `${configMaps}/c3`, {}),
    applyAs('x', `${configMaps}/c3`, configMap('c3', {}, { resourceVersion: '5' })),
    applyAs('x', `${configMaps}/c3`, configMap('c3', { a: '1' }, { resourceVersion: '1' })),
  ],
  'ownership that is given up, invalid, or written by hand': [
    create(configMaps, configMap('c5', { a: '1' })),
    patch(merge, `${configMaps}/c5`, { metadata: { managedFields: [{}] } }),
    patch(merge, `${configMaps}/c5`, { data: { b: '1' } }, 'late/1'),
    applyAs('me', `${configMaps}/c5`, configMap('c5', { c: '1' })),
    applyAs('me', `${configMaps}/c5`, configMap('c5', { a: '2', c: '1' })),
    patch(json, `${configMaps}/c5`, [{ op: 'replace', path: '/metadata/managedFields', value: [] }]),
    patch(merge, `${configMaps}/c5`, {
      metadata: { managedFields: [{ manager: 'x', operation: 'Bad', apiVersion: 'v1', fieldsType: 'FieldsV1', fieldsV1: {} }] },
    }),
    patch(merge, `${configMaps}/c5`, {
      metadata: {
        managedFields: [
          {
            manager: 'x',
            operation: 'Update',
            apiVersion: 'v1',
            fieldsType: 'FieldsV1',
            fieldsV1: { 'f:data': { 'f:a': {} } },
            time: '2024-01-01T00:00:00Z',
          },
        ],
      },
      data: { n: '1' },
    }),
    read(`${configMaps}/c5`),
  ],
  'a deployment: update, status, scale, apply': [
    create(deployments, deployment('d1')),
    { method: 'PUT', path: `${deployments}/d1`, body: deployment('d1', { replicas: 3 }), userAgent: 'put/1' },
    patch(strategic, `${deployments}/d1`, { spec: { template: { spec: { containers: [{ name: 'web', image: 'nginx:2' }] } } } }, 'kubectl-set/1'),
    patch(
      merge,
      `${deployments}/d1/status`,
      {
        status: {
          replicas: 2,
          observedGeneration: 1,
          conditions: [
            {
              type: 'Available',
              status: 'True',
              reason: 'x',
              message: 'y',
              lastTransitionTime: '2024-01-01T00:00:00Z',
              lastUpdateTime: '2024-01-01T00:00:00Z',
            },
          ],
        },
      },
      'ctl/1',
    ),
    patch(merge, `${deployments}/d1/scale`, { spec: { replicas: 7 } }, 'scaler/1'),
    read(`${deployments}/d1`),
    applyAs('app', `${deployments}/d1`, deployment('d1', { replicas: 4 })),
    applyAs('app', `${deployments}/d1`, deployment('d1', { replicas: 4 }), force),
    applyAs('hpa', `${deployments}/d1/scale`, scale(9)),
    applyAs('hpa', `${deployments}/d1/scale`, scale(9), force),
    applyAs('app', `${deployments}/d1`, partOfDeployment('d1', { template: { spec: { containers: [{ name: 'web', image: 'nginx:1' }] } } })),
    read(`${deployments}/d1`),
  ],
  'lists of two appliers': [
    applyAs('one', `${deployments}/d2`, deployment('d2')),
    applyAs(
      'two',
      `${deployments}/d2`,
      partOfDeployment('d2', {
        template: {
          spec: {
            containers: [
              { name: 'side', image: 's' },
              { name: 'web', env: [{ name: 'B', value: '2' }] },
            ],
            initContainers: [{ name: 'i', image: 'i' }],
          },
        },
      }),
    ),
    applyAs(
      'two',
      `${deployments}/d2`,
      partOfDeployment('d2', {
        template: {
          spec: {
            containers: [
              { name: 'web', env: [{ name: 'B', value: '2' }] },
              { name: 'side', image: 's' },
            ],
          },
        },
      }),
    ),
    applyAs('one', `${deployments}/d2`, deployment('d2', {}, { env: [], ports: [{ containerPort: 80 }, { containerPort: 80, protocol: 'UDP' }] })),
    applyAs('one', `${deployments}/d2`, deployment('d2', {}, { ports: [{ containerPort: 81 }] })),
    applyAs('two', `${deployments}/d2`, partOfDeployment('d2')),
    applyAs('one', `${deployments}/d2`, deployment('d2', { foo: 1 })),
    applyAs('one', `${deployments}/d2`, deployment('d2', { replicas: 'x' })),
    applyAs('one', `${deployments}/d2`, deployment('d2', {}, { ports: [{ containerPort: 80 }, { containerPort: 80 }] })),
    applyAs('one', `${deployments}/d2`, deployment('d2', {}, { env: [{ value: 'x' }] })),
    read(`${deployments}/d2`),
  ],
  'a pod: kubelet, scheduler, debugger': [
    create(pods, {
      metadata: { name: 'p1', labels: { a: 'b' } },
      spec: {
        containers: [{ name: 'c', image: 'i', resources: { requests: { cpu: '100m' } }, volumeMounts: [{ name: 'v', mountPath: '/x' }] }],
        volumes: [{ name: 'v', emptyDir: {} }],
        tolerations: [{ key: 'k', operator: 'Exists' }],
        nodeSelector: { a: 'b' },
      },
    }),
    patch(
      strategic,
      `${pods}/p1/status`,
      {
        status: {
          phase: 'Running',
          conditions: [{ type: 'Ready', status: 'True', lastProbeTime: null, lastTransitionTime: '2024-01-01T00:00:00Z' }],
          podIP: '1.2.3.4',
          podIPs: [{ ip: '1.2.3.4' }],
        },
      },
      'kubelet/1',
    ),
    patch(strategic, `${pods}/p1/status`, { status: { phase: 'Running', conditions: [{ type: 'Ready', status: 'False' }] } }, 'kubelet/1'),
    create(`${pods}/p1/binding`, { apiVersion: 'v1', kind: 'Binding', metadata: { name: 'p1' }, target: { kind: 'Node', name: 'n1' } }, 'sched/1'),
    patch(strategic, `${pods}/p1/ephemeralcontainers`, { spec: { ephemeralContainers: [{ name: 'dbg', image: 'busybox' }] } }, 'dbg/1'),
    applyAs('lab', `${pods}/p1`, { apiVersion: 'v1', kind: 'Pod', metadata: { name: 'p1', labels: { n: '1' }, annotations: { x: 'y' } } }),
    read(`${pods}/p1`),
  ],
  'a service and its ports': [
    create(
      services,
      service('s1', {
        selector: { a: 'b' },
        ports: [
          { port: 80, name: 'h' },
          { port: 443, name: 't', targetPort: 'x' },
        ],
      }),
    ),
    applyAs('m', `${services}/s1`, service('s1', { ports: [{ port: 80, name: 'h2' }] })),
    applyAs('m', `${services}/s1`, service('s1', { ports: [{ port: 8080, name: 'alt', protocol: 'TCP' }] }), force),
    applyAs('m', `${services}/s1`, service('s1')),
    applyAs('m', `${services}/s2`, service('s2', { selector: { q: 'r' }, ports: [{ port: 80 }] })),
  ],
  'from client-side to server-side apply': [
    create(
      `${configMaps}?fieldManager=kubectl-client-side-apply`,
      configMap(
        'k1',
        { a: '1', b: '1' },
        {
          annotations: {
            'kubectl.kubernetes.io/last-applied-configuration': `${JSON.stringify(configMap('k1', { a: '1', b: '1' }, { annotations: {} }))}\n`,
          },
        },
      ),
    ),
    applyAs('kubectl', `${configMaps}/k1`, configMap('k1', { a: '2' })),
    patch(merge, `${configMaps}/k1`, { data: { b: '7' } }, 'x/1'),
    applyAs('kubectl', `${configMaps}/k1`, configMap('k1', { a: '3', b: '2' })),
    applyAs('kubectl', `${configMaps}/k1`, configMap('k1', { a: '3', b: '2' }), force),
    read(`${configMaps}/k1`),
  ],
  'managers in two versions': [
    create(
      autoscalers('v1'),
      autoscaler('v1', {
        scaleTargetRef: { kind: 'Deployment', name: 'd', apiVersion: 'apps/v1' },
        minReplicas: 1,
        maxReplicas: 3,
        targetCPUUtilizationPercentage: 50,
      }),
    ),
    applyAs('v2', `${autoscalers('v2')}/h`, autoscaler('v2', { maxReplicas: 4 })),
    applyAs('v2', `${autoscalers('v2')}/h`, autoscaler('v2', { maxReplicas: 4, minReplicas: 2 }), force),
    applyAs('v2', `${autoscalers('v1')}/h`, autoscaler('v1', { maxReplicas: 4, minReplicas: 2 })),
    patch(merge, `${autoscalers('v2')}/h`, { spec: { minReplicas: 3 } }, 'u/1'),
    read(`${autoscalers('v2')}/h`),
    read(`${autoscalers('v1')}/h`),
  ],
  'more managers than are kept apart': [
    // Names in the order of the writes: it does not matter how many there are in a second.
    create(configMaps, configMap('m1', { a: '0' }), 'first/1'),
    ...Array.from({ length: 14 }, (_, i) => patch(merge, `${configMaps}/m1`, { data: { [`k${i}`]: '1' } }, `m${String(i).padStart(2, '0')}/1`)),
    read(`${configMaps}/m1`),
  ],
  'dry runs': [
    applyAs('x', `${configMaps}/dr`, configMap('dr', { a: '1' }), '&dryRun=All'),
    read(`${configMaps}/dr`),
    create(`${configMaps}?dryRun=All`, configMap('dr', { a: '1' })),
  ],
};
