import { randomBytes } from 'node:crypto';
import { appendFile, mkdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname, join } from 'node:path';
import { type Duplex, PassThrough, Readable } from 'node:stream';
import {
  type Container,
  type ContainerConfig,
  type ContainerEvent,
  type ContainerStats,
  type ContainerStatus,
  type ExecResult,
  type Image,
  type LinuxResources,
  type PodSandboxConfig,
  type PodSandboxStatus,
  type Runtime,
  RuntimeError,
  type StreamOptions,
  type StreamSession,
} from '../../runtime/cri.ts';

/** What stands for the process of a container in tests. */
export interface FakeProcess {
  id: string;
  config: ContainerConfig;
  /** Writes a line to the container's log. */
  log(line: string, stream?: 'stdout' | 'stderr'): Promise<void>;
  exit(code: number, reason?: string): void;
  /** Called with the stop signal; without it the process ends with 0 at once. */
  onStop: (() => void) | undefined;
}
type Program = (process: FakeProcess) => void;

interface FakeContainer {
  status: ContainerStatus;
  config: ContainerConfig;
  logDirectory: string;
  process: FakeProcess;
  ended: Promise<void>;
  markEnded(): void;
}

const matches = (labels: Record<string, string>, wanted: Record<string, string> | undefined) =>
  Object.entries(wanted ?? {}).every(([k, v]) => labels[k] === v);
const newId = () => randomBytes(32).toString('hex');

/** A runtime for tests: it runs nothing, but keeps the contract, and outlives the kubelets that use it. */
export class FakeRuntime implements Runtime {
  readonly sandboxes = new Map<string, { status: PodSandboxStatus; config: PodSandboxConfig }>();
  readonly containers = new Map<string, FakeContainer>();
  readonly images = new Map<string, Image>();
  /** Calls that change something, as `start NAME`, `stop NAME 30`. */
  readonly calls: string[] = [];
  /** By container name; what has none runs until it is stopped. */
  readonly programs = new Map<string, Program>();
  /** Commands by their words, beside cat, env, true and false. */
  readonly commands = new Map<string, (process: FakeProcess) => ExecResult | Promise<ExecResult>>();
  /** Ports of pods by number, and the local ports that stand for them. */
  readonly ports = new Map<number, number>();
  readonly failPulls = new Map<string, string>();
  readonly pulls: { image: string; auth: unknown }[] = [];
  podCidr = '';
  private readonly listeners = new Set<(event: ContainerEvent) => void>();
  private addresses = 0;
  private lastTime = 0;

  async version() {
    return { runtimeName: 'fake', runtimeVersion: '1.0.0', runtimeApiVersion: 'v1' };
  }

  async status() {
    const network = this.podCidr !== '';
    return {
      conditions: [
        { type: 'RuntimeReady' as const, status: true, reason: '', message: '' },
        { type: 'NetworkReady' as const, status: network, reason: network ? '' : 'NetworkPluginNotReady', message: network ? '' : 'no pod CIDR yet' },
      ],
    };
  }

  async updateRuntimeConfig(config: { podCidr: string }) {
    this.podCidr = config.podCidr;
  }

  async runPodSandbox(config: PodSandboxConfig) {
    if (config.linux.namespaces.network !== 'NODE' && !this.podCidr) throw new RuntimeError('FailedPrecondition', 'there is no pod CIDR');
    const id = newId();
    this.calls.push(`sandbox ${config.metadata.name}`);
    const ip = config.linux.namespaces.network === 'NODE' ? '' : `127.9.0.${++this.addresses}`;
    this.sandboxes.set(id, {
      config,
      status: {
        id,
        metadata: config.metadata,
        state: 'SANDBOX_READY',
        createdAt: this.now(),
        labels: config.labels,
        annotations: config.annotations,
        network: { ip, additionalIps: [] },
        namespaces: config.linux.namespaces,
      },
    });
    return id;
  }

  async stopPodSandbox(id: string) {
    const sandbox = this.sandboxes.get(id);
    if (!sandbox) return;
    for (const c of this.containers.values()) if (c.status.podSandboxId === id && c.status.state === 'CONTAINER_RUNNING') c.process.exit(137);
    sandbox.status = { ...sandbox.status, state: 'SANDBOX_NOTREADY', network: { ip: '', additionalIps: [] } };
  }

  async removePodSandbox(id: string) {
    await this.stopPodSandbox(id);
    for (const c of [...this.containers.values()]) if (c.status.podSandboxId === id) this.containers.delete(c.status.id);
    this.sandboxes.delete(id);
  }

  async podSandboxStatus(id: string) {
    const found = this.sandboxes.get(id);
    if (!found) throw new RuntimeError('NotFound', `sandbox ${id} not found`);
    return found.status;
  }

