/** The embedded runtime with real containers; needs root. Pods have the network of a namespace without links. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { pino } from 'pino';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { PodNetwork } from '../../network/network.ts';
import type { ContainerConfig, ContainerEvent, PodSandboxConfig, Runtime } from '../cri.ts';
import { busyboxImage } from '../images/busybox.ts';
import type { ImageSource } from '../images/oci-tar.ts';
import { createEmbeddedRuntime } from './runtime.ts';

const folder = mkdtempSync(join(tmpdir(), 'kumulus-runtime-'));
const log = pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'silent' });
const parent = `/kumulus-test-${process.pid}`;
let registry: Server;
let image: ImageSource;
let reference: string;
let runtime: Runtime;

/** Pods without a network but loopback. */
const network: PodNetwork = {
  ready: true,
  configure: async () => {},
  add: async (_id, netns) => {
    execFileSync('nsenter', [`--net=${netns}`, 'ip', 'link', 'set', 'lo', 'up']);
    return { ip: '192.0.2.1' };
  },
  remove: async () => {},
  retain: async () => {},
};

/** A registry that has one image and lets it be pulled. */
function serve(source: ImageSource): Promise<Server> {
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    if (path.includes('/manifests/')) {
      response.setHeader('content-type', source.manifest.mediaType ?? '');
      response.end(source.manifestBytes);
    } else if (path.includes('/blobs/')) source.blob(path.split('/').at(-1) as string).pipe(response);
    else response.writeHead(404).end();
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}

const open = () => createEmbeddedRuntime({ root: join(folder, 'root'), network, cdiDirectories: [join(folder, 'cdi')], log });

let count = 0;
function sandboxConfig(change: Partial<PodSandboxConfig['linux']> = {}): PodSandboxConfig {
  const name = `pod-${count++}`;
  return {
    metadata: { name, uid: name, namespace: 'default', attempt: 0 },
    hostname: name,
    logDirectory: join(folder, 'logs', name),
    dnsConfig: { servers: ['192.0.2.10'], searches: ['default.svc.cluster.local'], options: ['ndots:5'] },
    portMappings: [],
    labels: { pod: name },
    annotations: {},
    linux: {
      cgroupParent: `${parent}/pod${name}`,
      namespaces: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
      sysctls: {},
      privileged: false,
      ...change,
    },
  };
}

function containerConfig(
  command: string,
  change: Partial<ContainerConfig> = {},
  security: Partial<ContainerConfig['linux']['securityContext']> = {},
): ContainerConfig {
  return {
    metadata: { name: 'main', attempt: 0 },
    image: { image: reference },
    command: ['sh', '-c', command],
    args: [],
    workingDir: '',
    envs: [{ key: 'GREETING', value: 'hello' }],
    mounts: [],
    devices: [],
    labels: {},
    annotations: {},
    logPath: 'main/0.log',
    stdin: false,
    stdinOnce: false,
    tty: false,
    ...change,
    linux: {
      resources: change.linux?.resources ?? {},
      securityContext: {
        privileged: false,
        supplementalGroups: [],
        readonlyRootfs: false,
        noNewPrivs: false,
        maskedPaths: [],
        readonlyPaths: [],
        namespaces: { network: 'POD', pid: 'CONTAINER', ipc: 'POD' },
        ...security,
      },
    },
  };
}

async function startOne(config: ContainerConfig, pod = sandboxConfig()): Promise<{ id: string; sandbox: string; pod: PodSandboxConfig }> {
  const sandbox = await runtime.runPodSandbox(pod);
  const id = await runtime.createContainer(sandbox, config, pod);
  await runtime.startContainer(id);
  return { id, sandbox, pod };
}

