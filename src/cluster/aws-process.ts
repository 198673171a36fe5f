/** The `aws` process of a cluster: the embedded AWS and its data plane. Argument: the cluster's name. */
import { join } from 'node:path';
import { startLocalAws } from '../localaws/api/server.ts';
import { startDataPlane } from '../localaws/dataplane/dataplane.ts';
import { nodeModules, packageRoot } from './package.ts';
import { superviseThis } from './process.ts';
import { pathsOf, requireRecord } from './state.ts';

const name = process.argv[2] as string;
const record = requireRecord(name);
const paths = pathsOf(name);
const self = superviseThis('aws');

const aws = await startLocalAws({
  directory: paths.aws,
  host: '127.0.0.1',
  port: record.ports.aws,
  region: record.region,
  zones: ['a', 'b', 'c', 'd', 'e', 'f'],
  accountId: record.accountId,
  log: self.log.child({ component: 'aws' }),
  dataPlane: 'external',
});
self.onStop(() => aws.stop());
const dataPlane = await startDataPlane({
  source: aws.source,
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
self.ready();
