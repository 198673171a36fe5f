import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { bootScripts } from './user-data.ts';

const script = '#!/bin/bash\necho hi\n';
const mime = [
  'MIME-Version: 1.0',
  'Content-Type: multipart/mixed; boundary="==B=="',
  '',
  '--==B==',
  'Content-Type: text/x-shellscript; charset="us-ascii"',
  '',
  '#!/bin/sh',
  'echo one',
  '',
  'echo after a blank line',
  '--==B==',
  'Content-Type: text/cloud-config',
  'Content-Transfer-Encoding: base64',
  '',
  Buffer.from('#cloud-config\nruncmd:\n- [echo, "it\'s"]\n').toString('base64'),
  '--==B==--',
  '',
].join('\n');

test.each([
  ['plain', script],
  ['gzipped bytes', gzipSync(script).toString('latin1')],
  ['gzip as base64', gzipSync(script).toString('base64')],
  ['encoded twice', Buffer.from(script).toString('base64')],
])('a script comes out of %s user data', (_, text) => {
  expect(bootScripts(text)).toEqual({ scripts: [{ name: 'part-001', text: script }], ignored: [] });
});

test('an archive gives its parts in order, cloud-config as a script', () => {
  const { scripts, ignored } = bootScripts(mime);
  expect(ignored).toEqual([]);
  expect(scripts.map((one) => one.text.trimEnd())).toEqual(['#!/bin/sh\necho one\n\necho after a blank line', "#!/bin/sh\n'echo' 'it'\\''s'"]);
});

test('what cannot be run is named, and nothing is no error', () => {
  expect(bootScripts('')).toEqual({ scripts: [], ignored: [] });
  expect(bootScripts('hello').ignored).toEqual(['user data part-001 starts with neither #! nor #cloud-config and is not run']);
  expect(bootScripts('#cloud-config\n: : :\n- [').ignored[0]).toMatch(/^user data part-001 is no valid cloud-config/);
});
