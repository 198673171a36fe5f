import { expect, test } from 'vitest';
import { parseHierarchies } from './cgroups.ts';

test('cgroup hierarchies are found in version 1, hybrid, and version 2', () => {
  const hybrid = `30 24 0:26 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate
32 30 0:28 / /sys/fs/cgroup/systemd rw shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:30 / /sys/fs/cgroup/cpu,cpuacct rw shared:14 - cgroup cgroup rw,cpu,cpuacct
34 30 0:31 / /proc/somewhere/else rw - cgroup cgroup rw,memory
`;
  expect(parseHierarchies(hybrid)).toEqual([
    { mountpoint: '/sys/fs/cgroup/unified', version: 2, name: 'unified', options: '' },
    { mountpoint: '/sys/fs/cgroup/systemd', version: 1, name: 'systemd', options: 'none,name=systemd' },
    { mountpoint: '/sys/fs/cgroup/cpu,cpuacct', version: 1, name: 'cpu,cpuacct', options: 'cpu,cpuacct' },
  ]);
  expect(parseHierarchies('30 24 0:26 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n')).toEqual([
    { mountpoint: '/sys/fs/cgroup', version: 2, name: '', options: '' },
  ]);
});
