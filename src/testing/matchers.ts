import type { AwsLoadBalancer, Cluster, Reference, WaitOptions } from '../index.ts';
import { WaitError } from '../index.ts';

/** What a load balancer is like; what is left out may be anything. */
export interface LoadBalancerShape {
  type?: 'network' | 'application';
  scheme?: 'internet-facing' | 'internal';
  /** Of its listeners, in any order. */
  ports?: number[];
  /** Registered targets at least. */
  targets?: number;
}

export interface Matched {
  pass: boolean;
  message(): string;
  actual?: unknown;
  expected?: unknown;
}

const words = (what: Reference): string =>
  typeof what === 'string' ? what : 'metadata' in what ? `${what.kind} ${what.metadata.name}` : `${what.kind} ${what.name}`;

/** Passes where the wait succeeds; where its time is up it fails with the explanation of the object. */
async function waited(cluster: Cluster, what: Reference, wait: () => Promise<unknown>, opposite: string): Promise<Matched> {
  try {
    await wait();
    return { pass: true, message: () => `expected ${words(what)} ${opposite}` };
  } catch (error) {
    if (!(error instanceof WaitError)) throw error;
    const why = await cluster.explain(what).catch((failure) => `no explanation: ${failure.message}`);
    return { pass: false, message: () => `${error.message}\n\n${why}` };
  }
}

function mismatch(balancer: AwsLoadBalancer, shape: LoadBalancerShape): string | undefined {
  if (shape.type && balancer.type !== shape.type) return `it is of type ${balancer.type}, not ${shape.type}`;
  if (shape.scheme && balancer.scheme !== shape.scheme) return `it is ${balancer.scheme}, not ${shape.scheme}`;
  const ports = balancer.listeners.map((l) => l.port).sort((a, b) => a - b);
  const wanted = shape.ports && [...shape.ports].sort((a, b) => a - b);
  if (wanted && JSON.stringify(ports) !== JSON.stringify(wanted))
    return `it listens on ${ports.join(', ') || 'no port'}, not on ${wanted.join(', ')}`;
  if (balancer.state !== 'active') return `it is ${balancer.state}`;
  if (shape.targets !== undefined) {
    const least = Math.min(...balancer.targetGroups.map((g) => g.targets.length), Infinity);
    if (!(least >= shape.targets && least < Infinity))
      return `a target group has ${least === Infinity ? 'no targets' : `${least} targets`}, not ${shape.targets}`;
  }
  return undefined;
}

/** The matchers of kumulus/vitest. All take a Cluster, and wait. */
export const matchers = {
  toBecomeReady: (cluster: Cluster, what: Reference, options?: WaitOptions) =>
    waited(cluster, what, () => cluster.waitFor(what, 'ready', options), 'not to become ready, but it did'),

  toHaveCondition: (cluster: Cluster, what: Reference, condition: string, options?: WaitOptions) =>
    waited(cluster, what, () => cluster.waitFor(what, condition, options), `not to have condition ${condition}, but it has`),

  toExist: (cluster: Cluster, what: Reference, options?: WaitOptions) =>
    waited(cluster, what, () => cluster.waitFor(what, 'exists', options), 'not to exist, but it does'),

  toDisappear: (cluster: Cluster, what: Reference, options?: WaitOptions) =>
    waited(cluster, what, () => cluster.waitFor(what, 'deleted', options), 'to stay, but it is gone'),

  toHaveEvent: (cluster: Cluster, what: Reference, reason: string, options?: WaitOptions) =>
    waited(
      cluster,
      what,
      async () => {
        const object = await cluster.waitFor(what, 'exists', options);
        await cluster.eventually(
          `${words(what)} to have an event ${reason}`,
          async () => {
            const where = object.metadata.namespace ? { namespace: object.metadata.namespace } : {};
            const events = await cluster.list('Event', where);
            return events.some((e) => e.reason === reason && e.involvedObject.uid === object.metadata.uid);
          },
          options,
        );
      },
      `to have no event ${reason}, but it has`,
    ),

  toHaveLoadBalancer: (cluster: Cluster, what: Reference, shape: LoadBalancerShape = {}, options?: WaitOptions) =>
    waited(
      cluster,
      what,
      async () => {
        const service = await cluster.waitFor<any>(what, 'ready', options);
        const hostname = service.status?.loadBalancer?.ingress?.[0]?.hostname;
        await cluster.eventually(
          `${words(what)} to have a load balancer like ${JSON.stringify(shape)}`,
          async () => {
            const balancer = (await cluster.aws.loadBalancers()).find((lb) => lb.dnsName === hostname);
            if (!balancer) throw new Error(`AWS has no load balancer ${hostname ?? 'for it'}`);
            const wrong = mismatch(balancer, shape);
            if (wrong) throw new Error(wrong);
            return true;
          },
          options,
        );
      },
      'to have no load balancer, but it has',
    ),

  /** Waits until AWS holds nothing that workloads made. */
  async toLeaveNoAwsResources(cluster: Cluster, options?: WaitOptions): Promise<Matched> {
    try {
      await cluster.eventually(
        'AWS to hold nothing that workloads made',
        async () => {
          const left = await cluster.aws.leftovers();
          if (left.length) throw new Error(left.map((l) => `${l.kind} ${l.id}${l.of ? ` of ${l.of}` : ''}`).join(', '));
          return true;
        },
        options,
      );
      return { pass: true, message: () => 'expected AWS to hold something that workloads made, but it holds nothing' };
    } catch (error) {
      if (!(error instanceof WaitError)) throw error;
      const failed = (await cluster.aws.calls()).filter((c) => c.code !== undefined).slice(-10);
      const why = failed.map((c) => `\n  ${c.operation}: ${c.code}: ${c.message}`).join('');
      return { pass: false, message: () => `${error.message}${why ? `\n\nAWS calls that failed:${why}` : ''}` };
    }
  },

  /** Whether AWS was called so, since the cluster's start; times counts all calls, failed ones too. */
  async toHaveCalledAws(cluster: Cluster, operation: string, times?: number): Promise<Matched> {
    const calls = (await cluster.aws.calls()).filter((c) => c.operation === operation);
    const pass = times === undefined ? calls.length > 0 : calls.length === times;
    const seen = `${operation} was called ${calls.length} times`;
    return { pass, message: () => (pass ? `expected otherwise: ${seen}` : `${seen}${times === undefined ? '' : `, not ${times}`}`) };
  },
};
