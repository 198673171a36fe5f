// `npm pack` and `npm publish`: bundles into dist/ and puts the manifest of what is published in package.json's place, until
// postpack puts the checkout's back. An interrupted one is mended by the next, or by `node scripts/prepack.js restore`.
import { copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runScript } from '../bin/launch.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const manifest = join(root, 'package.json');
const kept = join(root, '.package.json.checkout');

if (existsSync(kept)) renameSync(kept, manifest);
if (process.argv[2] !== 'restore') {
  const code = await runScript(join(root, 'scripts/bundle.ts'), []);
  if (code !== 0) process.exit(code);
  const { name, version, description, license, type, bin, dependencies } = JSON.parse(readFileSync(manifest, 'utf8'));
  const published = {
    name,
    version,
    description,
    license,
    type,
    bin,
    exports: {
      '.': { types: './dist/types/index.d.ts', default: './dist/index.js' },
      './vitest': { types: './dist/types/testing/vitest.d.ts', default: './dist/vitest.js' },
      './package.json': './package.json',
    },
    files: ['bin', 'dist'],
    engines: { node: '>=22.12' },
    dependencies: { lmdb: dependencies.lmdb },
    peerDependencies: { vitest: '>=5' },
    peerDependenciesMeta: { vitest: { optional: true } },
  };
  copyFileSync(manifest, kept);
  writeFileSync(manifest, `${JSON.stringify(published, null, 2)}\n`);
}
