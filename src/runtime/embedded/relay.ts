import type { ChildProcess } from 'node:child_process';
import { Duplex } from 'node:stream';

/** A connection that a child process holds, as one stream. It fails with `failure` of the child's words when that ends badly. */
export function overProcess(child: ChildProcess, failure: (words: string) => Error): Duplex {
  const { stdin, stdout, stderr } = child;
  if (!stdin || !stdout) throw new Error('the child has no streams');
  let words = '';
  stderr?.on('data', (chunk) => {
    words = (words + chunk).slice(0, 1000);
  });
  const duplex = new Duplex({
    read() {
      stdout.resume();
    },
    write(chunk, _encoding, done) {
      stdin.write(chunk, () => done());
    },
    final(done) {
      stdin.end(() => done());
    },
    destroy(error, done) {
      child.kill('SIGKILL');
      done(error);
    },
  });
  stdin.on('error', () => {});
  stdout.on('data', (chunk) => {
    if (!duplex.push(chunk)) stdout.pause();
  });
  child.on('error', (error) => duplex.destroy(failure(error.message)));
  child.on('close', (code) => {
    if (code && words) duplex.destroy(failure(words.trim()));
    else duplex.push(null);
  });
  return duplex;
}
