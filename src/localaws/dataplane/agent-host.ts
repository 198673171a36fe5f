import { type ChildProcess, spawn } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { extname, join } from 'node:path';
import type { Logger } from 'pino';
import type { AgentConfig, ToAgent, ToDataPlane } from './agent-protocol.ts';
import { SYSTEM_PATH } from './command.ts';
import { namespacePath } from './names.ts';
import { identify, signal, waitForEnd } from './processes.ts';

const START_TIMEOUT = 20_000;

/** An address of a load balancer on the host. */
export interface HostListener {
  listenerArn: string;
  host: string;
  port: number;
}

export interface VpcAgentOptions {
  vpcId: string;
  namespace: string;
  /** run/ of the cluster's state. */
  runDirectory: string;
  nodeBinary: string;
  onAsk: (ask: Extract<ToDataPlane, { type: 'ask' }>) => Promise<unknown>;
  onHealth: (health: Extract<ToDataPlane, { type: 'health' }>) => void;
  onAwsConnection: (socket: Socket) => void;
  /** It died (some time ago, if it does so often): time to configure it again. */
  onEnded: () => void;
  log: Logger;
}

/**
 * The process in a VPC's namespace, seen from the data plane. It is started with its first configuration and again whenever it
 * dies. It outlives a data plane that crashes and goes on forwarding; the next data plane replaces it.
 */
export class VpcAgent {
  private readonly options: VpcAgentOptions;
  private readonly pidFile: string;
  private child: ChildProcess | undefined;
  private config: AgentConfig | undefined;
  private sent = '';
  private listeners = new Map<string, HostListener>();
  private restarts = 0;
  private startedAt = 0;
  private stopping = false;
  private queue: Promise<unknown> = Promise.resolve();
  private configured: (() => void) | undefined;

  constructor(options: VpcAgentOptions) {
    this.options = options;
    this.pidFile = join(options.runDirectory, `${options.vpcId}.pid`);
  }

  /** Resolves when the agent works by this configuration and listens on these addresses of the host. */
  configure(config: AgentConfig, listeners: HostListener[]): Promise<void> {
    return this.serially(async () => {
      this.config = config;
      if (!this.child) await this.start();
      await this.sendConfig();
      await this.updateListeners(listeners);
    });
  }

