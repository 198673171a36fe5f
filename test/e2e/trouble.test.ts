/**
 * Bad input and machines in trouble: each ends with one clear line before anything is half built, or rolls back. Missing
 * features of the host are played in a mount namespace of the command alone. Needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { eventually, hostState, Machine, type Ran, repository, run } from './command.ts';

const machine = new Machine();
const command = [process.execPath, join(repository, 'bin/kumulus.js')];
const clusters = async () => (await machine.kumulus(['get', 'clusters'])).out.split('\n').filter(Boolean);
const leavings = async (name: string) => (await hostState(machine, [name])).filter((line) => !line.startsWith('sysctl'));

/** Runs the command where `prepare` (shell) has changed mounts, limits or the user for it alone. */
const inTrouble = (prepare: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  run('unshare', ['--mount', '--propagation', 'private', 'sh', '-ec', `${prepare}\nexec "$@"`, 'sh', ...command, ...args], {
    env: { ...machine.env, KUMULUS_COMPILE_CACHE: '', ...env },
    timeoutMs: 120_000,
  });
/** A file over another one, for that command. */
const replaced = (path: string, text: string): string => {
  const file = join(machine.folder, path.replaceAll('/', '_'));
  writeFileSync(file, text);
  return `mount --bind ${file} ${path}`;
};

afterAll(() => machine.end(), 120_000);
afterEach(async (context) => {
  if (context.task.result?.state === 'fail') console.error(machine.logs('broken'));
});

describe('words and names', { timeout: 60_000 }, () => {
  it.each([
    [['create', 'cluster', 'Bad_Name'], 1, "'Bad_Name' is not a valid cluster name"],
    [['create', 'cluster', '../up'], 1, "'../up' is not a valid cluster name"],
    [['delete', 'cluster', '../up'], 1, "'../up' is not a valid cluster name"],
    [['create', 'cluster', 'a'.repeat(40)], 1, 'is too long: 40 characters, at most 32'],
    [['create', 'kluster'], 2, "unknown command 'kluster'"],
    [['create', 'cluster', '--nodes', 'many'], 2, "'many' is not a number of nodes"],
    [['create', 'cluster', '--zones', 'eu-west-1a'], 2, "unknown zone 'eu-west-1a'"],
    [['create', 'cluster', '--wait', 'soon'], 2, "invalid duration 'soon'"],
    [['get', 'clusters', '-o', 'xml'], 2, "unknown output 'xml'"],
    [['get', 'nodes', '--name', 'nowhere'], 1, "no cluster 'nowhere' was found"],
    [['start', 'cluster', 'nowhere'], 1, "no cluster 'nowhere' was found"],
    [['stop', 'cluster', 'nowhere'], 1, "no cluster 'nowhere' was found"],
    [['load', 'image', '/nowhere.tar', '--name', 'nowhere'], 1, "no cluster 'nowhere' was found"],
    [['delete', 'cluster', 'nowhere'], 0, 'there is none'],
  ])('%j ends with %i', async (args, code, message) => {
    const ran = await machine.kumulus(args);
    expect(ran.err).toContain(message);
    expect(ran.err).not.toMatch(/^\s+at /m);
    expect(ran.code).toBe(code);
  });

  it('--help is there for every word, and names only flags that there are', async () => {
    const words = async (args: string[]): Promise<string[][]> => {
      const ran = await machine.kumulus([...args, '--help']);
      expect(ran.code, args.join(' ')).toBe(0);
      const list = /^Commands:\n((?: {2}.*\n?)+)/m.exec(ran.out)?.[1] ?? '';
      const below = [...list.matchAll(/^ {2}(\S+)/gm)].map((m) => m[1] as string).filter((word) => word !== 'help');
      return [args, ...(await Promise.all(below.map((word) => words([...args, word])))).flat()];
    };
    const all = (await words([])).map((w) => w.join(' '));
    for (const word of ['create cluster', 'delete cluster', 'get clusters', 'get nodes', 'get kubeconfig', 'start cluster', 'stop cluster'])
      expect(all).toContain(word);
    for (const word of ['load image', 'doctor', 'version', 'apiserver', 'node']) expect(all).toContain(word);
  });

  it('version and get clusters speak JSON', async () => {
    expect(JSON.parse((await machine.kumulus(['version', '-o', 'json'])).out)).toMatchObject({ kubernetes: expect.stringMatching(/^v1\.37\./) });
    expect(JSON.parse((await machine.kumulus(['get', 'clusters', '-o', 'json'])).out)).toEqual([]);
  });
});

describe('a machine that cannot', { timeout: 120_000 }, () => {
  const kernel = readFileSync('/proc/filesystems', 'utf8');
  it.each([
    [
      'no overlay file system',
      () =>
        `${replaced('/proc/filesystems', kernel.replace(/.*overlay\n/, ''))}; PATH=${machine.folder}:$PATH; printf '#!/bin/sh\nexit 1\n' >${machine.folder}/modprobe; chmod 755 ${machine.folder}/modprobe`,
      'the kernel has no overlay file system',
    ],
    [
      'no loop devices',
      () =>
        'null=/dev/null; mkdir -p /run/kumulus-dev; mount -t tmpfs none /dev; mknod /dev/null c 1 3; mknod /dev/urandom c 1 9; mknod /dev/random c 1 8',
      '/dev/loop-control is missing: load the loop module',
    ],
    [
      'few inotify instances',
      () => replaced('/proc/sys/fs/inotify/max_user_instances', '16\n'),
      'fs.inotify.max_user_instances is 16; set it to 128 or more',
    ],
    ['few files', () => 'ulimit -n 512', 'a process may open only 512 files'],
    [
      'a full disk',
      () => `mkdir -p ${machine.state}-small; mount -t tmpfs -o size=8m none ${machine.state}-small; export KUMULUS_STATE=${machine.state}-small`,
      'MiB are free under',
    ],
  ])('%s', async (_, prepare, message) => {
    const ran = await inTrouble(prepare(), ['create', 'cluster', 'broken']);
    expect(ran.err).toContain('this machine cannot run a cluster');
    expect(ran.err).toContain(message);
    expect(ran.code).toBe(1);
    const doctor = await inTrouble(prepare(), ['doctor']);
    expect(doctor.out).toContain(message);
    expect(doctor.code).toBe(1);
    expect(await leavings('broken')).toEqual([]);
    expect(await clusters()).toEqual([]);
  });

  it('no root', async () => {
    chmodSync(machine.folder, 0o755);
    const ran = await run('setpriv', ['--reuid=65534', '--regid=65534', '--clear-groups', ...command, 'create', 'cluster', 'broken'], {
      env: {
        ...machine.env,
        KUMULUS_COMPILE_CACHE: '',
        KUMULUS_STATE: join(machine.folder, 'none'),
        KUBECONFIG: join(machine.folder, 'none/config'),
      },
    });
    expect(ran.err).toContain('creating instances needs root: run the command with sudo');
    expect(ran.code).toBe(1);
  });

  it.each([
    ['apt is locked', 'E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1 (apt-get)'],
    ['apt is offline', "E: Failed to fetch http://deb.debian.org/debian/pool/main/c/conmon/conmon.deb  Could not resolve 'deb.debian.org'"],
  ])('%s', async (_, words) => {
    const tools = join(machine.folder, 'tools');
    mkdirSync(tools, { recursive: true });
    writeFileSync(join(tools, 'apt-get'), `#!/bin/sh\necho "${words}" >&2\nexit 100\n`, { mode: 0o755 });
    const conmon = ['/usr/bin/conmon', '/bin/conmon', '/usr/local/bin/conmon'].filter((one) => existsSync(one));
    writeFileSync(join(machine.folder, 'not-executable'), '', { mode: 0o644 });
    const hide = conmon.map((one) => `mount --bind ${machine.folder}/not-executable $(readlink -f ${one}) || true`).join('\n');
    const ran = await inTrouble(hide, ['create', 'cluster', 'broken'], { PATH: `${tools}:${process.env['PATH']}` });
    expect(ran.err).toContain('Installing conmon with apt-get (the host lacks them)');
    expect(ran.err).toContain(words);
    expect(ran.err).toContain('Install them by hand (apt-get');
    expect(ran.code).toBe(1);
    expect(await clusters()).toEqual([]);
  });

  it('a kubeconfig that cannot be written, or is none', async () => {
    writeFileSync(join(machine.folder, 'file'), '{ not: [yaml');
    for (const [kubeconfig, message] of [
      [join(machine.folder, 'file/config'), 'cannot write the kubeconfig'],
      [join(machine.folder, 'file'), 'is not a kubeconfig'],
    ] as const) {
      const ran = await machine.kumulus(['create', 'cluster', 'broken'], { env: { KUBECONFIG: kubeconfig } });
      expect(ran.err).toContain(message);
      expect(ran.code).toBe(1);
      expect(await clusters()).toEqual([]);
    }
  });

  it('a state folder whose path is too long for sockets', async () => {
    const ran = await machine.kumulus(['create', 'cluster', 'broken'], { env: { KUMULUS_STATE: join(machine.folder, 'long'.repeat(30)) } });
    expect(ran.err).toContain('path is too long for Unix sockets');
    expect(ran.code).toBe(1);
  });
});

describe('state that is not as it should be', { timeout: 120_000 }, () => {
  const folder = join(machine.state, 'odd');
  const write = (text: string) => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, 'cluster.json'), text);
  };

  it.each([
    ['corrupt', '{"format":1,', 'cannot be read', '"kumulus delete cluster odd" removes it'],
    ['newer', '{"format":99}', 'was written by a newer kumulus (format 99, this one knows 1)', 'use that version'],
  ])('%s', async (_, text, message, advice) => {
    write(text);
    for (const args of [
      ['get', 'nodes', '--name', 'odd'],
      ['start', 'cluster', 'odd'],
      ['create', 'cluster', 'odd'],
      ['get', 'clusters'],
    ]) {
      const ran = await machine.kumulus(args);
      expect(ran.err, args.join(' ')).toContain(message);
      expect(ran.err).toContain(advice);
      expect(ran.code).toBe(1);
    }
    const doctor = await machine.kumulus(['doctor']);
    expect(doctor.out).toContain(`✗ odd: the state of cluster 'odd'`);
    expect(doctor.out).toContain(message);
    expect((await machine.kumulus(['delete', 'cluster', 'odd'])).code).toBe(0);
    expect(existsSync(folder)).toBe(false);
  });

  it('half made by a creation that was killed: doctor says so, delete takes it away', async () => {
    const creating = spawn(command[0] as string, [command[1] as string, 'create', 'cluster', 'odd', '--nodes', '1'], {
      env: machine.env,
      stdio: 'ignore',
    });
    await eventually('an instance', async () => (await leavings('odd')).some((line) => line.includes('-i-')));
    creating.kill('SIGKILL');
    await ended(creating);
    expect((await machine.kumulus(['doctor'])).out).toContain('✗ odd: half made (creating): "kumulus delete cluster odd" removes it');
    expect((await machine.kumulus(['create', 'cluster', 'odd'])).err).toContain('already exists');
    expect((await machine.kumulus(['delete', 'cluster', 'odd'])).code).toBe(0);
    expect(await leavings('odd')).toEqual([]);
  });

  it('files that were removed by hand: doctor finds what is left and --clean removes it', async () => {
    const creating = spawn(command[0] as string, [command[1] as string, 'create', 'cluster', 'odd', '--nodes', '1'], {
      env: machine.env,
      stdio: 'ignore',
    });
    await eventually('an instance', async () => (await leavings('odd')).some((line) => line.includes('-i-')));
    creating.kill('SIGKILL');
    await ended(creating);
    const { pid } = JSON.parse(readFileSync(join(folder, 'run/supervisor.json'), 'utf8'));
    const children: { pid: number }[] = JSON.parse(readFileSync(join(folder, 'run/children.json'), 'utf8'));
    for (const one of [pid, ...children.map((c) => c.pid)]) process.kill(one, 'SIGKILL');
    await run('rm', ['-rf', '--one-file-system', folder]);
    const doctor = await machine.kumulus(['doctor']);
    expect(doctor.code).toBe(1);
    expect(doctor.out).toMatch(/left behind: network namespace kumulus-/);
    const clean = await machine.kumulus(['doctor', '--clean']);
    expect(clean.out).toContain('removed network namespace');
    expect(await leavings('odd')).toEqual([]);
  });
});