  async listPodSandbox(filter: Parameters<Runtime['listPodSandbox']>[0] = {}) {
    return [...this.sandboxes.values()]
      .map((s) => s.status)
      .filter((s) => (!filter.id || s.id === filter.id) && (!filter.state || s.state === filter.state) && matches(s.labels, filter.labels));
  }

  async createContainer(sandboxId: string, config: ContainerConfig, sandboxConfig: PodSandboxConfig) {
    if (this.sandboxes.get(sandboxId)?.status.state !== 'SANDBOX_READY') throw new RuntimeError('NotFound', `sandbox ${sandboxId} is not ready`);
    const image = this.images.get(config.image.image);
    if (!image) throw new RuntimeError('NotFound', `image ${config.image.image} not found`);
    const id = newId();
    const { promise: ended, resolve: markEnded } = Promise.withResolvers<void>();
    const status: ContainerStatus = {
      id,
      podSandboxId: sandboxId,
      metadata: config.metadata,
      image: config.image,
      imageRef: image.id,
      state: 'CONTAINER_CREATED',
      createdAt: this.now(),
      startedAt: 0,
      finishedAt: 0,
      exitCode: 0,
      reason: '',
      message: '',
      labels: config.labels,
      annotations: config.annotations,
      mounts: config.mounts,
      logPath: config.logPath,
    };
    const file = join(sandboxConfig.logDirectory, config.logPath);
    const process: FakeProcess = {
      id,
      config,
      onStop: undefined,
      log: (line, stream = 'stdout') => appendFile(file, `${new Date().toISOString()} ${stream} F ${line}\n`),
      exit: (code, reason) => this.exited(id, code, reason),
    };
    this.containers.set(id, { status, config, logDirectory: sandboxConfig.logDirectory, process, ended, markEnded });
    this.calls.push(`create ${config.metadata.name}`);
    return id;
  }

  async startContainer(id: string) {
    const c = this.find(id);
    c.status = { ...c.status, state: 'CONTAINER_RUNNING', startedAt: this.now() };
    const file = join(c.logDirectory, c.config.logPath);
    await mkdir(dirname(file), { recursive: true });
    await appendFile(file, '');
    this.calls.push(`start ${c.config.metadata.name}`);
    this.emit(c, 'CONTAINER_STARTED_EVENT');
    this.programs.get(c.config.metadata.name)?.(c.process);
  }

  async stopContainer(id: string, timeoutSeconds: number) {
    const c = this.containers.get(id);
    if (!c) return;
    this.calls.push(`stop ${c.config.metadata.name} ${timeoutSeconds}`);
    if (c.status.state !== 'CONTAINER_RUNNING') return;
    const timer = setTimeout(() => c.process.exit(137), timeoutSeconds * 1000);
    if (c.process.onStop) c.process.onStop();
    else c.process.exit(0);
    await c.ended;
    clearTimeout(timer);
  }

  async removeContainer(id: string) {
    const c = this.containers.get(id);
    if (!c) return;
    if (c.status.state === 'CONTAINER_RUNNING') c.process.exit(137);
    this.containers.delete(id);
    this.emit(c, 'CONTAINER_DELETED_EVENT');
  }

  async listContainers(filter: Parameters<Runtime['listContainers']>[0] = {}): Promise<Container[]> {
    return [...this.containers.values()]
      .map((c) => c.status)
      .filter(
        (c) =>
          (!filter.id || c.id === filter.id) &&
          (!filter.podSandboxId || c.podSandboxId === filter.podSandboxId) &&
          (!filter.state || c.state === filter.state) &&
          matches(c.labels, filter.labels),
      );
  }

  async containerStatus(id: string) {
    return this.find(id).status;
  }
  async updateContainerResources(id: string, resources: LinuxResources) {
    Object.assign(this.find(id).config.linux.resources, resources);
  }
  async reopenContainerLog() {}

  async containerStats(id: string): Promise<ContainerStats> {
    this.find(id);
    return { id, cpu: { usageCoreNanoSeconds: 5e9 }, memory: { workingSetBytes: 1024, usageBytes: 2048 }, writableLayer: { usedBytes: 0 } };
  }
  async listContainerStats() {
    return Promise.all(
      [...this.containers.values()].filter((c) => c.status.state === 'CONTAINER_RUNNING').map((c) => this.containerStats(c.status.id)),
    );
  }

  async execSync(id: string, command: string[]): Promise<ExecResult> {
    const c = this.find(id);
    if (c.status.state !== 'CONTAINER_RUNNING') throw new RuntimeError('FailedPrecondition', 'container is not running');
    const result = (stdout: string, exitCode = 0, stderr = '') => ({ stdout: Buffer.from(stdout), stderr: Buffer.from(stderr), exitCode });
    const known = this.commands.get(command.join(' '));
    if (known) return known(c.process);
    if (command[0] === 'true') return result('');
    if (command[0] === 'false') return result('', 1);
    if (command[0] === 'env') return result(c.config.envs.map((e) => `${e.key}=${e.value}\n`).join(''));
    if (command[0] === 'cat' && command[1])
      return readFile(this.hostPath(c.config, command[1]), 'utf8').then(
        (text) => result(text),
        (error: Error) => result('', 1, error.message),
      );
    return result('', 127, `${command[0]}: not found`);
  }

