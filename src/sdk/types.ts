import type * as t from '../api/generated/types.ts';
import type { BehaviourRule } from '../kubelet/simulated/behaviour.ts';
import type { CallFault, RecordedCall } from '../localaws/api/calls.ts';

export type { BehaviourRule, PodBehaviour } from '../kubelet/simulated/behaviour.ts';
export type { CallFault, RecordedCall } from '../localaws/api/calls.ts';

/** How to start a cluster. Without `nodes` it lives in this process, on simulated nodes, and needs no privileges. */
export interface StartClusterOptions {
  /** Lower case letters, digits and `-`; a random name otherwise. */
  name?: string;
  /** EC2 instances of the embedded AWS that run containers: Linux and root. 0. */
  nodes?: number;
  /** Nodes whose pods become ready and report without running. 1, or 0 where there are `nodes`. */
  simulatedNodes?: number;
  /** EC2 instance type of the nodes: m5.large. It says what a simulated node has room for. */
  instanceType?: string;
  /** Availability zones, in turn: us-east-1a and us-east-1b. */
  zones?: string[];
  /** What simulated pods do; the first rule that fits a pod decides. */
  behaviours?: BehaviourRule[];
  /** Of simulated nodes. */
  nodeLabels?: Record<string, string>;
  nodeTaints?: { key: string; value?: string; effect: 'NoSchedule' | 'PreferNoSchedule' | 'NoExecute' }[];
  aws?: {
    /** Another AWS than the embedded one: LocalStack, moto, `kumulus aws serve`. It is left as it was. With `nodes` its calls are not recorded. */
    endpoint?: string;
    /** us-east-1. The embedded AWS has this one alone. */
    region?: string;
    /** Of `endpoint`: test and test. */
    credentials?: { accessKeyId: string; secretAccessKey: string };
    /** What instances of `endpoint` start from; any image that it knows. */
    imageId?: string;
    /** Of the embedded AWS, 12 digits: 000000000000. */
    accountId?: string;
    /** Faults that are there from the start. */
    faults?: CallFault[];
  };
  /** How long a silent node counts as healthy, milliseconds: 50,000. Tests of node loss want less. */
  nodeMonitorGracePeriodMs?: number;
  /** false resolves when the API is ready, before the nodes are. */
  waitForNodes?: boolean;
  /** For the whole start, milliseconds: 60,000, with `nodes` 300,000. */
  timeoutMs?: number;
  /** Ends the start, or the cluster once it runs. */
  signal?: AbortSignal;
  /** Of the parts, on standard error: silent. */
  logLevel?: 'silent' | 'fatal' | 'error' | 'warn' | 'info' | 'debug';
}

/** Any object, also of kinds that this package does not know. */
export interface AnyObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    [key: string]: unknown;
  };
  [key: string]: any;
}

/** Kinds whose objects come typed. Others are AnyObject. */
export interface Kinds {
  ClusterRole: t.ClusterRole;
  ClusterRoleBinding: t.ClusterRoleBinding;
  ConfigMap: t.ConfigMap;
  CronJob: t.CronJob;
  CustomResourceDefinition: t.CustomResourceDefinition;
  DaemonSet: t.DaemonSet;
  Deployment: t.Deployment;
  EndpointSlice: t.EndpointSlice;
  Event: t.Event;
  HorizontalPodAutoscaler: t.HorizontalPodAutoscaler;
  Ingress: t.Ingress;
  Job: t.Job;
  Lease: t.Lease;
  Namespace: t.Namespace;
  NetworkPolicy: t.NetworkPolicy;
  Node: t.Node;
  PersistentVolume: t.PersistentVolume;
  PersistentVolumeClaim: t.PersistentVolumeClaim;
  Pod: t.Pod;
  PodDisruptionBudget: t.PodDisruptionBudget;
  ReplicaSet: t.ReplicaSet;
  Role: t.Role;
  RoleBinding: t.RoleBinding;
  Secret: t.Secret;
  Service: t.Service;
  ServiceAccount: t.ServiceAccount;
  StatefulSet: t.StatefulSet;
  StorageClass: t.StorageClass;
}
export type KindName = keyof Kinds | (string & {});
export type ObjectOf<K> = K extends keyof Kinds ? Kinds[K] : AnyObject;

/**
 * Names one object: `deployment/web` (kind, plural or short name as kubectl takes them, in `default`), `deployment/shop/web` (with
 * its namespace), or an object with its kind and name, such as one that apply() gave back.
 */
export type Reference =
  | string
  | { apiVersion?: string; kind: KindName; name: string; namespace?: string }
  | { apiVersion: string; kind: string; metadata: { name: string; namespace?: string } };

/** `Deployment`, `deployments`, `deploy`, `deployments.apps` or `{ apiVersion, kind }`. */
export type KindReference = KindName | { apiVersion: string; kind: string };

export interface WaitOptions {
  /** Milliseconds: 30,000 for simulated nodes, 120,000 where instances run containers. */
  timeoutMs?: number;
  signal?: AbortSignal;
}

/**
 * What to wait for: `ready` (what that means depends on the kind), `exists`, `deleted`, a condition's type that must be True
 * (`Available`), or a function of the object: true when it is so, otherwise a text of what is missing, or false.
 */
export type Condition<T = AnyObject> = 'ready' | 'exists' | 'deleted' | (string & {}) | ((object: T) => boolean | string);

/** Undoes what made it, when called or by `using`. */
export interface Undo extends AsyncDisposable {
  (): Promise<void>;
}

