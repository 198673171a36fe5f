import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { destroyEverything } from '../localaws/dataplane/dataplane.ts';
import { removeAwsProfile } from './aws-endpoint.ts';
import { kubeconfigPath, removeFromKubeconfig } from './kubeconfig.ts';
import { clusterId, type ClusterRecord, hasDataPlane, pathsOf, readRecord } from './state.ts';
import { endChildren, stopSupervisor } from './supervisor-client.ts';

/**
 * Takes a cluster away: processes, namespaces, mounts, loop devices, cgroups and files, in that order. Also of a cluster
 * that is half made, or whose state cannot be read. What it made at an AWS elsewhere goes too; `say` hears where that is not to be had.
 * Idempotent.
 */
export async function removeCluster(name: string, kubeconfig?: string, say: (line: string) => void = () => {}): Promise<void> {
  const paths = pathsOf(name);
  let record: ClusterRecord | undefined;
  try {
    record = readRecord(name);
  } catch {
    // Unreadable state is no reason to leave processes behind.
  }
  await stopSupervisor(name);
  await endChildren(name);
  if (record?.awsEndpoint) {
    const { leaveEndpoint } = await import('./foreign-aws.ts');
    const left = await leaveEndpoint(record);
    if (left) say(left);
  }
  if (!record || hasDataPlane(record)) await destroyEverything({ directory: paths.root, id: clusterId(paths.root), log: pino({ level: 'silent' }) });
  removeFromKubeconfig(record?.kubeconfig ?? kubeconfigPath(kubeconfig), name);
  removeAwsProfile(name);
  if (existsSync(paths.root)) {
    rmSync(join(paths.root, 'cluster.json'), { force: true });
    rmSync(paths.root, { recursive: true, force: true, maxRetries: 5 });
  }
}
