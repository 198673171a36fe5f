/** Runs every command of docs/localstack.md in its order, as its reader would, and those of its workflow. Needs root, for instances. */
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parse } from 'yaml';
import { ensureEnvironment, ensurePython, toolsFolder } from '../../localstack/host/python.ts';
import { Machine, repository } from './command.ts';

const minutes = 60_000;
const document = readFileSync(join(repository, 'docs/localstack.md'), 'utf8');
const blocks = [...document.matchAll(/^## (.+)$|^```(sh|ts|yaml)\n([\s\S]*?)^```/gm)];
const machine = new Machine();
const bin = join(machine.folder, 'bin');
const examples = mkdtempSync(join(repository, 'test/package/docs-'));
const env: NodeJS.ProcessEnv = {
  ...machine.env,
  // What was installed before stays in use, though the home is another.
  KUMULUS_TOOLS: toolsFolder(),
  PATH: [bin, dirname(process.execPath), dirname(machine.kubectlPath ?? ''), process.env['PATH']].join(':'),
};
/** Another than the page's, which may be in use. */
let port: number;

/** Runs commands in one shell; what they export is the next one's too. */
function shell(commands: string): string {
  const words = `${commands.replaceAll(':4566', `:${port}`).replaceAll('npm run localstack -- start', '$& --port PORT').replaceAll('npm run localstack -- stop', '$& --port PORT').replaceAll('PORT', String(port))}\nenv -0 >&3`;
  const kept = join(machine.folder, 'env');
  const ran = spawnSync('bash', ['-e', '-o', 'pipefail', '-c', `exec 3>${kept}; ${words}`], { cwd: repository, env, encoding: 'utf8', timeout: 14 * minutes });
  expect(ran.status, `${words}\n${ran.stdout}\n${ran.stderr}`).toBe(0);
  for (const line of readFileSync(kept, 'utf8').split('\0')) {
    const [name = '', ...value] = line.split('=');
    if (name.startsWith('AWS_')) env[name] = value.join('=');
  }
  return ran.stdout;
}

function provide(name: string, script: string): void {
  writeFileSync(join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(join(bin, name), 0o755);
}

beforeAll(async () => {
  if (process.getuid?.() !== 0) throw new Error('these tests make Linux namespaces: run them as root');
  mkdirSync(bin);
  env['KUMULUS_PYTHON'] = await ensurePython();
  const awscli = await ensureEnvironment('awscli', join(repository, 'localstack/awscli.lock'));
  provide('aws', `exec ${awscli} -m awscli "$@"`);
  provide('sudo', 'shift\nexec "$@"');
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  port = (server.address() as AddressInfo).port;
  await new Promise((resolve) => server.close(resolve));
}, 15 * minutes);

afterAll(async () => {
  rmSync(examples, { recursive: true, force: true });
  spawnSync('npm', ['run', 'localstack', '--', 'stop', '--port', String(port)], { cwd: repository, env });
  await machine.end();
}, 3 * minutes);

let section = '';
for (const [, heading, language, code = ''] of blocks) {
  if (heading) {
    section = heading;
    continue;
  }
  if (language === 'sh')
    test(`${section}: ${code.trim().split('\n')[0]}`, { timeout: 15 * minutes }, () => {
      const said = shell(code);
      if (code.includes('--example')) expect(said).toMatch(/http:\/\/127\.64\.\d+\.\d+\/[\s\S]*Ready[\s\S]*LoadBalancer/);
      if (code.includes('describe-images')) expect(said).toMatch(/running[\s\S]*amazonaws\.com[\s\S]*kumulus\/example/);
    });
  if (language === 'ts')
    test(`${section}: the example`, { timeout: 3 * minutes }, () => {
      const file = join(examples, 'example.ts');
      writeFileSync(file, code.replaceAll(':4566', `:${port}`));
      const ran = spawnSync(process.execPath, [file], { cwd: examples, env, encoding: 'utf8', timeout: 2 * minutes });
      expect(ran.stdout, ran.stderr).toBe('2\n');
    });
  if (language === 'yaml')
    test(`${section}: its commands`, { timeout: 15 * minutes }, () => {
      const { steps } = parse(code).jobs.cluster as { steps: { run?: string; uses?: string; if?: string }[] };
      expect(steps.every((step) => Boolean(step.run) !== Boolean(step.uses))).toBe(true);
      const commands = steps.filter((step) => step.run && step.if !== 'failure()').map((step) => step.run as string);
      // The modules of this checkout are in use by whoever runs this.
      expect(commands.shift()).toBe('npm ci');
      try {
        for (const command of commands) shell(command);
      } finally {
        rmSync(join(repository, 'page'), { force: true });
      }
      // The page goes on after its workflow.
      shell('npm run localstack -- start');
    });
}

test('the page has commands, an example and a workflow', () => {
  expect(Object.entries(Object.groupBy(blocks, ([, , language]) => language ?? 'heading')).map(([kind, all]) => [kind, all!.length >= 1])).toEqual([
    ['heading', true],
    ['sh', true],
    ['ts', true],
    ['yaml', true],
  ]);
});