describe('creations that do not come to their end', { timeout: 180_000 }, () => {
  const log = (part: string) => {
    const file = join(machine.state, 'broken/logs', `${part}.log`);
    return existsSync(file) ? readFileSync(file, 'utf8') : '';
  };

  it.each([
    ['as it begins', async () => existsSync(join(machine.state, 'broken/cluster.json'))],
    ['when the embedded AWS starts', async () => log('supervisor').includes('aws started')],
    ['when the control plane starts', async () => log('supervisor').includes('control-plane started')],
    ['when an instance boots', async () => log('aws').includes('booted')],
    ['when the example is deployed', async () => (await machine.kumulus(['get', 'nodes', '--name', 'broken'])).out.includes(' Ready')],
  ])('Ctrl-C %s rolls back', async (_, moment) => {
    const interrupt = new AbortController();
    const creating = machine.kumulus(['create', 'cluster', 'broken', '--nodes', '1', '--example'], { signal: interrupt.signal });
    await eventually('the moment', moment);
    interrupt.abort();
    const ran = await creating;
    expect(ran.err).toContain('rolling back');
    expect(ran.code).toBe(130);
    expect(await leavings('broken')).toEqual([]);
    expect(await clusters()).toEqual([]);
    expect(existsSync(machine.kubeconfig) ? readFileSync(machine.kubeconfig, 'utf8') : '').not.toContain('kumulus-broken');
  });

  it('a creation that fails rolls back, or stays with --retain', async () => {
    const failing = ['create', 'cluster', 'broken', '--nodes', '1', '--wait', '1ms'];
    const ran = await machine.kumulus(failing);
    expect(ran.err).toMatch(/timed out after .* waiting for 1 Ready nodes/);
    expect(ran.err).toContain('✓ Failed: rolling back');
    expect(ran.code).toBe(1);
    expect(await leavings('broken')).toEqual([]);
    const retained = await machine.kumulus([...failing, '--retain']);
    expect(retained.err).toContain('what was made stays (--retain). Logs: ');
    expect(retained.code).toBe(1);
    expect(await clusters()).toEqual(['broken']);
    expect((await leavings('broken')).length).toBeGreaterThan(5);
    expect((await machine.kumulus(['delete', 'cluster', 'broken'])).code).toBe(0);
    expect(await leavings('broken')).toEqual([]);
  });

  it('a port that is taken between the look and the use: another one', async () => {
    const record = join(machine.state, 'broken/cluster.json');
    const creating = machine.kumulus(['create', 'cluster', 'broken', '--nodes', '0', '-o', 'json']);
    while (!existsSync(record)) await new Promise((resolve) => setTimeout(resolve, 2));
    const { ports } = JSON.parse(readFileSync(record, 'utf8'));
    const thieves = [ports.aws, ports.api].map((port) =>
      createServer()
        .on('error', () => {})
        .listen(port, '127.0.0.1'),
    );
    try {
      const ran = await creating;
      expect(ran.code, ran.err).toBe(0);
      const { server, awsEndpoint } = JSON.parse(ran.out);
      expect(server).not.toContain(`:${ports.api}`);
      expect(awsEndpoint).not.toContain(`:${ports.aws}`);
      expect((await machine.tryKubectl('get --raw /readyz')).out).toBe('ok');
      expect((await machine.kumulus(['delete', 'cluster', 'broken'])).code).toBe(0);
    } finally {
      for (const thief of thieves) thief.close();
    }
  });

  it('two creations at once, a deletion during creation, a name that is taken, a port that is taken', async () => {
    const taken = createServer().listen(6443, '127.0.0.1');
    taken.on('error', () => {});
    try {
      const args = ['create', 'cluster', 'twice', '--nodes', '1', '--wait', '0s', '-o', 'json'];
      const first = machine.kumulus(args);
      await eventually('the first to begin', async () => existsSync(join(machine.state, 'twice.lock')));
      const [second, deletion] = await Promise.all([machine.kumulus(args), machine.kumulus(['delete', 'cluster', 'twice'])]);
      for (const ran of [second, deletion]) {
        expect(ran.err).toMatch(/cluster 'twice' is in use: process \d+ is at "create cluster twice"; try again when it has ended/);
        expect(ran.code).toBe(1);
      }
      const ran = await first;
      expect(ran.code, ran.err).toBe(0);
      expect(JSON.parse(ran.out).server).not.toBe('https://127.0.0.1:6443');
      const again = await machine.kumulus(args);
      expect(again.err).toContain(`cluster 'twice' already exists; "kumulus delete cluster twice" removes it`);
      expect(again.code).toBe(1);
      expect((await machine.kumulus(['delete', 'cluster', 'twice'])).code).toBe(0);
      expect(await leavings('twice')).toEqual([]);
    } finally {
      taken.close();
    }
  });
});

