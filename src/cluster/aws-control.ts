import { rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import type { Instance } from '@aws-sdk/client-ec2';
import type { Calls, CallFault, RecordedCall } from '../localaws/api/calls.ts';
import type { CloudSource } from '../localaws/contract.ts';
import { isSimulated } from './simulated-nodes.ts';

/** A line to run/aws.sock asks one thing; the answer is a line too, for `follow` one after every change. */
export type AwsControlRequest =
  | { do: 'calls' }
  | { do: 'inject'; fault: CallFault }
  | { do: 'remove'; id: number }
  | { do: 'disturb'; instanceId: string; what: 'kubelet' | 'network'; broken: boolean }
  | { do: 'follow' };
export type AwsControlAnswer = { error: string } | { calls: RecordedCall[] } | { id: number } | { done: true } | { instances: FollowedInstance[] };

/** A simulated instance that runs; silent ones report nothing. */
export type FollowedInstance = Pick<
  Instance,
  'InstanceId' | 'InstanceType' | 'PrivateDnsName' | 'PrivateIpAddress' | 'Placement' | 'State' | 'Tags'
> & {
  silent: boolean;
};

export interface AwsControlOptions {
  path: string;
  /** An AWS elsewhere tells of no calls, and makes none fail. */
  aws: { calls?: Calls; source: CloudSource };
  /** Breaks or mends an instance that runs containers; throws where there is none. */
  disturb(instanceId: string, what: 'kubelet' | 'network', broken: boolean): Promise<void>;
}

/** Lets other processes of the cluster look into the embedded AWS and break things: the state folder says who may. */
export async function serveAwsControl(o: AwsControlOptions): Promise<{ stop(): Promise<void> }> {
  const silent = new Set<string>();
  const followers = new Set<() => void>();
  const faults = new Map<number, () => number>();
  let nextId = 1;
  const followed = async (): Promise<FollowedInstance[]> => {
    const { instances } = await o.aws.source.read();
    return instances
      .filter((i) => i.State?.Name === 'running' && isSimulated(i))
      .map(({ InstanceId, InstanceType, PrivateDnsName, PrivateIpAddress, Placement, State, Tags }) => ({
        ...{ InstanceId, InstanceType, PrivateDnsName, PrivateIpAddress, Placement, State, Tags },
        silent: silent.has(InstanceId ?? ''),
      })) as FollowedInstance[];
  };
  const calls = (): Calls => {
    if (!o.aws.calls) throw new Error("the cluster's AWS is not the embedded one: its calls are neither told nor made to fail");
    return o.aws.calls;
  };
  const answer = async (request: AwsControlRequest, socket: Socket): Promise<AwsControlAnswer | undefined> => {
    switch (request.do) {
      case 'calls':
        return { calls: calls().recent() };
      case 'inject': {
        const id = nextId++;
        // JSON has no Infinity.
        faults.set(id, calls().inject({ ...request.fault, count: request.fault.count === null ? Infinity : (request.fault.count ?? 1) }));
        return { id };
      }
      case 'remove':
        faults.get(request.id)?.();
        faults.delete(request.id);
        return { done: true };
      case 'disturb': {
        const { instances } = await o.aws.source.read();
        const found = instances.find((i) => i.InstanceId === request.instanceId);
        if (!found) return { error: `there is no instance ${request.instanceId}` };
        if (!isSimulated(found)) await o.disturb(request.instanceId, request.what, request.broken);
        else if (request.broken) silent.add(request.instanceId);
        else silent.delete(request.instanceId);
        for (const follower of followers) follower();
        return { done: true };
      }
      case 'follow': {
        let last = '';
        const send = async () => {
          const text = JSON.stringify({ instances: await followed() });
          if (text !== last && !socket.destroyed) socket.write(`${(last = text)}\n`);
        };
        const again = () => void send().catch(() => socket.destroy());
        const end = o.aws.source.onChange(again);
        followers.add(again);
        socket.on('close', () => {
          end();
          followers.delete(again);
        });
        await send();
        return undefined;
      }
    }
  };
  rmSync(o.path, { force: true });
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
    createInterface({ input: socket })
      .on('line', (line) => {
        void (async () => {
          try {
            const reply = await answer(JSON.parse(line), socket);
            if (reply) socket.write(`${JSON.stringify(reply)}\n`);
          } catch (error) {
            socket.write(`${JSON.stringify({ error: (error as Error).message })}\n`);
          }
        })();
      })
      .on('error', () => {});
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(o.path, resolve);
  });
  return {
    stop: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

/** The cloud as a data plane shall see it: without the instances that are simulated, and without them as targets. */
export function withoutSimulated(source: CloudSource): CloudSource {
  return {
    ...source,
    async read() {
      const state = await source.read();
      const simulated = new Set(state.instances.filter(isSimulated).map((i) => i.InstanceId));
      if (simulated.size === 0) return state;
      return {
        ...state,
        instances: state.instances.filter((i) => !simulated.has(i.InstanceId)),
        networkInterfaces: state.networkInterfaces.filter((n) => !simulated.has(n.Attachment?.InstanceId)),
        targetGroups: state.targetGroups.map((g) => ({ ...g, targets: g.targets.filter((t) => !simulated.has(t.Id)) })),
      };
    },
  };
}
