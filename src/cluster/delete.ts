import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { destroyEverything } from '../localaws/dataplane/dataplane.ts';
import { removeAwsProfile } from './aws-endpoint.ts';
import { kubeconfigPath, removeFromKubeconfig } from './kubeconfig.ts';
import { clusterId, hasDataPlane, pathsOf, readRecord } from './state.ts';
import { endChildren, stopSupervisor } from './supervisor-client.ts';

/**
 * Takes a cluster away: processes, namespaces, mounts, loop devices, cgroups and files, in that order. Also of a cluster
 * that is half made, or whose state cannot be read. Idempotent.
 */
export async function removeCluster(name: string, kubeconfig?: string): Promise<void> {
  const paths = pathsOf(name);
  let written: string | undefined;
  let dataPlane = true;
  try {
    const record = readRecord(name);
    written = record?.kubeconfig;
    if (record) dataPlane = hasDataPlane(record);
  } catch {
    // Unreadable state is no reason to leave processes behind.
  }
  await stopSupervisor(name);
  await endChildren(name);
  if (dataPlane) await destroyEverything({ directory: paths.root, id: clusterId(paths.root), log: pino({ level: 'silent' }) });
  removeFromKubeconfig(written ?? kubeconfigPath(kubeconfig), name);
  removeAwsProfile(name);
  if (existsSync(paths.root)) {
    rmSync(join(paths.root, 'cluster.json'), { force: true });
    rmSync(paths.root, { recursive: true, force: true, maxRetries: 5 });
  }
}
