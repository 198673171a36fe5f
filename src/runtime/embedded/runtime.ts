import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import type { Duplex } from 'node:stream';
import type { Logger } from 'pino';
import type { PodNetwork } from '../../network/network.ts';
import {
  type Container,
  type ContainerConfig,
  type ContainerEvent,
  type ContainerStats,
  type ContainerStatus,
  type ExecResult,
  type Image,
  type LinuxResources,
  type PodSandbox,
  type PodSandboxConfig,
  type PodSandboxState,
  type PodSandboxStatus,
  type Runtime,
  RuntimeError,
  type StreamOptions,
  type StreamSession,
} from '../cri.ts';
import { Puller } from '../images/pull.ts';
import { parseMirrors } from '../images/registry.ts';
import { resolveIn } from '../images/safe-path.ts';
import { ImageStore, toCriImage } from '../images/store.ts';
import { attach } from './attach.ts';
import { boundingSet, ociConfig, ociResources } from './bundle.ts';
import { applyCdi, cdiDirectories } from './cdi.ts';
import { finish, run, start } from './command.ts';
import { createWithConmon } from './conmon.ts';
import { mountImageVolumes } from './image-volumes.ts';
import { Containers, type StoredContainer } from './containers.ts';
import { execStream, execSync } from './exec.ts';
import { bootIdentity, identify, isAlive, signalProcess } from './processes.ts';
import { overProcess } from './relay.ts';
import { type Sandbox, Sandboxes } from './sandboxes.ts';
import { cgroupProcesses, cgroupUsage, removeCgroup } from './stats.ts';
import { chooseOciRuntime } from './oci-runtime.ts';
import { resolveUser } from './users.ts';

export interface EmbeddedRuntimeOptions {
  /** Where images, containers and namespaces live: on a real disk, since an overlay cannot be the upper layer of another. */
  root: string;
  network: PodNetwork;
  /** PATTERN=URL,… where images are looked for first. */
  registryMirrors?: string;
  /** Where specifications of devices lie; /etc/cdi and /var/run/cdi by default. */
  cdiDirectories?: readonly string[];
  log: Logger;
}

/** Milliseconds for a killed container to be gone. */
const killLimitMs = 10_000;

/**
 * The container runtime inside the kubelet's process: conmon and crun (or runc) for containers, overlayfs for their roots. Everything it knows
 * is on disk; containers go on when the process ends, and the next one takes them up again.
 */
export async function createEmbeddedRuntime(options: EmbeddedRuntimeOptions): Promise<Runtime> {
  const runtime = new EmbeddedRuntime(options, await ImageStore.open(join(options.root, 'image-store'), options.log));
  await runtime.open();
  return runtime;
}

class EmbeddedRuntime implements Runtime {
  private readonly root: string;
  private readonly network: PodNetwork;
  private readonly images: ImageStore;
  private readonly puller: Puller;
  private readonly sandboxes: Sandboxes;
  private readonly containers: Containers;
  private readonly cdi: readonly string[];
  private readonly oci: string;
  private readonly ociRoot: string;
  private readonly capabilities = boundingSet(readFileSync('/proc/self/status', 'utf8'));
  private readonly listeners = new Set<(event: ContainerEvent) => void>();
  /** Ends that nobody has heard of. */
  private unheard: ContainerEvent[] = [];

  constructor(o: EmbeddedRuntimeOptions, images: ImageStore) {
    this.root = o.root;
    this.network = o.network;
    this.images = images;
    this.puller = new Puller({ store: images, mirrors: parseMirrors(o.registryMirrors), log: o.log });
    this.sandboxes = new Sandboxes(join(o.root, 'sandboxes'));
    this.containers = new Containers(o.root, (container) => this.emit(container, 'CONTAINER_STOPPED_EVENT'));
    this.oci = chooseOciRuntime(o.root);
    this.ociRoot = join(o.root, 'oci');
    this.cdi = o.cdiDirectories ?? cdiDirectories;
  }

