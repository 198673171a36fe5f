import { createReadStream, createWriteStream } from 'node:fs';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import type { Runtime } from '../runtime/cri.ts';
import { nodeLabel, podNameLabel, podNamespaceLabel, podUidLabel } from './labels.ts';
import type { Paths } from './paths.ts';
import { containerNameOf, restartCountOf } from './pod-state.ts';

export interface LogRotationOptions {
  runtime: Runtime;
  paths: Paths;
  nodeName: string;
  now(): number;
  /** Upstream's containerLogMaxSize (10Mi) and containerLogMaxFiles (5). */
  maxBytes?: number;
  maxFiles?: number;
}

/**
 * Turns over the logs of running containers that have grown too large: N.log becomes N.log.TIME, older ones are compressed, the oldest go.
 */
export async function rotateLogs(o: LogRotationOptions): Promise<void> {
  const containers = await o.runtime.listContainers({ state: 'CONTAINER_RUNNING', labels: { [nodeLabel]: o.nodeName } });
  for (const c of containers) {
    const { labels } = c;
    const metadata = { name: labels[podNameLabel] ?? '', namespace: labels[podNamespaceLabel] ?? '', uid: labels[podUidLabel] ?? '' };
    const log = join(o.paths.podLogs({ metadata }), containerNameOf(c), `${restartCountOf(c)}.log`);
    const size = (await stat(log).catch(() => undefined))?.size ?? 0;
    if (size > (o.maxBytes ?? 10 * 1024 * 1024)) await rotate(log, o, () => o.runtime.reopenContainerLog(c.id));
  }
}

async function rotate(log: string, o: LogRotationOptions, reopen: () => Promise<void>): Promise<void> {
  const directory = dirname(log);
  const prefix = `${basename(log)}.`;
  const old = (await readdir(directory)).filter((name) => name.startsWith(prefix));
  for (const name of old.filter((n) => n.endsWith('.tmp'))) await rm(join(directory, name), { force: true });
  const kept = old.filter((n) => !n.endsWith('.tmp')).sort();
  // Beside these there will be the one just turned over and the one that is written.
  const spare = Math.max(0, (o.maxFiles ?? 5) - 2);
  for (const name of kept.splice(0, Math.max(0, kept.length - spare))) await rm(join(directory, name), { force: true });
  for (const name of kept) if (!name.endsWith('.gz')) await compress(join(directory, name));
  const stamp = new Date(o.now()).toISOString().slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
  const rotated = `${log}.${stamp}`;
  await rename(log, rotated);
  try {
    await reopen();
  } catch (error) {
    // The runtime writes on into the old file: it keeps its name.
    await rename(rotated, log);
    throw error;
  }
}

async function compress(file: string): Promise<void> {
  const temporary = `${file}.tmp`;
  await pipeline(createReadStream(file), createGzip(), createWriteStream(temporary));
  await rename(temporary, `${file}.gz`);
  await rm(file);
}
