/** The `aws` process of a cluster: the embedded AWS, or what stands beside another, and its data plane. Argument: the cluster's name. */
import type { Socket } from 'node:net';
import { join } from 'node:path';
import type { Calls } from '../localaws/api/calls.ts';
import type { CloudReports, CloudSource } from '../localaws/contract.ts';
import { namespaceName } from '../localaws/dataplane/names.ts';
import { serveAwsControl, withoutSimulated } from './aws-control.ts';
import { readRootCredentials } from './aws-endpoint.ts';
import { nodeModules, packageRoot } from './package.ts';
import { superviseThis } from './process.ts';
import { simulatedTag } from './simulated-nodes.ts';
import { hasDataPlane, pathsOf, requireRecord } from './state.ts';

const name = process.argv[2] as string;
const record = requireRecord(name);
const paths = pathsOf(name);
const self = superviseThis('aws');

/** The AWS itself, or what stands beside one elsewhere. */
interface Cloud {
  source: CloudSource;
  reports: CloudReports;
  calls?: Calls;
  handleConnection(socket: Socket): void;
  stop(): Promise<void>;
}

const aws: Cloud = record.awsEndpoint ? await standBeside(record.awsEndpoint) : await embedded();
self.onStop(() => aws.stop());
const control = await serveAwsControl({
  path: paths.awsSocket,
  aws,
  disturb: async (instanceId, what, broken) => (await import('./disturb.ts')).disturbInstance(namespaceName(record.id, instanceId), what, broken),
});
self.onStop(() => control.stop());
if (hasDataPlane(record)) await startInstances();
self.ready();

async function embedded(): Promise<Cloud> {
  const { startLocalAws } = await import('../localaws/api/server.ts');
  return startLocalAws({
    directory: paths.aws,
    host: '127.0.0.1',
    port: record.ports.aws,
    region: record.region,
    zones: ['a', 'b', 'c', 'd', 'e', 'f'],
    accountId: record.accountId,
    log: self.log.child({ component: 'aws' }),
    dataPlane: hasDataPlane(record) ? 'external' : 'simulated',
    simulatedTag,
  });
}

async function standBeside(endpoint: string): Promise<Cloud> {
  const { openEndpoint } = await import('../localaws/dataplane/polled/open.ts');
  const log = self.log.child({ component: 'aws' });
  const credentials = readRootCredentials(paths.aws);
  const { source, gateway, close } = await openEndpoint({ endpoint, region: record.region, credentials, directory: paths.root, log });
  await gateway.listen(record.ports.aws);
  return { source, reports: source.reports, handleConnection: (socket) => gateway.handleConnection(socket), stop: close };
}

async function startInstances(): Promise<void> {
  const { startDataPlane } = await import('../localaws/dataplane/dataplane.ts');
  const dataPlane = await startDataPlane({
    source: record.simulatedNodes ? withoutSimulated(aws.source) : aws.source,
    reports: aws.reports,
    directory: paths.root,
    id: record.id,
    packageRoot,
    nodeBinary: process.execPath,
    // Beside the cache of host processes, see bin/launch.js.
    ...(process.env['NODE_COMPILE_CACHE']
      ? { compileCache: { directory: join(process.env['NODE_COMPILE_CACHE'], 'instances'), modules: nodeModules } }
      : {}),
    awsHandleConnection: (socket) => aws.handleConnection(socket),
    log: self.log.child({ component: 'dataplane' }),
  });
  self.onStop(() => dataPlane.stop({ keepInstances: true }));
}
