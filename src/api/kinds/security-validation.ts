import { internalForm } from '../internal-form.ts';
import { subdomainProblems } from '../validation.ts';
import type { Findings } from './findings.ts';

const largestId = 2_147_483_647;
const profileTypes = ['Localhost', 'RuntimeDefault', 'Unconfined'];

/** A relative path that stays below where it begins. */
export function validateDescendingPath(found: Findings, field: string, path: string): void {
  if (path.startsWith('/')) found.invalid(field, path, 'must be a relative path');
  if (path.split('/').includes('..')) found.invalid(field, path, "must not contain '..'");
}

function validateSeccomp(found: Findings, profile: any, at: string): void {
  if (!profile) return;
  if (!profile.type) found.required(`${at}.type`, 'type is required when seccompProfile is set');
  else found.oneOf(`${at}.type`, profile.type, profileTypes);
  if (profile.type === 'Localhost') {
    if (profile.localhostProfile === undefined) found.required(`${at}.localhostProfile`, 'must be set when seccomp type is Localhost');
    else validateDescendingPath(found, `${at}.localhostProfile`, profile.localhostProfile);
  } else if (profile.localhostProfile !== undefined)
    found.invalid(`${at}.localhostProfile`, internalForm('core.SeccompProfile', profile), 'can only be set when seccomp type is Localhost');
}

function validateAppArmor(found: Findings, profile: any, at: string): void {
  if (!profile) return;
  const local: string | undefined = profile.localhostProfile;
  const mustBeSet = 'must be set when AppArmor type is Localhost';
  if (profile.type === 'Localhost') {
    if (local === undefined) return found.required(`${at}.localhostProfile`, mustBeSet);
    if (local.trim() !== local) found.invalid(`${at}.localhostProfile`, local, 'must not be padded with whitespace');
    else if (!local) found.required(`${at}.localhostProfile`, mustBeSet);
    if (local.length > 4095) found.tooLong(`${at}.localhostProfile`, 'may not be more than 4095 bytes');
  } else if (!profile.type) found.required(`${at}.type`, 'type is required when appArmorProfile is set');
  else if (!profileTypes.includes(profile.type)) found.oneOf(`${at}.type`, profile.type, profileTypes);
  else if (local !== undefined) found.invalid(`${at}.localhostProfile`, local, 'can only be set when AppArmor type is Localhost');
}

