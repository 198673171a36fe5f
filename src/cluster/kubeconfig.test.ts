import { chownSync, existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { checkKubeconfigWritable, clusterKubeconfig, kubeconfigPath, mergeKubeconfig, removeFromKubeconfig } from './kubeconfig.ts';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kumulus-kubeconfig-'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true, force: true });
});
const added = clusterKubeconfig('a', 'https://127.0.0.1:6443', 'ca', { cert: 'cert', key: 'key' });
const isRoot = process.getuid?.() === 0;

test('a context is added and taken away; everything else stays', () => {
  const path = join(folder, 'config');
  const before =
    'apiVersion: v1\nkind: Config\npreferences: {}\nclusters: []\ncontexts:\n  - name: other\n    context: {cluster: c, user: u}\nusers: []\n';
  writeFileSync(path, before, { mode: 0o640 });
  mergeKubeconfig(path, added);
  mergeKubeconfig(path, added);
  const text = readFileSync(path, 'utf8');
  expect(text).toContain('current-context: kumulus-a');
  expect(text.match(/name: kumulus-a/g)).toHaveLength(3);
  expect(statSync(path).mode & 0o777).toBe(0o640);
  removeFromKubeconfig(path, 'a');
  expect(readFileSync(path, 'utf8')).not.toContain('kumulus');
  expect(readFileSync(path, 'utf8')).toContain('name: other');
  expect(readFileSync(path, 'utf8')).toContain('preferences');
});

test('what cannot be written is told before anything is built, and nothing is left by the look', () => {
  writeFileSync(join(folder, 'file'), '');
  expect(() => checkKubeconfigWritable(join(folder, 'file/config'))).toThrow(/cannot write the kubeconfig .*file\/config.*--kubeconfig/);
  writeFileSync(join(folder, 'bad'), '{ not: [yaml');
  expect(() => checkKubeconfigWritable(join(folder, 'bad'))).toThrow(/bad is not a kubeconfig/);
  checkKubeconfigWritable(join(folder, 'new'));
  expect(existsSync(join(folder, 'new'))).toBe(false);
});

test.runIf(isRoot)('under sudo a new file and its folders belong to the caller, an old one to its owner', () => {
  vi.stubEnv('SUDO_USER', 'nobody');
  vi.stubEnv('SUDO_UID', '65534');
  vi.stubEnv('SUDO_GID', '65534');
  const path = join(folder, '.kube/config');
  mergeKubeconfig(path, added);
  expect([statSync(path).uid, statSync(path).gid, statSync(join(folder, '.kube')).uid, statSync(folder).uid]).toEqual([65534, 65534, 65534, 0]);
  const old = join(folder, 'old');
  writeFileSync(old, '');
  chownSync(old, 1, 1);
  mergeKubeconfig(old, added);
  expect([statSync(old).uid, statSync(old).gid]).toEqual([1, 1]);
});

test('the file is the one that kubectl would write to', () => {
  writeFileSync(join(folder, 'second'), '');
  vi.stubEnv('KUBECONFIG', `${join(folder, 'first')}:${join(folder, 'second')}`);
  expect(kubeconfigPath()).toBe(join(folder, 'second'));
  expect(kubeconfigPath('/flag')).toBe('/flag');
  vi.stubEnv('KUBECONFIG', `${join(folder, 'first')}:${join(folder, 'last')}`);
  expect(kubeconfigPath()).toBe(join(folder, 'last'));
  vi.stubEnv('KUBECONFIG', '');
  expect(kubeconfigPath()).toMatch(/\/\.kube\/config$/);
});