  async open(): Promise<void> {
    await mkdir(this.ociRoot, { recursive: true, mode: 0o711 });
    const bootFile = join(this.root, 'boot');
    const boot = bootIdentity();
    const rebooted = (await readFile(bootFile, 'utf8').catch(() => boot)) !== boot;
    if (rebooted) await rm(this.ociRoot, { recursive: true, force: true });
    await mkdir(this.ociRoot, { recursive: true, mode: 0o711 });
    await writeFile(bootFile, boot);
    await this.sandboxes.load();
    await this.containers.load();
    for (const sandbox of this.sandboxes.all.values()) {
      if (sandbox.ready && (rebooted || !this.sandboxes.isReady(sandbox))) await this.sandboxes.save({ ...sandbox, ready: false });
    }
    for (const container of [...this.containers.all.values()]) {
      // conmon writes the exit file when it sees the end; where both are gone nobody will.
      if (
        container.state === 'CONTAINER_RUNNING' &&
        !isAlive(container.process) &&
        !(await this.containers.waitForEnd(container.id, rebooted ? 0 : 1000))
      ) {
        await this.containers.finishAs(container, 255, 'Unknown', 'the machine was restarted');
      }
    }
    await this.network.retain([...this.sandboxes.all.values()].filter((one) => one.ready).map((one) => one.id));
  }

  async close(): Promise<void> {
    this.containers.close();
  }

  async version() {
    const text = (await run(this.oci, ['--version'])).split('\n')[0] ?? '';
    return { runtimeName: 'kumulus', runtimeVersion: text.replace(/^(\S+) version /, '$1-'), runtimeApiVersion: 'v1' };
  }

  async status() {
    const ready = this.network.ready;
    return {
      conditions: [
        { type: 'RuntimeReady' as const, status: true, reason: '', message: '' },
        {
          type: 'NetworkReady' as const,
          status: ready,
          reason: ready ? '' : 'NetworkPluginNotReady',
          message: ready ? '' : "Network plugin returns error: the node's pod CIDR is not known yet",
        },
      ],
    };
  }

  async updateRuntimeConfig(config: { podCidr: string }): Promise<void> {
    if (config.podCidr) await this.network.configure(config.podCidr);
  }

  // Pod sandboxes.

  async runPodSandbox(config: PodSandboxConfig): Promise<string> {
    const id = randomBytes(32).toString('hex');
    const sandbox: Sandbox = { id, config, createdAt: Date.now(), ready: true, ip: '' };
    await mkdir(config.logDirectory, { recursive: true, mode: 0o755 });
    await this.sandboxes.create(sandbox, hostname());
    const netns = this.sandboxes.namespace(sandbox, 'network');
    try {
      if (netns) sandbox.ip = (await this.network.add(id, netns, config.portMappings)).ip;
      await this.sandboxes.save(sandbox);
    } catch (error) {
      if (netns) await this.network.remove(id, netns).catch(() => {});
      await this.sandboxes.destroy(id);
      throw error instanceof RuntimeError ? error : new RuntimeError('Internal', `failed to setup network for sandbox: ${(error as Error).message}`);
    }
    return id;
  }

  private sandbox(id: string): Sandbox {
    const found = this.sandboxes.all.get(id);
    if (!found) throw new RuntimeError('NotFound', `an error occurred when try to find sandbox: not found: ${id}`);
    return found;
  }

  async stopPodSandbox(id: string): Promise<void> {
    const sandbox = this.sandboxes.all.get(id);
    if (!sandbox) return;
    await Promise.all([...this.containers.all.values()].filter((one) => one.sandboxId === id).map((one) => this.stopContainer(one.id, 0)));
    const netns = this.sandboxes.namespace(sandbox, 'network');
    if (netns) await this.network.remove(id, netns);
    await this.sandboxes.release(id);
    const { holder: _, ...rest } = sandbox;
    await this.sandboxes.save({ ...rest, ready: false });
  }

  async removePodSandbox(id: string): Promise<void> {
    if (!this.sandboxes.all.has(id)) return;
    await this.stopPodSandbox(id);
    for (const one of [...this.containers.all.values()]) if (one.sandboxId === id) await this.removeContainer(one.id);
    await this.sandboxes.destroy(id);
  }

  private stateOf(sandbox: Sandbox): PodSandboxState {
    return this.sandboxes.isReady(sandbox) ? 'SANDBOX_READY' : 'SANDBOX_NOTREADY';
  }