const control = /[\x00-\x1f\x7f]/;
const netBios = /^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$/;
const userDomain = /^[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?(\.[A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?)*$/;

function validateWindowsOptions(found: Findings, options: any, at: string): void {
  if (!options) return;
  if (options.gmsaCredentialSpecName !== undefined) found.problems(`${at}.gmsaCredentialSpecName`, options.gmsaCredentialSpecName, subdomainProblems);
  const spec: string | undefined = options.gmsaCredentialSpec;
  if (spec === '') found.invalid(`${at}.gmsaCredentialSpec`, spec, 'gmsaCredentialSpec cannot be an empty string');
  else if (spec !== undefined && spec.length > 64 * 1024) found.invalid(`${at}.gmsaCredentialSpec`, spec, 'gmsaCredentialSpec size must be under 64 KiB');
  const name: string | undefined = options.runAsUserName;
  if (name === undefined) return;
  const wrong = (what: string) => found.invalid(`${at}.runAsUserName`, name, what);
  const parts = name.split('\\');
  if (!name) return wrong('runAsUserName cannot be an empty string');
  if (control.test(name)) return wrong('runAsUserName cannot contain control characters');
  if (parts.length > 2) return wrong('runAsUserName cannot contain more than one backslash');
  const user = parts.at(-1) as string;
  const domain = parts.length === 2 ? (parts[0] as string) : undefined;
  if (domain !== undefined && domain.length >= 256) wrong("runAsUserName's Domain length must be under 256 characters");
  if (domain !== undefined && !netBios.test(domain) && !userDomain.test(domain)) wrong("runAsUserName's Domain doesn't match the NetBios nor the DNS format");
  if (!user) wrong("runAsUserName's User cannot be empty");
  else if (user.length > 104) wrong("runAsUserName's User length must not be longer than 104 characters");
  if (/^[. ]+$/.test(user)) wrong("runAsUserName's User cannot contain only periods or spaces");
  if (/["/\\:;|=,+*?<>@[\]]/.test(user)) wrong('runAsUserName\'s User cannot contain the following characters: "/\\:;|=,+*?<>@[]');
}

/** The security context of a container. `hostUsers` is whether the pod has the host's user namespace. */
export function validateContainerSecurity(found: Findings, security: any, at: string, hostUsers: boolean): void {
  if (!security) return;
  found.between(`${at}.runAsUser`, security.runAsUser, 0, largestId);
  found.between(`${at}.runAsGroup`, security.runAsGroup, 0, largestId);
  if (security.procMount !== undefined) {
    found.oneOf(`${at}.procMount`, security.procMount, ['Default', 'Unmasked']);
    if (hostUsers && security.procMount === 'Unmasked') found.invalid(`${at}.procMount`, 'Unmasked', '`hostUsers` must be false to use `Unmasked`');
  }
  validateSeccomp(found, security.seccompProfile, `${at}.seccompProfile`);
  if (security.allowPrivilegeEscalation === false) {
    const shown = () => internalForm('core.SecurityContext', security);
    if (security.privileged === true) found.invalid(at, shown(), 'cannot set `allowPrivilegeEscalation` to false and `privileged` to true');
    if ((security.capabilities?.add ?? []).includes('CAP_SYS_ADMIN'))
      found.invalid(at, shown(), 'cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN');
  }
  validateWindowsOptions(found, security.windowsOptions, `${at}.windowsOptions`);
  validateAppArmor(found, security.appArmorProfile, `${at}.appArmorProfile`);
}

const sysctlName = /^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$/;

/** The namespace that a sysctl belongs to. */
function sysctlNamespace(name: string): 'net' | 'ipc' | undefined {
  const dotted = name.replaceAll('/', '.');
  if (dotted.startsWith('net.')) return 'net';
  if (['kernel.sem', 'kernel.shm_rmid_forced'].includes(dotted) || /^(kernel\.(shm|msg)|fs\.mqueue\.)/.test(dotted)) return 'ipc';
  return undefined;
}

/** The security context of a pod. */
export function validatePodSecurity(found: Findings, spec: any, at: string): void {
  const security = spec.securityContext;
  if (!security) return;
  for (const field of ['fsGroup', 'runAsUser', 'runAsGroup']) found.between(`${at}.${field}`, security[field], 0, largestId);
  (security.supplementalGroups ?? []).forEach((id: unknown, i: number) => {
    found.between(`${at}.supplementalGroups[${i}]`, id, 0, largestId);
  });
  const sysctls = new Set<string>();
  (security.sysctls ?? []).forEach(({ name = '' }: any, i: number) => {
    const field = `${at}.sysctls[${i}].name`;
    if (!name) found.required(field);
    else if (name.length > 253 || !sysctlName.test(name))
      found.invalid(field, name, 'must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$');
    else if (sysctls.has(name)) found.duplicate(field, name);
    const namespace = sysctlNamespace(name);
    if (spec.hostNetwork && namespace === 'net') found.invalid(field, name, "may not be specified when 'hostNetwork' is true");
    else if (spec.hostIPC && namespace === 'ipc') found.invalid(field, name, "may not be specified when 'hostIPC' is true");
    sysctls.add(name);
  });
  if (security.fsGroupChangePolicy !== undefined) found.oneOf(`${at}.fsGroupChangePolicy`, security.fsGroupChangePolicy, ['Always', 'OnRootMismatch']);
  validateSeccomp(found, security.seccompProfile, `${at}.seccompProfile`);
  validateWindowsOptions(found, security.windowsOptions, `${at}.windowsOptions`);
  validateAppArmor(found, security.appArmorProfile, `${at}.appArmorProfile`);
  if (security.supplementalGroupsPolicy !== undefined)
    found.oneOf(`${at}.supplementalGroupsPolicy`, security.supplementalGroupsPolicy, ['Merge', 'Strict']);
  if (security.seLinuxChangePolicy !== undefined) found.oneOf(`${at}.seLinuxChangePolicy`, security.seLinuxChangePolicy, ['MountOption', 'Recursive']);
}

/** Every container of a pod with its path: init containers first. */
export function eachContainer(spec: any, path: string, visit: (container: any, at: string) => void): void {
  for (const list of ['initContainers', 'containers', 'ephemeralContainers'] as const)
    (spec[list] ?? []).forEach((c: any, i: number) => {
      visit(c, `${path}.${list}[${i}]`);
    });
}

/** Containers of Windows that run on the host: all of a pod or none, and on the host's network. */
export function validateHostProcess(found: Findings, spec: any, path: string): void {
  const ofPod: boolean | undefined = spec.securityContext?.windowsOptions?.hostProcess;
  let all = 0;
  let onHost = 0;
  eachContainer(spec, path, (c, at) => {
    all++;
    const own: boolean | undefined = c.securityContext?.windowsOptions?.hostProcess;
    if (ofPod !== undefined && own !== undefined && own !== ofPod)
      found.invalid(`${at}.securityContext.windowsOptions.hostProcess`, own, `pod hostProcess value must be identical if both are specified, was ${ofPod}`);
    if (own ?? ofPod) onHost++;
  });
  if (!onHost) return;
  if (onHost !== all) found.invalid(path, '', 'If pod contains any hostProcess containers then all containers must be HostProcess containers');
  if (!spec.hostNetwork) found.invalid(`${path}.hostNetwork`, false, 'hostNetwork must be true if pod contains any hostProcess containers');
}

const notOfWindowsPods = [
  ...['appArmorProfile', 'seLinuxOptions', 'seccompProfile', 'fsGroup', 'fsGroupChangePolicy', 'sysctls', 'runAsUser', 'runAsGroup', 'supplementalGroups'],
  ...['supplementalGroupsPolicy', 'seLinuxChangePolicy'],
];
const notOfWindowsContainers = [
  ...['appArmorProfile', 'seLinuxOptions', 'seccompProfile', 'capabilities', 'readOnlyRootFilesystem', 'privileged', 'allowPrivilegeEscalation', 'procMount'],
  ...['runAsUser', 'runAsGroup'],
];

/** What a pod's operating system rules out. */
export function validateOs(found: Findings, spec: any, path: string): void {
  const name = spec.os.name;
  if (!name) return found.required(`${path}.os.name`);
  if (name !== 'linux' && name !== 'windows') return found.oneOf(`${path}.os`, name, ['linux', 'windows']);
  const forbid = (security: any, fields: string[], at: string) => {
    for (const field of fields) if (security?.[field] !== undefined) found.forbidden(`${at}.securityContext.${field}`, `${name === 'linux' ? 'windows options cannot be set for a linux' : 'cannot be set for a windows'} pod`);
  };
  forbid(spec.securityContext, name === 'linux' ? ['windowsOptions'] : notOfWindowsPods, path);
  if (name === 'windows') {
    const rest: [string, boolean][] = [
      ['hostUsers', spec.hostUsers !== undefined],
      ['hostPID', spec.hostPID === true],
      ['hostIPC', spec.hostIPC === true],
      ['shareProcessNamespace', spec.shareProcessNamespace !== undefined],
    ];
    for (const [field, set] of rest) if (set) found.forbidden(`${path}.${field}`, 'cannot be set for a windows pod');
  }
  eachContainer(spec, path, (c, at) => {
    forbid(c.securityContext, name === 'linux' ? ['windowsOptions'] : notOfWindowsContainers, at);
  });
}
