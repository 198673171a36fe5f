import { execFile } from 'node:child_process';
import { access } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { ProcessConfig } from './media-types.ts';
import { buildImage, type ImageEntry, type ImageSource } from './oci-tar.ts';

/**
 * An image made of the machine's static busybox (Debian's busybox-static): /bin/busybox with a link for every applet, users
 * root and nobody, /tmp, /www, and the given files. Throws when the machine has no busybox or a dynamically linked one.
 */
export async function busyboxImage(
  files: ImageEntry[] = [],
  o: { busybox?: string; config?: ProcessConfig; repoTags?: string[] } = {},
): Promise<ImageSource> {
  const busybox = o.busybox ?? '/bin/busybox';
  await access(busybox).catch(() => {
    throw new Error(`${busybox} is missing: install the package busybox-static`);
  });
  const { stdout } = await promisify(execFile)(busybox, ['--list-full']);
  const applets = stdout.split('\n').filter((path) => path && path !== 'bin/busybox' && !path.startsWith('usr/bin/busybox'));
  const entries: ImageEntry[] = [
    { path: 'bin/busybox', hostFile: busybox, mode: 0o755 },
    ...applets.filter((path) => path !== 'linuxrc').map((path) => ({ path, link: '/bin/busybox' })),
    {
      path: 'etc/passwd',
      content: 'root:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33:www-data:/www:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/bin/sh\n',
    },
    { path: 'etc/group', content: 'root:x:0:\nwww-data:x:33:\nnogroup:x:65534:\n' },
    { path: 'root', directory: true, mode: 0o700 },
    { path: 'tmp', directory: true, mode: 0o1777 },
    { path: 'var/run', directory: true },
    { path: 'www', directory: true },
    ...files,
  ];
  const config: ProcessConfig = { Env: ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'], Cmd: ['sh'], ...o.config };
  return await buildImage({ entries, config, ...(o.repoTags && { repoTags: o.repoTags }) });
}
