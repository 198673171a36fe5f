/** Group versions that kube-apiserver 1.37 knows and serves only when --runtime-config asks for them. */
const offByDefault = new Set([
  ...['v1alpha1', 'v1beta1'].map((version) => `admissionregistration.k8s.io/${version}`),
  'certificates.k8s.io/v1beta1',
  ...['v1alpha2', 'v1beta1'].map((version) => `coordination.k8s.io/${version}`),
  'internal.apiserver.k8s.io/v1alpha1',
  'lifecycle.k8s.io/v1alpha1',
  ...['v1alpha3', 'v1beta1', 'v1beta2'].map((version) => `resource.k8s.io/${version}`),
  ...['v1alpha3', 'v1beta1'].map((version) => `scheduling.k8s.io/${version}`),
  'storagemigration.k8s.io/v1beta1',
]);

/** What --runtime-config says, by key: `api/all`, `api/ga`, `api/beta`, `api/alpha`, `GROUP/VERSION` or `GROUP/VERSION/RESOURCE`; `v1` is the core group. */
export type RuntimeConfig = Readonly<Record<string, boolean>>;

const stabilities = ['api/all', 'api/ga', 'api/beta', 'api/alpha'];

/** Throws on what is no setting, in words for people. `known` answers whether a group version is one of the server's. */
export function parseRuntimeConfig(settings: readonly string[], known: (group: string, version: string) => boolean): RuntimeConfig {
  const config: Record<string, boolean> = {};
  for (const setting of settings.flatMap((s) => s.split(',')).filter((s) => s)) {
    const [key = '', value = 'true', ...rest] = setting.split('=');
    if (rest.length || (value !== 'true' && value !== 'false')) throw new Error(`'${setting}': write KEY=true or KEY=false`);
    if (!stabilities.includes(key)) {
      const parts = key === 'v1' || key.startsWith('v1/') || key.startsWith('api/v1') ? ['', ...key.replace(/^api\//, '').split('/')] : key.split('/');
      const [group = '', version = ''] = parts;
      if (parts.length > 3 || !known(group, version)) throw new Error(`'${key}' is neither one of ${stabilities.join(', ')} nor a group version of this server`);
      config[parts.filter((p) => p).join('/')] = value === 'true';
    } else config[key] = value === 'true';
  }
  return config;
}

/** Whether a resource is served: what is said of it, else of its version, else of versions as stable as that, else upstream's default. */
export function isServed(config: RuntimeConfig, group: string, version: string, resource: string): boolean {
  const groupVersion = group ? `${group}/${version}` : version;
  const stability = version.includes('alpha') ? 'api/alpha' : version.includes('beta') ? 'api/beta' : 'api/ga';
  return config[`${groupVersion}/${resource}`] ?? config[groupVersion] ?? config[stability] ?? config['api/all'] ?? !offByDefault.has(groupVersion);
}
