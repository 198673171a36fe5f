import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { unpackDebianPython } from './debian-python.ts';
import { ensureEnvironment } from './python.ts';

let folder: string;
const before = { ...process.env };
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kumulus-python-'));
});
afterEach(() => {
  process.env = { ...before };
  rmSync(folder, { recursive: true, force: true });
});

/** Nothing is installed and no source of apt's is changed: it is a folder. */
test("Debian's Python is unpacked, makes an environment, and installs wheels that are checked by their hashes", { timeout: 300_000 }, async () => {
  const said: string[] = [];
  const python = await unpackDebianPython(join(folder, 'debian'), (line) => said.push(line));
  expect(said.join()).toContain('trixie');
  expect(execFileSync(python, ['-c', 'import sys, ssl; print(sys.version_info[:2], sys.prefix)'], { encoding: 'utf8' }).trim()).toBe(
    `(3, 13) ${join(folder, 'debian/usr')}`,
  );
  expect(await unpackDebianPython(join(folder, 'debian'), (line) => said.push(line))).toBe(python);
  expect(said).toHaveLength(1);
  process.env['KUMULUS_PYTHON'] = python;
  process.env['KUMULUS_TOOLS'] = folder;
  const lock = join(folder, 'lock');
  // A wheel with a compiled module.
  const all = readFileSync(join(import.meta.dirname, '../moto.lock'), 'utf8');
  writeFileSync(lock, /^markupsafe==.*\n(?: +--hash.*\n)+/m.exec(all)![0]);
  const own = await ensureEnvironment('small', lock);
  expect(execFileSync(own, ['-c', 'import markupsafe._speedups, pip; print("loaded")'], { encoding: 'utf8' })).toBe('loaded\n');
});

test('a Python that is named and is none is said to be so', async () => {
  process.env['KUMULUS_PYTHON'] = '/bin/false';
  process.env['KUMULUS_TOOLS'] = folder;
  await expect(ensureEnvironment('small', import.meta.filename)).rejects.toThrow(/install python3.13 .*\(it names \/bin\/false\)/s);
});
