import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, describe, expect, it } from 'vitest';
import { openLmdbStore } from './lmdb.ts';
import { openMemoryStore } from './memory.ts';
import type { Store } from './store.ts';
import { storeContract } from './store.contract.ts';

const root = mkdtempSync(join(tmpdir(), 'kumulus-store-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const folders = new WeakMap<Store, string>();
const open = async (folder = join(root, `s${count++}`)) => {
  const store = await openLmdbStore(folder);
  folders.set(store, folder);
  return store;
};

storeContract('memory', async () => openMemoryStore());
storeContract(
  'lmdb',
  () => open(),
  (closed) => open(folders.get(closed)),
);

describe('lmdb on disk', () => {
  const writer = (folder: string) => `
    import { openLmdbStore } from ${JSON.stringify(join(import.meta.dirname, 'lmdb.ts'))};
    const s = await openLmdbStore(${JSON.stringify(folder)});
    let n = 0;
    const write = async (w) => { for (;;) { const key = '/k/' + w + '/' + n++; const { revision } = await s.transaction([], [{ type: 'put', key, value: Buffer.from(key) }]); process.stdout.write(revision + ' ' + key + '\\n'); } };
    for (let w = 0; w < 8; w++) void write(w);
  `;

  it('keeps every acknowledged write through SIGKILL', async () => {
    const folder = join(root, 'killed');
    let acknowledged = 0;
    for (let round = 0; round < 4; round++) {
      const child = spawn(process.execPath, ['--input-type=module', '--disable-warning=ExperimentalWarning', '-e', writer(`${folder}${round}`)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      const lines: string[] = [];
      const target = 50 + Math.floor(Math.random() * 800);
      const reader = createInterface({ input: child.stdout }).on('line', (line) => {
        lines.push(line);
        if (lines.length === target) child.kill('SIGKILL');
      });
      const exited = new Promise((resolve) => child.once('exit', resolve));
      await Promise.all([exited, new Promise((resolve) => reader.on('close', resolve))]);
      expect(lines.length).toBeGreaterThanOrEqual(target);
      const store = await openLmdbStore(`${folder}${round}`);
      for (const line of lines) {
        const [revision, key] = line.split(' ') as [string, string];
        const item = await store.get(key);
        expect(item?.modRevision).toBe(Number(revision));
        expect(item?.value.toString()).toBe(key);
      }
      acknowledged += lines.length;
      await store.close();
    }
    expect(acknowledged).toBeGreaterThan(200);
  });

  it('is one process at a time, and names the other', async () => {
    const store = await open();
    await expect(openLmdbStore(folders.get(store) as string)).rejects.toThrow(`in use by process ${process.pid}`);
    await store.close();
  });

  it('says what is wrong with a file that is no store', async () => {
    const folder = join(root, 'broken');
    const first = await openLmdbStore(folder);
    await first.close();
    writeFileSync(join(folder, 'data.mdb'), Buffer.alloc(8192, 7));
    await expect(openLmdbStore(folder)).rejects.toThrow(/cannot be opened/);
  });
});
