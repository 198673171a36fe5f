import { mkdirSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { Command } from 'commander';
import { type Logger, pino } from 'pino';
import { clusterKubeconfig, kubeconfigText } from '../cluster/kubeconfig.ts';
import { stateRoot, UserError, writeAtomically } from '../cluster/state.ts';
import { type AccessFlags, accessFlags, authenticationOf, authorizationOf, loadOf, milliseconds, runtimeConfigOf } from './apiserver-flags.ts';
import { interruption } from './context.ts';

interface Options extends AccessFlags {
  dataDir?: string;
  bindAddress: string;
  securePort: string;
  serviceClusterIpRange: string;
  serviceNodePortRange: string;
  advertiseAddress?: string;
  etcdServers?: string;
  etcdCafile?: string;
  etcdCertfile?: string;
  etcdKeyfile?: string;
  encryptionProviderConfig?: string;
  auditPolicyFile?: string;
  auditLogPath?: string;
  auditLogMaxsize: string;
  auditLogMaxbackup: string;
  auditLogMaxage: string;
  auditWebhookConfigFile?: string;
  tracingConfigFile?: string;
}

export const apiserverCommand = () => accessFlags(
  new Command('apiserver')
    .description('run the API server alone, on the embedded store or on etcd, with keys and a kubeconfig of its own; ends with Ctrl-C')
    .option('--data-dir <directory>', 'where keys, store and kubeconfig live (default: apiserver in the state folder)')
    .option('--bind-address <address>', 'address to listen on', '127.0.0.1')
    .option('--secure-port <port>', 'port to listen on', '6443')
    .option('--advertise-address <ip>', 'address at which pods and nodes reach this server: its place among the endpoints of default/kubernetes')
    .option('--service-cluster-ip-range <cidr>', 'range of service addresses', '10.96.0.0/16')
    .option('--service-node-port-range <range>', 'node ports of services', '30000-32767')
    .option('--etcd-servers <urls>', 'keep objects in etcd: http(s)://HOST:PORT of each member, separated by commas (default: the embedded store)')
    .option('--etcd-cafile <file>', 'PEM of the authority that signed the certificates of etcd')
    .option('--etcd-certfile <file>', 'PEM certificate that etcd knows this server by')
    .option('--etcd-keyfile <file>', 'PEM key of that certificate')
    .option('--encryption-provider-config <file>', 'EncryptionConfiguration: how Secrets and other resources are encrypted at rest')
    .option('--audit-policy-file <file>', 'Policy of audit.k8s.io/v1: which requests are told of, and how much of them')
    .option('--audit-log-path <file>', 'write audit events to this file, - for standard output')
    .option('--audit-log-maxsize <megabytes>', 'size after which that file is put aside; 0 never', '0')
    .option('--audit-log-maxbackup <n>', 'files put aside that are kept; 0 keeps all', '0')
    .option('--audit-log-maxage <days>', 'days that they are kept; 0 for ever', '0')
    .option('--audit-webhook-config-file <file>', 'kubeconfig of a webhook that audit events are posted to')
    .option('--tracing-config-file <file>', 'TracingConfiguration of apiserver.config.k8s.io/v1: the OTLP collector that spans go to, and how many')
  ).action(async (o: Options) => {
    // Node would let garbage grow to several times of what is alive.
    setFlagsFromString('--heap-growing-percent=100');
      const port = Number(o.securePort);
      if (!Number.isInteger(port) || port < 0 || port > 65_535) throw new UserError(`'${o.securePort}' is not a port`, 2);
      const nodePorts = /^(\d+)-(\d+)$/.exec(o.serviceNodePortRange)?.slice(1).map(Number) as [number, number] | undefined;
      if (!nodePorts) throw new UserError(`'${o.serviceNodePortRange}' is not a range of ports: write it as 30000-32767`, 2);
      if (o.advertiseAddress !== undefined && !isIPv4(o.advertiseAddress))
        throw new UserError(`'${o.advertiseAddress}' is not an IPv4 address to advertise`, 2);
      const [{ startApiServer }, { ensurePki }, { openStore }, access] = await Promise.all([
        import('../apiserver/server.ts'),
        import('../cluster/pki.ts'),
        import('../cluster/store.ts'),
        import('../cluster/access-files.ts'),
      ]);
      const directory = o.dataDir ?? join(stateRoot(), 'apiserver');
      mkdirSync(directory, { recursive: true, mode: 0o700 });
      const log = pino({ level: process.env['KUMULUS_LOG_LEVEL'] ?? 'warn', base: undefined });
      const firstService = o.serviceClusterIpRange.replace(/\.\d+\/\d+$/, '.1');
      const pki = await ensurePki(join(directory, 'pki'), {
        dnsNames: ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'],
        ips: [...new Set(['127.0.0.1', firstService, o.bindAddress, ...(o.advertiseAddress ? [o.advertiseAddress] : [])])],
      });
      const tracer = await tracerOf(o, log);
      const audit = await auditorOf(o, (error) => log.error({ err: error }, 'auditing failed'));
      const store = await openStore({ directory: join(directory, 'store'), ...o });
      try {
        const { fromFile } = access;
        const issuers = o.serviceAccountIssuer ?? ['https://kubernetes.default.svc.cluster.local'];
        const tlsFiles = [pairOf('--tls-cert-file', o.tlsCertFile, '--tls-private-key-file', o.tlsPrivateKeyFile)].flat();
        const kubeletFiles = pairOf('--kubelet-client-certificate', o.kubeletClientCertificate, '--kubelet-client-key', o.kubeletClientKey);
        const proxyFiles = pairOf('--proxy-client-cert-file', o.proxyClientCertFile, '--proxy-client-key-file', o.proxyClientKeyFile);
        if (o.serviceAccountSigningKeyFile && !o.serviceAccountKeyFile && !o.serviceAccountIssuer)
          throw new UserError('--service-account-signing-key-file needs --service-account-issuer', 2);
        const certificates = () => ({
          tls: tlsFiles.length ? { cert: fromFile(tlsFiles[0]!), key: fromFile(tlsFiles[1]!) } : pki.apiserver,
          clientCa: o.clientCaFile ? `${fromFile(o.clientCaFile)}\n${pki.ca.cert}` : pki.ca.cert,
          ...(o.requestheaderClientCaFile ? { requestHeaderCa: fromFile(o.requestheaderClientCaFile) } : {}),
        });
        const load = { ...loadOf(o), runtimeConfig: await runtimeConfigOf(o) };
        const shutdownDelay = milliseconds('--shutdown-delay-duration', o.shutdownDelayDuration);
        const authentication = () => access.openAuthentication(authenticationOf(o, issuers));
        const authorization = () => access.openAuthorization(authorizationOf(o));
        const { tls, clientCa } = certificates();
        const server = await startApiServer({
          store,
          tls,
          clientCa,
          host: o.bindAddress,
          port,
          serviceAccount: {
            issuer: issuers[0]!,
            acceptedIssuers: issuers.slice(1),
            privateKey: o.serviceAccountSigningKeyFile ? fromFile(o.serviceAccountSigningKeyFile) : pki.serviceAccount.privateKey,
            publicKeys: o.serviceAccountKeyFile ? o.serviceAccountKeyFile.map((file) => fromFile(file)) : [pki.serviceAccount.publicKey],
            ...(o.apiAudiences ? { audiences: o.apiAudiences } : {}),
            ...(o.serviceAccountJwksUri ? { jwksUri: o.serviceAccountJwksUri } : {}),
          },
          serviceCidr: o.serviceClusterIpRange,
          nodePortRange: nodePorts,
          authentication: authentication(),
          authorization: authorization(),
          ...load,
          ...(kubeletFiles.length
            ? {
                kubeletClient: {
                  cert: fromFile(kubeletFiles[0]!),
                  key: fromFile(kubeletFiles[1]!),
                  ca: o.kubeletCertificateAuthority ? fromFile(o.kubeletCertificateAuthority) : '',
                },
              }
            : {}),
          ...(proxyFiles.length
            ? { frontProxy: { cert: fromFile(proxyFiles[0]!), key: fromFile(proxyFiles[1]!), ca: o.requestheaderClientCaFile ? fromFile(o.requestheaderClientCaFile) : pki.ca.cert } }
            : {}),
          ...(o.advertiseAddress ? { advertise: { address: o.advertiseAddress, port } } : {}),
          ...(audit ? { audit } : {}),
          ...(tracer ? { tracer } : {}),
          log,
        }).catch((error: NodeJS.ErrnoException) => {
          throw error.code === 'EADDRINUSE' ? new UserError(`port ${port} on ${o.bindAddress} is taken: name another with --secure-port`) : error;
        });
        const reload = (what: string, work: () => void) => {
          try {
            work();
            log.info(`${what} taken up`);
          } catch (error) {
            log.error({ err: error }, `changed ${what} cannot be used: what was there before stays`);
          }
        };
        const present = (...files: (string | undefined)[]) => files.filter((f) => f !== undefined);
        const watching = [
          access.watchFiles(present(...tlsFiles, o.clientCaFile, o.requestheaderClientCaFile), () =>
            reload('certificates', () => {
              server.updateCertificates(certificates());
              server.updateAccess({ authentication: authentication() });
            }),
          ),
          access.watchFiles(present(o.authenticationConfig), () =>
            reload('authentication configuration', () => server.updateAccess({ authentication: authentication() })),
          ),
          access.watchFiles(present(o.authorizationConfig), () =>
            reload('authorization configuration', () => server.updateAccess({ authorization: authorization() })),
          ),
        ];
        await server.ready;
        const kubeconfig = join(directory, 'kubeconfig');
        writeAtomically(
          kubeconfig,
          kubeconfigText(clusterKubeconfig('apiserver', `https://${o.bindAddress}:${server.port}`, pki.ca.cert, pki.admin)),
        );
        console.log(`API server ready on https://${o.bindAddress}:${server.port}\n\n    export KUBECONFIG=${kubeconfig}\n    kubectl get namespaces`);
        if (!interruption.signal.aborted)
          await new Promise<void>((resolve) => interruption.signal.addEventListener('abort', () => resolve(), { once: true }));
        for (const one of watching) one.close();
        await server.stop(3000, shutdownDelay);
      } finally {
        await store.close();
      }
    });

/** Two files that make sense only together; none where neither is named. */
function pairOf(certFlag: string, cert: string | undefined, keyFlag: string, key: string | undefined): string[] {
  if (Boolean(cert) !== Boolean(key)) throw new UserError(`${certFlag} and ${keyFlag} must be given together`, 2);
  return cert && key ? [cert, key] : [];
}

/** UserError where a file is wrong, or a backend is named without a policy. */
/** What makes spans is loaded only where they are wanted. */
async function tracerOf(o: Options, log: Logger) {
  const file = o.tracingConfigFile;
  if (!file) return undefined;
  const [{ parseTracingConfiguration }, { Tracer }, { fromFile }] = await Promise.all([
    import('../apiserver/tracing/configuration.ts'),
    import('../apiserver/tracing/tracer.ts'),
    import('../cluster/access-files.ts'),
  ]);
  const text = fromFile(file);
  try {
    return new Tracer(parseTracingConfiguration(text), `apiserver-${process.pid}`, log);
  } catch (error) {
    throw new UserError(`${file}: ${(error as Error).message}`, 2);
  }
}

async function auditorOf(o: Options, onError: (error: Error) => void) {
  if (!o.auditLogPath && !o.auditWebhookConfigFile) return undefined;
  if (!o.auditPolicyFile) throw new UserError('audit events need --audit-policy-file', 2);
  const { openAuditor } = await import('../cluster/auditor.ts');
  return openAuditor({
    policyFile: o.auditPolicyFile,
    ...(o.auditLogPath
      ? { log: { path: o.auditLogPath, maxSize: Number(o.auditLogMaxsize), maxBackup: Number(o.auditLogMaxbackup), maxAge: Number(o.auditLogMaxage) } }
      : {}),
    ...(o.auditWebhookConfigFile ? { webhookConfigFile: o.auditWebhookConfigFile } : {}),
    onError,
  });
}
