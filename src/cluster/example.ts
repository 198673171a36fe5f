import { DescribeLoadBalancersCommand } from '@aws-sdk/client-elastic-load-balancing-v2';
import { createConnection } from 'node:net';
import { isAlreadyExists } from '../api/errors.ts';
import { resources } from '../api/generated/resources.ts';
import type { Deployment, Service } from '../api/generated/types.ts';
import type { Client } from '../client/client.ts';
import { readHostAddress } from '../localaws/dataplane/dataplane.ts';
import { busyboxImage } from '../runtime/images/busybox.ts';
import { clusterAwsClients } from './aws-endpoint.ts';
import { withAdmin } from './create.ts';
import { pushToCluster } from './images.ts';
import type { Progress } from './progress.ts';
import { findProgram } from './preflight.ts';
import { type ClusterRecord, pathsOf, UserError } from './state.ts';

/** Where the example's page is: on this host, and by the load balancer's name inside the VPC. */
export interface ExamplePage {
  url: string;
  hostname: string;
}

const name = 'hello';
const namespace = 'default';
const limitMs = 180_000;

/** What each pod does: a page that says who served it. busybox as process 1 would ignore SIGTERM, so the shell ends for it. */
const script = `cat >/www/index.html <<EOF
<!doctype html><title>Kumulus</title>
<h1>Hello from Kumulus</h1>
<p>pod $POD_NAME ($POD_IP) on node $NODE_NAME
EOF
trap 'exit 0' TERM
httpd -f -p 8080 -h /www &
wait`;

export function exampleObjects(image: string): { deployment: Omit<Deployment, 'status'>; service: Omit<Service, 'status'> } {
  const labels = { app: name };
  const field = (fieldPath: string) => ({ fieldRef: { apiVersion: 'v1', fieldPath } });
  return {
    deployment: {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata: { name, namespace, labels },
      spec: {
        replicas: 2,
        selector: { matchLabels: labels },
        strategy: { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        template: {
          metadata: { labels },
          spec: {
            topologySpreadConstraints: [
              { maxSkew: 1, topologyKey: 'kubernetes.io/hostname', whenUnsatisfiable: 'ScheduleAnyway', labelSelector: { matchLabels: labels } },
            ],
            containers: [
              {
                name: 'web',
                image,
                command: ['sh', '-c', script],
                env: [
                  { name: 'POD_NAME', valueFrom: field('metadata.name') },
                  { name: 'POD_IP', valueFrom: field('status.podIP') },
                  { name: 'NODE_NAME', valueFrom: field('spec.nodeName') },
                ],
                ports: [{ name: 'http', containerPort: 8080, protocol: 'TCP' }],
                readinessProbe: { httpGet: { path: '/', port: 'http' }, periodSeconds: 1 },
                // Until every kube-proxy has heard that it goes, it still serves.
                lifecycle: { preStop: { sleep: { seconds: 3 } } },
                resources: { requests: { cpu: '10m', memory: '16Mi' }, limits: { memory: '64Mi' } },
              },
            ],
          },
        },
      },
    } as unknown as Deployment,
    service: {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: {
        name,
        namespace,
        labels,
        annotations: {
          'service.beta.kubernetes.io/aws-load-balancer-type': 'nlb',
          'service.beta.kubernetes.io/aws-load-balancer-scheme': 'internet-facing',
        },
      },
      spec: { type: 'LoadBalancer', selector: labels, ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 'http' }] },
    } as unknown as Service,
  };
}

