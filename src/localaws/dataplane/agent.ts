/**
 * The agent of a VPC: runs in the VPC's network namespace and does there what sockets are needed for: DNS, instance metadata,
 * load balancers, connections from the host and to it. Started by VpcAgent with an IPC channel. If the data plane ends without
 * stopping it, it goes on with what it knows; the next data plane replaces it.
 */
import { flushCompileCache } from 'node:module';
import { createServer, type Server, type Socket } from 'node:net';
import { Balancer } from './agent/balancer.ts';
import { serveDns } from './agent/dns.ts';
import { metadataServer } from './agent/metadata.ts';
import { HeldInterfaces, listen, listenForDials } from './agent/tunnel.ts';
import type { AgentConfig, ToAgent, ToDataPlane } from './agent-protocol.ts';
import { AWS_ADDRESS, AWS_PORT, METADATA_ADDRESS, RESOLVER_ADDRESS } from './names.ts';

type Ask = ToDataPlane extends infer Message ? (Message extends { type: 'ask' } ? Omit<Message, 'id' | 'type'> : never) : never;

const ASK_TIMEOUT = 10_000;
const asks = new Map<number, { resolve: (value: any) => void; reject: (error: Error) => void; timer: NodeJS.Timeout }>();
let lastAsk = 0;
let config: AgentConfig | undefined;

function tell(message: ToDataPlane, handle?: Socket): void {
  if (process.connected) process.send!(message, handle, {}, () => {});
  else handle?.destroy();
}

function log(level: 'info' | 'warn', message: string): void {
  tell({ type: 'log', level, message });
}

/** Asks the data plane; rejects when it is not there or does not answer. */
function ask(question: Ask): Promise<any> {
  return new Promise((resolve, reject) => {
    if (!process.connected) return reject(new Error('the data plane is not running'));
    const id = ++lastAsk;
    const timer = setTimeout(() => {
      asks.delete(id);
      reject(new Error(`no answer from the data plane to ${question.what} within ${ASK_TIMEOUT / 1000} s`));
    }, ASK_TIMEOUT);
    asks.set(id, { resolve, reject, timer });
    tell({ type: 'ask', id, ...question } as ToDataPlane);
  });
}

const balancer = new Balancer((targetGroupArn, target, state, reason, description) =>
  tell({ type: 'health', targetGroupArn, target: { id: target.id, port: target.port }, state, reason, description }),
);
const held = new HeldInterfaces();

/** What listens for as long as the agent lives. */
async function openServices(first: AgentConfig): Promise<void> {
  const forward = async (message: Buffer) => Buffer.from(await ask({ what: 'resolve', message }));
  for (const address of new Set([first.resolver, RESOLVER_ADDRESS])) await serveDns(address, () => config!, forward);
  const metadata = metadataServer({
    config: () => config!,
    credentials: (instanceId) => ask({ what: 'credentials', instanceId }),
    userData: (instanceId) => ask({ what: 'user-data', instanceId }),
  });
  await listen(metadata, METADATA_ADDRESS, 80);
  const aws = createServer({ pauseOnConnect: true }, (socket) => tell({ type: 'aws' }, socket));
  await listen(aws, AWS_ADDRESS, AWS_PORT);
  await listenForDials(first.dialSocket, () => config!.dialFrom);
}

async function configure(next: AgentConfig): Promise<void> {
  const first = config === undefined;
  config = next;
  if (first) {
    await openServices(next);
    // What was compiled is kept, see bin/launch.js; at the end else, which a SIGKILL leaves out.
    setTimeout(() => flushCompileCache(), 5000).unref();
  }
  for (const update of [() => held.update(next.held), () => balancer.update(next)]) {
    await update().catch((error) => log('warn', error.message));
  }
}

let queue = Promise.resolve();
process.on('message', (message: ToAgent, handle) => {
  switch (message.type) {
    case 'config':
      queue = queue
        .then(() => configure(message.config))
        .then(
          () => tell({ type: 'configured' }),
          (error) => {
            // Without its services the agent is of no use; it is started again.
            process.stderr.write(`vpc agent: ${error.message}\n`);
            process.exit(1);
          },
        );
      return;
    case 'listener':
      balancer.takeOver(message.listenerArn, message.host, message.port, handle as Server);
      return;
    case 'close-listener':
      balancer.close(message.host, message.port);
      return;
    case 'answer': {
      const waiting = asks.get(message.id);
      if (!waiting) return;
      asks.delete(message.id);
      clearTimeout(waiting.timer);
      if (message.error === undefined) waiting.resolve(message.value);
      else waiting.reject(new Error(message.error));
    }
  }
});
process.on('disconnect', () => {
  for (const [id, waiting] of asks) {
    clearTimeout(waiting.timer);
    asks.delete(id);
    waiting.reject(new Error('the data plane ended'));
  }
});
process.on('SIGTERM', () => process.exit(0));
// One broken connection must not end the others.
process.on('uncaughtException', (error) => {
  if (process.connected) log('warn', `unexpected: ${error.stack}`);
  else process.stderr.write(`vpc agent: ${error.stack}\n`);
});
tell({ type: 'ready' });
