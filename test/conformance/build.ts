import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { createHash } from 'node:crypto';
import { homedir } from 'node:os';
import { join } from 'node:path';

const version = 'v1.37.2';
const staging = version.replace('v1.', 'v0.');
const release = 'trixie';
const tools = process.env['KUMULUS_TOOLS'] ?? join(homedir(), '.cache/kumulus-tools');
const environment = { ...process.env, GOFLAGS: '-mod=mod -buildvcs=false', CGO_ENABLED: '0', GOTOOLCHAIN: 'local' };

/** Programs of the suite, by the package each is built from; e2e.test is a test binary. */
const packages: Record<string, { path: string; test?: boolean; module?: string }> = {
  'e2e.test': { path: 'k8s.io/kubernetes/test/e2e', test: true },
  agnhost: { path: 'k8s.io/kubernetes/test/images/agnhost' },
  'sample-apiserver': { path: 'k8s.io/sample-apiserver' },
  // Beyond conformance, drivers of devices and volumes run in the test's process and are reached through this.
  'socket-proxy': { path: '.', module: join(import.meta.dirname, 'socket-proxy') },
  'regression-issue-74839': { path: 'k8s.io/kubernetes/test/images/regression-issue-74839' },
  nnp: { path: 'k8s.io/kubernetes/test/images/nonewprivs' },
};
/** Some tests look at the version that they are built with. */
const linked = `-s -w ${Object.entries({ gitVersion: version, gitMajor: '1', gitMinor: version.split('.')[1] })
  .map(([name, value]) => `-X k8s.io/component-base/version.${name}=${value}`)
  .join(' ')}`;

/** Upstream's module, whose own modules are replaced by what was published with it. */
function scratchModule(): string {
  const folder = join(tools, 'src/conformance');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'go.mod');
  if (existsSync(file)) return folder;
  const found = JSON.parse(execFileSync('go', ['mod', 'download', '-json', `k8s.io/kubernetes@${version}`], { encoding: 'utf8', env: environment }));
  const replaced = [...readFileSync(found.GoMod, 'utf8').matchAll(/^\t(k8s\.io\/[a-z0-9-]+) => \.\/staging\//gm)].map((m) => m[1]);
  const lines = [
    'module conformance',
    '',
    'go 1.26.0',
    '',
    `require k8s.io/kubernetes ${version}`,
    ...replaced.map((m) => `replace ${m} => ${m} ${staging}`),
  ];
  writeFileSync(file, `${lines.join('\n')}\n`);
  return folder;
}

/** A folder of upstream's sources, from the module cache: what its images are made with is there. */
export function upstream(folder: string): string {
  const directory = execFileSync('go', ['list', '-m', '-f', '{{.Dir}}', 'k8s.io/kubernetes'], {
    cwd: scratchModule(),
    env: environment,
    encoding: 'utf8',
  });
  return join(directory.trim(), folder);
}

/** The path of a program of the suite, built where it is missing. */
export function program(name: keyof typeof packages & string): string {
  const path = join(tools, 'bin', name);
  if (existsSync(path)) return path;
  const { path: source, test, module } = packages[name]!;
  console.log(`building ${name} (${source})`);
  mkdirSync(join(tools, 'bin'), { recursive: true });
  const partial = `${path}.${process.pid}`;
  const verb = test ? ['test', '-c'] : ['build'];
  execFileSync('nice', ['-n', '5', 'go', ...verb, '-trimpath', '-ldflags', linked, '-o', partial, source], {
    cwd: module ?? scratchModule(),
    env: environment,
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  renameSync(partial, path);
  return path;
}

/**
 * busybox as its authors release it, from Debian's source package, built once: the shell of Debian's own drops variables whose names are no
 * identifiers, which tests of environments notice.
 */
export function busybox(): string {
  const path = join(tools, 'bin/busybox-conformance');
  if (existsSync(path)) return path;
  const folder = join(tools, 'src/busybox');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'lists/partial'), { recursive: true });
  mkdirSync(join(folder, 'cache'));
  mkdirSync(join(tools, 'bin'), { recursive: true });
  console.log('building busybox');
  const key = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(join(folder, 'sources.list'), `deb-src [signed-by=${key}] http://deb.debian.org/debian ${release} main\n`);
  const places = {
    'Etc::SourceList': join(folder, 'sources.list'),
    'Etc::SourceParts': '/dev/null',
    'State::Lists': join(folder, 'lists'),
    Cache: join(folder, 'cache'),
  };
  const apt = (...args: string[]) =>
    execFileSync('apt-get', ['-q', ...Object.entries(places).flatMap(([name, value]) => ['-o', `Dir::${name}=${value}`]), ...args], {
      cwd: folder,
      stdio: 'ignore',
    });
  apt('update');
  apt('source', '--download-only', 'busybox');
  const script = `tar xf busybox_*.orig.tar.*; cd busybox-*/; make defconfig
    sed -i 's/^# CONFIG_STATIC is not set/CONFIG_STATIC=y/; s/^CONFIG_TC=y/# CONFIG_TC is not set/' .config
    yes '' | make oldconfig; nice -n 5 make -j2; cp busybox '${path}.${process.pid}'`;
  execFileSync('bash', ['-ec', script], { cwd: folder, stdio: ['ignore', 'ignore', 'ignore'] });
  renameSync(`${path}.${process.pid}`, path);
  return path;
}

/** A Debian root with what the tests run in containers, made once. */
export function debianRoot(): string {
  const include = 'curl,wget,bind9-dnsutils,netcat-openbsd,iproute2,iptables,conntrack,procps,ca-certificates,nginx';
  const root = join(tools, `conformance-root-${release}-${createHash('sha256').update(include).digest('hex').slice(0, 8)}`);
  if (existsSync(join(root, 'complete'))) return root;
  rmSync(root, { recursive: true, force: true });
  console.log('making a Debian root (debootstrap)');
  const mirror = /^URIs: *(\S+)/m.exec(
    existsSync('/etc/apt/sources.list.d/debian.sources') ? readFileSync('/etc/apt/sources.list.d/debian.sources', 'utf8') : '',
  )?.[1];
  execFileSync('debootstrap', ['--variant=minbase', `--include=${include}`, release, root, ...(mirror ? [mirror] : [])], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  for (const folder of ['var/cache/apt', 'var/lib/apt/lists', 'usr/share/doc', 'usr/share/man', 'usr/share/locale'])
    rmSync(join(root, folder), { recursive: true, force: true });
  writeFileSync(join(root, 'complete'), '');
  return root;
}
