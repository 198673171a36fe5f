export interface InstallOptions {
  /** What `npm install --global` takes: kumulus@VERSION, or the URL of a tarball. Machines that have the command need none. */
  package?: string;
  /** Where Node.js, npm and the package come from. */
  registry?: string;
}

/** Node.js as npm packages it, with npm's own integrity values (SHA-512, base64): the same as in package-lock.json. */
export const nodePackages = {
  version: '24.20.0',
  integrity: {
    x64: 'tkBwUleGts0UUnK+6HKJkEsOMFb9bkG/YvXw8/alFTaDSUbneVeAFVqu6ELHXuyvVYP4vo1hNAAEfN9zl0Cm3g==',
    arm64: 'LDOiQuLlruQpQRp0ddfGZurc1xqYSlX3dYk/3shzhQfCb8IgCPwtWf1RMQCGAWGFhZNbhihhSwGeNRHA+V2pTg==',
  },
};
export const npmPackage = {
  version: '11.19.1',
  integrity: 'ztsxKxt/kkIaAs+2i0GU6I+DRmUdrNasxTZKJe9TCdSjKxlhah/4r/hl5ygMD6XAg1qZ9c2TNomR4qgOydp10g==',
};

const hex = (base64: string) => Buffer.from(base64, 'base64').toString('hex');

/**
 * Installs what a machine lacks: the programs that nodes run, from Debian's packages; Node.js and npm, checked against their
 * hashes; and the kumulus command. POSIX sh. On a machine that has everything it does nothing and needs no network.
 */
export function installScript(o: InstallOptions): string {
  const registry = (o.registry ?? 'https://registry.npmjs.org').replace(/\/$/, '');
  for (const word of [registry, o.package ?? '']) {
    if (/[\s'"\\$`]/.test(word)) throw new Error(`'${word}' cannot be installed from: it has a blank, quote, backslash, $ or backtick`);
  }
  const missing = o.package
    ? `  install_kumulus '${o.package}'`
    : `  echo 'kumulus is not on this machine, and user data names no package to install it from'\n  exit 1`;
  return `have() { command -v "$1" >/dev/null 2>&1; }
packages=
have crun || have runc || packages="$packages crun"
for pair in conmon:conmon ip:iproute2 nft:nftables mkfs.xfs:xfsprogs mkfs.ext4:e2fsprogs losetup:mount nsenter:util-linux; do
  have "\${pair%%:*}" || packages="$packages \${pair##*:}"
done
[ -z "$packages" ] || have conntrack || packages="$packages conntrack"
have kumulus || have curl || packages="$packages curl ca-certificates"
if [ -n "$packages" ]; then
  export DEBIAN_FRONTEND=noninteractive
  for attempt in 1 2 3 4 5; do
    apt-get -q -o DPkg::Lock::Timeout=120 update &&
      apt-get -q -y -o DPkg::Lock::Timeout=120 install --no-install-recommends $packages && break
    [ $attempt != 5 ] || exit 1
    sleep 5
  done
fi
fetch() {
  curl -fsSL --retry 5 --retry-all-errors -o "$2" "${registry}/$1"
  echo "$3  $2" | sha512sum -c --quiet -
}
install_kumulus() {
  case $(uname -m) in
    x86_64) arch=x64 sum=${hex(nodePackages.integrity.x64)} ;;
    aarch64) arch=arm64 sum=${hex(nodePackages.integrity.arm64)} ;;
    *) echo "kumulus has no Node.js for $(uname -m)"; exit 1 ;;
  esac
  mkdir -p /opt/node /opt/npm /usr/local/bin
  fetch node-linux-$arch/-/node-linux-$arch-${nodePackages.version}.tgz /opt/node/node.tgz $sum
  tar -xzf /opt/node/node.tgz -C /opt/node --strip-components=1
  fetch npm/-/npm-${npmPackage.version}.tgz /opt/npm/npm.tgz ${hex(npmPackage.integrity)}
  tar -xzf /opt/npm/npm.tgz -C /opt/npm --strip-components=1
  rm /opt/node/node.tgz /opt/npm/npm.tgz
  ln -sf /opt/node/bin/node /usr/local/bin/node
  HOME=/root node /opt/npm/bin/npm-cli.js install --global --prefix /usr/local --omit=dev --ignore-scripts --no-audit --no-fund --registry '${registry}' "$1"
}
if ! have kumulus; then
${missing}
fi`;
}
