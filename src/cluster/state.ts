import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** Where one cluster keeps everything; removed by `delete cluster`. */
export interface ClusterPaths {
  root: string;
  record: string;
  pki: string;
  store: string;
  aws: string;
  logs: string;
  run: string;
  /** The API server's Unix socket: the VPC's end of the control plane. */
  apiSocket: string;
  supervisorSocket: string;
  /** Where the aws process answers its siblings (aws-control.ts). */
  awsSocket: string;
}

/** cluster.json: what a cluster is made of and how far it has come. */
export interface ClusterRecord {
  /** Grows when the state's layout changes; a newer one is refused. */
  format: number;
  name: string;
  id: string;
  createdAt: string;
  phase: 'creating' | 'running' | 'stopped' | 'deleting';
  region: string;
  zones: string[];
  accountId: string;
  /** Where the cluster's AWS is, when that is not the embedded one; aws/credentials.json holds the keys. `ports.aws` is then its registry's. */
  awsEndpoint?: string;
  /** The image of nodes, where not the embedded AWS's. */
  imageId?: string;
  /** Repositories of ECR that were made for loaded images: with an AWS elsewhere, deletion takes them away. */
  repositories?: string[];
  nodes: number;
  /** Nodes whose pods report without running. A cluster with none but those has no data plane, and needs no privileges. */
  simulatedNodes?: number;
  instanceType: string;
  ports: { api: number; aws: number };
  vpcCidr: string;
  podCidr: string;
  serviceCidr: string;
  clusterDns: string;
  clusterDomain: string;
  bootstrapToken: string;
  /** Known once the network exists. */
  network?: { vpcId: string; routeTableId: string; nodeSecurityGroupId: string; apiAddress: string };
  /** The kubeconfig that the context was written to. */
  kubeconfig?: string;
  /** Times of the controllers, where not upstream's. */
  tuning?: { nodeMonitorGracePeriodMs?: number; nodeMonitorPeriodMs?: number };
}

export const stateFormat = 1;

/** A message for people: no stack, exit code 1 (or the one given). */
export class UserError extends Error {
  readonly exitCode: number;
  constructor(message: string, exitCode = 1) {
    super(message);
    this.name = 'UserError';
    this.exitCode = exitCode;
  }
}

export function stateRoot(): string {
  if (process.env['KUMULUS_STATE']) return process.env['KUMULUS_STATE'];
  if (process.getuid?.() === 0) return '/var/lib/kumulus';
  return join(process.env['XDG_STATE_HOME'] ?? join(homedir(), '.local/state'), 'kumulus');
}

const longestName = 32;

export function checkClusterName(name: string): void {
  if (!/^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(name)) {
    throw new UserError(`'${name}' is not a valid cluster name: lower case letters, digits and '-', beginning and ending with a letter or digit`);
  }
  if (name.length > longestName) throw new UserError(`cluster name '${name}' is too long: ${name.length} characters, at most ${longestName}`);
}

export function pathsOf(name: string): ClusterPaths {
  const root = join(stateRoot(), name);
  const run = join(root, 'run');
  return {
    root,
    record: join(root, 'cluster.json'),
    pki: join(root, 'pki'),
    store: join(root, 'store'),
    aws: join(root, 'aws'),
    logs: join(root, 'logs'),
    run,
    apiSocket: join(run, 'apiserver.sock'),
    supervisorSocket: join(run, 'supervisor.sock'),
    awsSocket: join(run, 'aws.sock'),
  };
}

/** Six hex digits that stand in every name a cluster puts on the host. */
export const clusterId = (root: string): string => createHash('sha256').update(root).digest('hex').slice(0, 6);

/** A bootstrap token in kubeadm's form: six and sixteen characters of a-z0-9. */
export function newBootstrapToken(): string {
  const alphabet = 'abcdefghijklmnopqrstuvwxyz0123456789';
  const text = [...randomBytes(22)].map((b) => alphabet[b % 36]).join('');
  return `${text.slice(0, 6)}.${text.slice(6)}`;
}

