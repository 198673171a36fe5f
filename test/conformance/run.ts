/** Upstream's conformance suite against a cluster made for it; README.md beside this says how. */
import { spawn, spawnSync } from 'node:child_process';
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { findProgram } from '../../src/cluster/preflight.ts';
import { program } from './build.ts';

const { values } = parseArgs({
  options: {
    sig: { type: 'string', multiple: true },
    focus: { type: 'string', default: '' },
    skip: { type: 'string', default: 'Serial|Disruptive|Slow' },
    procs: { type: 'string', default: '4' },
    keep: { type: 'boolean', default: false },
    timeout: { type: 'string', default: '90m' },
  },
});
const sigs = values.sig ?? ['api-machinery', 'apps', 'architecture', 'auth', 'cli', 'instrumentation', 'network', 'node', 'scheduling', 'storage'];
const folder = mkdtempSync(join(tmpdir(), 'kumulus-conformance-'));
const kubeconfig = join(folder, 'kubeconfig');
Object.assign(process.env, {
  KUMULUS_STATE: join(folder, 'state'),
  KUBECONFIG: kubeconfig,
  AWS_SHARED_CREDENTIALS_FILE: join(folder, 'credentials'),
  AWS_CONFIG_FILE: join(folder, 'config'),
});
// These read the state folder's place when they are loaded.
const { requireRecord } = await import('../../src/cluster/state.ts');
const { pushImages } = await import('./images.ts');
const command = join(import.meta.dirname, '../../bin/kumulus.js');
const kumulus = (...args: string[]) => {
  const ran = spawnSync(process.execPath, [command, ...args], { stdio: 'inherit' });
  if (ran.status !== 0) throw new Error(`kumulus ${args.join(' ')} ended with ${ran.status}`);
};

/** One SIG's tests; resolves to their outcomes. */
async function run(sig: string): Promise<{ sig: string; passed: number; failed: string[] }> {
  const reports = join(folder, sig);
  mkdirSync(reports);
  const log = createWriteStream(join(folder, `${sig}.log`));
  const child = spawn(
    program('e2e.test'),
    [
      `--kubeconfig=${kubeconfig}`,
      '--provider=skeleton',
      '--ginkgo.no-color',
      `--ginkgo.focus=\\[sig-${sig}\\].*${values.focus}.*\\[Conformance\\]`,
      `--ginkgo.skip=${values.skip}`,
      `--ginkgo.timeout=${values.timeout}`,
      '--num-nodes=2',
      `--report-dir=${reports}`,
      `--kubectl-path=${findProgram('kubectl') ?? 'kubectl'}`,
    ],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  child.stdout.pipe(log, { end: false });
  child.stderr.pipe(log, { end: false });
  await new Promise((resolve) => child.once('close', resolve));
  const report = readFileSync(join(reports, 'junit_01.xml'), 'utf8');
  const cases = [...report.matchAll(/<testcase name="([^"]*)"[^>]*status="(passed|failed|timedout|panicked|interrupted)"/g)].filter((m) => m[1]!.startsWith('[It]'));
  const name = (text: string) => text.replace(/&#34;|&quot;/g, '"').replace(/&#39;|&apos;/g, "'").replace(/&gt;/g, '>').replace(/&lt;/g, '<').replace(/&amp;/g, '&');
  return { sig, passed: cases.filter((m) => m[2] === 'passed').length, failed: cases.filter((m) => m[2] !== 'passed').map((m) => name(m[1]!)) };
}

let failures = 0;
try {
  for (const name of ['e2e.test', 'agnhost', 'sample-apiserver']) program(name);
  kumulus('create', 'cluster', 'conformance', '--nodes', '2');
  await pushImages(requireRecord('conformance'));
  const queue = [...sigs];
  const worker = async () => {
    for (let sig = queue.shift(); sig; sig = queue.shift()) {
      const { passed, failed } = await run(sig);
      failures += failed.length;
      console.log(`sig-${sig}: ${passed} passed, ${failed.length} failed`);
      for (const one of failed) console.log(`  ${one}`);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, Number(values.procs)) }, worker));
} finally {
  if (values.keep) console.log(`left: ${folder} (KUMULUS_STATE=${join(folder, 'state')})`);
  else {
    kumulus('delete', 'cluster', 'conformance');
    if (failures === 0) rmSync(folder, { recursive: true, force: true });
    else console.log(`logs: ${folder}`);
  }
}
process.exitCode = failures ? 1 : 0;
