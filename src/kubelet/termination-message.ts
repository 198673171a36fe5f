import { open, readFile } from 'node:fs/promises';
import type { ContainerStatus } from '../runtime/cri.ts';
import { terminationMessagePolicyAnnotation } from './labels.ts';

const maxMessage = 4096;
const maxLogBytes = 2048;
const maxLogLines = 80;

/** What an ended container left to say: its termination message file, or with FallbackToLogsOnError the end of its log. */
export async function terminationMessage(container: ContainerStatus, messageFile: string, logFile: string): Promise<string> {
  const fromFile = (await readHead(messageFile, maxMessage)).toString('utf8');
  if (fromFile || container.annotations[terminationMessagePolicyAnnotation] !== 'FallbackToLogsOnError' || container.exitCode === 0)
    return fromFile || container.message;
  const tail = await readFile(logFile, 'utf8').catch(() => '');
  const lines = tail
    .trimEnd()
    .split('\n')
    .slice(-maxLogLines)
    .map((line) => {
      const [, , tag, ...text] = line.split(' ');
      return text.join(' ') + (tag?.startsWith('P') ? '' : '\n');
    });
  return lines.join('').slice(-maxLogBytes) || container.message;
}

async function readHead(file: string, bytes: number): Promise<Buffer> {
  try {
    await using handle = await open(file, 'r');
    const buffer = Buffer.alloc(bytes);
    const { bytesRead } = await handle.read(buffer, 0, bytes, 0);
    return buffer.subarray(0, bytesRead);
  } catch {
    return Buffer.alloc(0);
  }
}
