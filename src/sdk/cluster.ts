import { setMaxListeners } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { resources } from '../api/generated/resources.ts';
import { type AwsClients, createAwsClients } from '../aws/clients.ts';
import { clusterKubeconfig, kubeconfigText } from '../cluster/kubeconfig.ts';
import { AwsView } from './aws.ts';
import type { Backend } from './backend.ts';
import { exec } from './exec.ts';
import { explain } from './explain.ts';
import { keyOfTarget, objectsOf, Resources } from './references.ts';
import type {
  AnyObject,
  Cluster,
  ClusterAws,
  ClusterFaults,
  Condition,
  ExecResult,
  KindName,
  ObjectOf,
  Reference,
  Undo,
  WaitOptions,
} from './types.ts';
import { eventually, ignoreNotFound, limitOf, waitForObject } from './wait.ts';

const fieldManager = 'kumulus-sdk';

/** The SDK's Cluster over a backend. */
export class RunningCluster implements Cluster {
  readonly name: string;
  readonly server: string;
  readonly kubeconfig: string;
  readonly aws: ClusterAws;
  readonly faults: ClusterFaults;
  private readonly backend: Backend;
  private readonly resources: Resources;
  private readonly awsClients: AwsClients;
  private readonly stopping = new AbortController();
  private stopped: Promise<void> | undefined;
  private folder: string | undefined;

  constructor(backend: Backend) {
    this.backend = backend;
    this.name = backend.name;
    // As many as there are waits at a time.
    setMaxListeners(0, this.stopping.signal);
    this.server = backend.server;
    this.kubeconfig = kubeconfigText(clusterKubeconfig(backend.name, backend.server, backend.ca, backend.admin));
    this.resources = new Resources(backend.client);
    this.awsClients = createAwsClients(backend.awsConfig);
    this.aws = new AwsView({
      clients: this.awsClients,
      cluster: backend.name,
      vpcId: backend.vpcId,
      config: backend.awsConfig,
      calls: () => backend.calls(),
    });
    this.faults = {
      terminateInstance: (node) => this.terminate(node),
      stopKubelet: (node) => this.disturb(node, 'kubelet'),
      cutNetwork: (node) => this.disturb(node, 'network'),
      aws: async (fault) => undoable(await backend.inject(fault)),
    };
  }

  private limit(options: WaitOptions = {}) {
    return limitOf(options.timeoutMs ?? this.backend.waitMs, options.signal, this.stopping.signal);
  }

  private signal(signal: AbortSignal | undefined): { signal: AbortSignal } {
    return { signal: signal ? AbortSignal.any([signal, this.stopping.signal]) : this.stopping.signal };
  }

  async writeKubeconfig(path?: string): Promise<string> {
    if (!path) {
      this.folder ??= mkdtempSync(join(tmpdir(), 'kumulus-'));
      path = join(this.folder, 'kubeconfig');
    }
    writeFileSync(path, this.kubeconfig, { mode: 0o600 });
    chmodSync(path, 0o600);
    return path;
  }

  async apply(manifest: string | object | readonly object[], options: { namespace?: string } & WaitOptions = {}): Promise<AnyObject[]> {
    const limit = this.limit(options);
    try {
      const applied: AnyObject[] = [];
      for (const object of objectsOf(manifest)) {
        const one = await this.applyOne(object, options.namespace, limit.signal);
        applied.push(one);
        if (one.kind === 'Namespace') await this.usable(one.metadata.name, limit.signal);
      }
      return applied;
    } finally {
      limit.clear();
    }
  }

  /** Pods are refused in a namespace until its default service account is there. */
  private async usable(namespace: string, signal: AbortSignal): Promise<void> {
    await this.waitFor({ kind: 'ServiceAccount', name: 'default', namespace }, 'exists', { signal });
  }

  private async applyOne(object: AnyObject, namespace: string | undefined, signal: AbortSignal): Promise<AnyObject> {
    const type = await this.resources.find({ apiVersion: object.apiVersion, kind: object.kind }, signal);
    const { metadata } = object;
    if (!metadata?.name) throw new Error(`an object of kind ${object.kind} has no metadata.name`);
    const where = type.namespaced ? (metadata.namespace ?? namespace ?? 'default') : undefined;
    const whole = where ? { ...object, metadata: { ...metadata, namespace: where } } : object;
    const key = { name: metadata.name, ...(where ? { namespace: where } : {}) };
    return this.backend.client.patch<AnyObject>(type, key, 'apply', whole, { fieldManager, force: true, signal });
  }

  async get<K extends KindName>(
    kind: K | { apiVersion: string; kind: K },
    name: string,
    namespace?: string,
    options: { signal?: AbortSignal } = {},
  ): Promise<ObjectOf<K>> {
    const type = await this.resources.find(kind, options.signal);
    const key = { name, ...(type.namespaced ? { namespace: namespace ?? 'default' } : {}) };
    return (await this.backend.client.get<AnyObject>(type, key, this.signal(options.signal))) as ObjectOf<K>;
  }

