/** Runs every command of docs/pulumi.md, section by section, as its reader would: one shell for what is typed, others for what is left running. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { pino } from 'pino';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { ensureEnvironment } from '../../localstack/host/python.ts';
import { startLocalstack } from '../../localstack/host/start.ts';
import { clusterId } from '../../src/cluster/state.ts';
import { destroyEverything } from '../../src/localaws/dataplane/cleanup.ts';
import { Machine, repository, run } from './command.ts';
import { findPulumi, freePort } from './pulumi-stack.ts';

const minutes = 60_000;
const quickstart = join(repository, 'infra/quickstart');
const document = readFileSync(join(repository, 'docs/pulumi.md'), 'utf8');

/** The blocks of a language in a section. */
function blocks(section: string, language: 'sh' | 'ts'): string[] {
  const text = document.split(/^## /m).find((one) => one.startsWith(`${section}\n`));
  if (!text) throw new Error(`docs/pulumi.md has no section '${section}'`);
  return [...text.matchAll(new RegExp(`^\`\`\`${language}\\n([\\s\\S]*?)^\`\`\``, 'gm'))].map((match) => match[1] as string);
}

/** A reader's machine: a home of its own, and the commands that the page takes for installed. */
class Reader {
  readonly machine = new Machine();
  private readonly running: { child: ChildProcess; words: string }[] = [];
  private readonly files: string[] = [join(quickstart, 'kubeconfig')];
  private env: NodeJS.ProcessEnv;
  private folder = repository;
  private readonly edit: (commands: string) => string;

  /** edit: what of the page's words is another here, such as a port that others may have. */
  constructor(edit: (commands: string) => string) {
    this.edit = edit;
    const bin = join(this.machine.folder, 'bin');
    mkdirSync(bin);
    const found = [dirname(process.execPath), bin, findPulumi() ?? '', dirname(this.machine.kubectlPath ?? ''), process.env['PATH'] ?? ''];
    this.env = { ...this.machine.env, PATH: found.join(delimiter), PULUMI_HOME: join(this.machine.folder, '.pulumi'), PULUMI_SKIP_UPDATE_CHECK: 'true' };
    delete this.env['PULUMI_BACKEND_URL'];
  }

  /** Makes a command of Python's modules one that can be typed. */
  provide(name: string, python: string, module: string): void {
    const file = join(this.machine.folder, 'bin', name);
    writeFileSync(file, `#!/bin/sh\nexec ${python} -m ${module} "$@"\n`);
    chmodSync(file, 0o755);
  }

  /** Stacks of these names are the tests' own, with the settings of those that the page names. */
  stack(name: string): string {
    const own = `docs-${name}-${process.pid}`;
    const settings = join(quickstart, `Pulumi.${own}.yaml`);
    this.files.push(settings);
    copyFileSync(join(quickstart, `Pulumi.${name}.yaml`), settings);
    writeFileSync(settings, this.edit(readFileSync(settings, 'utf8')));
    return own;
  }

  /** Types a block. Resolves to what it printed; fails with that where a command fails. */
  async type(block: string): Promise<string> {
    const lines = this.edit(block.replace(/stack init (\w+)/g, (_, name) => `stack init ${this.stack(name)}`)).split('\n');
    const kept = lines.filter((line) => !line.includes('# leave it running'));
    const facts = join(this.machine.folder, 'shell');
    const script = ['set -euo pipefail', ...kept, `pwd >${facts}.pwd`, `env -0 >${facts}.env`].join('\n');
    const ran = await run('bash', ['-c', `cd ${this.folder}\n${script}`], { env: this.env, timeoutMs: 8 * minutes });
    if (ran.code !== 0) throw new Error(`exit code ${ran.code} of\n${block}\n${ran.out}\n${ran.err}`);
    this.folder = readFileSync(`${facts}.pwd`, 'utf8').trim();
    const pairs = readFileSync(`${facts}.env`, 'utf8').split('\0').filter(Boolean);
    this.env = Object.fromEntries(pairs.map((one) => [one.slice(0, one.indexOf('=')), one.slice(one.indexOf('=') + 1)]));
    for (const line of lines.filter((one) => !kept.includes(one))) await this.leaveRunning(line);
    return ran.out + ran.err;
  }

  private async leaveRunning(words: string): Promise<void> {
    const child = spawn('bash', ['-c', `exec ${words}`], { cwd: this.folder, env: this.env, stdio: ['ignore', 'pipe', 'inherit'] });
    this.running.push({ child, words });
    // It says a line when it is ready.
    for await (const _ of createInterface({ input: child.stdout! })) return;
    throw new Error(`'${words}' ended before it was ready`);
  }

  async end(): Promise<void> {
    for (const { child } of this.running) {
      const ended = child.exitCode === null ? once(child, 'exit') : undefined;
      child.kill('SIGINT');
      await ended;
    }
    for (const name of ['.aws', '.dataplane']) {
      const directory = join(this.machine.state, name);
      if (existsSync(directory)) await destroyEverything({ directory, id: clusterId(directory), log: pino({ level: 'silent' }) });
    }
    for (const file of this.files) rmSync(file, { force: true });
    await this.machine.end();
  }
}

const probe = new Machine();
afterAll(() => probe.end());
const missing = [
  ...(findPulumi() ? [] : ['the pulumi command (https://www.pulumi.com/docs/install/)']),
  ...(probe.kubectlPath ? [] : ['kubectl']),
  ...(process.getuid?.() === 0 ? [] : ['root, for instances']),
];
if (missing.length) console.warn(`docs/pulumi.md is not tried: this machine lacks ${missing.join(', ')}`);

describe.skipIf(missing.length > 0)('docs/pulumi.md', { timeout: 15 * minutes }, () => {
  const ends: (() => Promise<unknown>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0).reverse()) await end();
  }, 5 * minutes);
  const reader = (edit: (commands: string) => string): Reader => {
    const made = new Reader(edit);
    ends.push(() => made.end());
    return made;
  };

  test('on the embedded AWS', async () => {
    const port = await freePort();
    const python = await ensureEnvironment('awscli', join(repository, 'localstack/awscli.lock'));
    const one = reader((text) => text.replaceAll('4566', String(port)).replace('aws serve --dataplane', `aws serve --dataplane --port ${port}`));
    one.provide('aws', python, 'awscli');
    const [serve, up, scale, replace, destroy, ...more] = blocks('On the embedded AWS', 'sh') as [string, string, string, string, string];
    expect(more).toEqual([]);
    await one.type(serve);
    expect(await one.type(up)).toMatch(/(\S+\s+Ready\b[\s\S]*){2}/);
    expect(await one.type(scale)).toMatch(/(\S+\s+Ready\b[\s\S]*){3}/);
    expect(await one.type(replace)).toMatch(/terminated|shutting-down/i);
    await one.type(destroy);
  });

  test('on LocalStack', async () => {
    const aws = await startLocalstack();
    ends.push(() => aws.stop());
    const one = reader((text) => text.replaceAll('http://127.0.0.1:4566', aws.url));
    const [plane, up, ...more] = blocks('On LocalStack', 'sh') as [string, string];
    expect(more).toEqual([]);
    await one.type(plane);
    expect(await one.type(up)).toMatch(/(\S+\s+Ready\b[\s\S]*){2}/);
  });

  test('the program, as far as a preview', async () => {
    const folder = join(repository, `infra/docs-${process.pid}`);
    ends.push(async () => rmSync(folder, { recursive: true, force: true }));
    mkdirSync(folder);
    copyFileSync(join(quickstart, 'Pulumi.yaml'), join(folder, 'Pulumi.yaml'));
    const [program, ...more] = blocks('Programs', 'ts') as [string];
    expect(more).toEqual([]);
    writeFileSync(join(folder, 'index.ts'), program);
    const one = reader((text) => text);
    const said = await one.type(
      [
        `cd ${folder}`,
        'export PULUMI_CONFIG_PASSPHRASE=change-me',
        'pulumi login --local',
        'pulumi stack select --create program',
        'pulumi config set kumulus:region us-east-1',
        'pulumi preview --diff',
      ].join('\n'),
    );
    for (const words of ['dev-workers-2', 'dev-gpu-0', 'g5.xlarge', 't3.large']) expect(said).toContain(words);
  });

  test('the settings of a stack on AWS', async () => {
    const one = reader((text) => text);
    const [settings, ...more] = blocks('On AWS, and what was not tried there', 'sh') as [string];
    expect(more).toEqual([]);
    await one.type(settings);
    expect(await one.type('pulumi config')).toMatch(/package +https:\/\/example\.com[\s\S]*203\.0\.113\.7\/32/);
  });
});

test('every section with commands is tried', () => {
  const tried = ['On the embedded AWS', 'On LocalStack', 'On AWS, and what was not tried there'];
  const titles = document.split(/^## /m).slice(1);
  expect(titles.filter((one) => one.includes('```sh')).map((one) => one.slice(0, one.indexOf('\n')))).toEqual(tried);
});
