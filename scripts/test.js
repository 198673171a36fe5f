// `npm test`: type check, lint (with the import table), then the suites. Words after `--` go to vitest.
import { spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findNode } from '../bin/launch.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const node = findNode();
if (!node) {
  console.error(`no Node.js 22.18 or newer: this is ${process.versions.node}, and node-linux-${process.arch} is not installed; run "npm ci"`);
  process.exit(1);
}
const words = process.argv.slice(2);
const modules = (path) => join(root, 'node_modules', path);
const steps = [
  ['type check', [modules('typescript/bin/tsc'), '--noEmit']],
  ['lint', [modules('@biomejs/biome/bin/biome'), 'lint', '--error-on-warnings', '.']],
  ['imports', [join(root, 'scripts/lint-imports.ts')]],
  ['tests', [modules('vitest/vitest.mjs'), 'run', ...words]],
];
for (const [title, args] of words.length ? steps.slice(-1) : steps) {
  const start = Date.now();
  console.log(`\n== ${title}`);
  const run = spawnSync(node, args, { cwd: root, stdio: 'inherit' });
  console.log(`== ${title}: ${run.status === 0 ? 'ok' : 'FAILED'} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  if (run.status !== 0) process.exit(run.status ?? 1);
}