export interface AwsInstance {
  id: string;
  state: string;
  type: string;
  zone: string;
  privateIp: string | undefined;
  /** Its node's name. */
  privateDnsName: string | undefined;
  tags: Record<string, string>;
}
export interface AwsLoadBalancer {
  arn: string;
  name: string;
  dnsName: string;
  type: string;
  scheme: string;
  state: string;
  listeners: { port: number; protocol: string }[];
  targetGroups: { arn: string; name: string; port: number; targets: { id: string; port: number; health: string }[] }[];
  tags: Record<string, string>;
}
export interface AwsVolume {
  id: string;
  state: string;
  sizeGiB: number;
  type: string;
  zone: string;
  attachedTo: string | undefined;
  tags: Record<string, string>;
}
export interface AwsSecurityGroup {
  id: string;
  name: string;
  ingress: { protocol: string; from: number | undefined; to: number | undefined; sources: string[] }[];
  tags: Record<string, string>;
}
/** A resource that workloads of the cluster made: none of its network or nodes. */
export interface AwsLeftover {
  kind: 'load balancer' | 'target group' | 'volume' | 'security group';
  id: string;
  /** Whose it is, as its tags say: a Service, a claim. */
  of: string;
}

/** The AWS that the cluster lives on. */
export interface ClusterAws {
  /** For `new EC2Client(cluster.aws.config)` and every other client of the AWS SDK. */
  config: { region: string; endpoint: string; credentials: { accessKeyId: string; secretAccessKey: string } };
  /** The same as environment variables, for the aws command and programs in other languages. */
  environment: Record<string, string>;
  vpcId: string;
  /** Terminated ones are left out. */
  instances(): Promise<AwsInstance[]>;
  loadBalancers(): Promise<AwsLoadBalancer[]>;
  /** The volumes of the cluster's claims. */
  volumes(): Promise<AwsVolume[]>;
  securityGroups(): Promise<AwsSecurityGroup[]>;
  /** What workloads made and is there still. */
  leftovers(): Promise<AwsLeftover[]>;
  /** Calls that were answered of late, oldest first (2,000 are kept). */
  calls(): Promise<RecordedCall[]>;
}

/** Everything that can be broken on purpose. Each resolves when it is broken, to a function that mends it. */
export interface ClusterFaults {
  /** Terminates the node's instance, as a machine that is lost for good. */
  terminateInstance(node: string): Promise<void>;
  /** Ends the node's kubelet; what runs goes on. */
  stopKubelet(node: string): Promise<Undo>;
  /** Nothing reaches the node and nothing leaves it. */
  cutNetwork(node: string): Promise<Undo>;
  /** Calls of AWS fail, or are slow. */
  aws(fault: CallFault): Promise<Undo>;
}

export interface ExecResult {
  stdout: string;
  stderr: string;
  exitCode: number;
}

/** A running cluster. `await using` ends it. */
export interface Cluster extends AsyncDisposable {
  name: string;
  /** https://127.0.0.1:PORT */
  server: string;
  /** A kubeconfig of the administrator, as YAML. */
  kubeconfig: string;
  /** Writes the kubeconfig (mode 0600) to a file, of the cluster's own where none is named, and resolves to its path. */
  writeKubeconfig(path?: string): Promise<string>;
  aws: ClusterAws;
  faults: ClusterFaults;
  /**
   * Creates or changes the objects of a manifest (YAML of any number of documents, or objects), in order, by server-side apply.
   * Namespaced ones without a namespace go to `namespace`, or `default`.
   */
  apply(manifest: string | object | readonly object[], options?: { namespace?: string } & WaitOptions): Promise<AnyObject[]>;
  get<K extends KindName>(
    kind: K | { apiVersion: string; kind: K },
    name: string,
    namespace?: string,
    options?: { signal?: AbortSignal },
  ): Promise<ObjectOf<K>>;
  /** All namespaces where none is named. */
  list<K extends KindName>(
    kind: K | { apiVersion: string; kind: K },
    options?: { namespace?: string; labelSelector?: string; fieldSelector?: string; signal?: AbortSignal },
  ): Promise<ObjectOf<K>[]>;
  /** Changes as by `kubectl patch --type merge`. */
  patch(what: Reference, patch: object, options?: { subresource?: string; signal?: AbortSignal }): Promise<AnyObject>;
  /** Deletes; what is gone already is no error. With `wait` resolves when it is gone. */
  delete(what: Reference, options?: { wait?: boolean } & WaitOptions): Promise<void>;
  /** Resolves to the object as soon as the condition holds (as it was last, when it waits for deletion). WaitError says what was missing. */
  waitFor<T = AnyObject>(what: Reference, condition: Condition<T>, options?: WaitOptions): Promise<T>;
  /** Waits on a question that no watch answers, asked again and again. The text says what for. */
  eventually<T>(what: string, ask: () => Promise<T | undefined | false> | T | undefined | false, options?: WaitOptions): Promise<T>;
  logs(
    pod: string,
    options?: { namespace?: string; container?: string; tailLines?: number; previous?: boolean; signal?: AbortSignal },
  ): Promise<string>;
  exec(
    pod: string,
    command: string | readonly string[],
    options?: { namespace?: string; container?: string; stdin?: string } & WaitOptions,
  ): Promise<ExecResult>;
  /** Any request to the API server, as administrator. */
  request(method: string, path: string, body?: unknown, options?: { signal?: AbortSignal }): Promise<{ status: number; body: any }>;
  /** Events of an object and of what it owns, and the AWS calls that failed, as text for people. */
  explain(what: Reference): Promise<string>;
  /** Ends the cluster and takes everything of it away. */
  stop(): Promise<void>;
}