/** Replaces a file so that a reader, or a machine that dies, sees the old text or the new. */
export function writeAtomically(path: string, text: string, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.tmp`;
  const fd = openSync(temporary, 'w', mode);
  try {
    writeSync(fd, text);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  renameSync(temporary, path);
}

export function readRecord(name: string): ClusterRecord | undefined {
  const { record } = pathsOf(name);
  if (!existsSync(record)) return undefined;
  let parsed: ClusterRecord;
  try {
    parsed = JSON.parse(readFileSync(record, 'utf8'));
  } catch (error) {
    throw new UserError(
      `the state of cluster '${name}' cannot be read (${record}: ${(error as Error).message}); "kumulus delete cluster ${name}" removes it`,
    );
  }
  if (parsed.format > stateFormat) {
    throw new UserError(
      `the state of cluster '${name}' was written by a newer kumulus (format ${parsed.format}, this one knows ${stateFormat}); use that version`,
    );
  }
  return parsed;
}

export function writeRecord(record: ClusterRecord): void {
  writeAtomically(pathsOf(record.name).record, `${JSON.stringify(record, null, 2)}\n`);
}

export function requireRecord(name: string): ClusterRecord {
  const record = readRecord(name);
  if (!record) throw new UserError(`no cluster '${name}' was found; "kumulus get clusters" lists them`);
  return record;
}

/** Names of all clusters with state on this machine, also of half-made ones. */
export function listClusters(): string[] {
  const root = stateRoot();
  if (!existsSync(root)) return [];
  return readdirSync(root, { withFileTypes: true })
    .filter((e) => e.isDirectory() && existsSync(join(root, e.name, 'cluster.json')))
    .map((e) => e.name)
    .sort();
}

/** Ports in the records of all other clusters; of one that cannot be read there is nothing to know. */
export function takenPorts(except: string): Set<number> {
  const taken = new Set<number>();
  for (const name of listClusters().filter((n) => n !== except)) {
    try {
      for (const port of Object.values(readRecord(name)?.ports ?? {})) taken.add(port);
    } catch {
      // Whoever asks for that cluster hears of it.
    }
  }
  return taken;
}

/** When a process began, in clock ticks since boot, or undefined when it is gone: with the pid it names one process for good. */
export function processStart(pid: number): string | undefined {
  if (process.platform !== 'linux') return startByPs(pid);
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return fields[0] === 'Z' ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Where there is no /proc: a date and time. */
function startByPs(pid: number): string | undefined {
  const { status, stdout } = spawnSync('ps', ['-o', 'stat=,lstart=', '-p', String(pid)], { encoding: 'utf8' });
  const [state = '', ...start] = (stdout ?? '').trim().split(/\s+/);
  return status === 0 && state !== '' && !state.startsWith('Z') ? start.join(' ') : undefined;
}

/** Whether the cluster's instances are made real on this machine. */
export const hasDataPlane = (record: Pick<ClusterRecord, 'nodes' | 'simulatedNodes'>): boolean => record.nodes > 0 || !record.simulatedNodes;

export const isRunning = (p: { pid: number; start: string } | undefined): boolean => p !== undefined && processStart(p.pid) === p.start;

/**
 * Holds `NAME.lock` beside the state while one command changes a cluster; a holder that died is pushed aside.
 * Throws a UserError naming the other command.
 */
export function lockCluster(name: string, doing: string): () => void {
  const root = stateRoot();
  mkdirSync(root, { recursive: true, mode: 0o755 });
  const path = join(root, `${name}.lock`);
  const mine = { pid: process.pid, start: processStart(process.pid) ?? '', doing };
  for (let attempt = 0; attempt < 5; attempt++) {
    try {
      const fd = openSync(path, 'wx', 0o600);
      writeSync(fd, JSON.stringify(mine));
      closeSync(fd);
      return () => rmSync(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw new UserError(`cannot lock cluster '${name}': ${(error as Error).message}`);
    }
    let holder: typeof mine | undefined;
    try {
      holder = JSON.parse(readFileSync(path, 'utf8'));
    } catch {
      // Just being written, or just gone: look again.
      if (attempt < 4) continue;
    }
    if (isRunning(holder))
      throw new UserError(`cluster '${name}' is in use: process ${holder?.pid} is at "${holder?.doing}"; try again when it has ended`);
    rmSync(path, { force: true });
  }
  throw new UserError(`cannot lock cluster '${name}': ${path} keeps coming back`);
}
