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
  /** More flags for `kumulus node`. */
  flags?: string[];
}

/**
 * The user data of a worker, for a stock Debian or Ubuntu machine with the kumulus command, and for the embedded AWS's
 * instances. Where systemd runs, the node is a unit of its; elsewhere /etc/rc.local starts it at every boot.
 */
export function workerUserData(join: JoinParameters): string {
  const flags = [
    `--server=${join.server}`,
    `--token=${join.token}`,
    `--discovery-token-ca-cert-hash=${join.caCertHash}`,
    `--cluster-dns=${join.clusterDns}`,
    `--cluster-domain=${join.clusterDomain}`,
    `--cluster-cidr=${join.podCidr}`,
    ...(join.nodeLabels
      ? [
          `--node-labels=${Object.entries(join.nodeLabels)
            .map(([k, v]) => `${k}=${v}`)
            .join(',')}`,
        ]
      : []),
    ...(join.flags ?? []),
  ];
  return `#!/bin/sh
set -eu
mkdir -p /etc/kumulus /var/log
cat >/etc/kumulus/node.args <<'EOF'
${flags.join('\n')}
EOF
chmod 600 /etc/kumulus/node.args
if [ -d /run/systemd/system ]; then
  cat >/etc/systemd/system/kumulus-node.service <<'EOF'
[Unit]
Description=Kumulus node: kubelet, kube-proxy and DNS
Wants=network-online.target
After=network-online.target
[Service]
ExecStart=/bin/sh -c 'exec kumulus node $(cat /etc/kumulus/node.args)'
Restart=always
RestartSec=5
KillMode=process
Delegate=yes
[Install]
WantedBy=multi-user.target
EOF
  systemctl daemon-reload
  systemctl enable --now kumulus-node.service
else
  cat >/etc/rc.local <<'EOF'
#!/bin/sh
setsid kumulus node $(cat /etc/kumulus/node.args) >>/var/log/kumulus-node.log 2>&1 </dev/null &
EOF
  chmod 755 /etc/rc.local
  /etc/rc.local
fi
`;
}
