import { readFile, rename, writeFile } from 'node:fs/promises';

let counter = 0;

/** Writes a JSON file so that readers and crashes of this process see the old or the new content, never a part. Mode 0600. */
export async function writeJson(path: string, value: unknown): Promise<void> {
  const temporary = `${path}.${process.pid}.${counter++}.tmp`;
  await writeFile(temporary, JSON.stringify(value), { mode: 0o600 });
  await rename(temporary, path);
}

/** The content, or undefined when the file is missing or no JSON (as after a power failure). */
export async function readJson<T>(path: string): Promise<T | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as T;
  } catch {
    return undefined;
  }
}
