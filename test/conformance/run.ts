/** Upstream's conformance suite against a cluster made for it; README.md beside this says how. */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { program } from './build.ts';
import { listSpecs, Outcomes, runSpecs, type Spec } from './suite.ts';

const { values } = parseArgs({
  options: {
    sig: { type: 'string', multiple: true },
    focus: { type: 'string', default: '' },
    skip: { type: 'string' },
    beyond: { type: 'boolean', default: false },
    procs: { type: 'string', default: '2' },
    batch: { type: 'string', default: '8' },
    continue: { type: 'string' },
    keep: { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
    timeout: { type: 'string', default: '60m' },
  },
});
const focus = new RegExp(values.focus);
const skip = values.skip ? new RegExp(values.skip) : undefined;
const chosen = listSpecs().filter(
  (spec) => (spec.conformance || values.beyond) && (!values.sig || values.sig.includes(spec.sig)) && focus.test(spec.name) && !skip?.test(spec.name),
);
if (values.list) {
  const known = values.continue ? new Outcomes(resolve(values.continue)) : undefined;
  for (const line of known ? known.summary(chosen) : chosen.map((spec) => spec.name)) console.log(line);
  process.exit();
}

const folder = values.continue ? resolve(values.continue) : mkdtempSync(join(tmpdir(), 'kumulus-conformance-'));
const state = join(folder, 'state');
const kubeconfig = join(folder, 'kubeconfig');
Object.assign(process.env, {
  KUMULUS_STATE: state,
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

/** Tests that run in one process: of one SIG; those that are Serial apart from the others, which run beside each other. */
function batches(specs: Spec[]): Spec[][] {
  const found: Spec[][] = [];
  for (const sig of new Set(specs.map((spec) => spec.sig))) {
    const own = specs.filter((spec) => spec.sig === sig);
    const size = Math.max(1, Number(values.batch));
    for (let from = 0; from < own.length; from += size) found.push(own.slice(from, from + size));
  }
  return found;
}

const outcomes = new Outcomes(folder);
const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => interrupted.abort());
let serial = 0;
async function runAll(specs: Spec[], processes: number): Promise<void> {
  const queue = batches(specs);
  const worker = async () => {
    for (let batch = queue.shift(); batch && !interrupted.signal.aborted; batch = queue.shift()) {
      const own = join(folder, 'logs', `${batch[0]!.sig}-${Date.now()}-${serial++}`);
      for (const outcome of await runSpecs(batch, { folder: own, kubeconfig, timeout: values.timeout, signal: interrupted.signal })) {
        outcomes.add(outcome);
        console.log(`${outcome.state} (${outcome.seconds} s) ${outcome.name}`);
        if (outcome.state !== 'passed') console.log(`  ${outcome.message.split('\n').slice(0, 12).join('\n  ')}\n  log: ${own}/log`);
      }
    }
  };
  await Promise.all(Array.from({ length: processes }, worker));
}

const unpassed = () => chosen.filter((spec) => outcomes.get(spec.name)?.state !== 'passed');
try {
  for (const name of ['e2e.test', 'agnhost', 'sample-apiserver', 'nnp']) program(name);
  if (!existsSync(join(state, 'conformance'))) {
    kumulus('create', 'cluster', 'conformance', '--nodes', '2');
    await pushImages(requireRecord('conformance'));
  }
  const left = unpassed();
  await runAll(
    left.filter((spec) => !spec.serial),
    Math.max(1, Number(values.procs)),
  );
  await runAll(
    left.filter((spec) => spec.serial),
    1,
  );
} finally {
  for (const line of outcomes.summary(chosen)) console.log(line);
  if (values.keep || interrupted.signal.aborted)
    console.log(`left: KUMULUS_STATE=${state} KUBECONFIG=${kubeconfig}; go on with --continue ${folder}`);
  else {
    kumulus('delete', 'cluster', 'conformance');
    if (unpassed().length === 0) rmSync(folder, { recursive: true, force: true });
    else console.log(`logs: ${folder}`);
  }
}
process.exitCode = unpassed().length ? 1 : 0;
