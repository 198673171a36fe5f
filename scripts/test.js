// `npm test`: type check, lint (with the import table), then the suites. Words after `--` go to vitest. LocalStack and moto, which the last
// suites need, are installed beside the first.
// `npm run test:interop`: the suites that need upstream's programs; `npm run test:fakes`: those on LocalStack and moto.
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findNode } from '../bin/launch.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const node = findNode();
if (!node) {
  console.error(`no Node.js 22.18 or newer: this is ${process.versions.node}, and node-linux-${process.arch} is not installed; run "npm ci"`);
  process.exit(1);
}
const config = { '--interop': 'vitest.interop.config.ts', '--fakes': 'vitest.fakes.config.ts' }[process.argv[2]];
const words = process.argv.slice(config ? 3 : 2);
const modules = (path) => join(root, 'node_modules', path);
const folder = mkdtempSync(join(tmpdir(), 'kumulus-test-'));
const summary = join(folder, 'summary.json');
const vitest = [modules('vitest/vitest.mjs'), 'run', '--reporter=default', '--reporter=json', `--outputFile.json=${summary}`];
const steps = [
  ['type check', [modules('typescript/bin/tsc'), '--noEmit']],
  ['lint', [modules('@biomejs/biome/bin/biome'), 'lint', '--error-on-warnings', '.']],
  ['imports', [join(root, 'scripts/lint-imports.ts')]],
  ['tests', [...vitest, ...(config ? ['--config', config] : []), ...words]],
];
const began = Date.now();
const whole = !config && !words.length;
const installed = join(folder, 'installed');
const installing = whole ? startInstallation() : undefined;
// Ctrl-C ends the step that runs, and then this.
process.on('SIGINT', () => {});
let status = 0;
for (const [title, args] of config || words.length ? steps.slice(-1) : steps) {
  const start = Date.now();
  console.log(`\n== ${title}`);
  const run = spawnSync(node, args, { cwd: root, stdio: 'inherit' });
  console.log(`== ${title}: ${run.status === 0 ? 'ok' : 'FAILED'} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  status = run.status ?? 1;
  if (status !== 0) break;
}
if (installing) {
  // Still at work only where the suites have ended early.
  try {
    process.kill(-installing.pid, 'SIGTERM');
  } catch {
    // It has ended.
  }
}
const seconds = Math.round((Date.now() - began) / 1000);
console.log(`total ${seconds} s${whole ? ` (${readFileSync(installed, 'utf8').trim() || 'LocalStack and moto were not yet installed'})` : ''}`);
try {
  const { numPassedTests, numFailedTests, numPendingTests } = JSON.parse(readFileSync(summary, 'utf8'));
  console.log(`${numPassedTests} passed, ${numFailedTests} failed${numPendingTests ? `, ${numPendingTests} skipped` : ''}`);
} catch {
  // The run ended before there was a summary; what it printed says why.
}
rmSync(folder, { recursive: true, force: true });
process.exit(status);

/** At low priority: the suites of this while go first. */
function startInstallation() {
  const output = openSync(installed, 'w');
  const words = ['-n', '19', node, '--disable-warning=ExperimentalWarning', join(root, 'localstack/host/install.ts')];
  const child = spawn('nice', words, { cwd: root, stdio: ['ignore', output, 'inherit'], detached: true });
  child.on('error', (error) => console.error(`LocalStack is not installed ahead: ${error.message}`));
  return child.pid ? child : undefined;
}
