import { mkdir } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { CloudReports, CloudSource } from '../contract.ts';
import { foreign } from '../foreign.ts';
import { Registry } from '../registry/registry.ts';
import { Calls } from './calls.ts';
import { type Clock, systemClock } from './clock.ts';
import type { Cloud } from './cloud.ts';
import { armDeadlines } from './deadlines.ts';
import { dispatch } from './dispatch.ts';
import { Consoles } from './ec2/consoles.ts';
import { Keys } from './keys.ts';
import { makeReports } from './reports.ts';
import { services } from './services.ts';
import { simulate } from './simulation.ts';
import { makeSource } from './source.ts';
import { lockDirectory } from './state/lock.ts';
import { State } from './state/state.ts';

export interface LocalAwsOptions {
  /** false: nothing outlives the process, and the directory holds only what is big. For tests: no call waits for a disk. */
  durable?: boolean;
  /** Where the state is kept. One endpoint at a time can use it. */
  directory: string;
  /** An address of loopback: whoever reaches the endpoint and has its keys runs code as root. */
  host?: string;
  /** 0 takes any free port. */
  port: number;
  region?: string;
  /** Letters of the availability zones: a, b, c. */
  zones?: string[];
  accountId?: string;
  log: Logger;
  clock?: Clock;
  /** external: states move as a data plane reports. simulated: the endpoint moves them along by itself, after short delays. */
  dataPlane: 'external' | 'simulated';
  /** With an external data plane: instances with this tag are moved along by the endpoint all the same. */
  simulatedTag?: string;
}

export interface LocalAws {
  url: string;
  port: number;
  /** Root's access key, made at the first start. */
  rootCredentials: { accessKeyId: string; secretAccessKey: string };
  source: CloudSource;
  reports: CloudReports;
  /** Listeners elsewhere, as in a VPC, hand their sockets to it: `server.emit('connection', socket)`. */
  server: Server;
  /** What was called of late, and faults to inject. */
  calls: Calls;
  handleConnection(socket: Socket): void;
  /** Ends all connections; what was acknowledged is on disk. */
  stop(): Promise<void>;
}

/** Starts the embedded AWS's endpoint. Throws when the state is corrupt, in use or of a newer release, or when the port is taken. */
export async function startLocalAws(options: LocalAwsOptions): Promise<LocalAws> {
  const region = options.region ?? 'us-east-1';
  const accountId = options.accountId ?? '000000000000';
  const clock = options.clock ?? systemClock;
  const log = options.log;
  await mkdir(options.directory, { recursive: true, mode: 0o700 });
  const unlock = await lockDirectory(options.directory);
  let state: State | undefined;
  try {
    const opened = (state = await State.open(options.durable === false ? undefined : join(options.directory, 'state.log')));
    const keys = await Keys.open(options.directory, opened.tables, accountId, clock);
    const cloud: Cloud = {
      region,
      zones: (options.zones ?? ['a', 'b', 'c']).map((letter) => `${region}${letter}`),
      accountId,
      tables: opened.tables,
      state: opened,
      keys,
      consoles: new Consoles(join(options.directory, 'console'), log),
      clock,
      calls: new Calls(),
      log,
      directory: options.directory,
    };
    const registry = await Registry.open(cloud, {
      login: (user, password) => keys.registryLogin(user, password),
      repository: (name) => opened.tables.repositories.get(name),
      repositoryNames: () => opened.tables.repositories.values().map((one) => one.repositoryName),
    });
    const answer = async (message: IncomingMessage, response: ServerResponse) => {
      try {
        const refusal = foreign(message);
        if (refusal) {
          response.writeHead(403, { 'content-type': 'text/plain', connection: 'close' }).end(`${refusal}\n`);
          return;
        }
        if (/^\/v2(\/|$|\?)/.test(message.url ?? '')) return await registry.answer(message, response);
        const { status, headers, body } = await dispatch(cloud, message);
        // What was not read of a body would be taken for the next request.
        if (!message.complete) headers['connection'] = 'close';
        response.writeHead(status, { ...headers, 'content-length': String(Buffer.byteLength(body)) }).end(body);
      } catch (error) {
        log.error({ err: error, url: message.url }, 'a request failed');
        if (!response.headersSent) response.writeHead(500).end();
        else response.destroy();
      }
    };
    const server = createServer({ keepAliveTimeout: 30_000 }, (message, response) => void answer(message, response));
    // Pushes of large layers take as long as they take; a request without progress ends by its socket's timeout.
    server.requestTimeout = 0;
    server.headersTimeout = 20_000;
    server.timeout = 120_000;
    const sockets = new Set<Socket>();
    server.on('connection', (socket: Socket) => {
      sockets.add(socket);
      socket.on('close', () => sockets.delete(socket));
      socket.on('error', (error) => log.debug({ err: error }, 'a connection failed'));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(options.port, options.host ?? '127.0.0.1', () => {
        server.off('error', reject);
        resolve();
      });
    });
    const port = (server.address() as AddressInfo).port;
    const source = makeSource(cloud);
    const reports = makeReports(cloud);
    const endDeadlines = armDeadlines(cloud);
    const endSimulation =
      options.dataPlane === 'simulated' || options.simulatedTag
        ? simulate(cloud, source, reports, options.dataPlane === 'simulated' ? undefined : options.simulatedTag)
        : () => undefined;
    // The first call of a service need not wait for its schemas.
    const loading = setImmediate(() => void services.find((service) => service.name === 'ec2')!.load());
    const host = options.host ?? '127.0.0.1';
    const url = `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
    log.info({ url, directory: options.directory }, 'the embedded AWS listens');
    let stopped: Promise<void> | undefined;
    const stop = async () => {
      clearImmediate(loading);
      endSimulation();
      endDeadlines();
      source.end();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      for (const socket of sockets) socket.destroy();
      await closed;
      await cloud.consoles.flush();
      await opened.close();
      await unlock();
    };
    return {
      url,
      port,
      rootCredentials: keys.root,
      source,
      reports,
      server,
      calls: cloud.calls,
      handleConnection: (socket) => void server.emit('connection', socket),
      stop: () => (stopped ??= stop()),
    };
  } catch (error) {
    await state?.close();
    await unlock();
    throw error;
  }
}
