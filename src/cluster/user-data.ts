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
setsid /usr/local/sbin/kumulus-node-service </dev/null &
EOF
  cat >/usr/local/sbin/kumulus-node-service <<'EOF'
#!/bin/sh
# Keeps the node running; how it ended is told on the console.
log=/var/log/kumulus-node.log
pause=1
while :; do
  began=$(date +%s)
  kumulus node $(cat /etc/kumulus/node.args) >>$log 2>&1
  echo "kumulus node ended with status $? and is started again in $pause s:"
  tail -n 5 $log
  sleep $pause
  if [ $(($(date +%s) - began)) -gt 60 ]; then pause=1; elif [ $pause -lt 16 ]; then pause=$((pause * 2)); fi
done
EOF
  chmod 755 /etc/rc.local /usr/local/sbin/kumulus-node-service
  /etc/rc.local
fi
`;
}
