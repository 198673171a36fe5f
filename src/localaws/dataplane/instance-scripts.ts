// Shell, since these run before there is anything else. POSIX sh only: dash, bash and busybox were all meant to run them.
// Written to dataplane/ of the cluster's state when the data plane starts. No `$` before a brace in here: these are templates.

/**
 * Makes an instance's root and enters it. Runs as the first process of a PID namespace, in mount, UTS, IPC, cgroup and network
 * namespaces of its own; /proc is still the host's, and so is the process number that it writes down in the file `process`,
 * with its start time and the host's boot id. Says `started` on its standard output. Working directory: the instance's folder. Its environment is KUMULUS_PACKAGE,
 * KUMULUS_NODE, KUMULUS_COMPILED (a folder, or empty), KUMULUS_HOSTNAME, KUMULUS_INIT (the init script), KUMULUS_CGROUPS (NAME=OPTIONS words, or "v2"), KUMULUS_LAYERS
 * (host folders that are mounts of their own) and KUMULUS_EMPTY (folders to make anew, since the host's are masked).
 */
export const MOUNT_SCRIPT = `
set -e
read -r stat </proc/self/stat
read -r boot </proc/sys/kernel/random/boot_id
set -- $stat
pid=$1
shift 21
echo "$pid $1 $boot" >process
set --
exec 8>>progress 9<>life
echo started
exec </dev/null >>console.log 2>&1
trap 'status=$?; [ $status = 0 ] || { echo "kumulus: the root file system could not be made"; echo failed >&8; echo failed >&9; }' EXIT
mkdir -p merged work data tmp
# Relative paths: no character in the state folder's name can spoil the options.
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work merged
for layer in $KUMULUS_LAYERS; do
  mkdir -p "upper/$layer" "work-layers/$layer"
  mount -t overlay overlay -o "lowerdir=/$layer,upperdir=upper/$layer,workdir=work-layers/$layer" "merged/$layer"
done
instance=$PWD
cd merged
mkdir -p proc sys dev run tmp mnt media $KUMULUS_EMPTY var/lib/kumulus-node opt/kumulus opt/kumulus-node
chmod 700 root
chmod 1777 var/tmp
if [ -d "$instance/user-data" ]; then cp -a "$instance/user-data/." var/lib/cloud/instance/; fi
mount -t proc -o nosuid,nodev,noexec proc proc
echo "$KUMULUS_HOSTNAME" >proc/sys/kernel/hostname
for family in all default; do echo 0 >proc/sys/net/ipv4/conf/$family/rp_filter; done
# Sysctls that no namespace holds are the host's: not to be changed from here. Those of the network are the instance's own.
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind proc/sys/net proc/sys/net
mount -o remount,bind,rw proc/sys/net
if [ -e proc/sysrq-trigger ]; then
  mount --bind proc/sysrq-trigger proc/sysrq-trigger
  mount -o remount,bind,ro proc/sysrq-trigger
fi
mount -t sysfs -o nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs run
mkdir -p run/lock run/kumulus
cp "$KUMULUS_INIT" run/kumulus/init
find "$instance/tmp" -mindepth 1 -delete 2>/dev/null || true
chmod 1777 "$instance/tmp"
mount --bind "$instance/tmp" tmp
mount -t tmpfs -o mode=755,nosuid tmpfs dev
for device in null zero full random urandom tty fuse kmsg; do if [ -c /dev/$device ]; then set -- "$@" /dev/$device; fi; done
cp -a "$@" dev/
if [ -c /dev/net/tun ]; then mkdir dev/net; cp -a /dev/net/tun dev/net/; fi
mkdir -p dev/pts dev/shm dev/mqueue dev/disk/by-id
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs dev/shm
mount -t mqueue mqueue dev/mqueue 2>/dev/null || true
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
: >dev/console
mount --bind "$instance/console.log" dev/console
if [ "$KUMULUS_CGROUPS" = v2 ]; then
  mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 sys/fs/cgroup
  # A group that holds processes cannot pass controllers on; the launcher is about to leave it too.
  mkdir -p sys/fs/cgroup/init.scope
  echo 0 >sys/fs/cgroup/init.scope/cgroup.procs
  read -r controllers <sys/fs/cgroup/cgroup.controllers
  for controller in $controllers; do
    for attempt in 1 2 3 4 5 6 7 8 9 10; do
      echo "+$controller" 2>/dev/null >sys/fs/cgroup/cgroup.subtree_control && break
      sleep 0.02
    done || true
  done
else
  mount -t tmpfs -o mode=755,nosuid,nodev tmpfs sys/fs/cgroup
  for hierarchy in $KUMULUS_CGROUPS; do
    name=$(echo "$hierarchy" | cut -d= -f1)
    mkdir -p "sys/fs/cgroup/$name"
    mount -t cgroup -o "nosuid,nodev,noexec,$(echo "$hierarchy" | cut -d= -f2-)" cgroup "sys/fs/cgroup/$name" || echo "kumulus: no cgroup hierarchy $name"
    case $name in *,*) for part in $(echo "$name" | tr , ' '); do ln -s "$name" "sys/fs/cgroup/$part"; done ;; esac
  done
fi
mount --bind "$instance/data" var/lib/kumulus-node
mount --bind "$KUMULUS_PACKAGE" opt/kumulus
mount -o remount,bind,ro opt/kumulus
# An installed package finds what it depends on beside it.
case $KUMULUS_PACKAGE in */node_modules/kumulus)
  mkdir -p opt/node_modules
  mount --bind "$(dirname "$KUMULUS_PACKAGE")" opt/node_modules
  mount -o remount,bind,ro opt/node_modules
  ;;
esac
: >opt/kumulus-node/node
mount --bind "$KUMULUS_NODE" opt/kumulus-node/node
mount -o remount,bind,ro opt/kumulus-node/node
if [ -n "$KUMULUS_COMPILED" ]; then
  mkdir -p opt/kumulus-node/compiled
  mount --bind "$KUMULUS_COMPILED" opt/kumulus-node/compiled
  mount -o remount,bind,ro opt/kumulus-node/compiled
fi
mkdir run/kumulus/host
pivot_root . run/kumulus/host
cd /
umount -l run/kumulus/host
rmdir run/kumulus/host
# Mounts made by one container are to reach others that ask for it.
mount --make-rshared /
trap - EXIT
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root USER=root TERM=linux sh /run/kumulus/init
`;