  stop(): Promise<void> {
    this.stopping = true;
    return this.serially(async () => {
      const { child } = this;
      if (!child?.pid || child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child.once('exit', resolve));
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), 2000);
      await ended;
      clearTimeout(timer);
      await rm(this.pidFile, { force: true });
    });
  }

  private serially<T>(work: () => Promise<T>): Promise<T> {
    const result = this.queue.then(work);
    this.queue = result.catch(() => {});
    return result;
  }

  private async start(): Promise<void> {
    // In a bundle it stands beside this one too.
    const script = join(import.meta.dirname, `agent${extname(import.meta.filename)}`);
    const child = spawn(
      'nsenter',
      [
        `--net=${namespacePath(this.options.namespace)}`,
        this.options.nodeBinary,
        '--disable-warning=ExperimentalWarning',
        script,
        // For people who look at ps.
        this.options.namespace,
      ],
      {
        cwd: '/',
        env: { PATH: SYSTEM_PATH, ...(process.env['NODE_COMPILE_CACHE'] ? { NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] } : {}) },
        stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
        serialization: 'advanced',
        detached: true,
      },
    );
    this.child = child;
    this.startedAt = Date.now();
    this.sent = '';
    this.listeners = new Map();
    let started: () => void = () => {};
    const ready = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`the agent of ${this.options.vpcId} did not start within ${START_TIMEOUT / 1000} s`)),
        START_TIMEOUT,
      );
      child.once('exit', (code, name) => reject(new Error(`the agent of ${this.options.vpcId} ended at once (${name ?? code})`)));
      child.once('error', reject);
      started = resolve;
      child.once('exit', () => clearTimeout(timer));
      child.once('message', () => clearTimeout(timer));
    });
    child.on('message', (message: ToDataPlane, handle) => {
      if (message.type === 'ready') started();
      else this.receive(child, message, handle as Socket | undefined);
    });
    child.on('exit', (code, name) => this.exited(child, code, name));
    child.on('error', (error) => this.options.log.warn({ vpc: this.options.vpcId, err: error.message }, 'agent'));
    try {
      await ready;
      // Only now, since it still forwards: the new one listens with its first configuration.
      await this.endPredecessor();
    } catch (error) {
      child.kill('SIGKILL');
      if (this.child === child) this.child = undefined;
      throw error;
    }
    const identity = await identify(child.pid!);
    if (identity) await writeFile(this.pidFile, `${identity.pid} ${identity.startTime} ${identity.bootId}\n`);
    this.options.log.debug({ vpc: this.options.vpcId, pid: child.pid }, 'agent started');
  }

  private async endPredecessor(): Promise<void> {
    const [pid, startTime, bootId] = (await readFile(this.pidFile, 'utf8').catch(() => '')).trim().split(' ');
    if (!bootId) return;
    const identity = { pid: Number(pid), startTime, bootId };
    await signal(identity, 'SIGKILL');
    await waitForEnd(identity, 5000);
    await rm(this.pidFile, { force: true });
  }

  private exited(child: ChildProcess, code: number | null, name: NodeJS.Signals | null): void {
    if (this.child !== child) return;
    this.child = undefined;
    this.configured?.();
    if (this.stopping || !this.config) return;
    this.restarts = Date.now() - this.startedAt > 60_000 ? 0 : this.restarts + 1;
    const pause = Math.min(50 * 2 ** this.restarts, 10_000);
    this.options.log.warn({ vpc: this.options.vpcId, code, signal: name, restartInMs: pause }, 'agent ended');
    setTimeout(() => this.stopping || this.child || this.options.onEnded(), pause).unref();
  }

  private receive(child: ChildProcess, message: ToDataPlane, socket: Socket | undefined): void {
    switch (message.type) {
      case 'configured':
        this.configured?.();
        return;
      case 'aws':
        // The agent's end may have gone while the socket was on its way.
        if (socket) this.options.onAwsConnection(socket);
        return;
      case 'ask':
        this.options.onAsk(message).then(
          (value) => this.send(child, { type: 'answer', id: message.id, value }),
          (error) => this.send(child, { type: 'answer', id: message.id, error: (error as Error).message }),
        );
        return;
      case 'health':
        this.options.onHealth(message);
        return;
      case 'log':
        this.options.log[message.level]({ vpc: this.options.vpcId }, message.message);
    }
  }

  private send(child: ChildProcess, message: ToAgent, handle?: Server | Socket): Promise<void> {
    return new Promise((resolve) => {
      if (!child.connected) resolve();
      // An error here means that the agent is ending, which its exit tells.
      else child.send(message, handle, {}, () => resolve());
    });
  }

  private async sendConfig(): Promise<void> {
    const child = this.child!;
    const text = JSON.stringify({ ...this.config, targetGroups: this.config!.targetGroups.map((group) => ({ ...group, known: {} })) });
    if (text === this.sent) return;
    const done = new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`the agent of ${this.options.vpcId} did not take its configuration within 10 s`)), 10_000);
      this.configured = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    await this.send(child, { type: 'config', config: this.config! });
    await done;
    this.configured = undefined;
    this.sent = text;
  }

  private async updateListeners(wanted: HostListener[]): Promise<void> {
    const child = this.child;
    if (!child) throw new Error(`the agent of ${this.options.vpcId} ended`);
    const keys = new Map(wanted.map((one) => [`${one.host}:${one.port} ${one.listenerArn}`, one]));
    for (const [key, { host, port }] of this.listeners) {
      if (keys.has(key)) continue;
      await this.send(child, { type: 'close-listener', host, port });
      this.listeners.delete(key);
    }
    for (const [key, listener] of keys) {
      if (this.listeners.has(key)) continue;
      await this.openListener(child, listener);
      this.listeners.set(key, listener);
    }
  }

  /** Listens on the host and hands the socket over: bytes then never pass this process. */
  private async openListener(child: ChildProcess, listener: HostListener): Promise<void> {
    const server = createServer({ pauseOnConnect: true });
    // Accepted before the agent has taken over: it comes again at once.
    server.on('connection', (socket) => socket.destroy());
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error: NodeJS.ErrnoException) =>
        reject(error.code === 'EADDRINUSE' ? new Error(`${listener.host}:${listener.port} is taken by another program`) : error),
      );
      server.listen({ host: listener.host, port: listener.port, backlog: 511 }, resolve);
    });
    await this.send(child, { type: 'listener', ...listener }, server);
    await new Promise((resolve) => server.close(resolve));
  }
}
