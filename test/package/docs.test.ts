/** Runs every example and command of docs/sdk.md. Those with `nodes` need root. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { spawnSync } from 'node:child_process';
import { afterAll, expect, test } from 'vitest';

const root = join(import.meta.dirname, '../..');
const examples = [...readFileSync(join(root, 'docs/sdk.md'), 'utf8').matchAll(/^## (.+)$|^```ts\n([\s\S]*?)^```|^```sh\n([\s\S]*?)^```/gm)];
// Below the checkout, so that 'kumulus' is this package: Node resolves a package's own name by its exports.
const folder = mkdtempSync(join(root, 'test/package/docs-'));
const state = mkdtempSync(join(tmpdir(), 'kum-'));
afterAll(() => {
  rmSync(folder, { recursive: true, force: true });
  rmSync(state, { recursive: true, force: true });
});

let title = '';
for (const [, heading, code, commands] of examples) {
  if (heading) {
    title = heading;
    continue;
  }
  const name = title;
  if (commands) {
    test(`${name}: commands`, { timeout: 300_000 }, () => {
      const home = { HOME: state, KUMULUS_STATE: state, KUBECONFIG: join(state, 'kubeconfig') };
      const files = { AWS_CONFIG_FILE: join(state, 'aws-config'), AWS_SHARED_CREDENTIALS_FILE: join(state, 'aws-credentials') };
      const env = { ...process.env, ...home, ...files, NO_COLOR: '1', PATH: `${dirname(process.execPath)}:${process.env['PATH']}` };
      const ran = spawnSync('sh', ['-e', '-c', commands], { cwd: root, env, encoding: 'utf8', timeout: 290_000 });
      expect(ran.status, `${ran.stdout}\n${ran.stderr}`).toBe(0);
    });
    continue;
  }
  test(name, { timeout: 180_000 }, () => {
    const isTest = code?.includes("'kumulus/vitest'");
    const file = join(folder, `${name.replace(/\W+/g, '-')}${isTest ? '.test' : ''}.ts`);
    writeFileSync(file, code as string);
    const env = { ...process.env, KUMULUS_STATE: state, NO_COLOR: '1' };
    const words = isTest ? [join(root, 'node_modules/vitest/vitest.mjs'), 'run', '--root', folder, file] : [file];
    // Its own, so that the checkout's is not looked for.
    if (isTest) writeFileSync(join(folder, 'vitest.config.ts'), 'export default {};\n');
    const ran = spawnSync(process.execPath, words, { cwd: folder, env, encoding: 'utf8', timeout: 170_000 });
    expect(ran.status, `${ran.stdout}\n${ran.stderr}`).toBe(0);
    if (isTest) expect(ran.stdout).toMatch(/Tests\s+1 passed/);
  });
}

test('there are examples and commands', () => {
  expect(examples.filter(([, , code]) => code).length).toBeGreaterThanOrEqual(5);
  expect(examples.filter(([, , , commands]) => commands).length).toBeGreaterThanOrEqual(2);
});