/**
 * The first process of an instance: runs user data once (and /etc/rc.local at every later boot), reaps what is left to it,
 * and on a signal ends everything and then itself: SIGTERM comes from the host, SIGUSR1 means that
 * the instance stops of its own accord, SIGINT that it boots again. File descriptor 8 is the file `progress`,
 * 9 the pipe `life`, whose end tells the data plane that this process is gone; no child gets either.
 */
export const INIT_SCRIPT = `
report() { echo "$*" >&8; echo "$*" >&9; }

# Everything else in this PID namespace; a kernel thread is never among it.
others() {
  for process in /proc/[0-9]*; do [ "$process" = /proc/1 ] || return 0; done
  return 1
}

halt() {
  trap '' TERM INT HUP USR1
  echo "kumulus: $1"
  kill -TERM -1 2>/dev/null
  turns=0
  while others && [ $turns -lt 100 ]; do
    sleep 0.05 8>&- 9>&- &
    wait $!
    turns=$((turns + 1))
  done
  kill -KILL -1 2>/dev/null
  umount -a -t xfs,ext4,ext3,ext2,btrfs,vfat 2>/dev/null 8>&- 9>&-
  report "$1"
  exit 0
}

trap 'halt ended' TERM
trap 'halt halted' USR1
trap 'halt rebooting' INT
trap : HUP
cd /
set -a
. /etc/environment
set +a
report up

cloud=/var/lib/cloud/instance
if [ ! -e $cloud/sem/user-data ]; then
  mkdir -p $cloud/sem
  : >$cloud/sem/user-data
  for script in $cloud/scripts/*; do
    [ -f "$script" ] || continue
    chmod 700 "$script"
    setsid "$script" </dev/null 8>&- 9>&- &
    wait $!
    status=$?
    report "user-data $status"
    echo "cloud-init: user data exited with status $status"
  done
elif [ -x /etc/rc.local ]; then
  setsid /etc/rc.local </dev/null 8>&- 9>&- &
  wait $!
  echo "rc.local exited with status $?"
fi
report booted

# wait returns when its process ends, and reaps every other meanwhile.
while :; do
  sleep 2147483647 8>&- 9>&- &
  wait $!
done
`;