/** Builds and pushes the example's image, deploys it, and resolves when its page is served through the load balancer. Idempotent. */
export async function deployExample(record: ClusterRecord, progress: Progress, signal: AbortSignal): Promise<ExamplePage> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(limitMs)]);
  try {
    return await withAdmin(record, async (admin) => {
      await progress.step('Deploying the example', async () => {
        const busybox = findProgram('busybox');
        const source = await busyboxImage([], busybox ? { busybox } : {});
        const image = await pushToCluster(record, source, 'kumulus/example', '1', limit).finally(() => source.close());
        const { deployment, service } = exampleObjects(image);
        await createMissing(admin.create(resources.deployments, deployment as never, { signal: limit }));
        await createMissing(admin.create(resources.services, service as never, { signal: limit }));
      });
      let hostname = '';
      await progress.step('Waiting for its pods', () => waitForDeployment(admin, limit));
      await progress.step('Waiting for its load balancer', async () => {
        hostname = await waitForHostname(admin, limit);
      });
      const url = await progress.step('Waiting for its page', async () => {
        const address = await hostAddress(record, hostname, limit);
        await waitForPage(address, limit);
        return `http://${address}/`;
      });
      return { url, hostname };
    });
  } catch (error) {
    if (limit.aborted && !signal.aborted) {
      throw new UserError(
        `timed out after ${limitMs / 1000} s waiting for the example's page; "kubectl describe pods,service -l app=${name}" says how far it came`,
      );
    }
    throw error;
  }
}

async function createMissing(created: Promise<unknown>): Promise<void> {
  await created.catch((error) => {
    if (!isAlreadyExists(error)) throw error;
  });
}

async function watchOne<T>(
  admin: Client,
  type: (typeof resources)[keyof typeof resources],
  signal: AbortSignal,
  answer: (object: any) => T | undefined,
): Promise<T> {
  for (;;) {
    const list = await admin.list<any>(type as never, { namespace, fieldSelector: `metadata.name=${name}`, signal });
    const found = list.items.map(answer).find((one) => one !== undefined);
    if (found !== undefined) return found;
    const options = { namespace, fieldSelector: `metadata.name=${name}`, resourceVersion: list.metadata.resourceVersion, signal };
    for await (const event of admin.watch<any>(type as never, options)) {
      if (event.type === 'ERROR') break;
      const now = event.type === 'DELETED' || event.type === 'BOOKMARK' ? undefined : answer(event.object);
      if (now !== undefined) return now;
    }
    signal.throwIfAborted();
  }
}

async function waitForDeployment(admin: Client, signal: AbortSignal): Promise<void> {
  await watchOne(admin, resources.deployments, signal, (d: Deployment) =>
    (d.status?.availableReplicas ?? 0) >= (d.spec.replicas ?? 1) && d.status?.observedGeneration === d.metadata.generation ? true : undefined,
  );
}

async function waitForHostname(admin: Client, signal: AbortSignal): Promise<string> {
  return watchOne(admin, resources.services, signal, (s: Service) => s.status?.loadBalancer?.ingress?.[0]?.hostname);
}

/** The host's address of the load balancer with this DNS name. */
export async function hostAddress(record: ClusterRecord, dnsName: string, signal: AbortSignal): Promise<string> {
  const clients = clusterAwsClients(record);
  try {
    const elb = await clients.elbv2();
    for (;;) {
      const { LoadBalancers } = await elb.send(new DescribeLoadBalancersCommand({}), { abortSignal: signal });
      const arn = LoadBalancers?.find((one) => one.DNSName === dnsName)?.LoadBalancerArn;
      const address = arn && (await readHostAddress(pathsOf(record.name).root, arn));
      if (address) return address;
      await pause(100, signal);
    }
  } finally {
    clients.destroy();
  }
}

/** Until the load balancer has a healthy target it takes no connections; there is nothing to watch from outside. */
async function waitForPage(address: string, signal: AbortSignal): Promise<void> {
  for (;;) {
    if (await served(address)) return;
    await pause(100, signal);
  }
}

function served(address: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host: address, port: 80, timeout: 2000 });
    let text = '';
    socket.on('connect', () => socket.write(`GET / HTTP/1.0\r\nHost: ${address}\r\n\r\n`));
    socket.on('data', (chunk) => {
      text += chunk;
    });
    socket.on('timeout', () => socket.destroy());
    socket.on('error', () => {});
    socket.on('close', () => resolve(/^HTTP\/1\.[01] 200/.test(text) && text.includes('Hello from Kumulus')));
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  return new Promise((resolve, reject) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      if (signal.aborted) reject(signal.reason);
      else resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done, { once: true });
  });
}