describe('a disk that fills up', { timeout: 120_000 }, () => {
  it('refuses writes with a Status, reads and deletes go on, and writes again when there is room', async () => {
    const disk = join(machine.folder, 'disk');
    const kubeconfig = join(machine.folder, 'disk-kubeconfig');
    mkdirSync(disk);
    // 64 MiB in a mount namespace of the server alone; its kubeconfig is handed out on standard output.
    const server = spawn(
      'unshare',
      [
        '--mount',
        '--propagation',
        'private',
        'sh',
        '-ec',
        `mount -t tmpfs -o size=64m none ${disk}; exec "$@"`,
        'sh',
        ...command,
        'apiserver',
        '--data-dir',
        disk,
        '--secure-port',
        '0',
      ],
      { env: machine.env, stdio: ['ignore', 'pipe', 'inherit'] },
    );
    try {
      await new Promise<void>((resolve) => server.stdout.on('data', (text) => String(text).includes('ready') && resolve()));
      writeFileSync(kubeconfig, readFileSync(`/proc/${server.pid}/root${disk}/kubeconfig`));
      const kubectl = (args: string, input?: string) =>
        machine.tryKubectl(`--kubeconfig ${kubeconfig} ${args}`, input === undefined ? {} : { input });
      const item = (n: number) => ({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: `big-${n}` }, data: { text: 'x'.repeat(200_000) } });
      expect((await kubectl('create -f -', JSON.stringify(item(0)))).code).toBe(0);
      const filler = `/proc/${server.pid}/root${disk}/filler`;
      await run('dd', ['if=/dev/zero', `of=${filler}`, 'bs=64k']);
      let written = 1;
      let refused: Ran | undefined;
      while (!refused && written < 200) {
        const ran = await kubectl('create -f -', JSON.stringify(item(written)));
        if (ran.code === 0) written++;
        else refused = ran;
      }
      expect(refused?.err).toContain('etcdserver: mvcc: database space exceeded: the disk is full');
      expect((await kubectl('get configmaps -o name')).out.match(/big-/g)).toHaveLength(written);
      expect((await kubectl('delete configmap big-0')).code).toBe(0);
      expect((await kubectl('create configmap small --from-literal=a=b')).err).toContain('the disk is full');
      rmSync(filler);
      await eventually('writes again', async () => (await kubectl('create configmap small --from-literal=a=b')).code === 0);
    } finally {
      server.kill('SIGTERM');
      await ended(server);
    }
  });
});

const ended = (child: ChildProcess) =>
  new Promise((resolve) => (child.exitCode !== null || child.signalCode ? resolve(0) : child.once('exit', resolve)));
