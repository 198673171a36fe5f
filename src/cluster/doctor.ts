import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { pino } from 'pino';
import { destroyEverything, findLeavings, type Leaving, preflight } from '../localaws/dataplane/dataplane.ts';
import { withAdmin } from './create.ts';
import { hostProblems, missingPackages } from './preflight.ts';
import { clusterId, listClusters, pathsOf, readRecord, stateRoot } from './state.ts';
import { runningSupervisor, watchSupervisor } from './supervisor-client.ts';

export interface Finding {
  /** host, or a cluster's name */
  about: string;
  severity: 'ok' | 'warning' | 'error';
  text: string;
}

/** Looks at this machine, at every cluster on it, and for what clusters that are gone left behind. Changes nothing. */
export async function examine(): Promise<{ findings: Finding[]; leavings: Leaving[] }> {
  const findings: Finding[] = [];
  const missing = process.platform === 'linux' ? missingPackages() : [];
  if (missing.length)
    findings.push({ about: 'host', severity: 'warning', text: `missing packages: ${missing.join(', ')} (create cluster installs them)` });
  const problems = hostProblems();
  if (!problems.length && !missing.length) problems.push(...(await preflight(existsSync(stateRoot()) ? stateRoot() : '/tmp')).problems);
  for (const text of problems) findings.push({ about: 'host', severity: 'error', text });
  if (!problems.length) findings.push({ about: 'host', severity: 'ok', text: 'can run clusters' });
  for (const name of listClusters()) findings.push(...(await examineCluster(name)));
  const leavings = (await findLeavings()).filter(isLeftBehind);
  return { findings, leavings };
}

/** What belongs to a cluster of this state root, or to a folder elsewhere that is still there (of another user, or a test), is in use. */
function isLeftBehind({ clusterId: id, directory }: Leaving): boolean {
  const roots = listClusters().map((name) => pathsOf(name).root);
  if (roots.some((root) => clusterId(root) === id || root === directory)) return false;
  return !directory || dirname(directory) === stateRoot() || !existsSync(directory);
}

async function examineCluster(name: string): Promise<Finding[]> {
  const say = (severity: Finding['severity'], text: string): Finding[] => [{ about: name, severity, text }];
  let record: ReturnType<typeof readRecord>;
  try {
    record = readRecord(name);
  } catch (error) {
    return say('error', (error as Error).message);
  }
  if (!record) return [];
  if (record.phase === 'stopped') return say('ok', `stopped ("kumulus start cluster ${name}" starts it)`);
  if (record.phase !== 'running') return say('error', `half made (${record.phase}): "kumulus delete cluster ${name}" removes it`);
  if (!runningSupervisor(name)) return say('error', `its supervisor does not run: "kumulus start cluster ${name}" starts what is missing`);
  const found: Finding[] = [];
  await watchSupervisor(
    name,
    (status) => {
      for (const child of ['aws', 'control-plane']) {
        const s = status.children[child];
        if (s?.state !== 'ready')
          found.push({ about: name, severity: 'error', text: `${child} is ${s?.state ?? 'not started'}${s?.lastError ? `: ${s.lastError}` : ''}` });
        else if (s.restarts)
          found.push({ about: name, severity: 'warning', text: `${child} was restarted ${s.restarts} times: ${s.lastError ?? ''}` });
      }
      return true;
    },
    { what: 'its status', timeoutMs: 5000 },
  ).catch((error) => found.push({ about: name, severity: 'error', text: (error as Error).message }));
  if (found.some((f) => f.severity === 'error')) return found;
  try {
    const answer = await withAdmin(record, (admin) => admin.raw({ method: 'GET', path: '/readyz', signal: AbortSignal.timeout(5000) }));
    if (answer.status !== 200) found.push({ about: name, severity: 'error', text: `the API server is not ready (${answer.status})` });
  } catch (error) {
    found.push({ about: name, severity: 'error', text: `the API server does not answer: ${(error as Error).message}` });
  }
  return found.length ? found : say('ok', 'runs');
}

/** Removes what examine() found left behind. Returns one line for each thing removed. */
export async function removeLeavings(leavings: Leaving[]): Promise<string[]> {
  const log = pino({ level: 'silent' });
  const targets = new Map<string, { directory: string; id: string }>();
  for (const { clusterId: id, directory } of leavings) {
    if (directory) targets.set(directory, { directory, id: clusterId(directory) });
    else if (id) targets.set(id, { directory: `${stateRoot()}/.gone-${id}`, id });
  }
  const removed: string[] = [];
  for (const target of targets.values()) removed.push(...(await destroyEverything({ ...target, log })));
  return removed;
}