async function until<T>(what: string, ask: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  const end = Date.now() + 15_000;
  for (;;) {
    const answer = await ask();
    if (answer) return answer;
    if (Date.now() > end) throw new Error(`timed out waiting for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const ended = (id: string) =>
  until('the container to end', async () => {
    const status = await runtime.containerStatus(id);
    return status.state === 'CONTAINER_EXITED' && status;
  });
const logOf = (pod: PodSandboxConfig) => readFileSync(join(pod.logDirectory, 'main/0.log'), 'utf8');
const linesOf = (pod: PodSandboxConfig) =>
  logOf(pod)
    .split('\n')
    .filter(Boolean)
    .map((line) => line.split(' ').slice(1).join(' '));

beforeAll(async () => {
  if (process.getuid?.() !== 0) throw new Error('these tests make namespaces and mounts: run them as root');
  image = await busyboxImage();
  registry = await serve(image);
  reference = `127.0.0.1:${(registry.address() as AddressInfo).port}/test/busybox:1`;
  runtime = await open();
  await runtime.pullImage(reference);
});

afterEach(async () => {
  for (const one of await runtime.listPodSandbox()) await runtime.removePodSandbox(one.id);
});

afterAll(async () => {
  await runtime?.close();
  registry?.close();
  await image?.close();
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(folder));
  for (const hierarchy of readdirSync('/sys/fs/cgroup'))
    spawnSync('find', [`/sys/fs/cgroup/${hierarchy}${parent}`, '-depth', '-type', 'd', '-exec', 'rmdir', '{}', ';']);
  rmSync(folder, { recursive: true, force: true });
  expect(mounts).toEqual([]);
});

describe('a container', () => {
  it('runs with its environment, writes a log in CRI form, and tells its exit code', async () => {
    const { id, pod } = await startOne(containerConfig('echo $GREETING from $(hostname); echo oops >&2; exit 3'));
    const status = await ended(id);
    expect(status).toMatchObject({ exitCode: 3, reason: 'Error' });
    expect(status.finishedAt).toBeGreaterThanOrEqual(status.startedAt - 1000);
    expect(linesOf(pod).sort()).toEqual([`stderr F oops`, `stdout F hello from ${pod.hostname}`]);
    expect(logOf(pod)).toMatch(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}(Z|[+-]\d\d:\d\d) std/);
  });

  it('has the resolver and hostname of its pod, and namespaces of its own', async () => {
    const { id, pod } = await startOne(containerConfig('cat /etc/resolv.conf; cat /etc/hostname; echo pid $$; ls /sys/class/net'));
    await ended(id);
    const out = linesOf(pod).map((line) => line.replace('stdout F ', ''));
    expect(out).toEqual(['search default.svc.cluster.local', 'nameserver 192.0.2.10', 'options ndots:5', pod.hostname, 'pid 1', 'lo']);
  });

  it('gets other resources while it runs', async () => {
    const { id } = await startOne(containerConfig('sleep 1000'));
    await runtime.updateContainerResources(id, { cpuPeriod: 100_000, cpuQuota: 35_000, memoryLimitInBytes: 50 << 20 });
    const found = spawnSync('find', ['/sys/fs/cgroup', '-path', `*${id}*`, '(', '-name', 'memory.limit_in_bytes', '-o', '-name', 'memory.max', ')']);
    const files = found.stdout.toString().split('\n').filter(Boolean);
    expect(files.map((file) => readFileSync(file, 'utf8').trim())).toContain(String(50 << 20));
  });

  it('has the files of another image where it asks for them, to read only', async () => {
    const mount = { hostPath: '', readonly: false, propagation: 'PROPAGATION_PRIVATE' as const, image: { image: reference } };
    const mounts = [
      { ...mount, containerPath: '/whole' },
      { ...mount, containerPath: '/etc/only-users', imageSubPath: 'etc/passwd' },
      { ...mount, containerPath: '/not-outside', imageSubPath: '../../../../etc' },
    ];
    const { id, pod } = await startOne(
      containerConfig('cmp /whole/etc/group /etc/group && cmp /etc/only-users /etc/passwd && ls /not-outside; touch /whole/new 2>&1', { mounts }),
    );
    await ended(id);
    expect(linesOf(pod)).toEqual(['stdout F group', 'stdout F passwd', 'stdout F touch: /whole/new: Read-only file system']);
    await runtime.removeContainer(id);
    const again = await startOne(containerConfig('cat /whole/etc/group', { mounts }));
    await ended(again.id);
    expect(linesOf(again.pod).length).toBeGreaterThan(0);
  });

  it('gets a folder where the node has nothing yet', async () => {
    const hostPath = join(folder, 'new/folder');
    const { id, pod } = await startOne(
      containerConfig('echo there >/data/file', {
        mounts: [{ containerPath: '/data', hostPath, readonly: false, propagation: 'PROPAGATION_PRIVATE' }],
      }),
    );
    await ended(id);
    expect(linesOf(pod)).toEqual([]);
    expect(readFileSync(join(hostPath, 'file'), 'utf8')).toBe('there\n');
  });

  it('has devices as their CDI specifications say, and is not made with unknown ones', async () => {
    mkdirSync(join(folder, 'cdi'), { recursive: true });
    const edits = {
      env: ['GPU=zero'],
      deviceNodes: [{ path: '/dev/gpu0', hostPath: '/dev/null' }],
      mounts: [{ hostPath: '/etc/hostname', containerPath: '/gpu' }],
    };
    const spec = {
      cdiVersion: '0.3.0',
      kind: 'example.com/gpu',
      containerEdits: { env: ['ALL=yes'] },
      devices: [{ name: '0', containerEdits: edits }],
    };
    writeFileSync(join(folder, 'cdi/example.json'), JSON.stringify(spec));
    const { id, pod } = await startOne(
      containerConfig('echo $GPU $ALL; cmp /gpu /gpu && echo hidden >/dev/gpu0 && ls /dev/gpu0', { cdiDevices: ['example.com/gpu=0'] }),
    );
    await ended(id);
    expect(linesOf(pod)).toEqual(['stdout F zero yes', 'stdout F /dev/gpu0']);
    const sandbox = await runtime.runPodSandbox(pod);
    await expect(runtime.createContainer(sandbox, containerConfig('true', { cdiDevices: ['example.com/gpu=1'] }), pod)).rejects.toThrow(
      'unresolvable CDI devices example.com/gpu=1',
    );
  });

  it('is not made where an image it mounts, or a path in it, is missing', async () => {
    const pod = sandboxConfig();
    const sandbox = await runtime.runPodSandbox(pod);
    const mount = { containerPath: '/m', hostPath: '', readonly: true, propagation: 'PROPAGATION_PRIVATE' as const };
    const make = (change: object) => runtime.createContainer(sandbox, containerConfig('true', { mounts: [{ ...mount, ...change }] }), pod);
    await expect(make({ image: { image: 'registry.invalid/none:1' } })).rejects.toThrow('ImageVolumeMountFailed');
    await expect(make({ image: { image: reference }, imageSubPath: 'no/such' })).rejects.toThrow('has no no/such');
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toMatch(/image-volumes/);
  });

  it('sees the kernel settings of its pod, and nobody else does', async () => {
    const files = ['kernel/shm_rmid_forced', 'net/ipv4/ip_unprivileged_port_start'].map((file) => `/proc/sys/${file}`);
    const before = files.map((file) => readFileSync(file, 'utf8'));
    const pod = sandboxConfig({ sysctls: { 'kernel.shm_rmid_forced': '1', 'net.ipv4.ip_unprivileged_port_start': '81' } });
    const { id } = await startOne(containerConfig(`cat ${files.join(' ')}`), pod);
    await ended(id);
    expect(linesOf(pod)).toEqual(['stdout F 1', 'stdout F 81']);
    expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(before);
  });

  it('is told apart when it cannot start', async () => {
    const pod = sandboxConfig();
    const sandbox = await runtime.runPodSandbox(pod);
    const id = await runtime.createContainer(sandbox, { ...containerConfig(''), command: ['/no/such/program'] }, pod);
    await expect(runtime.startContainer(id)).rejects.toThrow(/no\/such\/program.*no such file or directory|No such file/i);
    expect(await runtime.containerStatus(id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 128, reason: 'StartError' });
    await expect(runtime.createContainer(sandbox, { ...containerConfig(''), image: { image: 'nowhere/nothing:1' } }, pod)).rejects.toMatchObject({
      code: 'NotFound',
    });
  });

  it('stops with its signal, or is killed when it does not', async () => {
    const polite = await startOne(containerConfig('trap "echo bye; exit 0" TERM; echo up; while :; do sleep 0.05; done'));
    await until('the trap', () => logOf(polite.pod).includes('up'));
    await runtime.stopContainer(polite.id, 10);
    expect(await runtime.containerStatus(polite.id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 0, reason: 'Completed' });
    expect(linesOf(polite.pod)).toContain('stdout F bye');
    const deaf = await startOne(containerConfig('trap "" TERM; sleep 1000'));
    await runtime.stopContainer(deaf.id, 1);
    expect(await runtime.containerStatus(deaf.id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 137 });
  });

  it('has the user, groups and capabilities that were asked for', async () => {
    const asked = await startOne(
      containerConfig('id -u; id -g; id -G; grep CapEff /proc/self/status', {}, { runAsUser: 65534, supplementalGroups: [77] }),
    );
    await ended(asked.id);
    expect(linesOf(asked.pod)).toEqual(['stdout F 65534', 'stdout F 65534', 'stdout F 65534 77', 'stdout F CapEff:\t0000000000000000']);
    const dropped = await startOne(
      containerConfig('grep CapBnd /proc/self/status', {}, { capabilities: { add: ['NET_BIND_SERVICE'], drop: ['ALL'] } }),
    );
    await ended(dropped.id);
    expect(linesOf(dropped.pod)).toEqual(['stdout F CapBnd:\t0000000000000400']);
  });

  it('sees its volumes, and can write only where it may', async () => {
    const data = join(folder, 'data');
    mkdirSync(data, { recursive: true });
    writeFileSync(join(data, 'in'), 'from outside\n');
    const mount = (containerPath: string, readonly: boolean) => ({
      containerPath,
      hostPath: data,
      readonly,
      propagation: 'PROPAGATION_PRIVATE' as const,
    });
    const one = await startOne(
      containerConfig(
        'cat /data/in; echo x >/data/out && echo wrote; touch /ro/y || echo refused; touch /z || echo refused',
        { mounts: [mount('/data', false), mount('/ro', true)] },
        { readonlyRootfs: true },
      ),
    );
    await ended(one.id);
    expect(linesOf(one.pod).filter((line) => line.startsWith('stdout'))).toEqual([
      'stdout F from outside',
      'stdout F wrote',
      'stdout F refused',
      'stdout F refused',
    ]);
    expect(readFileSync(join(data, 'out'), 'utf8')).toBe('x\n');
  });

  it('is killed when it takes more memory than it may', async () => {
    const config = containerConfig('exec tail -c 100m /dev/zero');
    const one = await startOne({ ...config, linux: { ...config.linux, resources: { memoryLimitInBytes: 32 << 20 } } });
    const status = await ended(one.id);
    expect(status).toMatchObject({ exitCode: 137, reason: 'OOMKilled' });
  });

  it('shows what it uses', async () => {
    const one = await startOne(containerConfig('dd if=/dev/zero of=/file bs=1k count=64 2>/dev/null; while :; do :; done'));
    const stats = await until('some use', async () => {
      const now = await runtime.containerStats(one.id);
      return now.cpu.usageCoreNanoSeconds > 0 && now.writableLayer.usedBytes >= 65_536 && now;
    });
    expect(stats.memory.usageBytes).toBeGreaterThan(0);
  });
});

describe('commands in a container', () => {
  it('run to their end, and are killed when late', async () => {
    const { id } = await startOne(containerConfig('sleep 1000'));
    const done = await runtime.execSync(id, ['sh', '-c', 'echo $GREETING; echo err >&2; exit 5'], 10);
    expect({ ...done, stdout: String(done.stdout), stderr: String(done.stderr) }).toEqual({ stdout: 'hello\n', stderr: 'err\n', exitCode: 5 });
    await expect(runtime.execSync(id, ['sleep', '100'], 1)).rejects.toMatchObject({ code: 'DeadlineExceeded' });
    expect(String((await runtime.execSync(id, ['ps'], 10)).stdout)).not.toContain('sleep 100\n');
  });

  it('have streams, and a terminal where wanted', async () => {
    const { id } = await startOne(containerConfig('sleep 1000'));
    const plain = await runtime.exec(id, ['sh', '-c', 'cat; echo done >&2'], { stdin: true, stdout: true, stderr: true, tty: false });
    const errors = text(plain.stderr!);
    plain.stdin?.end('through\n');
    expect(await text(plain.stdout)).toBe('through\n');
    expect(await errors).toBe('done\n');
    expect(await plain.exitCode).toBe(0);
    const terminal = await runtime.exec(id, ['sh', '-c', 'tty && exit 4'], { stdin: true, stdout: true, stderr: false, tty: true });
    expect(await text(terminal.stdout)).toContain('/dev/pts/');
    expect(await terminal.exitCode).toBe(4);
  });

  it('attach joins the streams of its first process', async () => {
    const { id } = await startOne(containerConfig('while read line; do echo "got $line"; [ "$line" = end ] && exit 6; done', { stdin: true }));
    const session = await runtime.attach(id, { stdin: true, stdout: true, stderr: true, tty: false });
    const out = text(session.stdout);
    session.stdin?.write('one\n');
    session.stdin?.write('end\n');
    expect(await out).toBe('got one\ngot end\n');
    expect((await ended(id)).exitCode).toBe(6);
  });

  it('port forwarding reaches loopback of the pod', async () => {
    const { sandbox } = await startOne(containerConfig('mkdir -p /www; echo page >/www/index.html; httpd -f -p 127.0.0.1:8080 -h /www'));
    const page = await until('the server', async () => {
      const stream = await runtime.portForward(sandbox, 8080);
      stream.on('error', () => {});
      stream.end('GET / HTTP/1.0\r\n\r\n');
      return text(stream).catch(() => '');
    });
    expect(page).toMatch(/200 OK[\s\S]*page/);
    const closed = await runtime.portForward(sandbox, 9);
    await expect(text(closed)).rejects.toThrow(/failed to connect to localhost:9/);
  });
});

describe('a pod', () => {
  it('shares a PID namespace, shared memory and loopback where wanted', async () => {
    const namespaces = { network: 'POD' as const, pid: 'POD' as const, ipc: 'POD' as const };
    const pod = sandboxConfig({ namespaces });
    const sandbox = await runtime.runPodSandbox(pod);
    const first = await runtime.createContainer(sandbox, containerConfig('echo shared >/dev/shm/note; sleep 1000', {}, { namespaces }), pod);
    await runtime.startContainer(first);
    const second = await runtime.createContainer(
      sandbox,
      { ...containerConfig('sleep 1000', {}, { namespaces }), metadata: { name: 'second', attempt: 0 }, logPath: 'second/0.log' },
      pod,
    );
    await runtime.startContainer(second);
    await until('the note', async () => String((await runtime.execSync(second, ['cat', '/dev/shm/note'], 10)).stdout) === 'shared\n');
    expect(String((await runtime.execSync(second, ['ps'], 10)).stdout).match(/sleep 1000/g)?.length).toBeGreaterThanOrEqual(2);
    await runtime.stopPodSandbox(sandbox);
    expect(await runtime.podSandboxStatus(sandbox)).toMatchObject({ state: 'SANDBOX_NOTREADY' });
  });

  it('is found by its labels and state, and leaves nothing', async () => {
    const { sandbox, pod, id } = await startOne(containerConfig('sleep 1000'));
    expect((await runtime.listPodSandbox({ labels: pod.labels, state: 'SANDBOX_READY' })).map((one) => one.id)).toEqual([sandbox]);
    expect((await runtime.listContainers({ podSandboxId: sandbox, state: 'CONTAINER_RUNNING' })).map((one) => one.id)).toEqual([id]);
    await runtime.stopPodSandbox(sandbox);
    await runtime.stopPodSandbox(sandbox);
    await runtime.removePodSandbox(sandbox);
    await runtime.removePodSandbox(sandbox);
    expect(await runtime.listContainers()).toEqual([]);
    expect(readdirSync(join(folder, 'root/containers'))).toEqual([]);
    expect(readdirSync(join(folder, 'root/sandboxes'))).toEqual([]);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(sandbox);
    for (const hierarchy of readdirSync('/sys/fs/cgroup'))
      expect(existsSync(`/sys/fs/cgroup/${hierarchy}${pod.linux.cgroupParent}/${id}`)).toBe(false);
  });
});

describe('a restart of the runtime', () => {
  it('takes running containers up again, and hears of those that ended meanwhile', async () => {
    const lives = await startOne(containerConfig('sleep 1000'));
    const ends = await startOne(containerConfig('sleep 0.5; exit 9'));
    await runtime.close();
    await until('the end', () => existsSync(join(folder, 'root/exits', ends.id)));
    runtime = await open();
    const heard: ContainerEvent[] = [];
    const stop = new AbortController();
    runtime.containerEvents((event) => heard.push(event), stop.signal);
    expect(heard.map((event) => [event.containerId, event.type])).toEqual([[ends.id, 'CONTAINER_STOPPED_EVENT']]);
    expect(await runtime.containerStatus(ends.id)).toMatchObject({ state: 'CONTAINER_EXITED', exitCode: 9 });
    expect(await runtime.containerStatus(lives.id)).toMatchObject({ state: 'CONTAINER_RUNNING' });
    expect((await runtime.execSync(lives.id, ['true'], 10)).exitCode).toBe(0);
    await runtime.stopContainer(lives.id, 0);
    expect(heard.at(-1)).toMatchObject({ containerId: lives.id, type: 'CONTAINER_STOPPED_EVENT' });
    stop.abort();
    expect((await runtime.imageStatus(reference))?.repoTags).toEqual([reference]);
  });
});
