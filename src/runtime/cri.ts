import type { Readable, Writable } from 'node:stream';

/**
 * The Container Runtime Interface (runtime.v1) in TypeScript: names and meanings are CRI's, in camelCase.
 * The kubelet knows nothing else of a runtime. Implementations: the embedded one (embedded/), later any CRI socket,
 * and `simulated`. Times are nanoseconds since the epoch as bigint in CRI; here milliseconds as number.
 */
export interface PodSandboxMetadata {
  name: string;
  uid: string;
  namespace: string;
  attempt: number;
}
export type NamespaceMode = 'POD' | 'CONTAINER' | 'NODE' | 'TARGET';
export interface NamespaceOption {
  network: NamespaceMode;
  pid: NamespaceMode;
  ipc: NamespaceMode;
  targetId?: string;
}
export interface DnsConfig {
  servers: string[];
  searches: string[];
  options: string[];
}
export interface PortMapping {
  protocol: 'TCP' | 'UDP' | 'SCTP';
  containerPort: number;
  hostPort: number;
  hostIp?: string;
}

export interface PodSandboxConfig {
  metadata: PodSandboxMetadata;
  hostname: string;
  /** Where container logs go; container logPath is relative to it. */
  logDirectory: string;
  dnsConfig?: DnsConfig;
  portMappings: PortMapping[];
  labels: Record<string, string>;
  annotations: Record<string, string>;
  linux: {
    /** Relative to the cgroup root, as /kubepods/burstable/podUID. */
    cgroupParent: string;
    namespaces: NamespaceOption;
    sysctls: Record<string, string>;
    privileged: boolean;
    supplementalGroups?: number[];
    runAsUser?: number;
    runAsGroup?: number;
    readonlyRootfs?: boolean;
  };
}

export type PodSandboxState = 'SANDBOX_READY' | 'SANDBOX_NOTREADY';
export interface PodSandbox {
  id: string;
  metadata: PodSandboxMetadata;
  state: PodSandboxState;
  createdAt: number;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}
export interface PodSandboxStatus extends PodSandbox {
  network: { ip: string; additionalIps: string[] };
  namespaces: NamespaceOption;
}

export interface ContainerMetadata {
  name: string;
  attempt: number;
}
export interface Mount {
  containerPath: string;
  hostPath: string;
  /** The files of this image, which must have been pulled, in place of hostPath; always read-only. */
  image?: { image: string };
  /** A folder or file within it. */
  imageSubPath?: string;
  readonly: boolean;
  propagation: 'PROPAGATION_PRIVATE' | 'PROPAGATION_HOST_TO_CONTAINER' | 'PROPAGATION_BIDIRECTIONAL';
}
export interface LinuxResources {
  cpuPeriod?: number;
  cpuQuota?: number;
  cpuShares?: number;
  memoryLimitInBytes?: number;
  oomScoreAdj?: number;
  pidsLimit?: number;
  cpusetCpus?: string;
}
export interface SecurityContext {
  privileged: boolean;
  capabilities?: { add: string[]; drop: string[] };
  runAsUser?: number;
  runAsUsername?: string;
  runAsGroup?: number;
  supplementalGroups: number[];
  readonlyRootfs: boolean;
  noNewPrivs: boolean;
  maskedPaths: string[];
  readonlyPaths: string[];
  namespaces: NamespaceOption;
  /** RuntimeDefault, Unconfined or a localhost profile. */
  seccompProfile?: { type: string; localhostRef?: string };
}
export interface ContainerConfig {
  metadata: ContainerMetadata;
  image: { image: string };
  command: string[];
  args: string[];
  workingDir: string;
  envs: { key: string; value: string }[];
  mounts: Mount[];
  devices: { containerPath: string; hostPath: string; permissions: string }[];
  /** By their fully qualified names, VENDOR/CLASS=NAME. */
  cdiDevices?: string[];
  labels: Record<string, string>;
  annotations: Record<string, string>;
  /** Relative to the sandbox's logDirectory; lines in CRI form `TIME stdout|stderr F|P TEXT`. */
  logPath: string;
  stdin: boolean;
  stdinOnce: boolean;
  tty: boolean;
  linux: { resources: LinuxResources; securityContext: SecurityContext };
  /** Signal number or name; the image's or SIGTERM by default. */
  stopSignal?: string;
}
export type ContainerState = 'CONTAINER_CREATED' | 'CONTAINER_RUNNING' | 'CONTAINER_EXITED' | 'CONTAINER_UNKNOWN';
export interface Container {
  id: string;
  podSandboxId: string;
  metadata: ContainerMetadata;
  image: { image: string };
  imageRef: string;
  state: ContainerState;
  createdAt: number;
  labels: Record<string, string>;
  annotations: Record<string, string>;
}
export interface ContainerStatus extends Container {
  startedAt: number;
  finishedAt: number;
  exitCode: number;
  /** Completed, Error, OOMKilled, ContainerCannotRun … */
  reason: string;
  message: string;
  mounts: Mount[];
  logPath: string;
}
export interface ContainerStats {
  id: string;
  cpu: { usageCoreNanoSeconds: number };
  memory: { workingSetBytes: number; usageBytes: number };
  writableLayer: { usedBytes: number };
}
export interface Image {
  id: string;
  repoTags: string[];
  repoDigests: string[];
  size: number;
  uid?: number;
  username?: string;
  pinned: boolean;
}