  async list<K extends KindName>(
    kind: K | { apiVersion: string; kind: K },
    options: { namespace?: string; labelSelector?: string; fieldSelector?: string; signal?: AbortSignal } = {},
  ): Promise<ObjectOf<K>[]> {
    const { signal, ...where } = options;
    const type = await this.resources.find(kind, signal);
    return (await this.backend.client.list<AnyObject>(type, { ...where, ...this.signal(signal) })).items as ObjectOf<K>[];
  }

  async patch(what: Reference, patch: object, options: { subresource?: string; signal?: AbortSignal } = {}): Promise<AnyObject> {
    const target = await this.resources.resolve(what, options.signal);
    return this.backend.client.patch<AnyObject>(target.type, keyOfTarget(target), 'merge', patch, {
      fieldManager,
      ...(options.subresource ? { subresource: options.subresource } : {}),
      ...this.signal(options.signal),
    });
  }

  async delete(what: Reference, options: { wait?: boolean } & WaitOptions = {}): Promise<void> {
    const target = await this.resources.resolve(what, options.signal);
    await this.backend.client
      .delete(target.type, keyOfTarget(target), { propagationPolicy: 'Background', ...this.signal(options.signal) })
      .catch(ignoreNotFound);
    if (options.wait) await this.waitFor(what, 'deleted', options);
  }

  async waitFor<T = AnyObject>(what: Reference, condition: Condition<T>, options: WaitOptions = {}): Promise<T> {
    const limit = this.limit(options);
    const target = await this.resources.resolve(what, limit.signal);
    return (await waitForObject(this.backend.client, target, condition as Condition<any>, limit)) as T;
  }

  eventually<T>(what: string, ask: () => Promise<T | undefined | false> | T | undefined | false, options: WaitOptions = {}): Promise<T> {
    return eventually(what, ask, this.limit(options));
  }

  async logs(
    pod: string,
    options: { namespace?: string; container?: string; tailLines?: number; previous?: boolean; signal?: AbortSignal } = {},
  ): Promise<string> {
    const query = new URLSearchParams();
    if (options.container) query.set('container', options.container);
    if (options.tailLines !== undefined) query.set('tailLines', String(options.tailLines));
    if (options.previous) query.set('previous', 'true');
    const path = `/api/v1/namespaces/${options.namespace ?? 'default'}/pods/${pod}/log?${query}`;
    const answer = await this.backend.client.raw({ method: 'GET', path, ...this.signal(options.signal) });
    const text = await answer.text();
    if (answer.status === 200) return text;
    let message = text;
    try {
      message = JSON.parse(text).message ?? text;
    } catch {
      // What is no Status is told as it is.
    }
    throw new Error(`logs of pod ${options.namespace ?? 'default'}/${pod}: ${message.trim()}`);
  }

  async exec(
    pod: string,
    command: string | readonly string[],
    options: { namespace?: string; container?: string; stdin?: string } & WaitOptions = {},
  ): Promise<ExecResult> {
    const limit = this.limit(options);
    try {
      return await exec({
        server: this.server,
        ca: this.backend.ca,
        ...this.backend.admin,
        namespace: options.namespace ?? 'default',
        pod,
        container: options.container,
        command: typeof command === 'string' ? ['sh', '-c', command] : [...command],
        stdin: options.stdin,
        signal: limit.signal,
      });
    } finally {
      limit.clear();
    }
  }

  async request(method: string, path: string, body?: unknown, options: { signal?: AbortSignal } = {}): Promise<{ status: number; body: any }> {
    const answer = await this.backend.client.raw({
      method,
      path,
      ...(body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }),
      ...this.signal(options.signal),
    });
    const text = await answer.text();
    const json = (answer.headers['content-type'] ?? '').includes('json');
    return { status: answer.status, body: json ? JSON.parse(text) : text };
  }

  async explain(what: Reference): Promise<string> {
    return explain(this.backend.client, await this.resources.resolve(what), () => this.backend.calls());
  }

  private async terminate(node: string): Promise<void> {
    const found = await this.backend.client.get(resources.nodes, { name: node }, this.signal(undefined));
    const id = found.spec.providerID?.split('/').at(-1);
    if (!id) throw new Error(`node ${node} has no instance: its providerID is ${found.spec.providerID ?? 'not set'}`);
    const { TerminateInstancesCommand } = await import('../aws/sdk/ec2.ts');
    await (await this.awsClients.ec2()).send(new TerminateInstancesCommand({ InstanceIds: [id] }));
  }

  private async disturb(node: string, what: 'kubelet' | 'network'): Promise<Undo> {
    await this.backend.disturb(node, what, true);
    return undoable(() => this.backend.disturb(node, what, false));
  }

  stop(): Promise<void> {
    return (this.stopped ??= (async () => {
      this.stopping.abort(new Error(`cluster ${this.name} is stopped`));
      this.awsClients.destroy();
      if (this.folder) rmSync(this.folder, { recursive: true, force: true });
      await this.backend.stop();
    })());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

function undoable(undo: () => Promise<void>): Undo {
  let done: Promise<void> | undefined;
  const once = () => (done ??= undo());
  return Object.assign(once, { [Symbol.asyncDispose]: once });
}