  /** Where a path in the container lies on the node. */
  hostPath(config: ContainerConfig, path: string): string {
    const mount = config.mounts
      .filter((m) => path === m.containerPath || path.startsWith(`${m.containerPath}/`))
      .sort((a, b) => b.containerPath.length - a.containerPath.length)[0];
    if (!mount) throw new Error(`nothing is mounted at ${path}`);
    return mount.hostPath + path.slice(mount.containerPath.length);
  }

  async exec(id: string, command: string[], options: StreamOptions): Promise<StreamSession> {
    // `cat` without a file gives back what it reads.
    if (command.length === 1 && command[0] === 'cat' && options.stdin) {
      const pipe = new PassThrough();
      return {
        stdin: pipe,
        stdout: pipe,
        stderr: undefined,
        resize() {},
        exitCode: new Promise((r) => pipe.on('end', () => r(0))),
        close: () => pipe.destroy(),
      };
    }
    const result = await this.execSync(id, command);
    return {
      stdin: options.stdin ? new PassThrough().resume() : undefined,
      stdout: Readable.from(result.stdout.length > 0 ? [result.stdout] : []),
      stderr: options.tty ? undefined : Readable.from(result.stderr.length > 0 ? [result.stderr] : []),
      resize() {},
      exitCode: Promise.resolve(result.exitCode),
      close() {},
    };
  }

  attach(id: string, options: StreamOptions) {
    return this.exec(id, ['cat'], { ...options, stdin: true });
  }

  async portForward(_sandboxId: string, port: number): Promise<Duplex> {
    const local = this.ports.get(port);
    if (local === undefined) throw new RuntimeError('Internal', `connect to port ${port}: connection refused`);
    return connect({ host: '127.0.0.1', port: local });
  }

  containerEvents(onEvent: (event: ContainerEvent) => void, signal: AbortSignal) {
    this.listeners.add(onEvent);
    signal.addEventListener('abort', () => this.listeners.delete(onEvent), { once: true });
  }

  async listImages() {
    return [...new Set(this.images.values())];
  }
  async imageStatus(image: string) {
    return this.images.get(image);
  }

  async pullImage(image: string, auth?: unknown) {
    this.pulls.push({ image, auth });
    const failure = this.failPulls.get(image);
    if (failure) throw new RuntimeError('Internal', failure);
    this.addImage(image);
    return this.images.get(image)!.id;
  }

  addImage(image: string, more: Partial<Image> = {}) {
    const id = `sha256:${Buffer.from(image).toString('hex').padEnd(64, '0').slice(0, 64)}`;
    this.images.set(image, { id, repoTags: [image], repoDigests: [], size: 1000, pinned: false, ...more });
  }

  async removeImage(image: string) {
    for (const [name, i] of this.images) if (name === image || i.id === image) this.images.delete(name);
  }
  async imageFsInfo() {
    return { mountpoint: '/', usedBytes: 0, inodesUsed: 0 };
  }
  async close() {}

  /** The newest container of this name. */
  named(name: string): FakeContainer | undefined {
    return [...this.containers.values()].filter((c) => c.config.metadata.name === name).at(-1);
  }

  private find(id: string): FakeContainer {
    const found = this.containers.get(id);
    if (!found) throw new RuntimeError('NotFound', `container ${id} not found`);
    return found;
  }

  /** Strictly rising, so that creation order is known. */
  private now(): number {
    this.lastTime = Math.max(Date.now(), this.lastTime + 1);
    return this.lastTime;
  }

  private exited(id: string, exitCode: number, reason?: string): void {
    const c = this.containers.get(id);
    if (c?.status.state !== 'CONTAINER_RUNNING') return;
    c.status = {
      ...c.status,
      state: 'CONTAINER_EXITED',
      finishedAt: this.now(),
      exitCode,
      reason: reason ?? (exitCode === 0 ? 'Completed' : 'Error'),
    };
    c.markEnded();
    this.emit(c, 'CONTAINER_STOPPED_EVENT');
  }

  private emit(c: FakeContainer, type: ContainerEvent['type']): void {
    const podSandboxMetadata = this.sandboxes.get(c.status.podSandboxId)?.config.metadata;
    if (!podSandboxMetadata) return;
    for (const listener of this.listeners) listener({ containerId: c.status.id, type, createdAt: Date.now(), podSandboxMetadata });
  }
}
