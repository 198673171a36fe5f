import { basename, dirname } from 'node:path';
import { PassThrough, Writable } from 'node:stream';
import { RuntimeError, type StreamOptions, type StreamSession } from '../cri.ts';
import { start } from './command.ts';

/**
 * conmon speaks over a SOCK_SEQPACKET socket, which Node.js cannot open; perl, which every Debian has, can. Packets come with a byte that names
 * their stream (2 stdout, 3 stderr) and go on here with a length before them, so that their borders survive a pipe.
 */
const relay = `
use Socket;
socket(my $s, AF_UNIX, 5, 0) or die "socket: $!";
connect($s, pack_sockaddr_un($ARGV[0])) or die "connect: $!";
binmode STDIN; binmode STDOUT; $| = 1;
my $reading = $ARGV[1];
while (1) {
  my $r = ""; vec($r, fileno($s), 1) = 1; vec($r, 0, 1) = 1 if $reading;
  select($r, undef, undef, undef) > 0 or next;
  if (vec($r, fileno($s), 1)) {
    my $n = sysread($s, my $b, 65536);
    last unless $n;
    print pack("N", $n), $b;
  }
  if ($reading && vec($r, 0, 1)) {
    my $n = sysread(STDIN, my $b, 8192);
    if (!$n) { $reading = 0; shutdown($s, 1); next; }
    syswrite($s, $b) or last;
  }
}
`;

/** Joins the streams of a container's first process. Output from before is not repeated. `ended` resolves to the container's exit code. */
export function attach(o: StreamOptions & { socket: string; control: (line: string) => void; ended: Promise<number> }): StreamSession {
  const child = start('perl', ['-e', relay, basename(o.socket), o.stdin ? '1' : '0'], {
    // A socket's path has 107 characters at most; from its own folder it is short.
    cwd: dirname(o.socket),
    stdio: [o.stdin ? 'pipe' : 'ignore', 'pipe', 'pipe'],
  });
  const stdout = new PassThrough();
  const stderr = o.tty ? undefined : new PassThrough();
  let words = '';
  child.stderr?.on('data', (chunk) => {
    words = (words + chunk).slice(0, 1000);
  });
  child.stdin?.on('error', () => {});
  let rest: Buffer = Buffer.alloc(0);
  child.stdout?.on('data', (chunk: Buffer) => {
    rest = rest.length ? Buffer.concat([rest, chunk]) : chunk;
    while (rest.length >= 4 && rest.length >= 4 + rest.readUInt32BE(0)) {
      const end = 4 + rest.readUInt32BE(0);
      const to = rest[4] === 3 && stderr ? stderr : stdout;
      if (end > 5) to.write(rest.subarray(5, end));
      rest = rest.subarray(end);
    }
  });
  let closed = false;
  const done = new Promise<void>((resolve, reject) => {
    child.on('error', (error) => reject(new RuntimeError('Internal', `attach needs perl: ${error.message}`)));
    child.on('close', (code) => {
      stdout.end();
      stderr?.end();
      if (code && !closed && words) reject(new RuntimeError('Internal', `cannot attach: ${words.trim()}`));
      else resolve();
    });
  });
  const exitCode = done.then(() => (closed ? 0 : Promise.race([o.ended, new Promise<number>((resolve) => setTimeout(() => resolve(0), 2000))])));
  exitCode.catch(() => {});
  return {
    stdin: child.stdin instanceof Writable ? child.stdin : undefined,
    stdout,
    stderr,
    resize: (width, height) => o.control(`1 ${height} ${width}\n`),
    exitCode,
    close() {
      closed = true;
      child.kill('SIGKILL');
    },
  };
}
