import { installScript, type InstallOptions } from './install-script.ts';

export interface JoinParameters {
  /** https://ADDRESS:PORT as instances reach it. */
  server: string;
  token: string;
  /** sha256:HEX of the authority's public key. */
  caCertHash: string;
  clusterDns: string;
  clusterDomain: string;
  podCidr: string;
  nodeLabels?: Record<string, string>;
  /** The node registers with them. */
  nodeTaints?: { key: string; value: string; effect: string }[];
  /** More flags for `kumulus node`. */
  flags?: string[];
}

/**
 * The user data of a worker: one script for a stock Debian 12 or Ubuntu 24.04 machine and for the embedded AWS's instances. It
 * installs what is missing and joins by bootstrap token and hash of the authority.
 */
export function workerUserData(join: JoinParameters, install: InstallOptions = {}): string {
  const flags = [
    `--server=${join.server}`,
    `--token=${join.token}`,
    `--discovery-token-ca-cert-hash=${join.caCertHash}`,
    `--cluster-dns=${join.clusterDns}`,
    `--cluster-domain=${join.clusterDomain}`,
    `--cluster-cidr=${join.podCidr}`,
    ...(Object.keys(join.nodeLabels ?? {}).length
      ? [
          `--node-labels=${Object.entries(join.nodeLabels ?? {})
            .map(([k, v]) => `${k}=${v}`)
            .join(',')}`,
        ]
      : []),
    ...(join.nodeTaints?.length ? [`--register-with-taints=${join.nodeTaints.map((t) => `${t.key}=${t.value}:${t.effect}`).join(',')}`] : []),
    ...(join.flags ?? []),
  ];
  return userData({ verb: 'node', description: 'Kumulus node: kubelet, kube-proxy and DNS', flags }, install);
}

export interface ControlPlaneParameters {
  cluster: string;
  vpcId: string;
  routeTableIds: string[];
  serviceCidr: string;
  podCidr: string;
  clusterDns: string;
  clusterDomain: string;
  /** Names beside the instance's own by which the API is called. */
  certificateNames: string[];
  /** Id of the volume that the store lives on. */
  dataVolume?: string;
}

/** The user data of the instance that runs the control plane; its keys it takes from Systems Manager with its role. */
export function controlPlaneUserData(p: ControlPlaneParameters, install: InstallOptions = {}): string {
  const flags = [
    `--cluster=${p.cluster}`,
    `--vpc-id=${p.vpcId}`,
    `--route-table-ids=${p.routeTableIds.join(',')}`,
    `--service-cluster-ip-range=${p.serviceCidr}`,
    `--cluster-cidr=${p.podCidr}`,
    `--cluster-dns=${p.clusterDns}`,
    `--cluster-domain=${p.clusterDomain}`,
    ...(p.dataVolume ? [`--data-volume=${p.dataVolume}`] : []),
    ...(p.certificateNames.length ? [`--apiserver-cert-extra-sans=${p.certificateNames.join(',')}`] : []),
  ];
  return userData({ verb: 'control-plane', description: 'Kumulus control plane', flags }, install);
}

interface Service {
  /** Of the kumulus command. */
  verb: string;
  description: string;
  flags: string[];
}

/** Where systemd runs, the verb is a unit of its; elsewhere /etc/rc.local starts it at every boot. */
function userData({ verb, description, flags }: Service, install: InstallOptions): string {
  const unsafe = flags.find((flag) => /[\s'"\\$`]/.test(flag));
  if (unsafe) throw new Error(`'${unsafe}' cannot be a flag of user data: it has a blank, quote, backslash, $ or backtick`);
  return `#!/bin/sh
set -eu
mkdir -p /etc/kumulus /var/log
cat >/etc/kumulus/${verb}.args <<'EOF'
${flags.join('\n')}
EOF
chmod 600 /etc/kumulus/${verb}.args
${installScript(install)}
if [ -d /run/systemd/system ]; then
  cat >/etc/systemd/system/kumulus-${verb}.service <<'EOF'
[Unit]
Description=${description}
Wants=network-online.target
After=network-online.target
[Service]
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
ExecStart=/bin/sh -c 'exec kumulus ${verb} $(cat /etc/kumulus/${verb}.args)'
Restart=always
RestartSec=5
KillMode=process
Delegate=yes
[Install]
WantedBy=multi-user.target
EOF
  systemctl daemon-reload
  systemctl enable --now kumulus-${verb}.service
else
  cat >/etc/rc.local <<'EOF'
#!/bin/sh
setsid /usr/local/sbin/kumulus-${verb}-service </dev/null &
EOF
  cat >/usr/local/sbin/kumulus-${verb}-service <<'EOF'
#!/bin/sh
# Keeps it running; how it ended is told on the console.
log=/var/log/kumulus-${verb}.log
pause=1
while :; do
  began=$(date +%s)
  kumulus ${verb} $(cat /etc/kumulus/${verb}.args) >>$log 2>&1
  echo "kumulus ${verb} ended with status $? and is started again in $pause s:"
  tail -n 5 $log
  sleep $pause
  if [ $(($(date +%s) - began)) -gt 60 ]; then pause=1; elif [ $pause -lt 16 ]; then pause=$((pause * 2)); fi
done
EOF
  chmod 755 /etc/rc.local /usr/local/sbin/kumulus-${verb}-service
  /etc/rc.local
fi
`;
}
