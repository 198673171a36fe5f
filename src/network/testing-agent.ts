import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { createPodNetwork } from './pod-network.ts';

// Test support: a pod network in the namespace in which this is started. Reads a JSON line per call, answers each with one.
const network = createPodNetwork({
  stateDir: process.argv[2] as string,
  nonMasqueradeCidrs: process.argv.slice(3),
  log: pino({ level: process.env['KUMULUS_LOG'] ?? 'silent' }),
});

async function call(method: string, args: unknown[]): Promise<unknown> {
  if (method === 'ready') return network.ready;
  return (network[method as 'add'] as (...args: unknown[]) => Promise<unknown>)(...args);
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const { id, method, args } = JSON.parse(line) as { id: number; method: string; args: unknown[] };
  call(method, args).then(
    (result) => console.log(JSON.stringify({ id, result: result ?? null })),
    (error: Error) => console.log(JSON.stringify({ id, error: error.message })),
  );
});
