import { createWriteStream, readdirSync, renameSync, rmSync, statSync, type WriteStream } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import type { AuditBackend, AuditEvent } from './audit.ts';

export interface AuditLogOptions {
  /** A file, or `-` for standard output. */
  path: string;
  /** Megabytes after which a file is put aside; 0 never does. */
  maxSize?: number;
  /** Files put aside that are kept at most; 0 keeps all. */
  maxBackup?: number;
  /** Days that a file put aside is kept; 0 keeps it for ever. */
  maxAge?: number;
  onError?: (error: Error) => void;
}

/** Events as lines of JSON in a file that is turned over: what is put aside is named NAME-TIME.EXT, as kube-apiserver does. */
export function auditLog(o: AuditLogOptions): AuditBackend {
  let stream: WriteStream | undefined;
  let size = 0;
  const open = () => {
    try {
      size = statSync(o.path).size;
    } catch {
      size = 0;
    }
    const file = createWriteStream(o.path, { flags: 'a', mode: 0o600 });
    file.on('error', (error) => o.onError?.(error));
    return file;
  };
  const turnOver = () => {
    stream?.end();
    const extension = extname(o.path);
    const stem = basename(o.path, extension);
    const time = new Date().toISOString().replace(/:/g, '-').slice(0, -1);
    renameSync(o.path, join(dirname(o.path), `${stem}-${time}${extension}`));
    removeOld(o.path, stem, extension);
    stream = open();
  };
  const removeOld = (path: string, stem: string, extension: string) => {
    const folder = dirname(path);
    const old = readdirSync(folder)
      .filter((name) => name.startsWith(`${stem}-`) && name.endsWith(extension) && name !== basename(path))
      .sort()
      .reverse();
    const limit = Date.now() - (o.maxAge ?? 0) * 86_400_000;
    old.forEach((name, i) => {
      const tooMany = o.maxBackup && i >= o.maxBackup;
      const tooOld = o.maxAge && statSync(join(folder, name)).mtimeMs < limit;
      if (tooMany || tooOld) rmSync(join(folder, name), { force: true });
    });
  };
  return {
    write(event: AuditEvent) {
      const line = `${JSON.stringify(event)}\n`;
      if (o.path === '-') {
        process.stdout.write(line);
        return;
      }
      stream ??= open();
      try {
        if (o.maxSize && size > 0 && size + line.length > o.maxSize * 1024 * 1024) turnOver();
      } catch (error) {
        o.onError?.(error as Error);
      }
      size += Buffer.byteLength(line);
      stream.write(line);
    },
    close: () => new Promise((resolve) => (stream ? stream.end(() => resolve()) : resolve())),
  };
}
