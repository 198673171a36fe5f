/**
 * Time from `create cluster --example` to each of its steps, and memory of each process then. Needs root.
 * `node bin/node24.js test/bench/cluster.ts [--nodes N] [--rounds N]`; the first round also compiles what later ones find compiled.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { clusterId } from '../../src/cluster/state.ts';
import { Machine, repository } from '../e2e/command.ts';

const { values } = parseArgs({ options: { nodes: { type: 'string', default: '2' }, rounds: { type: 'string', default: '3' } } });
const machine = new Machine();
const name = 'bench';

/** Milliseconds from the command's start to the end of each step. */
async function create(): Promise<{ step: string; ms: number }[]> {
  const steps: { step: string; ms: number }[] = [];
  const start = performance.now();
  const child = spawn(process.execPath, [join(repository, 'bin/kumulus.js'), 'create', 'cluster', name, '--nodes', values.nodes, '--example', '-o', 'json'], {
    env: machine.env,
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  createInterface({ input: child.stderr }).on('line', (line) => {
    const step = /^ ✓ (.*)/.exec(line)?.[1];
    if (step) steps.push({ step, ms: Math.round(performance.now() - start) });
    else if (!line.startsWith('Creating')) console.error(line);
  });
  const code = await new Promise((resolve) => child.once('close', resolve));
  if (code !== 0) throw new Error(`create cluster ended with ${code}`);
  return steps;
}

/** Proportional set size and processor time of every Node.js process of the cluster. */
function processes(): { process: string; 'pss MiB': number; 'cpu ms': number }[] {
  const id = clusterId(join(machine.state, name));
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid))
    .flatMap((pid) => {
      try {
        const read = (file: string) => readFileSync(`/proc/${pid}/${file}`, 'utf8');
        const words = read('cmdline').split('\0');
        const own = read('environ').includes(machine.state) || read('cgroup').includes(`/kumulus/${id}/`) || words.includes(`kumulus-${id}`) || words.some((w) => w.startsWith(`kumulus-${id}-`));
        const script = words.find((w) => /\.(ts|js)$/.test(w));
        if (!own || !script || !words[0]?.endsWith('node') || Number(pid) === process.pid) return [];
        const stat = read('stat').split(') ')[1]?.split(' ') ?? [];
        const pss = Number(/^Pss:\s+(\d+)/m.exec(read('smaps_rollup'))?.[1]);
        return [{ process: script.replace(/.*\/(src|bin)\//, ''), 'pss MiB': Math.round(pss / 1024), 'cpu ms': (Number(stat[11]) + Number(stat[12])) * 10 }];
      } catch {
        return [];
      }
    });
}

try {
  for (let round = 1; round <= Number(values.rounds); round++) {
    const steps = await create();
    console.log(`round ${round}`);
    console.table(steps);
    console.table(processes());
    const begun = performance.now();
    await machine.kumulus(['delete', 'cluster', name, '-q']);
    console.log(`delete: ${Math.round(performance.now() - begun)} ms`);
  }
} finally {
  await machine.end();
}
