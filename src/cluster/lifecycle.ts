import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { ensure } from '../aws/ensure.ts';
import { suspendEverything } from '../localaws/dataplane/dataplane.ts';
import { clusterAwsClients, writeAwsProfile } from './aws-endpoint.ts';
import { kubeconfigOf, waitOnPort, withAdmin } from './create.ts';
import { mergeKubeconfig } from './kubeconfig.ts';
import { freePort } from './ports.ts';
import { installMissing, requireHost } from './preflight.ts';
import type { Progress } from './progress.ts';
import { wholeTopology } from './spec.ts';
import { hasDataPlane, lockCluster, pathsOf, requireRecord, takenPorts, UserError, writeRecord } from './state.ts';
import { endChildren, runningSupervisor, startSupervisor, stopSupervisor } from './supervisor-client.ts';

/**
 * Starts a stopped cluster, or what is missing of a running one: after a reboot everything is rebuilt from state, and a
 * process that was killed is started again; in place of an instance that was terminated a new one is launched. Idempotent.
 */
export async function startCluster(name: string, progress: Progress, signal: AbortSignal): Promise<void> {
  const record = requireRecord(name);
  if (!record.network) throw new UserError(`cluster '${name}' was never created whole; "kumulus delete cluster ${name}" removes what there is`);
  const unlock = lockCluster(name, `start cluster ${name}`);
  try {
    if (hasDataPlane(record)) {
      requireHost();
      installMissing(progress.line);
    }
    if (!runningSupervisor(name)) {
      await endChildren(name);
      rmSync(pathsOf(name).supervisorSocket, { force: true });
      // A port may have been taken while the cluster was down: move rather than fail.
      const others = takenPorts(name);
      const ports = { api: await freePort(record.ports.api, others), aws: await freePort(record.ports.aws, others) };
      const moved = ports.api !== record.ports.api || ports.aws !== record.ports.aws;
      record.ports = ports;
      writeRecord(record);
      if (moved) progress.line(`Ports have changed: API server ${ports.api}, AWS ${ports.aws}`);
    }
    await progress.step(`Starting the ${record.awsEndpoint ? 'data plane' : 'embedded AWS'} and its instances`, async () => {
      await startSupervisor(name, ['aws'], signal);
      await waitOnPort(record, 'aws', signal);
      writeAwsProfile(record);
    });
    await progress.step('Starting the control plane', async () => {
      await startSupervisor(name, ['control-plane'], signal);
      await waitOnPort(record, 'control-plane', signal);
      await withAdmin(record, async (admin) => {
        const answer = await admin.raw({ method: 'GET', path: '/readyz', signal });
        if (answer.status !== 200) throw new UserError(`the API server is not ready: ${await answer.text()}`);
      });
    });
    if (record.nodes > 0)
      await progress.step(`Finding the ${record.nodes} instance${record.nodes === 1 ? '' : 's'}, or launching what is missing`, async () => {
        const clients = clusterAwsClients(record);
        try {
          const ca = readFileSync(join(pathsOf(name).pki, 'ca.crt'), 'utf8');
          await ensure({ clients, cluster: name, signal }, await wholeTopology(record, ca));
        } finally {
          clients.destroy();
        }
      });
    record.phase = 'running';
    writeRecord(record);
    mergeKubeconfig(record.kubeconfig as string, kubeconfigOf(record));
  } finally {
    unlock();
  }
}

/** Ends every process of a cluster and keeps its state: instances stop as a machine that is shut down. */
export async function stopCluster(name: string, progress: Progress): Promise<void> {
  const record = requireRecord(name);
  const unlock = lockCluster(name, `stop cluster ${name}`);
  try {
    await progress.step(`Stopping the control plane and the ${record.awsEndpoint ? 'data plane' : 'embedded AWS'}`, async () => {
      await stopSupervisor(name);
      await endChildren(name);
    });
    if (hasDataPlane(record)) {
      await progress.step('Stopping the instances', async () => {
        await suspendEverything({ directory: pathsOf(name).root, id: record.id });
      });
    }
    rmSync(join(pathsOf(name).run, 'children.json'), { force: true });
    record.phase = 'stopped';
    writeRecord(record);
  } finally {
    unlock();
  }
}
