import { setMaxListeners } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Logger } from 'pino';
import type { Dial } from '../apiserver/server.ts';
import { systemClock } from '../client/clock.ts';
import { SimulatedNodes } from '../kubelet/simulated/nodes.ts';
import { instanceSize } from '../localaws/api/ec2/instance-types.ts';
import { followAws } from './aws-control-client.ts';
import type { ControlPlane } from './control-plane.ts';
import { issue } from './pki.ts';
import { followInstances, leaseSeconds } from './simulated-nodes.ts';
import { type ClusterRecord, pathsOf } from './state.ts';

let nodes: SimulatedNodes | undefined;

/** Connections to kubelets of simulated nodes. */
export const dial = (host: string, port: number): ReturnType<Dial> | undefined => nodes?.connect(host, port) as ReturnType<Dial> | undefined;

/** The simulated nodes of a cluster whose control plane is this process: one for each instance that the aws process tells of. */
export function start(record: ClusterRecord, controlPlane: ControlPlane, log: Logger): void {
  const paths = pathsOf(record.name);
  const pem = (file: string) => readFileSync(join(paths.pki, file), 'utf8');
  const ca = { cert: pem('ca.crt'), key: pem('ca.key') };
  const stopping = new AbortController();
  setMaxListeners(0, stopping.signal);
  process.on('SIGTERM', () => stopping.abort(new Error('the cluster stops')));
  nodes = new SimulatedNodes({
    client: controlPlane.clientOf({ name: 'system:simulated-nodes', groups: ['system:masters', 'system:authenticated'] }),
    informers: controlPlane.informers,
    clock: systemClock,
    log: log.child({ component: 'simulated-nodes' }),
    signal: stopping.signal,
    ...leaseSeconds(record.tuning?.nodeMonitorGracePeriodMs),
    keys: {
      clientCa: ca.cert,
      clientName: 'kube-apiserver-kubelet-client',
      issue: (node) =>
        issue(ca, {
          commonName: `system:node:${node.name}`,
          organizations: ['system:nodes'],
          dnsNames: [node.name],
          ips: [node.address],
          usage: 'server',
        }),
    },
  });
  followInstances(nodes, { source: followAws(paths.awsSocket, stopping.signal), sizeOf: instanceSize, labels: {}, taints: [] });
}
