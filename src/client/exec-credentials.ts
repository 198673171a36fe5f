import { spawn } from 'node:child_process';

/** `user.exec` of a kubeconfig, with its command already made absolute where it was relative to the file. */
export interface ExecSpec {
  apiVersion: string;
  command: string;
  args?: string[];
  env?: { name: string; value: string }[];
  installHint?: string;
  interactiveMode?: 'Never' | 'IfAvailable' | 'Always';
  /** Told to the plugin where it asks for it (provideClusterInfo). */
  cluster?: Record<string, unknown>;
}

/** What one request or connection authenticates with. */
export interface Credentials {
  token?: string;
  cert?: string;
  key?: string;
}

const timeoutMs = 60_000;
const versions = ['client.authentication.k8s.io/v1', 'client.authentication.k8s.io/v1beta1'];

interface ExecCredential {
  apiVersion?: string;
  kind?: string;
  status?: { token?: string; clientCertificateData?: string; clientKeyData?: string; expirationTimestamp?: string };
}

/**
 * Credentials from a plugin, by the protocol client.authentication.k8s.io: kept until they expire or the server refuses them.
 * Many who ask at once wait for one run of the plugin.
 */
export function execCredentials(spec: ExecSpec, now: () => number = Date.now): (refused?: Credentials) => Promise<Credentials> {
  if (!versions.includes(spec.apiVersion))
    throw new Error(`exec plugin ${spec.command}: apiVersion ${JSON.stringify(spec.apiVersion)} is none of ${versions.join(', ')}`);
  let known: { credentials: Credentials; expiresAt: number } | undefined;
  let running: Promise<Credentials> | undefined;
  return (refused) => {
    if (known && (known.expiresAt <= now() || known.credentials === refused)) known = undefined;
    if (known) return Promise.resolve(known.credentials);
    running ??= run(spec)
      .then((status) => {
        const credentials: Credentials = {
          ...(status.token ? { token: status.token } : {}),
          ...(status.clientCertificateData ? { cert: status.clientCertificateData } : {}),
          ...(status.clientKeyData ? { key: status.clientKeyData } : {}),
        };
        known = { credentials, expiresAt: status.expirationTimestamp ? Date.parse(status.expirationTimestamp) : Number.POSITIVE_INFINITY };
        return credentials;
      })
      .finally(() => {
        running = undefined;
      });
    return running;
  };
}

async function run(spec: ExecSpec): Promise<NonNullable<ExecCredential['status']>> {
  const what = `exec plugin ${spec.command}`;
  if (spec.interactiveMode === 'Always') throw new Error(`${what} needs a terminal, and there is none here`);
  const info = {
    apiVersion: spec.apiVersion,
    kind: 'ExecCredential',
    spec: { interactive: false, ...(spec.cluster ? { cluster: spec.cluster } : {}) },
  };
  const { NODE_CHANNEL_FD: _, ...inherited } = process.env;
  const own = Object.fromEntries((spec.env ?? []).map((e) => [e.name, e.value]));
  const output = await new Promise<string>((resolve, reject) => {
    const child = spawn(spec.command, spec.args ?? [], {
      env: { ...inherited, ...own, KUBERNETES_EXEC_INFO: JSON.stringify(info) },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: timeoutMs,
      killSignal: 'SIGKILL',
    });
    let text = '';
    let errors = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    child.stderr.setEncoding('utf8').on('data', (chunk: string) => (errors = (errors + chunk).slice(-2000)));
    child.on('error', (error: NodeJS.ErrnoException) => {
      const why =
        error.code === 'ENOENT' ? `is not installed${spec.installHint ? `: ${spec.installHint.trim()}` : ''}` : `cannot be run: ${error.message}`;
      reject(new Error(`${what} ${why}`));
    });
    child.on('close', (code, signal) => {
      if (code === 0) resolve(text);
      else reject(new Error(`${what} ${signal ? `did not end in ${timeoutMs / 1000} s` : `failed (${code})`}${errors ? `: ${errors.trim()}` : ''}`));
    });
  });
  let credential: ExecCredential;
  try {
    credential = JSON.parse(output) as ExecCredential;
  } catch {
    throw new Error(`${what} printed something other than an ExecCredential`);
  }
  if (credential.kind !== 'ExecCredential' || credential.apiVersion !== spec.apiVersion)
    throw new Error(`${what} printed a ${credential.kind} of ${credential.apiVersion}, not an ExecCredential of ${spec.apiVersion}`);
  const status = credential.status;
  if (!status) throw new Error(`${what} printed no status`);
  if (Boolean(status.clientCertificateData) !== Boolean(status.clientKeyData))
    throw new Error(`${what} gave a certificate or a key without the other`);
  if (!status.token && !status.clientCertificateData) throw new Error(`${what} gave neither a token nor a certificate`);
  return status;
}
