import { execFileSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pushToCluster } from '../../src/cluster/images.ts';
import type { ClusterRecord } from '../../src/cluster/state.ts';
import { busyboxImage } from '../../src/runtime/images/busybox.ts';
import type { ProcessConfig } from '../../src/runtime/images/media-types.ts';
import { buildImage, type ImageEntry, type ImageSource } from '../../src/runtime/images/oci-tar.ts';
import { busybox, debianRoot, program, upstream } from './build.ts';

const path = 'PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const mountPoints: ImageEntry[] = ['proc', 'sys', 'dev'].map((name) => ({ path: name, directory: true }));

function* filesOf(root: string, folder = root): Generator<ImageEntry> {
  for (const name of readdirSync(folder)) {
    const full = join(folder, name);
    const own = relative(root, full);
    if (/^(proc|sys|dev|complete)$/.test(own)) continue;
    const stat = lstatSync(full);
    if (stat.isSymbolicLink()) yield { path: own, link: readlinkSync(full) };
    else if (stat.isDirectory()) {
      yield { path: own, directory: true, mode: stat.mode & 0o7777 };
      yield* filesOf(root, full);
    } else if (stat.isFile()) yield { path: own, hostFile: full, mode: stat.mode & 0o7777, uid: stat.uid, gid: stat.gid };
  }
}

/** Makes the suite's images and pushes them under the names that the tests ask registry.k8s.io for. */
export async function pushImages(record: ClusterRecord): Promise<void> {
  const debian = [...filesOf(debianRoot()), ...mountPoints];
  const agnhost = (at: string): ImageEntry => ({ path: at, hostFile: program('agnhost'), mode: 0o755 });
  const image = (entries: ImageEntry[], config: ProcessConfig) => buildImage({ entries, config: { Env: [path], ...config } });
  const push = async (source: ImageSource, ...names: string[]) => {
    for (const name of names) {
      const at = name.lastIndexOf(':');
      await pushToCluster(record, source, name.slice(0, at), name.slice(at + 1));
    }
  };
  const e2e = (name: string) => `e2e-test-images/${name}`;
  const files = ['localhost.crt', 'localhost.key'].map((name) => ({ path: name, hostFile: join(upstream('test/images/agnhost/porter'), name) }));
  // A user whose group has another member's rights, as upstream's image has them.
  const etc = (name: string, more: string): ImageEntry => ({
    path: `etc/${name}`,
    content: `${readFileSync(join(debianRoot(), 'etc', name), 'utf8')}${more}`,
  });
  const users = [
    etc('passwd', 'user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n'),
    etc('group', 'user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n'),
  ];
  const whole = await image([...debian, ...files, ...users, { path: 'uploads', directory: true }, agnhost('agnhost'), agnhost('agnhost-2')], {
    Entrypoint: ['/agnhost'],
    Cmd: ['pause'],
    WorkingDir: '/',
  });
  await push(whole, e2e('agnhost:2.66.1'), e2e('agnhost:2.55'), e2e('glibc-dns-testing:2.1.1'));
  const webServer = (name: string, more: ImageEntry[] = []) =>
    image(
      [
        agnhost('agnhost'),
        ...mountPoints,
        ...readdirSync(upstream(`test/images/${name}/html`)).map((file) => ({
          path: file,
          hostFile: join(upstream(`test/images/${name}/html`), file),
        })),
        ...more,
      ],
      {
        Entrypoint: ['/agnhost'],
        Cmd: ['test-webserver'],
        WorkingDir: '/',
      },
    );
  await push(await webServer('nautilus'), e2e('nautilus:1.8'));
  // As in the base of upstream's image, where a test of image volumes looks for it.
  await push(await webServer('kitten', [{ path: 'etc/os-release', content: 'NAME="Alpine Linux"\nID=alpine\n' }]), e2e('kitten:1.8'));
  await push(
    await image([...debian, { path: 'usr/local/bin/nnp', hostFile: program('nnp'), mode: 0o6755 }], { Cmd: ['nnp'] }),
    e2e('nonewprivs:1.4'),
  );
  // All applets in /bin, as upstream's has them.
  const applets = execFileSync(busybox(), ['--list'], { encoding: 'utf8' }).split('\n');
  const links = applets.filter((name) => name && name !== 'busybox').map((name) => ({ path: `bin/${name}`, link: '/bin/busybox' }));
  await push(await busyboxImage(links, { busybox: busybox() }), e2e('busybox:1.36.1-1'), e2e('busybox:1.37.0-2'));
  const pause = [agnhost('agnhost'), ...mountPoints];
  await push(await image(pause, { Entrypoint: ['/agnhost', 'pause'] }), 'pause:3.10.2');
  await push(await image(pause, { Entrypoint: ['/agnhost', 'pause'], User: '1234' }), e2e('nonroot:1.5'));
  await push(await image(debian, { Cmd: ['nginx', '-g', 'daemon off;'] }), e2e('nginx:1.27.0-2'), e2e('nginx:1.28.0-2'));
  const server: ImageEntry = { path: 'sample-apiserver', hostFile: program('sample-apiserver'), mode: 0o755 };
  await push(await image([...debian, server], { Entrypoint: ['/sample-apiserver'] }), e2e('sample-apiserver:1.29.2'));
  const strayPackets: ImageEntry = { path: 'regression-issue-74839', hostFile: program('regression-issue-74839'), mode: 0o755 };
  await push(await image([strayPackets, ...mountPoints], { Entrypoint: ['/regression-issue-74839'] }), e2e('regression-issue-74839:1.5'));
  const proxy: ImageEntry = { path: 'hostpathplugin', hostFile: program('socket-proxy'), mode: 0o755 };
  await push(await image(debian, {}), 'build-image/distroless-iptables:v0.9.9');
  await push(await image([...debian, proxy], {}), 'sig-storage/hostpathplugin:v1.17.1');
  const etcd = join(program('agnhost'), '../etcd');
  if (existsSync(etcd)) await push(await image([...debian, { path: 'usr/local/bin/etcd', hostFile: etcd, mode: 0o755 }], {}), 'etcd:3.7.0-0');
}
