import { appendFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Logger } from 'pino';

const kept = 64 * 1024;

/** What instances wrote to their consoles: the last 64 KiB of each, in a file each. */
export class Consoles {
  private readonly directory: string;
  private readonly log: Logger;
  /** Bytes in a file since it was last cut; a file is cut when it has twice what is kept. */
  private readonly sizes = new Map<string, number>();
  private queue: Promise<void> = Promise.resolve();
  private unwritten = new Map<string, string>();

  constructor(directory: string, log: Logger) {
    this.directory = directory;
    this.log = log;
  }

  append(instanceId: string, text: string): void {
    const first = this.unwritten.size === 0;
    this.unwritten.set(instanceId, ((this.unwritten.get(instanceId) ?? '') + text).slice(-2 * kept));
    if (first) this.enqueue(() => this.write());
  }

  /** The last 64 KiB; undefined when there is nothing yet. */
  async read(instanceId: string): Promise<string | undefined> {
    await this.flush();
    try {
      return (await readFile(this.file(instanceId))).subarray(-kept).toString('utf8');
    } catch (error: any) {
      if (error.code === 'ENOENT') return undefined;
      throw error;
    }
  }

  remove(instanceId: string): void {
    this.enqueue(async () => {
      this.unwritten.delete(instanceId);
      this.sizes.delete(instanceId);
      await rm(this.file(instanceId), { force: true });
    });
  }

  async flush(): Promise<void> {
    await this.queue;
  }

  private enqueue(work: () => Promise<void>): void {
    this.queue = this.queue.then(work).catch((error) => this.log.warn({ err: error }, 'console output cannot be kept'));
  }

  private async write(): Promise<void> {
    const texts = this.unwritten;
    this.unwritten = new Map();
    await mkdir(this.directory, { recursive: true });
    for (const [instanceId, text] of texts) {
      const path = this.file(instanceId);
      await appendFile(path, text);
      const size = (this.sizes.get(instanceId) ?? kept) + Buffer.byteLength(text);
      if (size > 2 * kept) {
        await writeFile(path, (await readFile(path)).subarray(-kept));
        this.sizes.set(instanceId, kept);
      } else this.sizes.set(instanceId, size);
    }
  }

  private file(instanceId: string): string {
    return join(this.directory, `${instanceId.replace(/[^a-z0-9-]/g, '_')}.log`);
  }
}
