/**
 * Makes dist/, which is what is published: bundled JavaScript for Node 22.12 and newer, and the types of the SDK and of
 * kumulus/vitest. All dependencies are in it but lmdb, whose native part npm has to choose, and vitest, which is the user's.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build, type Plugin } from 'rolldown';

const root = join(import.meta.dirname, '..');
const dist = join(root, 'dist');
const entries = {
  index: 'src/index.ts',
  vitest: 'src/testing/vitest.ts',
  main: 'src/cli/main.ts',
  supervisor: 'src/cluster/supervisor.ts',
  'aws-process': 'src/cluster/aws-process.ts',
  'control-plane-process': 'src/cluster/control-plane-process.ts',
  node: 'src/cluster/node.ts',
  agent: 'src/localaws/dataplane/agent.ts',
};
/** Left to be installed. */
export const external = ['lmdb', 'vitest'];

/** The AWS SDK's clients as ES modules, of which nothing is taken that is not used; of the embedded AWS's, schemas and nothing else. */
const awsAsModules: Plugin = {
  name: 'aws-sdk-as-modules',
  resolveId(source, importer) {
    if (!/^@(aws-sdk|smithy)\/[\w-]+$/.test(source)) return null;
    const folder = join(root, 'node_modules', source);
    const { module } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
    if (!module) return null;
    const schemas = importer?.includes('/src/localaws/api/generated/') && source.startsWith('@aws-sdk/client-');
    return { id: schemas ? join(folder, 'dist-es/schemas/schemas_0.js') : join(folder, module), moduleSideEffects: false };
  },
};

async function bundle(): Promise<void> {
  await build({
    cwd: root,
    input: entries,
    external: (id) => id.startsWith('node:') || external.some((name) => id === name || id.startsWith(`${name}/`)),
    platform: 'node',
    plugins: [awsAsModules],
    // `await using` and the like are lowered for the oldest Node that is supported.
    transform: { target: 'node22.12' },
    treeshake: { moduleSideEffects: (id: string) => !id.includes('/src/api/generated/') },
    output: {
      dir: dist,
      format: 'esm',
      // Scripts find each other beside them (src/cluster/package.ts), so all lie in one folder.
      entryFileNames: '[name].js',
      chunkFileNames: 'chunk-[hash].js',
      minify: { compress: true, mangle: false, codegen: { removeWhitespace: true } },
    },
    logLevel: 'warn',
  });
}

/** Declarations of what the public modules reach, and no others. */
function types(): void {
  const all = join(dist, '.types');
  const run = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, 'tsconfig.types.json')], {
    cwd: root,
    encoding: 'utf8',
  });
  const queue = ['index.d.ts', 'testing/vitest.d.ts'];
  const done = new Set<string>();
  for (let file = queue.pop(); file !== undefined; file = queue.pop()) {
    if (done.has(file)) continue;
    done.add(file);
    const path = join(all, file);
    if (!existsSync(path)) throw new Error(`there is no declaration of ${file}:\n${run.stdout}${run.stderr}`);
    const text = readFileSync(path, 'utf8').replace(/((?:from|import)\s*\(?\s*['"])(\.[^'"]+?)(?:\.ts)(['"])/g, (_, before, specifier, after) => {
      const target = relative(all, resolve(dirname(path), `${specifier}.d.ts`));
      if (!existsSync(join(all, target))) throw new Error(`${file} refers to ${specifier}.ts, which has no declaration`);
      queue.push(target);
      return `${before}${specifier}.js${after}`;
    });
    for (const match of text.matchAll(/(?:from|import)\s*\(?\s*['"]([^.'"][^'"]*)['"]/g)) {
      if (match[1] !== 'vitest' && !match[1]?.startsWith('node:'))
        throw new Error(`the public types reach ${match[1]} by ${file}: users do not have it`);
    }
    const out = join(dist, 'types', file);
    mkdirSync(dirname(out), { recursive: true });
    writeFileSync(out, text);
  }
  // What is wrong with declarations that nobody sees is no matter.
  const problems = run.stdout.split('\n').filter((line) => done.has(line.replace(/^src\/(.+)\.ts\(.*$/, '$1.d.ts')));
  if (problems.length || run.error) throw new Error(`types cannot be made: ${run.error ?? problems.join('\n')}`);
  rmSync(all, { recursive: true, force: true });
}

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist, { recursive: true });
await bundle();
types();
