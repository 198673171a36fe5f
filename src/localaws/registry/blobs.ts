import { createHash, randomUUID } from 'node:crypto';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

/** An upload under way: a file that grows, and its hash so far. */
export interface Upload {
  id: string;
  repository: string;
  path: string;
  size: number;
  hash: ReturnType<typeof createHash>;
  /** Set while a request writes to it. */
  busy: boolean;
  touched: number;
}

export const digestPattern = /^sha256:[0-9a-f]{64}$/;

/** Blobs by digest, a file each; uploads beside them. What was not finished when the endpoint ended is removed at the next start. */
export class Blobs {
  readonly directory: string;
  readonly uploads = new Map<string, Upload>();

  private constructor(directory: string) {
    this.directory = directory;
  }

  static async open(directory: string): Promise<Blobs> {
    await rm(join(directory, 'uploads'), { recursive: true, force: true });
    await mkdir(join(directory, 'uploads'), { recursive: true, mode: 0o700 });
    await mkdir(join(directory, 'sha256'), { recursive: true, mode: 0o700 });
    return new Blobs(directory);
  }

  private file(digest: string): string {
    return join(this.directory, 'sha256', digest.slice('sha256:'.length));
  }

  async size(digest: string): Promise<number | undefined> {
    return stat(this.file(digest)).then(
      (found) => found.size,
      () => undefined,
    );
  }

  read(digest: string, range?: { start: number; end: number }): Readable {
    return createReadStream(this.file(digest), range);
  }

  async remove(digest: string): Promise<void> {
    await rm(this.file(digest), { force: true });
  }

  begin(repository: string, now: number): Upload {
    const id = randomUUID();
    const upload: Upload = {
      id,
      repository,
      path: join(this.directory, 'uploads', id),
      size: 0,
      hash: createHash('sha256'),
      busy: false,
      touched: now,
    };
    this.uploads.set(id, upload);
    return upload;
  }

  /** Appends a body to an upload. What a broken connection left of it ends the upload. */
  async append(upload: Upload, body: Readable): Promise<void> {
    upload.busy = true;
    try {
      body.on('data', (chunk: Buffer) => {
        upload.size += chunk.length;
        upload.hash.update(chunk);
      });
      await pipeline(body, createWriteStream(upload.path, { flags: 'a', mode: 0o600 }));
    } catch (error) {
      await this.abandon(upload);
      throw error;
    } finally {
      upload.busy = false;
    }
  }

  async abandon(upload: Upload): Promise<void> {
    this.uploads.delete(upload.id);
    await rm(upload.path, { force: true });
  }

  /** Ends an upload; its bytes are on disk under their digest, or, when that is another, undefined is the answer. */
  async finish(upload: Upload, digest: string): Promise<number | undefined> {
    this.uploads.delete(upload.id);
    if (`sha256:${upload.hash.digest('hex')}` !== digest) {
      await rm(upload.path, { force: true });
      return undefined;
    }
    const file = await open(upload.path, 'a');
    await file.sync();
    await file.close();
    await rename(upload.path, this.file(digest));
    return upload.size;
  }

  /** Bytes that are at hand, as a manifest's. */
  async put(bytes: Buffer): Promise<string> {
    const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
    const path = join(this.directory, 'uploads', randomUUID());
    const file = await open(path, 'w', 0o600);
    try {
      await file.writeFile(bytes);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(path, this.file(digest));
    return digest;
  }
}
