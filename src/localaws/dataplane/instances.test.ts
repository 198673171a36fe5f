import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findLeavings } from './dataplane.ts';
import { readIdentity } from './instance.ts';
import { MemoryCloud, TestHost, until } from './testing.ts';

let host: TestHost;
let cloud: MemoryCloud;

beforeEach(() => {
  host = new TestHost();
  cloud = new MemoryCloud();
});
afterEach(() => host.end());

const stateOf = (id: string) => cloud.state.instances.find((one) => one.InstanceId === id)?.State?.Name;
const running = (...ids: string[]) => until(`${ids} running`, () => ids.every((id) => stateOf(id) === 'running'));

test('an instance boots from user data, once, and its root is its own', async () => {
  const instance = cloud.launch('#!/bin/sh\necho "hello from $(hostname)"\necho written >/srv/file\nps -e | wc -l >/srv/processes\nexit 3\n');
  await host.start(cloud);
  await running(instance.InstanceId);
  const console = await until(
    'the console',
    () => cloud.console.get(instance.InstanceId)?.includes('exited') && cloud.console.get(instance.InstanceId),
  );
  expect(console).toContain(`hello from ip-${instance.PrivateIpAddress.replaceAll('.', '-')}`);
  expect(console).toContain('user data exited with status 3');
  const inside = (command: string) => host.inside(instance.InstanceId, command);
  expect(await inside('cat /srv/file')).toBe('written\n');
  expect(existsSync('/srv/file')).toBe(false);
  expect(await inside('find /root /home /var/log -mindepth 1; ls /var/lib/kumulus')).toMatch(/^ls: cannot access/);
  expect(await inside(`ls ${host.directory}`)).toMatch(/No such file/);
  expect(await inside('cat /srv/processes; cat /proc/1/comm')).toMatch(/^\s*\d\nsh\n$/);
  expect(await inside('node --version')).toMatch(/^v2[2-9]/);
  expect(await inside('touch /opt/kumulus/x')).toContain('Read-only');
  expect(await inside('echo 1 >/proc/sys/vm/swappiness')).toContain('Read-only');
  expect(await inside('cat /proc/sys/net/ipv4/conf/all/rp_filter; echo 1 >/proc/sys/net/ipv4/ip_forward && echo changed')).toBe('0\nchanged\n');
  const overlay = 'cd /var/lib/kumulus-node && mkdir u w m && mount -t overlay o -o lowerdir=/usr,upperdir=u,workdir=w m && ls -d m/bin';
  expect(await inside(overlay)).toBe('m/bin\n');
  expect(await inside('ls /sys/fs/cgroup; grep -c . /sys/fs/cgroup/*/cgroup.procs | head -1')).toMatch(/memory|cgroup.procs/);
});

test('what ends is gone: by a halt from within, stop and start, reboot, a kill, and termination', async () => {
  const instance = cloud.launch('#!/bin/sh\necho "#!/bin/sh\necho later boot" >/etc/rc.local; chmod +x /etc/rc.local; echo first boot\n');
  const id = instance.InstanceId;
  await host.start(cloud);
  await running(id);
  await until('first boot', () => cloud.console.get(id)?.includes('first boot'));
  await host.inside(id, 'setsid sleep 1000 >/dev/null 2>&1 &');
  const before = await host.inside(id, 'cat /sys/class/net/eth0/address; ls /sys/class/net');

  cloud.setState(id, 'stopping');
  await until('stopped', () => stateOf(id) === 'stopped');
  await until('no network', () => readdirSync('/run/netns').every((name) => !name.includes(`${host.id}-i-`)));
  cloud.setState(id, 'pending');
  await running(id);
  await until('a later boot', () => cloud.console.get(id)?.includes('later boot'));
  expect(cloud.console.get(id)?.match(/first boot/g)).toHaveLength(1);
  expect(await host.inside(id, 'cat /sys/class/net/eth0/address; ls /sys/class/net')).toBe(before);
  expect(await host.inside(id, 'ls /proc | grep -c "^[0-9]"')).toMatch(/^[3-5]\n$/);

  cloud.reboot(id);
  await until('a reboot', () => (cloud.console.get(id)?.match(/later boot/g)?.length ?? 0) === 2);
  expect(stateOf(id)).toBe('running');

  const killed = await readIdentity(join(host.directory, 'instances', id));
  process.kill(killed!.pid, 'SIGKILL');
  await until('a boot after the kill', () => (cloud.console.get(id)?.match(/later boot/g)?.length ?? 0) === 3);
  expect(stateOf(id)).toBe('running');

  // The shell that asks for it is ended too.
  await host.inside(id, 'shutdown -r now').catch(() => {});
  await until('a boot after a reboot from within', () => (cloud.console.get(id)?.match(/later boot/g)?.length ?? 0) === 4);
  await host.inside(id, 'poweroff').catch(() => {});
  await until('a halt to be noticed', () => stateOf(id) === 'stopped');

  cloud.setState(id, 'shutting-down');
  await until('terminated', () => stateOf(id) === 'terminated');
  await host.planes[0].idle();
  expect(readdirSync(join(host.directory, 'instances'))).toEqual([]);
  const leavings = (await findLeavings()).filter((one) => one.clusterId === host.id);
  // The VPC has nothing in it any more, and is gone too.
  expect(leavings.filter((one) => !/\/kumulus\/[0-9a-f]{6}$/.test(one.name))).toEqual([]);
});

test('user data that ends in an error, or is no script, is told on the console', async () => {
  const wrong = cloud.launch('this is no script');
  const config = cloud.launch(
    '#cloud-config\nwrite_files:\n- path: /srv/a/b\n  content: "it is"\n  permissions: "0600"\nruncmd:\n- cat /srv/a/b\n- [sh, -c, "exit 7"]\n',
  );
  await host.start(cloud);
  await running(wrong.InstanceId, config.InstanceId);
  await until('a word about it', () => cloud.console.get(wrong.InstanceId)?.includes('neither #! nor #cloud-config'));
  await until('the commands', () => cloud.console.get(config.InstanceId)?.includes('user data exited with status 7'));
  expect(cloud.console.get(config.InstanceId)).toContain('it is');
});
