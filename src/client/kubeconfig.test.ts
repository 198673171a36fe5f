import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { stringify } from 'yaml';
import { execCredentials } from './exec-credentials.ts';
import { inClusterConfig, loadKubeconfig } from './kubeconfig.ts';

const base64 = (text: string) => Buffer.from(text).toString('base64');

describe('kubeconfig', () => {
  let directory: string;
  beforeEach(() => {
    directory = mkdtempSync('/tmp/kumulus-kubeconfig-');
  });
  afterEach(() => {
    vi.useRealTimers();
    rmSync(directory, { recursive: true, force: true });
  });

  const write = (name: string, content: unknown): string => {
    const path = join(directory, name);
    mkdirSync(join(path, '..'), { recursive: true });
    writeFileSync(path, typeof content === 'string' ? content : stringify(content));
    return path;
  };
  const config = (user: object, cluster: object = {}, name = 'a') => ({
    apiVersion: 'v1',
    kind: 'Config',
    clusters: [{ name, cluster: { server: `https://${name}.example:6443`, ...cluster } }],
    users: [{ name, user }],
    contexts: [{ name, context: { cluster: name, user: name } }],
    'current-context': name,
  });
  const load = (content: unknown) => loadKubeconfig({ path: write('config', content) }).config;

  it('reads data', () => {
    const path = write('config', {
      ...config(
        { 'client-certificate-data': base64('CERT'), 'client-key-data': base64('KEY') },
        { 'certificate-authority-data': base64('CA'), 'tls-server-name': 'kubernetes' },
      ),
      contexts: [{ name: 'a', context: { cluster: 'a', user: 'a', namespace: 'shop' } }],
    });
    expect(loadKubeconfig({ path })).toEqual({
      config: { server: 'https://a.example:6443', ca: 'CA', cert: 'CERT', key: 'KEY', serverName: 'kubernetes' },
      namespace: 'shop',
      context: 'a',
    });
  });

  it('reads files beside its own, and prefers data', () => {
    write('sub/ca.crt', 'CA');
    write('sub/tls.crt', 'CERT');
    write('sub/tls.key', 'KEY');
    const user = { 'client-certificate': 'tls.crt', 'client-key': 'tls.key', 'client-key-data': base64('DATA'), tokenFile: '../token', token: 'old' };
    const loaded = loadKubeconfig({ path: write('sub/config', config(user, { 'certificate-authority': 'ca.crt' })) }).config;
    expect(loaded).toMatchObject({ ca: 'CA', tokenFile: join(directory, 'token') });
    expect(loaded).not.toHaveProperty('token');
    expect(loaded.credentials?.()).toEqual({ cert: 'CERT', key: 'DATA' });
  });

  it('looks at certificates in files again', () => {
    vi.useFakeTimers({ now: 1_000_000 });
    const [cert, key] = [write('tls.crt', 'CERT'), write('tls.key', 'KEY')];
    const { credentials } = load(config({ 'client-certificate': cert, 'client-key': key }));
    writeFileSync(cert, 'NEW');
    utimesSync(cert, 5, 5);
    expect(credentials?.()).toEqual({ cert: 'CERT', key: 'KEY' });
    vi.setSystemTime(1_060_000);
    expect(credentials?.()).toEqual({ cert: 'NEW', key: 'KEY' });
    rmSync(key);
    vi.setSystemTime(1_120_000);
    expect(credentials?.()).toEqual({ cert: 'NEW', key: 'KEY' });
  });

  it('merges the files of KUBECONFIG: who names something first, wins', () => {
    const one = write('one', { ...config({ token: 'one' }), 'current-context': '' });
    const two = write('two', {
      clusters: [
        { name: 'a', cluster: { server: 'https://other' } },
        { name: 'b', cluster: { server: 'https://b' } },
      ],
      users: [{ name: 'a', user: { token: 'two' } }],
      contexts: [{ name: 'b', context: { cluster: 'b', user: 'a' } }],
      'current-context': 'b',
    });
    const env = { KUBECONFIG: `${one}::${join(directory, 'missing')}:${two}` };
    expect(loadKubeconfig({ env })).toMatchObject({ config: { server: 'https://b', token: 'one' }, context: 'b', namespace: 'default' });
    expect(loadKubeconfig({ env, context: 'a' })).toMatchObject({ config: { server: 'https://a.example:6443', token: 'one' } });
    expect(loadKubeconfig({ env, path: two }).config.token).toBe('two');
  });

  it('falls back to the file at home', () => {
    write('.kube/config', config({ token: 't' }));
    expect(loadKubeconfig({ env: { HOME: directory } }).config.token).toBe('t');
    expect(() => loadKubeconfig({ env: { HOME: join(directory, 'x') } })).toThrow(
      `there is no kubeconfig: ${directory}/x/.kube/config does not exist`,
    );
  });

  it('takes JSON, users without credentials, servers without a scheme', () => {
    expect(load(JSON.stringify(config({}, { server: 'localhost:6443', 'insecure-skip-tls-verify': true })))).toEqual({
      server: 'https://localhost:6443',
      insecureSkipTlsVerify: true,
    });
    const anonymous = { ...config({}), contexts: [{ name: 'a', context: { cluster: 'a' } }] };
    expect(load(anonymous)).toEqual({ server: 'https://a.example:6443' });
  });

  it('says what is wrong', () => {
    const wrong: [unknown, string][] = [
      ['a: [', 'cannot read the kubeconfig'],
      ['[]', 'is not a kubeconfig'],
      [{ kind: 'Pod' }, 'is not a kubeconfig, but a Pod'],
      [{}, 'no context is chosen'],
      [{ 'current-context': 'x' }, 'context "x" does not exist'],
      [{ clusters: {} }, 'clusters is not a list'],
      [{ users: [{}] }, 'one of the users has no name'],
      [{ ...config({}), clusters: [] }, 'cluster "a" of context "a" does not exist'],
      [{ ...config({}), users: [] }, 'user "a" of context "a" does not exist'],
      [config({}, { server: '' }), 'has no server'],
      [config({}, { server: 'https://' }), 'is not a URL'],
      [config({}, { 'proxy-url': 'http://proxy' }), 'proxy-url'],
      [config({}, { 'certificate-authority': 'missing.crt' }), 'cannot read the certificate authority of cluster "a": ENOENT'],
      [config({}, { 'certificate-authority-data': 'QQ==', 'insecure-skip-tls-verify': true }), 'not allowed together'],
      [config({ 'client-key-data': 'QQ==' }), 'but no certificate'],
      [config({ 'client-certificate-data': 'QQ==' }), 'but no key'],
      [config({ 'client-certificate': 'missing', 'client-key-data': 'QQ==' }), 'cannot read the client certificate'],
      [config({ username: 'u', password: 'p' }), 'a name and a password'],
      [config({ 'auth-provider': { name: 'gcp' } }), 'no Auth Provider found for name "gcp"'],
      [config({ 'as-groups': ['g'] }), 'for no user'],
      [config({ exec: { apiVersion: 'client.authentication.k8s.io/v1alpha1', command: 'x' } }), 'v1alpha1'],
    ];
    for (const [content, message] of wrong) expect(() => load(content), message).toThrow(message);
  });

  it('acts for others', () => {
    const user = { token: 't', as: 'jane', 'as-uid': '7', 'as-groups': ['dev', 'ops'], 'as-user-extra': { 'Example.com/Why': ['test'] } };
    expect(load(config(user)).headers).toEqual({
      'impersonate-user': 'jane',
      'impersonate-uid': '7',
      'impersonate-group': ['dev', 'ops'],
      'impersonate-extra-example.com%2fwhy': ['test'],
    });
  });

  it('knows the service account of a pod', () => {
    write('ca.crt', 'CA');
    write('namespace', 'shop\n');
    const env = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };
    expect(inClusterConfig(env, directory)).toBeUndefined();
    write('token', 'T');
    expect(inClusterConfig({}, directory)).toBeUndefined();
    expect(inClusterConfig(env, directory)).toEqual({
      config: { server: 'https://10.96.0.1:443', ca: 'CA', tokenFile: join(directory, 'token') },
      namespace: 'shop',
      context: '',
    });
    expect(inClusterConfig({ ...env, KUBERNETES_SERVICE_HOST: 'fd00::1' }, directory)?.config.server).toBe('https://[fd00::1]:443');
  });

  describe('exec plugins', () => {
    const apiVersion = 'client.authentication.k8s.io/v1';
    /** A plugin that counts its runs, keeps what it was told, and prints the status. */
    const plugin = (status: object | string): string => {
      const printed = typeof status === 'string' ? status : JSON.stringify({ apiVersion, kind: 'ExecCredential', status });
      const path = write(
        'bin/plugin',
        `#!/bin/sh\necho run "$@" "$EXTRA" >>'${directory}/runs'\nprintf %s "$KUBERNETES_EXEC_INFO" >'${directory}/info'\nsleep 0.05\ncat <<'END'\n${printed}\nEND\n`,
      );
      chmodSync(path, 0o755);
      return path;
    };
    const runs = () => readFileSync(join(directory, 'runs'), 'utf8').trim().split('\n');

    it('run from beside the file, with arguments, environment and the cluster', async () => {
      plugin({ token: 'T' });
      const exec = {
        apiVersion,
        command: './bin/plugin',
        args: ['get', 'token'],
        env: [{ name: 'EXTRA', value: 'e' }],
        provideClusterInfo: true,
        interactiveMode: 'IfAvailable',
      };
      const cluster = {
        'certificate-authority-data': base64('CA'),
        extensions: [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'x' } }],
      };
      const { authenticate } = load(config({ exec }, cluster));
      expect(await authenticate?.()).toEqual({ token: 'T' });
      expect(runs()).toEqual(['run get token e']);
      expect(JSON.parse(readFileSync(join(directory, 'info'), 'utf8'))).toEqual({
        apiVersion,
        kind: 'ExecCredential',
        spec: {
          interactive: false,
          cluster: { server: 'https://a.example:6443', 'certificate-authority-data': base64('CA'), config: { audience: 'x' } },
        },
      });
    });

    it('run once for many, until what they gave expires or is refused', async () => {
      let now = Date.parse('2026-01-01T00:00:00Z');
      const command = plugin({ token: 'T', expirationTimestamp: '2026-01-01T01:00:00Z' });
      const ask = execCredentials({ apiVersion, command }, () => now);
      const [one, two] = await Promise.all([ask(), ask()]);
      expect(one).toBe(two);
      expect(await ask()).toBe(one);
      expect(runs()).toHaveLength(1);
      now += 3_600_000;
      const three = await ask();
      now -= 3_600_000;
      expect(runs()).toHaveLength(2);
      const four = await ask(three);
      expect(runs()).toHaveLength(3);
      // Refused before the last run: that is known already.
      expect(await ask(three)).toBe(four);
      expect(runs()).toHaveLength(3);
    });

    it('may give certificates', async () => {
      const command = plugin({ clientCertificateData: 'CERT', clientKeyData: 'KEY' });
      expect(await execCredentials({ apiVersion, command })()).toEqual({ cert: 'CERT', key: 'KEY' });
    });

    it('that fail are named, and asked again the next time', async () => {
      const ask = (status: object | string) => execCredentials({ apiVersion, command: plugin(status) })();
      await expect(ask('nonsense')).rejects.toThrow('printed something other than an ExecCredential');
      await expect(ask('{"kind":"Pod"}')).rejects.toThrow('printed a Pod');
      await expect(ask({})).rejects.toThrow('neither a token nor a certificate');
      await expect(ask({ clientKeyData: 'K' })).rejects.toThrow('without the other');
      await expect(execCredentials({ apiVersion, command: 'kumulus-no-such-plugin', installHint: 'get it' })()).rejects.toThrow(
        'is not installed: get it',
      );
      await expect(execCredentials({ apiVersion, command: 'x', interactiveMode: 'Always' })()).rejects.toThrow('needs a terminal');
      const path = plugin({ token: 'T' });
      const good = readFileSync(path);
      writeFileSync(path, '#!/bin/sh\necho "log in first" >&2\nexit 3\n');
      const again = execCredentials({ apiVersion, command: path });
      await expect(again()).rejects.toThrow(`exec plugin ${path} failed (3): log in first`);
      writeFileSync(path, good);
      expect(await again()).toEqual({ token: 'T' });
    });
  });
});
