import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { SYSTEM_PATH } from './command.ts';

/** Where instances find the package, and what Node compiled of it. */
const MODULES = '/opt/kumulus';

/** What shows the package at the path that it has in instances, since compiled code is kept by path. Its folder is the working directory. */
const SCRIPT = `
mount -t tmpfs -o size=1m tmpfs /opt
mkdir ${MODULES}
mount --bind . ${MODULES}
cd ${MODULES}
exec "$KUMULUS_NODE" --disable-warning=ExperimentalWarning --input-type=module -e "$KUMULUS_PROGRAM"
`;

export interface CompileCacheOptions {
  /** Host folder of compiled code; instances see it read-only. */
  directory: string;
  packageRoot: string;
  nodeBinary: string;
  /** Modules that instances run, relative to the package. */
  modules: string[];
}

/**
 * Compiles, in the background and with the lowest priority, what instances are about to run, so that Node in each of them need
 * not: a node starts in half the time and takes 30 MB less. Resolves to whether it could be done; without it all works, slower.
 */
export async function fillCompileCache(o: CompileCacheOptions): Promise<boolean> {
  await mkdir(o.directory, { recursive: true, mode: 0o755 });
  const imports = o.modules.map((one) => `await import(${JSON.stringify(`file://${join(MODULES, one)}`)});`);
  return new Promise((resolve) => {
    const child = spawn('nice', ['-n', '19', 'unshare', '--mount', '--propagation', 'private', 'sh', '-ec', SCRIPT], {
      cwd: o.packageRoot,
      stdio: 'ignore',
      env: {
        PATH: SYSTEM_PATH,
        NODE_COMPILE_CACHE: o.directory,
        KUMULUS_NODE: o.nodeBinary,
        KUMULUS_PROGRAM: `${imports.join('\n')}\nprocess.exit(0);`,
      },
    });
    child.on('error', () => resolve(false));
    child.on('exit', (code) => resolve(code === 0));
    child.unref();
  });
}