export interface ExecResult {
  stdout: Buffer;
  stderr: Buffer;
  exitCode: number;
}
/** A running exec or attach session. stderr is absent with a tty. */
export interface StreamSession {
  stdin: Writable | undefined;
  stdout: Readable;
  stderr: Readable | undefined;
  resize(width: number, height: number): void;
  /** Resolves when the process ended (exec) or the container or the session did (attach). */
  exitCode: Promise<number>;
  close(): void;
}
export interface StreamOptions {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  tty: boolean;
}

export interface ContainerEvent {
  containerId: string;
  type: 'CONTAINER_CREATED_EVENT' | 'CONTAINER_STARTED_EVENT' | 'CONTAINER_STOPPED_EVENT' | 'CONTAINER_DELETED_EVENT';
  createdAt: number;
  podSandboxMetadata: PodSandboxMetadata;
}

/** CRI errors carry a gRPC-like code, so that NotFound is told apart. */
export class RuntimeError extends Error {
  readonly code: 'NotFound' | 'InvalidArgument' | 'AlreadyExists' | 'DeadlineExceeded' | 'Internal' | 'Unavailable' | 'FailedPrecondition';
  constructor(code: RuntimeError['code'], message: string) {
    super(message);
    this.name = 'RuntimeError';
    this.code = code;
  }
}

export interface Runtime {
  version(): Promise<{ runtimeName: string; runtimeVersion: string; runtimeApiVersion: string }>;
  status(): Promise<{ conditions: { type: 'RuntimeReady' | 'NetworkReady'; status: boolean; reason: string; message: string }[] }>;
  updateRuntimeConfig(config: { podCidr: string }): Promise<void>;

  runPodSandbox(config: PodSandboxConfig): Promise<string>;
  /** Idempotent. Ends its containers, takes its network down. */
  stopPodSandbox(id: string): Promise<void>;
  removePodSandbox(id: string): Promise<void>;
  podSandboxStatus(id: string): Promise<PodSandboxStatus>;
  listPodSandbox(filter?: { id?: string; state?: PodSandboxState; labels?: Record<string, string> }): Promise<PodSandbox[]>;

  createContainer(sandboxId: string, config: ContainerConfig, sandboxConfig: PodSandboxConfig): Promise<string>;
  startContainer(id: string): Promise<void>;
  /** Stop signal, then SIGKILL after timeout seconds. Idempotent. */
  stopContainer(id: string, timeoutSeconds: number): Promise<void>;
  removeContainer(id: string): Promise<void>;
  listContainers(filter?: { id?: string; podSandboxId?: string; state?: ContainerState; labels?: Record<string, string> }): Promise<Container[]>;
  containerStatus(id: string): Promise<ContainerStatus>;
  updateContainerResources(id: string, resources: LinuxResources): Promise<void>;
  reopenContainerLog(id: string): Promise<void>;
  containerStats(id: string): Promise<ContainerStats>;
  listContainerStats(): Promise<ContainerStats[]>;

  execSync(id: string, command: string[], timeoutSeconds: number): Promise<ExecResult>;
  exec(id: string, command: string[], options: StreamOptions): Promise<StreamSession>;
  attach(id: string, options: StreamOptions): Promise<StreamSession>;
  /** A connection to a port inside the sandbox's network namespace. */
  portForward(sandboxId: string, port: number): Promise<import('node:stream').Duplex>;

  /** Calls back for each container that starts, stops or goes, also for those that ended while nobody listened. Ends with signal. */
  containerEvents(onEvent: (event: ContainerEvent) => void, signal: AbortSignal): void;

  listImages(filter?: { image?: string }): Promise<Image[]>;
  imageStatus(image: string): Promise<Image | undefined>;
  /** Resolves to the image's reference by digest. */
  pullImage(
    image: string,
    auth?: { username?: string; password?: string; auth?: string; identityToken?: string; registryToken?: string },
    signal?: AbortSignal,
  ): Promise<string>;
  removeImage(image: string): Promise<void>;
  imageFsInfo(): Promise<{ mountpoint: string; usedBytes: number; inodesUsed: number }>;
  close(): Promise<void>;
}
