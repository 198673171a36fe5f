import { type FSWatcher, watch } from 'node:fs';
import { open, readFile, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

const LIMIT = 1 << 20;

/** Hands on what is appended to an instance's console.log. How far it got is kept in console.offset, for the next process. */
export class ConsoleFollower {
  private readonly folder: string;
  private readonly onText: (text: string) => void;
  private watcher: FSWatcher | undefined;
  private poll: NodeJS.Timeout | undefined;
  private reading: Promise<void> | undefined;
  private again = false;
  private offset = 0;

  constructor(folder: string, onText: (text: string) => void) {
    this.folder = folder;
    this.onText = onText;
  }

  async start(): Promise<void> {
    this.offset = Number(await readFile(join(this.folder, 'console.offset'), 'utf8').catch(() => '0')) || 0;
    try {
      this.watcher = watch(join(this.folder, 'console.log'), { persistent: false }, () => void this.read());
      this.watcher.on('error', () => this.pollInstead());
    } catch {
      this.pollInstead();
    }
    await this.read();
  }

  /** Reads what is left, and ends. */
  async stop(): Promise<void> {
    this.watcher?.close();
    clearInterval(this.poll);
    await this.read();
  }

  /** inotify is limited on every host (128 instances by default). */
  private pollInstead(): void {
    this.watcher?.close();
    this.poll ??= setInterval(() => void this.read(), 1000).unref();
  }

  private read(): Promise<void> {
    this.again = true;
    this.reading ??= (async () => {
      while (this.again) {
        this.again = false;
        await this.readOnce().catch(() => {});
      }
      this.reading = undefined;
    })();
    return this.reading;
  }

  private async readOnce(): Promise<void> {
    const path = join(this.folder, 'console.log');
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      if (size < this.offset) this.offset = 0;
      const buffer = Buffer.alloc(64 << 10);
      const before = this.offset;
      for (let length = 1; length > 0; ) {
        length = (await file.read(buffer, 0, buffer.length, this.offset)).bytesRead;
        if (length > 0) this.onText(buffer.toString('utf8', 0, length));
        this.offset += length;
      }
      if (this.offset === before) return;
    } finally {
      await file.close();
    }
    if (this.offset > LIMIT) {
      await truncate(path);
      this.offset = 0;
    }
    await writeFile(join(this.folder, 'console.offset'), String(this.offset));
  }
}
