import { spawn } from 'node:child_process';

const timeoutMs = 20_000;
const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

/**
 * Runs a shell script, its words given apart so that nothing needs quoting: $1 and so on. Resolves to what it printed; rejects
 * with its own words. One process for many commands: starting processes is what takes the time here.
 */
export function shell(script: string, words: string[] = []): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-ec', script, 'sh', ...words], {
      cwd: '/',
      // Nothing of our own is inherited, NODE_CHANNEL_FD least of all.
      env: { PATH: systemPath, LC_ALL: 'C' },
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: true,
    });
    let output = '';
    let errors = '';
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      // The whole group: the shell's children too.
      if (child.pid) process.kill(-child.pid, 'SIGKILL');
    }, timeoutMs);
    child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
    child.stderr.setEncoding('utf8').on('data', (text: string) => (errors += text));
    child.on('error', (error) => {
      clearTimeout(timer);
      reject(new Error(`cannot run /bin/sh: ${error.message}`));
    });
    child.on('close', (code) => {
      clearTimeout(timer);
      if (code === 0) resolve(output);
      else reject(new Error(late ? `no end within ${timeoutMs / 1000} s` : errors.trim().slice(0, 1000) || `exit status ${code}`));
    });
  });
}

/** A here-document as the input of a command; nothing in it is expanded. */
export const input = (lines: string[]): string => `<<'KUMULUS_END'\n${lines.join('\n')}\nKUMULUS_END\n`;
