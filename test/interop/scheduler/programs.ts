import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestServer } from '../../../src/apiserver/testing.ts';
import { programPath } from '../peer.ts';

export interface UpstreamProgram {
  /** What it has logged, the last of it. */
  log(): string;
  stop(): Promise<void>;
}

/** Starts upstream's scheduler or controller-manager on our API server, as the user that it is in every cluster. */
export async function startUpstream(
  name: 'kube-scheduler' | 'kube-controller-manager',
  server: TestServer,
  flags: string[] = [],
  files: Record<string, string> = {},
): Promise<UpstreamProgram> {
  const folder = mkdtempSync(join(tmpdir(), 'kumulus-peer-'));
  const user = await server.authority.issue({ commonName: `system:${name}` });
  const given = Object.entries({ kubeconfig: server.kubeconfig(user), ...files }).map(([flag, text]) => {
    const path = join(folder, flag);
    writeFileSync(path, text, { mode: 0o600 });
    return `--${flag}=${path}`;
  });
  const child = spawn(programPath(name), ['--secure-port=0', ...given, ...flags], { cwd: folder, stdio: ['ignore', 'ignore', 'pipe'] });
  let told = '';
  child.stderr.on('data', (chunk: Buffer) => {
    told = (told + chunk.toString()).slice(-100_000);
  });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  return {
    log: () => told,
    async stop() {
      child.kill('SIGTERM');
      const forced = setTimeout(() => child.kill('SIGKILL'), 10_000);
      await ended;
      clearTimeout(forced);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