  private viewSandbox(sandbox: Sandbox): PodSandbox {
    const { metadata, labels, annotations } = sandbox.config;
    return { id: sandbox.id, metadata, state: this.stateOf(sandbox), createdAt: sandbox.createdAt, labels, annotations };
  }

  async podSandboxStatus(id: string): Promise<PodSandboxStatus> {
    const sandbox = this.sandbox(id);
    return { ...this.viewSandbox(sandbox), network: { ip: sandbox.ip, additionalIps: [] }, namespaces: sandbox.config.linux.namespaces };
  }

  async listPodSandbox(filter: Parameters<Runtime['listPodSandbox']>[0] = {}): Promise<PodSandbox[]> {
    const wanted =
      filter.id === undefined ? [...this.sandboxes.all.values()] : [this.sandboxes.all.get(filter.id)].filter((one) => one !== undefined);
    return wanted
      .map((one) => this.viewSandbox(one))
      .filter((one) => (filter.state === undefined || one.state === filter.state) && hasLabels(one.labels, filter.labels));
  }

  // Containers.

  private container(id: string): StoredContainer {
    const found = this.containers.all.get(id);
    if (!found) throw new RuntimeError('NotFound', `an error occurred when try to find container "${id}": not found`);
    return found;
  }

  async createContainer(sandboxId: string, config: ContainerConfig, sandboxConfig: PodSandboxConfig): Promise<string> {
    const sandbox = this.sandbox(sandboxId);
    if (!this.sandboxes.isReady(sandbox)) throw new RuntimeError('FailedPrecondition', `sandbox ${sandboxId} is not ready`);
    const image = this.images.get(config.image.image);
    if (!image) throw new RuntimeError('NotFound', `failed to resolve image "${config.image.image}": not found`);
    const id = randomBytes(32).toString('hex');
    const folder = this.containers.folder(id);
    for (const name of ['rootfs', 'upper', 'work']) await mkdir(join(folder, name), { recursive: true, mode: 0o755 });
    try {
      const rootfs = join(folder, 'rootfs');
      const layers = this.images.lowerDirs(image);
      // Relative to the snapshots, since all of a mount's options must fit one page.
      const lower = layers.length ? layers.join(':') : await this.emptyLayer();
      await run(
        'mount',
        ['-t', 'overlay', 'overlay', '-o', `lowerdir=${lower},upperdir=${join(folder, 'upper')},workdir=${join(folder, 'work')}`, rootfs],
        {
          cwd: this.images.snapshotFolder,
        },
      );
      const process = image.config.config ?? {};
      const user = resolveUser(rootfs, process.User ?? '', config.linux.securityContext);
      await mkdir(resolveIn(rootfs, config.workingDir || process.WorkingDir || '/'), { recursive: true });
      const cgroup = join('/', sandboxConfig.linux.cgroupParent, id);
      const sandboxFolder = this.sandboxes.folder(sandboxId);
      const { network, ipc, uts } = Object.fromEntries(
        (['network', 'ipc', 'uts'] as const).map((kind) => [kind, this.sandboxes.namespace(sandbox, kind)]),
      );
      const pid = this.pidNamespace(sandbox, config);
      // As containerd and cri-o do: what a hostPath volume without a type names may still be missing.
      for (const { hostPath } of config.mounts) if (hostPath && !existsSync(hostPath)) await mkdir(hostPath, { recursive: true, mode: 0o755 });
      const volumes = await mountImageVolumes(folder, config.mounts, this.images);
      const spec = ociConfig({
        id,
        config: { ...config, mounts: volumes.mounts },
        sandbox: sandboxConfig,
        image: process,
        user,
        namespaces: { ...(network ? { network } : {}), ...(ipc ? { ipc } : {}), ...(uts ? { uts } : {}), ...(pid ? { pid } : {}) },
        files: {
          ...(sandboxConfig.dnsConfig ? { resolvConf: join(sandboxFolder, 'resolv.conf') } : {}),
          hostname: join(sandboxFolder, 'hostname'),
          shm: ipc ? join(sandboxFolder, 'shm') : '/dev/shm',
        },
        hostname: this.sandboxes.hostname(sandbox, hostname()),
        cgroupsPath: cgroup,
        capabilities: this.capabilities,
      });
      await applyCdi(spec, config.cdiDevices ?? [], this.cdi);
      // As OCI runtimes do, where nothing sets it.
      const variables = (spec['process'] as { env: string[] }).env;
      if (!variables.some((one) => one.startsWith('HOME='))) variables.push(`HOME=${user.home}`);
      await writeFile(join(folder, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
      await this.containers.save({
        id,
        sandboxId,
        config,
        imageId: image.id,
        imageRef: image.repoDigests[0] ?? image.id,
        snapshots: [...image.snapshots, ...volumes.snapshots],
        state: 'CONTAINER_CREATED',
        createdAt: Date.now(),
        startedAt: 0,
        finishedAt: 0,
        exitCode: 0,
        reason: '',
        message: '',
        cgroup,
        stopSignal: config.stopSignal || process.StopSignal || 'SIGTERM',
      });
    } catch (error) {
      await this.containers.discard(id);
      throw error instanceof RuntimeError ? error : new RuntimeError('Internal', (error as Error).message);
    }
    this.emit(this.container(id), 'CONTAINER_CREATED_EVENT');
    return id;
  }

  /** A folder for images without layers. */
  private async emptyLayer(): Promise<string> {
    const path = join(this.root, 'empty');
    await mkdir(path, { recursive: true });
    return path;
  }

  private pidNamespace(sandbox: Sandbox, config: ContainerConfig): string | 'new' | undefined {
    const { pid, targetId } = config.linux.securityContext.namespaces;
    if (pid === 'NODE') return undefined;
    if (pid === 'POD') return this.sandboxes.namespace(sandbox, 'pid') ?? 'new';
    if (pid === 'TARGET') {
      const target = this.container(targetId ?? '').process;
      if (!isAlive(target)) throw new RuntimeError('FailedPrecondition', `target container ${targetId} does not run`);
      return `/proc/${target.pid}/ns/pid`;
    }
    return 'new';
  }

  async startContainer(id: string): Promise<void> {
    const container = this.container(id);
    if (container.state !== 'CONTAINER_CREATED') throw new RuntimeError('FailedPrecondition', `container is in ${container.state} state`);
    const sandbox = this.sandbox(container.sandboxId);
    const folder = this.containers.folder(id);
    const { config } = container;
    const logPath = join(sandbox.config.logDirectory, config.logPath);
    await mkdir(dirname(logPath), { recursive: true, mode: 0o755 });
    try {
      const pid = await createWithConmon({
        id,
        name: config.metadata.name,
        folder,
        runtime: this.oci,
        runtimeRoot: this.ociRoot,
        exitDirectory: this.containers.exits,
        logPath,
        tty: config.tty,
        stdin: config.stdin,
        stdinOnce: config.stdinOnce,
      });
      const process = identify(pid);
      // Recorded before it runs, so that its end finds a container that ran.
      await this.containers.save({ ...container, state: 'CONTAINER_RUNNING', startedAt: Date.now(), ...(process ? { process } : {}) });
      await run(this.oci, [`--root=${this.ociRoot}`, 'start', id]);
    } catch (error) {
      await finish(this.oci, [`--root=${this.ociRoot}`, 'delete', '--force', id]);
      const message = ociMessage((error as Error).message);
      await this.containers.finishAs(this.container(id), 128, 'StartError', message);
      throw new RuntimeError('Internal', `failed to create task: OCI runtime create failed: ${message}`);
    }
    this.emit(this.container(id), 'CONTAINER_STARTED_EVENT');
    await this.containers.ended(id);
  }

  async stopContainer(id: string, timeoutSeconds: number): Promise<void> {
    const container = this.containers.all.get(id);
    if (container?.state !== 'CONTAINER_RUNNING') return;
    if (timeoutSeconds > 0) {
      signalProcess(container.process, signalOf(container.stopSignal));
      if (await this.containers.waitForEnd(id, timeoutSeconds * 1000)) return;
    }
    signalProcess(container.process, 'SIGKILL');
    // In a PID namespace that is not its own, what it has started outlives it.
    if (container.config.linux.securityContext.namespaces.pid !== 'CONTAINER') {
      for (const pid of await cgroupProcesses(container.cgroup)) signalProcess(identify(pid), 'SIGKILL');
    }
    if (await this.containers.waitForEnd(id, killLimitMs)) return;
    const now = this.container(id);
    if (isAlive(now.process)) throw new RuntimeError('DeadlineExceeded', `container ${id} does not end after SIGKILL`);
    await this.containers.finishAs(now, 137, 'Error', 'its conmon ended without telling how');
  }

  async removeContainer(id: string): Promise<void> {
    const container = this.containers.all.get(id);
    if (!container) return;
    await this.stopContainer(id, 0);
    await finish(this.oci, [`--root=${this.ociRoot}`, 'delete', '--force', id]);
    await this.containers.discard(id);
    await removeCgroup(container.cgroup);
    this.emit(container, 'CONTAINER_DELETED_EVENT');
  }

  private view(container: StoredContainer): Container {
    const { id, sandboxId, config, imageRef, state, createdAt } = container;
    return {
      id,
      podSandboxId: sandboxId,
      metadata: config.metadata,
      image: config.image,
      imageRef,
      state,
      createdAt,
      labels: config.labels,
      annotations: config.annotations,
    };
  }

  async listContainers(filter: Parameters<Runtime['listContainers']>[0] = {}): Promise<Container[]> {
    return [...this.containers.all.values()]
      .filter(
        (one) =>
          (filter.id === undefined || one.id === filter.id) &&
          (filter.podSandboxId === undefined || one.sandboxId === filter.podSandboxId) &&
          (filter.state === undefined || one.state === filter.state) &&
          hasLabels(one.config.labels, filter.labels),
      )
      .map((one) => this.view(one));
  }

  async containerStatus(id: string): Promise<ContainerStatus> {
    const container = this.container(id);
    const { startedAt, finishedAt, exitCode, reason, message, config } = container;
    const logPath = join(this.sandbox(container.sandboxId).config.logDirectory, config.logPath);
    return { ...this.view(container), startedAt, finishedAt, exitCode, reason, message, mounts: config.mounts, logPath };
  }

  async updateContainerResources(id: string, resources: LinuxResources): Promise<void> {
    const container = this.container(id);
    if (container.state === 'CONTAINER_RUNNING') {
      // By a file: crun opens /dev/stdin anew, which a socket, as Node gives its children, does not allow.
      const file = join(this.containers.folder(id), 'resources.json');
      await writeFile(file, JSON.stringify(ociResources(resources)));
      await run(this.oci, [`--root=${this.ociRoot}`, 'update', '--resources', file, id]);
    }
    const config = { ...container.config, linux: { ...container.config.linux, resources: { ...container.config.linux.resources, ...resources } } };
    await this.containers.save({ ...this.container(id), config });
  }

  async reopenContainerLog(id: string): Promise<void> {
    this.container(id);
    await this.control(id, '2 0 0\n');
  }

  /** A line to conmon's control pipe. */
  private async control(id: string, line: string): Promise<void> {
    await appendFile(join(this.containers.folder(id), 'ctl'), line);
  }

  async containerStats(id: string): Promise<ContainerStats> {
    const container = this.container(id);
    const usage = await cgroupUsage(container.cgroup);
    const written = await finish('du', ['-sxk', join(this.containers.folder(id), 'upper')]);
    return {
      id,
      cpu: { usageCoreNanoSeconds: usage.cpuNanoseconds },
      memory: { workingSetBytes: usage.workingSetBytes, usageBytes: usage.memoryBytes },
      writableLayer: { usedBytes: Number(written.stdout.toString().split('\t')[0] || 0) * 1024 },
    };
  }

  async listContainerStats(): Promise<ContainerStats[]> {
    const running = [...this.containers.all.values()].filter((one) => one.state === 'CONTAINER_RUNNING');
    return Promise.all(running.map((one) => this.containerStats(one.id)));
  }

  // Streams.

  private async target(id: string) {
    const container = this.container(id);
    if (container.state !== 'CONTAINER_RUNNING') throw new RuntimeError('FailedPrecondition', `container is in ${container.state} state`);
    const spec = JSON.parse(await readFile(join(this.containers.folder(id), 'config.json'), 'utf8'));
    return { runtime: this.oci, runtimeRoot: this.ociRoot, id, process: spec.process };
  }

  async execSync(id: string, command: string[], timeoutSeconds: number): Promise<ExecResult> {
    return execSync(await this.target(id), command, timeoutSeconds);
  }

  async exec(id: string, command: string[], options: StreamOptions): Promise<StreamSession> {
    return execStream(await this.target(id), command, options);
  }

  async attach(id: string, options: StreamOptions): Promise<StreamSession> {
    await this.target(id);
    const { config } = this.container(id);
    const ended = this.containers.waitForEnd(id, 2 ** 31 - 1).then(() => this.containers.all.get(id)?.exitCode ?? 0);
    return attach({
      ...options,
      tty: config.tty,
      stdin: options.stdin && config.stdin,
      socket: join(this.containers.folder(id), 'attach'),
      control: (line) => void this.control(id, line).catch(() => {}),
      ended,
    });
  }

  async portForward(sandboxId: string, port: number): Promise<Duplex> {
    const sandbox = this.sandbox(sandboxId);
    if (!this.sandboxes.isReady(sandbox)) throw new RuntimeError('FailedPrecondition', `sandbox ${sandboxId} is not ready`);
    const netns = this.sandboxes.namespace(sandbox, 'network');
    const relay = ['busybox', 'nc', '127.0.0.1', String(port)];
    const [program, ...args] = netns ? ['nsenter', `--net=${netns}`, ...relay] : relay;
    const child = start(program as string, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    return overProcess(child, (words) => new RuntimeError('Unavailable', `failed to connect to localhost:${port} inside namespace: ${words}`));
  }

  // Events.

  private emit(container: StoredContainer, type: ContainerEvent['type']): void {
    const sandbox = this.sandboxes.all.get(container.sandboxId);
    if (!sandbox) return;
    const event: ContainerEvent = { containerId: container.id, type, createdAt: Date.now(), podSandboxMetadata: sandbox.config.metadata };
    if (this.listeners.size === 0) {
      if (type === 'CONTAINER_STOPPED_EVENT') this.unheard.push(event);
      return;
    }
    for (const listener of this.listeners) listener(event);
  }

  containerEvents(onEvent: (event: ContainerEvent) => void, signal: AbortSignal): void {
    if (signal.aborted) return;
    this.listeners.add(onEvent);
    signal.addEventListener('abort', () => this.listeners.delete(onEvent), { once: true });
    const missed = this.unheard;
    this.unheard = [];
    for (const event of missed) onEvent(event);
  }

  // Images.

  async listImages(filter: { image?: string } = {}): Promise<Image[]> {
    if (filter.image === undefined) return this.images.list().map(toCriImage);
    const found = this.images.get(filter.image);
    return found ? [toCriImage(found)] : [];
  }

  async imageStatus(image: string): Promise<Image | undefined> {
    const found = this.images.get(image);
    return found && toCriImage(found);
  }

  async pullImage(image: string, auth?: Parameters<Runtime['pullImage']>[1], signal?: AbortSignal): Promise<string> {
    return this.puller.pull(image, auth, signal);
  }

  async removeImage(image: string): Promise<void> {
    await this.images.remove(image, new Set([...this.containers.all.values()].flatMap((one) => one.snapshots)));
  }

  async imageFsInfo() {
    return { mountpoint: this.images.root, ...this.images.usage() };
  }
}

const hasLabels = (labels: Record<string, string>, wanted: Record<string, string> | undefined) =>
  wanted === undefined || Object.entries(wanted).every(([key, value]) => labels[key] === value);

/** A signal by name, with or without SIG, or by number. */
function signalOf(text: string): NodeJS.Signals | number {
  if (/^\d+$/.test(text)) return Number(text);
  const name = text.toUpperCase();
  return (name.startsWith('SIG') ? name : `SIG${name}`) as NodeJS.Signals;
}

/** The OCI runtime's own words, without what its logger puts around them. */
function ociMessage(text: string): string {
  const quoted = /msg="((?:[^"\\]|\\.)*)"/.exec(text)?.[1]?.replace(/\\"/g, '"');
  return (quoted ?? text).replace(/^\d{4}-\d\d-\d\dT\S+: /, '').trim();
}
